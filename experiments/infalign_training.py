"""A language model aligned by every method, and what it wins against its base.

The generator writes the first words of a reply; the learned reward model, its output multiplied by
a factor that differs by prompt over two decades, trains the policies and chooses within best-of-N
and worst-of-N. The judge is the task's known reward, which no method sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from algorithms.alignment import base
from algorithms.alignment.base import Responses
from algorithms.alignment.calibration import CalibratedReward, Calibration, RawReward
from algorithms.alignment.estimators import Rule, inference_win
from algorithms.alignment.fixed_point import fixed_point_at
from algorithms.alignment.infalign import Plan, optimise
from algorithms.alignment.procedures import BestOf, WorstOf
from algorithms.alignment.tilt import beta_of, solve
from algorithms.alignment.transforms import (
    Exponential,
    Identity,
    Log,
    Table,
    Transform,
    tabulate,
)
from experiments import prompts, sources
from experiments.tasks.dialog import Dialog
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity as NoEdit
from jaxdecode.prompt import Prompt
from jaxdecode.responses import judge
from jaxdecode.rows import Rows
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import Scorer, Spent
from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.train.policy_gradient import Jeffreys, Reinforce
from jaxdecode.train.preferences import PairTerms, bonbon, bonbon_margin, ipo, pair_loss
from jaxdecode.train.sequences import join, logprobs
from jaxdecode.types import Array, Float

DIALOG = Dialog(typical=360, longest=500, scale_span=1.0)
NODES = 2001


@struct.dataclass
class Scaled:
    """Another scorer's score times a factor of the prompt.

    Attributes:
      factor: f32[P], by the prompt's id.
    """

    scorer: Scorer
    factor: Float[Array, "P"]

    def init(self, prompt: Prompt, samples: int) -> tuple[Any, Spent]:
        state, spent = self.scorer.init(prompt, samples)
        return (state, jnp.repeat(self.factor[prompt.id], samples)), spent

    def score(
        self, state: Any, prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Any, Spent]:
        inner, factor = state
        value, inner, spent = self.scorer.score(inner, prompt, rows, window)
        return factor * value, (inner, factor), spent


@dataclass(frozen=True)
class Method:
    """How a policy is made.

    Attributes:
      name: in tables.
      train: (world, kl) -> the policy that aims at this KL, in nats.
    """

    name: str
    train: Callable[[World, float], Any]


@dataclass(frozen=True)
class World:
    """Models, prompts, and the base's own responses."""

    config: Any

    @cached_property
    def source(self) -> sources.Source:
        return sources.open_model(self.config.generator)

    @cached_property
    def generator(self) -> Generator:
        codec = self.source.codec
        return Generator(
            self.source.model, NoEdit(), Categorical(), codec.stop(), self.config.max_tokens
        )

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        """Prompts to train on and to be judged on."""
        c = self.config
        rng, counts = np.random.default_rng(c.seed), {"train": c.prompts, "test": c.judged}
        if c.input is None:
            asked = {"train": DIALOG.prompts("train"), "test": DIALOG.prompts("test")}
        else:
            given = [request.prompt for request in prompts.read(c.input)]
            half = len(given) // 2
            asked = {"train": given[:half], "test": given[half:]}
        for split, count in counts.items():
            if count > len(asked[split]):
                raise ValueError(f"{count} {split} prompts: there are only {len(asked[split])}")
        return {
            split: [asked[split][i] for i in rng.choice(len(asked[split]), count, replace=False)]
            for split, count in counts.items()
        }

    def tokens(self, split: str) -> list[list[int]]:
        return [self.source.codec.prompt(text) for text in self.texts[split]]

    def scorer(self, split: str) -> Scaled:
        """The learned reward; on the dialog task with the prompts' scales."""
        texts, factor = self.texts[split], np.ones(len(self.texts[split]))
        if self.config.input is None:
            factor = DIALOG.reward.scale(DIALOG.grammar.encode_prompts(texts))
        learned = sources.open_reward(self.config.reward, self.source)
        return Scaled(learned, jnp.asarray(factor, jnp.float32))

    def drawn(self, split: str, model: Any, samples: int, seed: int) -> Responses:
        generator = replace(self.generator, model=model)
        return base.draw(generator, self.scorer(split), self.tokens(split), samples, seed, 16)

    @cached_property
    def train_base(self) -> Responses:
        return self.drawn("train", self.source.model, self.config.samples, self.config.seed + 1)

    @cached_property
    def test_base(self) -> Responses:
        return self.drawn("test", self.source.model, self.config.drawn, self.config.seed + 2)

    @cached_property
    def calibration(self) -> Calibration:
        return Calibration.of(self.train_base.reward, "")

    def judged(self, found: Responses) -> np.ndarray:
        """What the judge says of responses to the test prompts, f64[P, M]."""
        if self.config.judge is not None:
            scorer, tokens = (
                sources.open_reward(self.config.judge, self.source),
                self.tokens("test"),
            )
            responses = jnp.asarray(found.tokens), jnp.asarray(found.length)
            return np.asarray(judge(scorer, Prompt.of(tokens), *responses), np.float64)
        if self.config.input is not None:
            raise ValueError("judge: the known reward is the dialog task's; name a reward model")
        codec, rewards = self.source.codec, []
        for text, rows, lengths in zip(self.texts["test"], found.tokens, found.length, strict=True):
            replies = [codec.decode(row[:n].tolist()) for row, n in zip(rows, lengths, strict=True)]
            rewards.append(DIALOG.rewards([text] * len(replies), replies))
        return np.array(rewards)

    @cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """One object for all runs, which share compiled programs by it."""
        c = self.config
        rate = optax.warmup_cosine_decay_schedule(0, c.rate, 5, c.steps, c.rate / 10)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.98))

    def plan(self, learner: Any) -> Plan:
        c = self.config
        return Plan(
            samples=c.samples,
            prompts=c.batch,
            group=c.group,
            steps=c.steps,
            optimizer=self.optimizer,
            learner=learner,
            seed=c.seed,
        )

    def folder(self, key: str) -> Path | None:
        return None if self.config.out is None else Path(self.config.out) / "runs" / key

    # Methods that learn from their own samples.

    def calibrated(self, key: str, phi: Transform, beta: float, learner: Any = None) -> Any:
        """CTRL with a transform, at a beta in unscaled units."""
        learner = learner or Reinforce()
        table = tabulate(phi, 2 * self.config.samples + 1)
        reward = CalibratedReward(self.scorer("train"), self.calibration.quantiles, table)
        scaled = beta * float(np.exp(-phi.log_scale))
        extra = self.best if isinstance(learner, Jeffreys) else lambda ids, step: {}
        plan, tokens = self.plan(learner), self.tokens("train")
        return optimise(self.generator, reward, tokens, scaled, plan, self.folder(key), extra=extra)

    def raw(self, key: str, kl: float) -> Any:
        """The reward as it is; beta from the tilt of the base's own samples."""
        rewards = self.train_base.reward.astype(np.float64)

        def kl_of(beta: float) -> float:
            weight = np.exp((rewards - rewards.max(axis=1, keepdims=True)) / beta)
            weight /= weight.sum(axis=1, keepdims=True)
            size = weight * rewards.shape[1]
            return float(np.mean(np.sum(weight * np.log(np.maximum(size, 1e-30)), axis=1)))

        reward = RawReward(self.scorer("train"))
        plan, tokens = self.plan(Reinforce()), self.tokens("train")
        return optimise(self.generator, reward, tokens, solve(kl_of, kl), plan, self.folder(key))

    def best(self, ids: np.ndarray, step: int) -> Mapping[str, Any]:
        """The best of N base responses, for BOND's forward divergence."""
        rng = np.random.default_rng((self.config.seed, step))
        best, _ = self.train_base.extremes(ids, self.config.n, rng)
        return {
            "best_tokens": jnp.asarray(self.train_base.tokens[ids, best]),
            "best_length": jnp.asarray(self.train_base.length[ids, best]),
        }

    # Methods that learn from pairs of base responses.

    def pairs(self, key: str, terms: PairTerms, samples: int) -> Any:
        """Best and worst of `samples` base responses to a prompt."""
        c, found, tokens = self.config, self.train_base, self.tokens("train")
        width = max(map(len, tokens))
        count = c.batch * c.group // 2

        def batch(step: int) -> dict[str, Any]:
            rng = np.random.default_rng((c.seed, step))
            ids = rng.integers(len(tokens), size=count)
            block = Prompt.of([tokens[i] for i in ids], ids.tolist(), width)
            made: dict[str, Any] = {"terms": terms}
            sides = found.extremes(ids, samples, rng)
            for name, index in zip(("chosen", "rejected"), sides, strict=True):
                text, length = found.tokens[ids, index], found.length[ids, index]
                made[name] = join(block, jnp.asarray(text), jnp.asarray(length))
                made[f"{name}_reference"] = jnp.asarray(found.logprob[ids, index])
            return made

        where = self.folder(key)
        return fit(
            self.source.model,
            pair_loss,
            batch,
            self.optimizer,
            c.steps,
            None if where is None else Checkpoints(where / "policy", c.steps),
            watch_every=c.steps,
        )

    # What a policy is worth.

    def measure(self, policy: Any) -> dict[str, Any]:
        """By prompt: KL, and win rates by the reward and by the judge, three procedures each."""
        n, other = self.config.n, self.test_base
        found = self.drawn("test", policy, self.config.drawn, self.config.seed + 3)
        tokens = self.tokens("test")
        prompt = Prompt.of(tokens, width=max(map(len, tokens)))
        reference = sequence_logprobs(
            self.source.model, prompt, jnp.asarray(found.tokens), jnp.asarray(found.length)
        )
        rules: list[tuple[str, int, Rule]] = [
            ("standard", 1, "best"),
            ("best", n, "best"),
            ("worst", n, "worst"),
        ]
        judges = self.judged(found), self.judged(other)
        row: dict[str, Any] = {
            "kl": np.mean(found.logprob - np.asarray(reference), axis=1),
            "length": float(found.length.mean()),
        }
        for name, samples, rule in rules:
            row[name] = inference_win(found.reward, other.reward, samples, rule)
            row[f"{name}, judge"] = inference_win(
                found.reward, other.reward, samples, rule, *judges
            )
        return row


