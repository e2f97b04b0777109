"""The setting of the experiment on LUD: subjects, training of placeholders, decoders measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.tokens.lexical_units import Loss, Placing, units
from experiments.harness.report import Out, Seed
from experiments.harness.resumption import fingerprint
from experiments.inputs.sources import Source, open_model
from experiments.tasks.batches import Batch, pack
from experiments.tasks.sql import Sql
from experiments.tasks.task import Example, Split
from experiments.zoo.recipes import DIALOG
from jaxdecode.prompt import Prompt
from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.train.optimizer import Optimizer
from jaxdecode.train.sequences import Sequences, token_logprobs
from models.placeholder import with_placeholder

Row = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      text, code: generators by zoo name: replies, whose likeness to plain decoding is judged, and
        queries, which are run.
      prompts, validation: of each, test prompts and those that beta is chosen on.
      batch: prompts decoded at a time.
      longest: k.
      alpha: of identification.
      betas: falling: more is accepted.
      updates, rate, rows: of continual training, at what peak, texts a step.
      pads: weight of the placeholders' loss.
      tokens: of a text that is trained on, prompt included; and the most that are written.
    """

    text: str = "dialog"
    code: str = "sql"
    prompts: int = 192
    validation: int = 96
    batch: int = 96
    longest: int = 4
    alpha: float = 0.9
    betas: tuple[float, ...] = (0.99, 0.95, 0.9, 0.8, 0.7, 0.5)
    updates: int = 240
    rate: float = 1e-3
    rows: int = 24
    pads: float = 1.0
    tokens: int = 64
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        falling = all(a > b for a, b in zip(self.betas, self.betas[1:], strict=False))
        if len(self.betas) < 2 or not falling:
            raise ValueError(f"betas={self.betas}: give two or more, falling")


@dataclass(frozen=True)
class Subject:
    """A kind of writing and the model that was fine-tuned on it.

    Attributes:
      verify: (prompt, what was written) -> its score, where there is one.
    """

    config: Config
    name: str
    source: Source
    task: Any
    verify: Callable[[str, str], float] | None

    def examples(self, split: Split, count: int) -> list[Example]:
        rng = np.random.default_rng((self.config.seed, len(split)))
        found: dict[str, Example] = {}
        while len(found) < count:
            found |= {e.prompt: e for e in self.task.sample(rng, count, split)}
        return list(found.values())[:count]

    def prompts(self, split: Split) -> tuple[list[Example], Prompt]:
        config = self.config
        some = self.examples(split, config.prompts if split == "test" else config.validation)
        return some, Prompt.of([self.source.codec.prompt(e.prompt) for e in some])

    def texts(self, step: int) -> Batch:
        """Prompts and what follows, cut to one width."""
        config, codec = self.config, self.source.codec.strict
        assert codec is not None
        rng = np.random.default_rng((config.seed, 5, step + 4))
        pairs = [(e.prompt, e.target) for e in self.task.sample(rng, config.rows, "train")]
        whole = pack(codec, pairs, (1024,))
        width = config.tokens
        return Batch(
            whole.tokens[:, :width],
            whole.loss_mask[:, :width],
            np.minimum(whole.length, width).astype(np.int32),
        )

    @cached_property
    def extended(self) -> tuple[Any, int]:
        """The model with a row for the placeholder, and its id."""
        return with_placeholder(self.source.model)

    def likelihoods(self, batch: Batch) -> np.ndarray:
        """Of every token of the response after those before it, f64[B, T]; 0 elsewhere."""
        said = jnp.asarray(batch.loss_mask)
        texts = Sequences(jnp.asarray(batch.tokens), jnp.asarray(batch.length), said)
        logp, _ = _read(self.source.model, texts)
        p = np.where(batch.loss_mask[:, 1:], np.exp(np.asarray(logp, np.float64)), 0.0)
        return np.pad(p, ((0, 0), (1, 0)))

    def found(self, batch: Batch, alpha: float) -> list[list[tuple[int, int]]]:
        """The units of each text."""
        rows = zip(self.likelihoods(batch), batch.loss_mask, strict=True)
        return [units(p, said, alpha, self.config.longest) for p, said in rows]

    def batches(self, tails: bool) -> Callable[[int], Mapping[str, Any]]:
        """Step -> the loss's arguments; the surplus of units is left out at random."""
        config = self.config
        room = config.tokens * (2 if tails else 1)
        placing = Placing(self.extended[1], config.alpha, config.longest, room, tails)

        def batch(step: int) -> Mapping[str, Any]:
            texts = self.texts(step)
            rng = np.random.default_rng((config.seed, 6, step))
            placed, _ = placing.place(
                texts.tokens, texts.length, self.found(texts, config.alpha), rng
            )
            return {**texts._asdict(), **placed}

        return batch

    def trained(self, name: str, tails: bool = False, text: float = 1.0) -> Any:
        """After continual training; of a run that was stopped the weights are kept."""
        config = self.config
        store = None
        if config.out is not None:
            folder = Path(config.out) / "trained" / fingerprint(config)
            store = Checkpoints(folder / f"{self.name}, {name}", config.updates)
        return fit(
            self.extended[0],
            Loss(config.pads, text),
            self.batches(tails),
            Optimizer(config.rate, config.updates, warmup=config.updates // 20).build(),
            config.updates,
            store,
        )

    def shares(self) -> Row:
        """Of the response's tokens, those in units of two and more, by alpha."""
        row, batches = {}, [self.texts(-1 - i) for i in range(4)]
        for alpha in (0.7, 0.8, 0.9, 0.95, 0.99):
            inside = total = 0
            for batch in batches:
                for found in self.found(batch, alpha):
                    inside += sum(b - a + 1 for a, b in found if b > a)
                total += int(batch.loss_mask.sum())
            row[f"{alpha:g}"] = inside / total
        return row


@jax.jit
def _read(model: Any, texts: Sequences) -> tuple[jax.Array, jax.Array]:
    return token_logprobs(model, texts)


def subjects(config: Config) -> list[Subject]:
    """Text, then code."""
    sql = Sql()
    return [
        Subject(config, "text", open_model(config.text), DIALOG, None),
        Subject(config, "code", open_model(config.code), sql, sql.verify),
    ]
