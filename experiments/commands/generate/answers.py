"""Answers to requests, one record each, and which of them a file has already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.harness.files import Lines
from experiments.inputs.prompts import Request
from experiments.inputs.sources import Codec
from jaxdecode.decoder import Decoder, decode_all
from jaxdecode.result import Result, Status, Usage
from models.stream import trim

# Decoders whose trace lists scored responses; "sample" is drawn as often as asked for.
LISTING = (
    "sample",
    "icn",
    "beam-search",
    "diverse-beam-search",
    "stochastic-beam-search",
    "superposed-decoding",
    "best-of-n",
    "self-certainty",
    "particle-filtering",
    "step-beams",
    "dvts",
)
FIRST = "id"  # the key that a file of answers begins with


def invalid(records: Sequence[dict[str, Any]]) -> list[str | int]:
    """The ids of those that no numbers stand behind: a search whose judge failed on every text has
    nothing left to go on with, and no text."""
    broken, ended = (status.name.lower() for status in (Status.INVALID, Status.EXHAUSTED))
    return [
        record["id"]
        for record in records
        if record["status"] == broken or (record["status"] == ended and not record["tokens"])
    ]


@dataclass(frozen=True)
class Job:
    """Requests and what answers them, opened and checked.

    Attributes:
      tokens: of each request's prompt.
      facts: what made the answers, stored with each and compared when a run goes on.
      stop: texts at which an answer ends.
      listed: how many responses to give for each request."""

    codec: Codec
    decoder: Decoder
    requests: Sequence[Request]
    tokens: Sequence[Sequence[int]]
    facts: dict[str, Any]
    stop: tuple[str, ...]
    seed: int
    batch: int
    listed: int = 1

    def pending(self, lines: Lines) -> list[int]:
        """Which requests the file has no answer to yet.

        Raises:
          ValueError: if what is in the file was made otherwise, naming the difference.
        """
        known = {request.id: request for request in self.requests}
        done = set()
        for number, record in enumerate(lines.records, start=1):
            where = f"{lines.path}:{number}"
            request = known.get(record.get("id", ""))
            expected = self.facts | ({"prompt": request.prompt} if request else {})
            for name, value in expected.items():
                if record.get(name) != value:
                    raise ValueError(
                        f"{where} has {name}={record.get(name)!r}, this run {value!r}; "
                        "choose another --output, or remove the file"
                    )
            done.add(record.get("id"))
        return [i for i, request in enumerate(self.requests) if request.id not in done]

    def answers(self, pending: Sequence[int]) -> Iterator[dict[str, Any]]:
        """A record for each request, as they finish."""
        chosen = [self.tokens[i] for i in pending]
        ids = [self.requests[i].number for i in pending]
        for index, result in decode_all(self.decoder, self.seed, chosen, self.batch, ids):
            yield self.record(pending[index], result)

    def record(self, number: int, result: Result) -> dict[str, Any]:
        """What is stored of one row, the answer to request `number` of the job."""
        request, prompt = self.requests[number], self.tokens[number]
        tokens = result.tokens[0, : result.length[0]].tolist()
        text, cut = trim(self.codec.decode(tokens, prompt), self.stop)
        status = Status(int(result.status[0])) if cut is None else Status.EOS
        more = {"texts": self.several(result, prompt)} if self.listed > 1 else {}
        return {
            "id": request.id,
            "prompt": request.prompt,
            "text": text,
            "tokens": tokens,
            "status": status.name.lower(),
            "logprob": float(result.logprob[0]),
            "usage": counts(result.usage),
            **more,
            **self.facts,
        }

    def several(self, result: Result, prompt: Sequence[int]) -> list[str]:
        """Up to `listed` responses of one row to a prompt, the best first."""
        trace = result.trace
        score = np.asarray(trace.score[0])
        there = (np.asarray(trace.length[0]) > 0) & (score > -np.inf)
        order = np.argsort(-score, kind="stable")
        chosen = [k for k in order if there[k]][: self.listed]
        rows = [trace.tokens[0, k, : trace.length[0, k]].tolist() for k in chosen]
        texts = [self.codec.decode(row, prompt) for row in rows]
        return [trim(text, self.stop)[0] for text in texts]


def counts(usage: Usage) -> dict[str, Any]:
    """The counts of one row; the histogram only where something was drafted."""
    values = {name: np.asarray(value)[0].tolist() for name, value in vars(usage).items()}
    if len(values["histogram"]) == 1:
        del values["histogram"]
    return values
