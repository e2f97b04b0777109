"""What an evaluation asks of a model: the likelihood of given texts, and answers to prompts."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.commands.decoding import decoders
from experiments.commands.decoding.decoders import Rules
from experiments.commands.decoding.opening import Opened, decoder_of, open_named
from experiments.harness.likelihood import continuations
from experiments.harness.progress import Progress
from experiments.inputs.sources import Source
from jaxdecode.decoder import decode_all
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.result import Status
from models.stream import trim

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
SAMPLING = ("temperature", "top_p", "top_k")


@dataclass
class Evaluator:
    """Answers the requests of an evaluation, in batches of like length.

    Attributes:
      decoder: how answers are found; None does what each task asks for: greedy search, or
        sampling with the task's numbers.
      rules: options of `decoder`; the task says `max_tokens`.
      batch: rows at a time.
      seed: of random draws.
      truncated: texts so far that lost their beginning because the model cannot read them
        whole.
      invalid: answers and scores so far that no finite numbers stand behind.
    """

    source: Source
    decoder: decoders.Name | None = None
    rules: Rules = field(default_factory=Rules)
    batch: int = 8
    seed: int = 0
    truncated: int = 0
    invalid: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch={self.batch}: at least one row is needed")
        if self.decoder is None and self.rules.given:
            raise ValueError(f"{', '.join(self.rules.given)}: choose a decoder to use them with")
        if self.decoder is not None:
            decoders.check(self.decoder, self.rules)

    @functools.cached_property
    def opened(self) -> Opened:
        """What the rules name."""
        return open_named(self.rules, self.source)

    def loglikelihood(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> list[tuple[float, bool]]:
        """(log-probability, whether greedy search writes it) of every continuation.

        Args:
          pairs: tokens of context and continuation; a context has one at least. What does not
            fit loses its beginning.
        Raises:
          ValueError: if a continuation alone is longer than the model can read.
        """
        longest = self.source.positions
        texts, firsts = [], []
        for number, (context, continuation) in enumerate(pairs):
            if not context or not 1 <= len(continuation) <= longest:
                raise ValueError(
                    f"pair {number}: {len(context)} tokens of context and {len(continuation)} to "
                    f"score; at least 1 of each and at most {longest} to score are possible"
                )
            # The last token is predicted and never read.
            whole = [*context, *continuation][-(longest + 1) :]
            self.truncated += len(whole) < len(context) + len(continuation)
            texts.append(whole)
            firsts.append(len(whole) - len(continuation))
        found: list[tuple[float, bool]] = [(0.0, True)] * len(texts)
        with Progress("log-likelihoods", len(texts)) as progress:
            for rows, width in batches([len(text) for text in texts], self.batch):
                filled = rows + rows[-1:] * (self.batch - len(rows))
                block = Prompt.of([texts[i] for i in filled], width=width)
                first = jnp.asarray([firsts[i] for i in filled], jnp.int32)
                logprob, greedy = map(np.asarray, continuations(self.source.model, block, first))
                for row, index in enumerate(rows):
                    found[index] = (float(logprob[row]), bool(greedy[row]))
                    self.invalid += not np.isfinite(logprob[row])
                progress.advance(len(rows))
        return found

    def generate(self, requests: Sequence[tuple[Sequence[int], Mapping[str, Any]]]) -> list[str]:
        """The answer to every (prompt tokens, options of the task), cut at its stop strings."""
        groups: dict[str, list[int]] = {}
        for index, (_, options) in enumerate(requests):
            groups.setdefault(json.dumps(options, sort_keys=True, default=str), []).append(index)
        found = [""] * len(requests)
        with Progress("answers", len(requests)) as progress:
            for members in groups.values():
                until, name, rules = self.asked(requests[members[0]][1])
                source = self.source
                prompts = [self.fitted(requests[i][0], rules.max_tokens) for i in members]
                decoder = decoder_of(name, rules, source, until, self.opened, prompts, self.batch)
                decoded = decode_all(decoder, self.seed, prompts, self.batch, members)
                for place, result in decoded:
                    tokens = result.tokens[0, : result.length[0]].tolist()
                    status = int(result.status[0])
                    lost = status == Status.EXHAUSTED and not tokens
                    self.invalid += status == Status.INVALID or lost
                    text, _ = trim(self.source.codec.decode(tokens, prompts[place]), until)
                    found[members[place]] = text
                    progress.advance()
        return found

    def asked(self, options: Mapping[str, Any]) -> tuple[list[str], decoders.Name, Rules]:
        """Stop strings, decoder and rules that a task's options come to.

        Raises:
          ValueError: for an option that would change the answers and is not known here.
        """
        options = dict(options)
        until = options.pop("until", None) or []
        until = [until] if isinstance(until, str) else list(until)
        lengths = [options.pop(name) for name in LENGTHS if name in options]
        max_tokens = int(lengths[0]) if lengths else self.rules.max_tokens
        if options.get("num_beams", 1) == 1:  # one beam is greedy search, or sampling
            options.pop("num_beams", None)
        sampling = {name: options.pop(name) for name in SAMPLING if name in options}
        draws = options.pop("do_sample", sampling.get("temperature", 0.0) > 0)
        if options:
            raise ValueError(
                f"the task asks for {', '.join(sorted(options))}, which only it knows; "
                f"known are until, do_sample, {', '.join((*LENGTHS, *SAMPLING))}"
            )
        until = [string for string in until if string]
        if self.decoder is not None:
            return until, self.decoder, replace(self.rules, max_tokens=max_tokens)
        if not draws:
            return until, "greedy", Rules(max_tokens)
        return until, "sample", Rules(max_tokens, **sampling)

    def fitted(self, prompt: Sequence[int], max_tokens: int) -> Sequence[int]:
        """The end of a prompt, as much as leaves room for an answer."""
        room = self.source.positions - max_tokens
        if room < 1:
            raise ValueError(
                f"{max_tokens} tokens of answer leave no room for a prompt: "
                f"{self.source.name} can read {self.source.positions}"
            )
        self.truncated += len(prompt) > room
        return prompt[-room:]


def divided(
    context: Sequence[int], whole: Sequence[int], prefix: int
) -> tuple[list[int], list[int]]:
    """What a joint text's tokens are read after, and what of them is scored.

    Tokens of the context that the joint text shares are given; from the first that differs on,
    all are scored: where the text runs on within the context's last token, that token is the
    continuation's, and no span is empty that adds to the text.

    Args:
      context, whole: tokens of the context, and of the context with its continuation.
      prefix: the token that is read first where none is shared.
    Raises:
      ValueError: the continuation adds nothing.
    """
    shared = 0
    while shared < min(len(context), len(whole)) and context[shared] == whole[shared]:
        shared += 1
    given, scored = list(whole[:shared]), list(whole[shared:])
    if not scored:
        raise ValueError("continuation: it adds no token to its context; give one with a text")
    return given or [prefix], scored


def batches(lengths: Sequence[int], batch: int) -> Iterator[tuple[list[int], int]]:
    """Places of texts of like length, `batch` at a time, and the width that holds them."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    widths: dict[int, list[int]] = {}
    for index in order:
        widths.setdefault(bucket(lengths[index]), []).append(index)
    for width, members in widths.items():
        for first in range(0, len(members), batch):
            yield members[first : first + batch], width
