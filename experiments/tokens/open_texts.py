"""Open-ended texts: contexts from held-out text, how people went on, and what a method writes.

Rows are of one length, tokens after an end token included: measures of repetition depend on the
length, and the corpora close every text by an end token, after which another begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from experiments.harness.files import parse, text_lines
from experiments.harness.likelihood import continuations
from experiments.inputs.sources import Codec, open_model
from experiments.tasks.stdlib import StandardLibrary
from experiments.zoo.making import cast
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import LogitsTransform
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.rows import Expander
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.surprise import SurpriseMeter

Tokens = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OpenTexts:
    """A model and the contexts that it goes on with.

    Attributes:
      data: a .jsonl file with a "text" in each line; None for held-out source of the standard
        library.
      count, context, tokens: how many contexts, their tokens, and those of a continuation.
    """

    model: Any
    codec: Codec
    data: Path | None
    count: int
    context: int
    tokens: int
    seed: int

    @classmethod
    def of(
        cls, generator: str, data: Path | None, count: int, context: int, tokens: int, seed: int
    ) -> OpenTexts:
        """Raises ValueError for no model, no file, or a text longer than the model reads."""
        if data is not None and not data.is_file():
            raise ValueError(f"data={data} is no file; give JSON lines with a text in each")
        source = open_model(generator)
        if context + tokens > source.positions:
            raise ValueError(
                f"context={context} and tokens={tokens} exceed the {source.positions} positions "
                f"of {generator}; lower them"
            )
        model = cast(source.model, "float32")
        return cls(model, source.codec, data, count, context, tokens, seed)

    @cached_property
    def windows(self) -> Tokens:
        """i32[count, context + tokens]: begin tokens and pieces cut from the texts."""
        begin = self.codec.prompt("")[:1]
        ends = list(self.codec.text.eos)[:1]
        documents = [[*self.codec.piece(text), *ends] for text in self._texts()]
        stream = np.concatenate(documents)
        cut = self.context + self.tokens - len(begin)
        if len(stream) < cut + self.count:
            raise ValueError(
                f"data: {len(stream)} tokens do not hold {self.count} texts of {cut}; give more"
            )
        rng = np.random.default_rng((self.seed, self.count, cut))
        starts = rng.choice(len(stream) - cut + 1, self.count, replace=False)
        pieces = stream[starts[:, None] + np.arange(cut)].astype(np.int32)
        return np.concatenate([np.tile(np.asarray(begin, np.int32), (self.count, 1)), pieces], 1)

    def _texts(self) -> Iterator[str]:
        if self.data is None:
            yield from StandardLibrary(cap=1_500_000).texts("test")
            return
        for number, line in text_lines(self.data):
            try:
                yield parse(line)["text"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f'{self.data}:{number}: not an object with a "text" ({error})'
                ) from error

    @property
    def prompt(self) -> Prompt:
        return Prompt.of(self.windows[:, : self.context].tolist())

    @property
    def people(self) -> Tokens:
        """How the contexts really go on."""
        return self.windows[:, self.context :]

    def generator(self, transform: LogitsTransform, sampled: bool = True) -> Generator:
        """Texts of exactly `tokens` tokens, every token's surprise measured."""
        return Generator(
            model=self.model,
            transform=transform,
            sampler=Categorical() if sampled else Greedy(),
            stop=Stop.of(),
            max_tokens=self.tokens,
            meter=SurpriseMeter(self.tokens),
        )

    def write(self, generator: Expander) -> Result:
        """What a method writes after every context."""
        return jax.device_get(decode(Autoregressive(generator), self.seed, self.prompt))

    def coherence(self, judge: Any, texts: Tokens, rows: int = 16) -> Floats:
        """Mean log p, in nats, of each continuation's tokens under another model, f64[count]."""
        whole = np.concatenate([self.windows[:, : self.context], texts], axis=1)
        found = []
        for start in range(0, len(whole), rows):
            block = whole[start : start + rows]
            prompt = Prompt.of(block.tolist(), width=whole.shape[1])
            first = np.full(len(block), self.context, np.int32)
            found.append(np.asarray(continuations(judge, prompt, first)[0]))
        return np.concatenate(found).astype(np.float64) / texts.shape[1]


def grams(texts: Tokens, n: int) -> tuple[NDArray[np.int64], int]:
    """Different n-grams in each text, i64[R], and how many n-grams a text has."""
    places = texts.shape[1] - n + 1
    if places < 1:
        raise ValueError(f"texts of {texts.shape[1]} tokens have no {n}-grams")
    return np.array(
        [len(np.unique(np.lib.stride_tricks.sliding_window_view(t, n), axis=0)) for t in texts]
    ), places


def repeated(texts: Tokens, n: int) -> Floats:
    """rep-n in percent: n-grams of a text that occurred before in it, f64[R]."""
    different, places = grams(texts, n)
    return 100 * (1 - different / places)


def diversity(texts: Tokens) -> Floats:
    """(1 - rep-2)(1 - rep-3)(1 - rep-4) of each text, f64[R]."""
    return np.prod([1 - repeated(texts, n) / 100 for n in (2, 3, 4)], axis=0)


def pooled_diversity(texts: Tokens) -> float:
    """The same with n-grams counted over all texts before the ratio, as published.

    Su et al. 2022, arXiv 2202.06417; its program leaves the last n-gram of a text out.
    """
    return float(np.prod([1 - repeated(texts, n).mean() / 100 for n in (2, 3, 4)]))


def interval(values: Floats, draws: int = 2000) -> tuple[float, float, float]:
    """Mean over independent texts and its 95 % bootstrap interval."""
    values = np.asarray(values, np.float64)
    rows = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    low, high = np.percentile(values[rows].mean(axis=1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def shown(values: tuple[float, float, float], form: str = "+.2f") -> str:
    """A mean with its interval."""
    mean, low, high = (format(value, form) for value in values)
    return f"{mean} ({low}..{high})"
