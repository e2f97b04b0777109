"""The setting of the experiment on hyperfitting: texts, and what is measured of a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algorithms.alignment.hyperfitting import Hyperfitting
from experiments.alignment.hyperfitting.predictions import RANKS, predict_all
from experiments.alignment.hyperfitting.repetition import (
    diversity,
    overlap,
    repeated,
    self_bleu,
    type_token_ratio,
)
from experiments.harness.files import parse
from experiments.harness.report import Out, Seed
from experiments.inputs.sources import Codec, bound, open_model
from experiments.tasks.stdlib import StandardLibrary
from experiments.tasks.task import Split
from experiments.zoo.making import cast
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity, LogitsTransform, MinimumLength, Temperature, TopP, chain
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop

Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator: a name in the zoo, or the folder of a published checkpoint.
      data: folder with train.jsonl and test.jsonl, a "text" in each line; None for the source
        of the standard library.
      cap: bytes of that source.
      rate, updates, batch: see `Hyperfitting`.
      texts, width: the training set, and tokens of a text, begin token included.
      sizes: smaller training sets, rising.
      orders: data orders, at least 2.
      stages: equal parts of a run after which the model is measured.
      contexts, context: held-out texts to go on with, and their tokens.
      tokens, counted: generated, and how many of the last are judged.
      top_p: of the nucleus sampling that is compared with.
      n: tokens of the n-grams that may not be continued as the training set does.
    """

    generator: str = "stdlib"
    data: Path | None = None
    cap: int = 1_500_000
    rate: float = 1e-3
    updates: int = 150
    batch: int = 8
    texts: int = 64
    width: int = 64
    sizes: tuple[int, ...] = (8, 16)
    orders: int = 3
    stages: int = 6
    contexts: int = 32
    context: int = 32
    tokens: int = 96
    counted: int = 96
    top_p: float = 0.9
    n: int = 5
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        if self.updates % self.stages:
            raise ValueError(
                f"stages={self.stages}: updates={self.updates} is to be a multiple of it"
            )
        if not 0 < self.counted <= self.tokens:
            raise ValueError(f"counted={self.counted}: 1 to tokens={self.tokens} can be judged")
        rising = (self.batch - 1, *self.sizes, self.texts)
        if not self.sizes or any(a >= b for a, b in pairwise(rising)):
            raise ValueError(
                f"sizes={self.sizes}: give one or more, rising, from batch={self.batch} to below "
                f"texts={self.texts}"
            )
        if self.orders < 2:
            raise ValueError(f"orders={self.orders}: two or more are to be compared")

    @property
    def every(self) -> int:
        """Updates of a stage."""
        return self.updates // self.stages

    @property
    def steps(self) -> range:
        """Updates after which the model is measured, from none on."""
        return range(0, self.updates + 1, self.every)


@dataclass(frozen=True)
class Setting:
    """What a configuration stands for."""

    config: Config
    model: Any
    codec: Codec

    @classmethod
    def of(cls, config: Config) -> Setting:
        if config.data is not None:
            for split in ("train", "test"):
                if not (config.data / f"{split}.jsonl").is_file():
                    raise ValueError(f"data={config.data}: there is no {split}.jsonl in it")
        source = open_model(config.generator)
        return cls(config, bound(cast(source.model, "float32")), source.codec)

    @cached_property
    def begin(self) -> list[int]:
        """The begin token, where the model has one."""
        return self.codec.prompt("")[:1]

    def recipe(self, order: int = 0) -> Hyperfitting:
        config = self.config
        unpredicted = len(self.begin) + 1
        return Hyperfitting(config.rate, config.updates, config.batch, unpredicted, order)

    def windows(self, split: Split, count: int, width: int) -> Tokens:
        """i32[count, width]: begin tokens and pieces cut from the texts of a split."""
        documents = [[*self.codec.piece(text), self.codec.text.eos[0]] for text in self._of(split)]
        tokens = np.concatenate(documents)
        cut = width - len(self.begin)
        if len(tokens) < cut + count:
            raise ValueError(
                f"data: the split {split} has {len(tokens)} tokens, of which {count} texts of "
                f"{cut} cannot be cut; give more"
            )
        rng = np.random.default_rng((self.config.seed, len(split), width))
        starts = rng.choice(len(tokens) - cut + 1, count, replace=False)
        begins = np.tile(np.asarray(self.begin, np.int32), (count, 1))
        pieces = tokens[starts[:, None] + np.arange(cut)].astype(np.int32)
        return np.concatenate([begins, pieces], axis=1)

    def _of(self, split: Split) -> Iterator[str]:
        if self.config.data is None:
            yield from StandardLibrary(cap=self.config.cap).texts(split)
            return
        path = self.config.data / f"{split}.jsonl"
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    text = parse(line)["text"]
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(
                        f'{path}:{number}: not an object with a "text" ({error})'
                    ) from error
                yield text

    @cached_property
    def texts(self) -> Tokens:
        """The training set."""
        return self.windows("train", self.config.texts, self.config.width)

    @cached_property
    def fresh(self) -> Tokens:
        """As many texts as a run reads, so that none comes twice."""
        return self.windows("train", self.config.updates * self.config.batch, self.config.width)

    @cached_property
    def held_out(self) -> Tokens:
        """Contexts and how they really go on."""
        return self.windows("test", self.config.contexts, self.config.context + self.config.tokens)

    def prompt(self) -> Prompt:
        return Prompt.of(self.held_out[:, : self.config.context].tolist())

    def decoder(
        self,
        model: Any,
        temperature: float = 1.0,
        sampled: bool = False,
        top_p: float = 1.0,
        block: LogitsTransform | None = None,
    ) -> Autoregressive:
        """Text of exactly `tokens` tokens: measures of repetition depend on the length."""
        eos = self.codec.text.eos
        shaped = TopP(top_p) if sampled else block or Identity()
        return Autoregressive(
            Generator(
                model=model,
                transform=chain(
                    MinimumLength.of(self.config.tokens, eos), Temperature(temperature), shaped
                ),
                sampler=Categorical() if sampled else Greedy(),
                stop=Stop.of(eos),
                max_tokens=self.config.tokens,
            )
        )

    def write(self, model: Any, **rules: Any) -> Tokens:
        """What the model writes after every context, the part that is judged."""
        result = decode(self.decoder(model, **rules), self.config.seed, self.prompt())
        return np.asarray(result.tokens)[:, -self.config.counted :]

    def text(self, tokens: Tokens) -> dict[str, Any]:
        """The measures of continuations."""
        return {
            "tokens": tokens,
            "ttr": type_token_ratio(tokens),
            "repeated": repeated(tokens, 4),
            "diversity": diversity(tokens),
            "self_bleu": self_bleu(tokens),
            "overlap": overlap(tokens, self.texts),
        }

    def measure(self, model: Any, texts: Tokens, **rules: Any) -> dict[str, Any]:
        """A model: its loss on its training texts, its predictions on held-out ones, its text."""
        rows, skip = self.config.batch, len(self.begin)
        learned = predict_all(model, texts, rows)
        held = predict_all(model, self.held_out, rows)
        mass = held.mass[:, skip:].mean(axis=(0, 1))
        return {
            "train_loss": learned.loss[:, skip:].mean(),
            "loss": held.loss[:, skip:].mean(),
            "entropy": held.entropy.mean(),
            **{f"mass{rank}": value for rank, value in zip(RANKS, mass, strict=True)},
            "top": held.top,
            **self.text(self.write(model, **rules)),
        }

    def human(self) -> Tokens:
        """How the contexts really go on, the part that is judged."""
        return self.held_out[:, -self.config.counted :]
