"""The setting of the experiment on exact extraction: passages, models, training."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from experiments.harness.report import Out, Seed
from experiments.harness.resumption import fingerprint
from experiments.inputs.sources import Codec, Source, open_model
from experiments.inputs.squad import misaligned, read_squad, windows
from experiments.tasks.batches import ExampleBatches
from experiments.tokens.exact_extract import facts
from experiments.zoo.recipe import as_dict
from jaxdecode.passage import Between
from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.train.losses import next_token
from jaxdecode.train.optimizer import Optimizer
from models.presets import small
from models.tokenizer_files import load_tokenizer
from models.transformer import Transformer

WIDTH = 32  # tokens of a passage, its question and answer
TEXT, QUESTION, ANSWER = "Text: ", "\nQuestion: ", "\nAnswer:"


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator: folder of a published checkpoint that answers as it is; "" trains small models.
      data: a SQuAD JSON file, for a published checkpoint.
      questions: asked.
      labels: numbers of questions with answers that models are tuned on, rising; 0 is measured
        besides.
      samples: sets of each number.
      pretraining, tuning: updates.
      share: of pretraining passages without recurring spans that have a fact twice.
      batch: questions decoded at a time.
      max_tokens: of an answer, its end included.
      longest: tokens of a part; exact where no passage is longer.
      chunk: beginnings that share a pass.
      beams: of the beam search.
    """

    generator: str = ""
    data: Path | None = None
    questions: int = 300
    labels: tuple[int, ...] = (16, 128, 1024)
    samples: int = 1
    pretraining: int = 1600
    tuning: int = 150
    share: float = 0.3
    batch: int = 150
    max_tokens: int = 21
    longest: int = 20
    chunk: int = 8
    beams: int = 8
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        if (self.generator == "") != (self.data is None):
            raise ValueError(
                f"generator={self.generator!r}, data={self.data}: a published checkpoint needs a "
                "SQuAD file, and a file needs a checkpoint"
            )
        if self.generator and self.labels:
            raise ValueError(f"labels={self.labels}: a published checkpoint is measured as it is")


@dataclass(frozen=True)
class Item:
    """A prompt: its tokens, the passage in it, the answers, and whose question it is; a long
    passage is several items."""

    tokens: list[int]
    passage: str
    answers: tuple[str, ...]
    question: int


@dataclass(frozen=True)
class World:
    """Questions, and where in their prompts the passages are.

    Attributes:
      unaligned: numbers of questions that no part of the passage's tokens answers.
    """

    source: Codec
    rule: Between
    items: list[Item]
    end: int
    unaligned: tuple[str, ...] = ()

    @property
    def questions(self) -> int:
        return max(item.question for item in self.items) + 1


def codec() -> Codec:
    """Of the small models."""
    strict = facts.codec()
    with tempfile.TemporaryDirectory() as folder:
        strict.save(Path(folder))
        return Codec(load_tokenizer(folder), strict)


def own_world(config: Config) -> World:
    """Questions on passages of facts."""
    own = codec()
    assert own.strict is not None
    rng = np.random.default_rng((config.seed, 4))
    items = [
        Item(own.prompt(e.prompt), e.meta["passage"], (e.target,), index)
        for index, e in enumerate(facts.Facts().sample(rng, config.questions, "test"))
    ]
    rule = Between.of([own.strict.bos_id], own.piece("="))
    return World(own, rule, items, own.strict.eos_id)


def squad_world(config: Config, source: Source) -> World:
    """Questions of a file, in prompts put together from tokens."""
    assert config.data is not None
    own, begin = source.codec, source.codec.prompt("")[:1]
    opening, closing = own.piece(TEXT), own.piece(QUESTION)
    items, unaligned = [], []
    room = source.positions - config.max_tokens - config.longest

    def prompt(context: str, question: str) -> list[int]:
        rest = own.piece(question + ANSWER)
        return [*begin, *opening, *own.piece(context), *closing, *rest]

    every = read_squad(config.data)[: config.questions]
    for index, asked in enumerate(every):
        encoding = own.text.inner.encode(asked.context, add_special_tokens=False)
        if misaligned(encoding.offsets, asked):
            unaligned.append(asked.number)
        parts = windows(asked.context, lambda part, q=asked.question: len(prompt(part, q)) <= room)
        for part in parts:
            inside = own.piece(part)
            if first(closing, [*inside, *closing]) != len(inside):
                raise ValueError(
                    f"question {asked.number}: its context has {QUESTION!r} in it, where the "
                    "passage is to end; leave the question out"
                )
            items.append(Item(prompt(part, asked.question), part, asked.answers, index))
    rule = Between.of(opening, closing)
    return World(own, rule, items, own.text.eos[0], tuple(unaligned))


def first(pattern: list[int], tokens: list[int]) -> int:
    """Where a pattern that is there begins."""
    size = len(pattern)
    return next(i for i in range(len(tokens)) if tokens[i : i + size] == pattern)


@dataclass(frozen=True)
class School:
    """Trains the small models; of a run that was stopped the weights are kept."""

    config: Config

    @cached_property
    def codec(self) -> Any:
        return facts.codec()

    def train(self, model: Any, task: Any, rate: float, steps: int, name: str, seed: int) -> Any:
        stream = ExampleBatches(task, self.codec, 48, (WIDTH,), seed)
        store = None
        if self.config.out is not None:
            folder = Path(self.config.out) / "trained" / fingerprint(self.config) / name
            store = Checkpoints(folder, steps)
        optimizer = Optimizer(rate, steps, warmup=max(1, steps // 20)).build()
        return fit(model, next_token, as_dict(stream), optimizer, steps, store)

    def pretrained(self, recurring: bool) -> Any:
        """Without questions: runs hidden anywhere, or recurring spans."""
        task = facts.Recurring() if recurring else facts.Hidden(self.config.share)
        fresh = Transformer(
            small(self.codec.vocab_size, hidden=64, layers=3), rngs=nnx.Rngs(self.config.seed)
        )
        name = "recurring" if recurring else "hidden"
        return self.train(fresh, task, 3e-3, self.config.pretraining, name, self.config.seed)

    def tuned(self, model: Any, recurring: bool, labels: int, sample: int) -> Any:
        """On so many questions with answers."""
        rng = np.random.default_rng((self.config.seed, labels, sample))
        few = facts.Few(tuple(facts.Facts().sample(rng, labels, "train")))
        name = f"{'recurring' if recurring else 'hidden'}-{labels}-{sample}"
        return self.train(model, few, 5e-4, self.config.tuning, name, sample)


def published(config: Config) -> tuple[World, Any]:
    """A checkpoint and the questions it is asked."""
    source = open_model(config.generator)
    return squad_world(config, source), source.model
