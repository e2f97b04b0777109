"""The setting of the experiment on value guidance: models, policies, values, decoders.

The base writes the openings of dialog replies. Pairs of them, labelled by Bradley-Terry on a
reward, align policies by DPO: to the learned reward, and to that of the first words alone. The
values of CD are trained on the same texts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from algorithms.alignment import base
from algorithms.alignment.base import Responses
from experiments.harness.report import Out, Seed
from experiments.inputs import prompts, sources
from experiments.search.transfer_q_star.training import Lessons, Plan
from experiments.tasks.dialog import Dialog
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Rows
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import RewardScorer, Scorer, Spent
from jaxdecode.types import Array, Float

DIALOG = Dialog(typical=360, longest=500)


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator, reward: names in the zoo, or folders of published checkpoints.
      policy: an aligned checkpoint; None to align one by DPO.
      input: prompts, one a line or JSON lines, half to train on; None for the dialog task,
        whose known reward is then the judge.
      methods: names in `measures.arms`; all where there are none. The
        base, Transfer Q* and CD-- are always among them.
      train, judged: prompts to train on, and held out.
      samples: base responses to each training prompt.
      steps, batch, rate: of DPO.
      value_steps, value_batch, value_rate: of values.
      beta: KL strength of the alignment, in units of the reward.
      opening: tokens that the other reward reads.
      max_tokens: of a response.
      candidates, rollouts: k and n.
      weights: 1 / alpha of every guided method, rising; `value_weights` for trained values,
        which are fainter than rewards.
      widths, horizons: other k, and other lengths of rollouts, that Transfer Q* is tried with at
        the middle of `weights`; rising.
      sizes: N of best-of-N, rising.
      blocks: K of blockwise CD, rising; `block` tokens each.
      draws: responses of every method to each held-out prompt.
    """

    generator: str = "dialog"
    reward: str = "dialog-reward"
    policy: str | None = None
    input: Path | None = None
    methods: tuple[str, ...] = ()
    train: int = 64
    judged: int = 64
    samples: int = 16
    steps: int = 120
    batch: int = 24
    rate: float = 1e-3
    value_steps: int = 150
    value_batch: int = 48
    value_rate: float = 4e-3
    beta: float = 3.0
    opening: int = 6
    max_tokens: int = 20
    candidates: int = 8
    rollouts: int = 4
    weights: tuple[float, ...] = (0.2, 0.5, 1.2)
    value_weights: tuple[float, ...] = (0.5, 1.2, 3.0, 8.0)
    widths: tuple[int, ...] = (2, 16)
    horizons: tuple[int, ...] = (2, 8)
    sizes: tuple[int, ...] = (4, 32, 128)
    blocks: tuple[int, ...] = (4,)
    block: int = 5
    draws: int = 1
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        for name in ("weights", "value_weights", "widths", "horizons", "sizes", "blocks"):
            values = getattr(self, name)
            if not values or list(values) != sorted(set(values)) or values[0] <= 0:
                raise ValueError(f"{name}={values}: give positive numbers, rising")
        if self.rollouts < 2:
            raise ValueError(f"rollouts={self.rollouts}: indirect transfer needs at least 2")


@struct.dataclass
class Opening:
    """Another scorer's score of the first `tokens` tokens."""

    scorer: Scorer
    tokens: int

    def init(self, prompt: Prompt, samples: int) -> tuple[Any, Spent]:
        return self.scorer.init(prompt, samples)

    def score(
        self, state: Any, prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Any, Spent]:
        length = jnp.minimum(rows.length, self.tokens)
        last = jnp.take_along_axis(rows.tokens, jnp.maximum(length - 1, 0)[:, None], axis=1)
        root = jnp.where(length > 0, last[:, 0], rows.root)
        return self.scorer.score(state, prompt, replace(rows, length=length, root=root), window)


@dataclass(frozen=True)
class World:
    """What a configuration stands for."""

    config: Config

    @cached_property
    def source(self) -> sources.Source:
        source = sources.open_model(self.config.generator)
        return replace(source, model=sources.bound(source.model))

    @cached_property
    def scorer(self) -> RewardScorer:
        """r, the reward that methods see."""
        return sources.open_reward(self.config.reward, self.source)

    @property
    def other(self) -> Opening:
        """A reward that goes along with r, but is another."""
        return Opening(self.scorer, self.config.opening)

    def generator(self, model: Any = None) -> Generator:
        """Plain sampling from a model; the base where none is given."""
        model = self.source.model if model is None else model
        stop = self.source.codec.stop()
        return Generator(model, Identity(), Categorical(), stop, self.config.max_tokens)

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        """Prompts to train on and to be judged on."""
        c, rng = self.config, np.random.default_rng(self.config.seed)
        if c.input is None:
            asked = {"train": DIALOG.prompts("train"), "test": DIALOG.prompts("test")}
        else:
            given = [str(request.prompt) for request in prompts.read(c.input)]
            asked = {"train": given[: len(given) // 2], "test": given[len(given) // 2 :]}
        found = {}
        for split, count in (("train", c.train), ("test", c.judged)):
            if count > len(asked[split]):
                raise ValueError(f"{count} {split} prompts: there are only {len(asked[split])}")
            chosen = rng.choice(len(asked[split]), count, replace=False)
            found[split] = [asked[split][i] for i in chosen]
        return found

    def tokens(self, split: str) -> list[list[int]]:
        return [self.source.codec.prompt(text) for text in self.texts[split]]

    @cached_property
    def prompt(self) -> Prompt:
        """The held-out prompts, in one batch."""
        return Prompt.of(self.tokens("test"))

    @cached_property
    def drawn(self) -> Responses:
        """The base's responses to the training prompts."""
        c = self.config
        return base.draw(self.generator(), self.scorer, self.tokens("train"), c.samples, c.seed + 1)

    @cached_property
    def drawn_other(self) -> np.ndarray:
        """What the other reward says of the same responses."""
        c = self.config
        again = base.draw(self.generator(), self.other, self.tokens("train"), c.samples, c.seed + 1)
        return again.reward

    @cached_property
    def aligned(self) -> Any:
        """rho, the optimum for r."""
        if self.config.policy is not None:
            return sources.open_model(self.config.policy).model
        return self.align("aligned", self.drawn.reward)

    @cached_property
    def misaligned(self) -> Any:
        """The optimum for the other reward."""
        return self.align("misaligned", self.drawn_other)

    @cached_property
    def lessons(self) -> Lessons:
        """What policies and values are trained from."""
        c = self.config
        runs = None if c.out is None else Path(c.out) / "runs"
        return Lessons(self.source.model, self.tokens("train"), self.drawn, c.seed, runs)

    def align(self, name: str, reward: np.ndarray) -> Any:
        """The base aligned to a reward of its responses."""
        c = self.config
        return self.lessons.align(name, reward, c.beta, Plan(c.steps, c.batch, c.rate))

    @cached_property
    def values(self) -> dict[str, Any]:
        """V of both kinds."""
        c = self.config
        plan = Plan(c.value_steps, c.value_batch, c.value_rate)
        return {name: self.lessons.value(name, plan) for name in ("FUDGE", "CD-Q")}
