"""The common ground of experiments on canvases: a denoiser, its questions, and how it is asked.

Questions are those of the zoo's mixture, list operations, look-ups and steps of arithmetic, or word
problems from a folder of GSM8K's files for a published denoiser. Every way of decoding answers
the same questions as one batch, and what each answer cost is kept question by question: passes,
and the tokens that its passes ran, which is what a cut canvas saves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import zoo
from experiments.harness.measuring.timing import interleaved
from experiments.harness.statistics import Estimate, bootstrap
from experiments.tasks.canvas.mixture import Mixture
from experiments.tasks.gsm8k import Gsm8k
from experiments.tasks.task import Example, Split, Task
from jaxdecode.decoder import decode
from jaxdecode.denoiser import Denoiser
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Expander
from jaxdecode.stop import Stop
from models.denoisers import load_denoiser
from models.text import Tokenizer
from models.tokenizer_files import load_tokenizer

SHOTS = "Answer the question, and end with a line '#### number'.\n\n"


@dataclass(frozen=True)
class Questions:
    """Q questions: which task each is of, and all prompts."""

    names: list[str]
    examples: list[Example]
    prompt: Prompt

    def of(self, chosen: Sequence[int]) -> Questions:
        """Some of them."""
        index = np.asarray(chosen)
        return Questions(
            [self.names[i] for i in chosen],
            [self.examples[i] for i in chosen],
            jax.tree.map(lambda leaf: leaf[index], self.prompt),
        )


@dataclass(frozen=True)
class Ground:
    """A denoiser and the task that it is asked."""

    denoiser: Denoiser
    text: Tokenizer
    task: Task

    @classmethod
    def of(cls, denoiser: str, data: Path | None) -> Ground:
        """A denoiser of the zoo, or a folder with a published one and the folder of its questions.

        Raises:
          ValueError: for a name that is neither, or questions that the denoiser cannot read.
        """
        if denoiser in zoo.names():
            shipped = zoo.load(denoiser)
            if shipped.card["kind"] != "denoiser":
                raise ValueError(f"{denoiser} is a {shipped.card['kind']}, not a denoiser")
            if data is not None:
                raise ValueError(
                    f"data={data}: the zoo's {denoiser} reads no English; leave it out"
                )
            return cls(shipped.model, load_tokenizer(shipped.folder), Mixture())
        if not Path(denoiser).is_dir():
            raise ValueError(f"denoiser={denoiser!r} is neither a folder nor a name in the zoo")
        if data is None:
            raise ValueError("data: give the folder of GSM8K's train.jsonl and test.jsonl")
        task = Gsm8k(data / "train.jsonl", data / "test.jsonl", flexible=True)
        return cls(load_denoiser(denoiser), load_tokenizer(denoiser), task)

    @property
    def stop(self) -> Stop:
        """The end tokens."""
        return Stop.of(self.text.eos)

    def questions(self, count: int, seed: int, split: Split = "test") -> Questions:
        """As many of one split, in an order of their own."""
        examples = self.task.sample(np.random.default_rng((seed, 7)), count, split)
        rows = []
        for example in examples:
            if isinstance(self.task, Gsm8k):
                said = [{"role": "user", "content": SHOTS + example.prompt}]
                rows.append(self.text.encode_chat(said, add_generation_prompt=True))
            else:
                row = self.text.encode(example.prompt)
                rows.append(row[:-1] if row[-1] in self.text.eos else row)
        names = [str(example.meta.get("task", self.task.name)) for example in examples]
        return Questions(names, examples, Prompt.of(rows))

    def ask(self, generator: Expander, questions: Questions, seed: int = 0) -> dict[str, Any]:
        """What one way of decoding came to, question by question."""
        decoder = Autoregressive(generator)
        result = jax.device_get(decode(decoder, jax.random.key(seed), questions.prompt))
        texts = [row[:n].tolist() for row, n in zip(result.tokens, result.length, strict=True)]
        right = [
            self.task.verify(example.prompt, self.text.decode(text).strip()) == 1
            for example, text in zip(questions.examples, texts, strict=True)
        ]
        usage = result.usage
        return {
            "right": right,
            "passes": usage.target_passes.tolist(),
            "tokens": usage.target_tokens.tolist(),
            "accepted": usage.accepted.tolist(),
            "drafted": usage.drafted.tolist(),
            "histogram": usage.histogram.sum(axis=0).tolist(),
            "texts": texts,
        }

    def seconds(
        self, generators: Mapping[str, Expander], questions: Questions, repeats: int = 3
    ) -> dict[str, list[float]]:
        """Seconds of each for the whole batch, round by round, taken in rotation."""

        def call(generator: Expander) -> Callable[[], Any]:
            decoder = Autoregressive(generator)
            return lambda: decode(decoder, 0, questions.prompt).tokens

        calls = {name: call(generator) for name, generator in generators.items()}
        return interleaved(calls, repeats)


def ratio(one: Sequence[float], other: Sequence[float], draws: int = 2000) -> tuple[float, ...]:
    """sum(one) / sum(other) over questions, and its 95 % bootstrap interval."""
    a, b = np.asarray(one, float), np.asarray(other, float)
    rows = np.random.default_rng(0).integers(len(a), size=(draws, len(a)))
    spread = a[rows].sum(axis=1) / b[rows].sum(axis=1)
    low, high = np.percentile(spread, [2.5, 97.5])
    return float(a.sum() / b.sum()), float(low), float(high)


def times(one: Any, other: Any) -> Estimate:
    """`ratio` as a claim is judged by it."""
    return bootstrap(lambda a, b: float(a.sum() / b.sum()), one, other, unit="x")


def summary(found: dict[str, Any]) -> dict[str, float]:
    """Means over questions, for a table."""
    return {
        "accuracy": float(np.mean(found["right"])),
        "passes": float(np.mean(found["passes"])),
        "tokens run": float(np.mean(found["tokens"])),
    }
