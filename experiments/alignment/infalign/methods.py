"""Every method that the experiment compares, each a way to a policy of about some KL.

A method's own coefficient is chosen so that theory, or for the losses on pairs a rule of thumb,
puts it near the KL aimed at; what counts is the KL that its policy turns out to have.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from algorithms.alignment.calibration import CalibratedReward, RawReward
from algorithms.alignment.fixed_point import fixed_point_at
from algorithms.alignment.infalign import optimise, quantiles
from algorithms.alignment.mixture import estimate
from algorithms.alignment.pairs import Extremes, terms_near
from algorithms.alignment.procedures import BestOf, Procedure, WorstOf
from algorithms.alignment.tilt import best_of_n, beta_of, solve
from algorithms.alignment.transforms import (
    Exponential,
    Identity,
    Log,
    Table,
    Transform,
    tabulate,
)
from experiments.alignment.infalign.setting import RLOO, World
from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.train.policy_gradient import GroupRelative, Jeffreys
from jaxdecode.train.preferences import PairTerms, pair_loss

NODES = 2001
LARGEST = 16  # N of the largest best-of-N that is imitated

Train = Callable[[World, float], Any]
"""(world, kl) -> the policy that aims at this KL, in nats."""


@dataclass(frozen=True)
class Method:
    """How a policy is made.

    Attributes:
      name: in tables.
      train: see `Train`.
    """

    name: str
    train: Train


def calibrated(
    world: World, key: str, phi: Transform, beta: float, learner: Any, extra: Any = None
) -> Any:
    """CTRL with a transform, at a beta in unscaled units."""
    world.calibration.warn(phi)
    table = tabulate(phi, 2 * world.config.samples + 1)
    reward = CalibratedReward(world.scorers["train"], world.calibration.quantiles, table)
    scaled = beta * float(np.exp(-phi.log_scale))
    given = {} if extra is None else {"extra": extra}
    return optimise(
        world.generator,
        reward,
        world.tokens["train"],
        scaled,
        world.plan(learner),
        world.folder(key),
        **given,
    )


def uncalibrated(world: World, key: str, beta: float, learner: Any) -> Any:
    """The reward as it is."""
    reward = RawReward(world.scorers["train"])
    plan, tokens = world.plan(learner), world.tokens["train"]
    return optimise(world.generator, reward, tokens, beta, plan, world.folder(key))


def raw(world: World, kl: float) -> Any:
    """Uncalibrated RLHF; beta from the tilt of the base's own samples."""
    rewards = world.train_base.reward.astype(np.float64)

    def kl_of(beta: float) -> float:
        weight = np.exp((rewards - rewards.max(axis=1, keepdims=True)) / beta)
        weight /= weight.sum(axis=1, keepdims=True)
        size = weight * rewards.shape[1]
        return float(np.mean(np.sum(weight * np.log(np.maximum(size, 1e-30)), axis=1)))

    return uncalibrated(world, f"raw {kl:g}", solve(kl_of, kl), RLOO)


@functools.lru_cache(maxsize=2)
def estimated(world: World) -> Procedure:
    """Speculative rejection as a calibrated procedure, from what it returns over the base."""
    decoder: Any = world.rejection("train", world.source.model)
    plan = world.plan(RLOO)
    scorer, tokens = world.scorers["train"], world.tokens["train"]
    found = quantiles(decoder, world.calibration, scorer, tokens, plan)
    return estimate(found, world.calibration.samples)


def best(world: World) -> Callable[[np.ndarray, int], Mapping[str, Any]]:
    """The best of N base responses, for BOND's forward divergence."""

    def drawn(ids: np.ndarray, step: int) -> dict[str, Any]:
        rng, found = np.random.default_rng((world.config.seed, step)), world.train_base
        index, _ = found.extremes(ids, world.config.n, rng)
        return {
            "best_tokens": jnp.asarray(found.tokens[ids, index]),
            "best_length": jnp.asarray(found.length[ids, index]),
        }

    return drawn


def pairs(world: World, key: str, terms: PairTerms, samples: int) -> Any:
    """A loss on the best and the worst of `samples` base responses to a prompt."""
    c, where = world.config, world.folder(key)
    rows = c.batch * c.group // 2
    return fit(
        world.source.model,
        pair_loss,
        Extremes(world.tokens["train"], world.train_base, terms, samples, rows, c.seed),
        world.optimizer,
        c.steps,
        None if where is None else Checkpoints(where / "policy", c.steps),
        watch_every=c.steps,
    )


def samples_of(kl: float) -> int:
    """The N whose best-of-N policy has the KL nearest to this one."""
    return min(range(2, LARGEST + 1), key=lambda n: abs(best_of_n(n)[1] - kl))


def methods(n: int, samples: int) -> list[Method]:
    """By what they are called in the paper's tables; N, and K of the calibration."""
    log, group, jeffreys = Log(0.5 / samples), GroupRelative(), Jeffreys(0.5)

    def ctrl(name: str, phi: Transform) -> Method:
        def train(world: World, kl: float) -> Any:
            beta = beta_of(kl, Log() if isinstance(phi, Log) else phi)
            return calibrated(world, f"{name} {kl:g}", phi, beta, RLOO)

        return Method(name, train)

    def solved(name: str, procedure: Callable[[World], Procedure]) -> Method:
        def train(world: World, kl: float) -> Any:
            point = fixed_point_at(procedure(world), kl, NODES)
            phi = Table(jnp.asarray(point.phi, jnp.float32))
            return calibrated(world, f"{name} {kl:g}", phi, point.beta, RLOO)

        return Method(name, train)

    def paired(name: str, loss: str, extremes_of: Callable[[float], int]) -> Method:
        def train(world: World, kl: float) -> Any:
            return pairs(world, f"{name} {kl:g}", terms_near(loss, kl, n), extremes_of(kl))

        return Method(name, train)

    def bond(world: World, kl: float) -> Any:
        return calibrated(world, f"BOND {kl:g}", log, beta_of(kl, Log()), jeffreys, best(world))

    def grpo(world: World, kl: float) -> Any:
        # A tilt by z / beta, z normal as standardised rewards are, has a KL of 1 / (2 beta^2).
        return uncalibrated(world, f"GRPO {kl:g}", (2 * kl) ** -0.5, group)

    return [
        Method("raw", raw),
        ctrl("identity", Identity()),
        ctrl("log", log),
        ctrl("exp(10)", Exponential(10.0)),
        ctrl("-exp(-10)", Exponential(-10.0)),
        solved("best-of-N optimum", lambda world: BestOf(n)),
        solved("worst-of-N optimum", lambda world: WorstOf(n)),
        solved("rejection optimum", estimated),
        Method("BOND", bond),
        paired("BoNBoN", "bonbon", lambda kl: n),
        paired("SFT", "sft", samples_of),
        paired("IPO", "ipo", lambda kl: 2),
        paired("DPO", "dpo", lambda kl: 2),
        Method("GRPO", grpo),
    ]
