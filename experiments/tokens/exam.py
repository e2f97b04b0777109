"""An exam: questions of a task with one right answer each, and decoders that sit it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from numpy.typing import NDArray

from experiments.inputs.sources import Codec
from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.gsm8k import Gsm8k
from experiments.tasks.task import Example, Split
from jaxdecode.decoder import Decoder, decode
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.stop import Stop

INSTRUCTION = "Reason step by step. End with a line that holds '#### ' and the number alone."


@runtime_checkable
class Asks(Protocol):
    """What asks the questions: a task."""

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]: ...


@dataclass(frozen=True)
class Sat:
    """What came of a decoder: of each question whether it was right, f64[N], and the results of
    all batches, with leaves that lead with N."""

    right: NDArray[np.float64]
    result: Any


@dataclass(frozen=True)
class Exam:
    """Questions of a split, asked in batches of one width.

    Attributes:
      codec: of the models that sit it.
      task: asks.
      grade: (example, what was written) -> 1 for right.
      count: questions.
      instruction: what models that take chats are told behind each question, of how to answer;
        "" for nothing.
    """

    codec: Codec
    task: Asks
    grade: Callable[[Example, str], float]
    split: Split
    count: int
    batch: int
    seed: int
    instruction: str = ""

    @cached_property
    def questions(self) -> list[Example]:
        """Different ones, short ones first, so that a batch ends together."""
        rng = np.random.default_rng((self.seed, len(self.split)))
        found: dict[str, Example] = {}
        while len(found) < self.count:
            found |= {e.prompt: e for e in self.task.sample(rng, self.count, self.split)}
        return sorted(list(found.values())[: self.count], key=lambda e: (len(e.prompt), e.prompt))

    def tokens(self, example: Example) -> list[int]:
        """A question as the model expects it, with the instruction where it takes chats."""
        if self.codec.strict is None and self.codec.text.template is not None:
            text = example.prompt + (f"\n\n{self.instruction}" if self.instruction else "")
            return self.codec.prompt([{"role": "user", "content": text}])
        return self.codec.prompt(example.prompt)

    @property
    def stop(self) -> Stop:
        return Stop.of(self.codec.text.eos)

    @cached_property
    def prompts(self) -> list[Prompt]:
        """All in one width; the last batch is filled up with its last question."""
        encoded = [self.tokens(example) for example in self.questions]
        width, found = bucket(max(map(len, encoded))), []
        for first in range(0, self.count, self.batch):
            ids = [min(first + i, self.count - 1) for i in range(self.batch)]
            found.append(Prompt.of([encoded[i] for i in ids], ids, width))
        return found

    def sit(self, decoder: Decoder) -> Sat:
        """Every question once."""
        parts = [jax.device_get(decode(decoder, self.seed, prompt)) for prompt in self.prompts]
        result = jax.tree.map(lambda *leaves: np.concatenate(leaves)[: self.count], *parts)
        pairs = zip(self.questions, self.written(result), strict=True)
        return Sat(np.array([self.grade(example, text) for example, text in pairs]), result)

    def written(self, result: Any) -> Sequence[str]:
        """The texts of a result."""
        rows = zip(result.tokens, result.length, strict=True)
        return [self.codec.decode(tokens[:length].tolist()) for tokens, length in rows]


def arithmetic_or(data: Path | None, operations: tuple[int, int]) -> Arithmetic | Gsm8k:
    """Multi-step arithmetic, or GSM8K from a folder that has train.jsonl and test.jsonl."""
    if data is None:
        return Arithmetic(operations)
    files = (data / "train.jsonl", data / "test.jsonl")
    for file in files:
        if not file.is_file():
            raise ValueError(f"data={data}: there is no {file.name} in it")
    return Gsm8k(*files, flexible=True)