@jax.jit
def sequence_logprobs(model: Any, prompt: Prompt, tokens: Array, length: Array) -> Array:
    """log p of K responses to each prompt: f32[P, K]."""
    flat = jax.tree.map(lambda x: jnp.repeat(x, tokens.shape[1], axis=0), prompt)
    both = join(flat, tokens.reshape(-1, tokens.shape[2]), length.reshape(-1))
    return logprobs(model, both).reshape(length.shape)


def methods(n: int, samples: int) -> list[Method]:
    """Every method, by what it is called in the paper's tables."""

    def ctrl(name: str, phi: Transform, learner: Any = None) -> Method:
        def train(world: World, kl: float) -> Any:
            beta = beta_of(kl, Log() if isinstance(phi, Log) else phi)
            return world.calibrated(f"{name} {kl:g}", phi, beta, learner)

        return Method(name, train)

    def solved(name: str, procedure: Any) -> Method:
        def train(world: World, kl: float) -> Any:
            point = fixed_point_at(procedure, kl, NODES)
            phi = Table(jnp.asarray(point.phi, jnp.float32))
            return world.calibrated(f"{name} {kl:g}", phi, point.beta)

        return Method(name, train)

    log = Log(0.5 / samples)
    return [
        Method("raw", lambda world, kl: world.raw(f"raw {kl:g}", kl)),
        ctrl("identity", Identity()),
        ctrl("log", log),
        ctrl("exp(10)", Exponential(10.0)),
        ctrl("-exp(-10)", Exponential(-10.0)),
        solved("best-of-N optimum", BestOf(n)),
        solved("worst-of-N optimum", WorstOf(n)),
        ctrl("BOND", log, Jeffreys(0.5)),
        # Their margins stand for beta: BoNBoN is its own at KL 1, and nearer the base below.
        Method(
            "BoNBoN",
            lambda world, kl: world.pairs(
                f"BoNBoN {kl:g}", bonbon(n, margin=bonbon_margin(n) * kl), n
            ),
        ),
        Method("IPO", lambda world, kl: world.pairs(f"IPO {kl:g}", ipo(0.25 / kl**0.5), 2)),
    ]
