"""Aligning by policy gradients: responses of the policy itself, rewarded, at a KL that is held."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.alignment import reach
from algorithms.alignment.calibration import CalibratedReward, RawReward
from algorithms.alignment.closed_form import closed_form
from algorithms.alignment.controlled import Held, aims, controlled, holding
from algorithms.alignment.course import Aligned, Course
from algorithms.alignment.fixed_point import FixedPoint, fixed_point_at
from algorithms.alignment.infalign import NODES, calibrate, quantiles
from algorithms.alignment.mixture import estimate
from algorithms.alignment.optimising import adapted, deployed, learn, placed
from algorithms.alignment.procedures import Procedure, Single
from algorithms.alignment.transforms import Table, tabulate
from jaxdecode.sharding import beside
from jaxdecode.train.checkpoints import kept
from jaxdecode.train.lora import merged
from jaxdecode.train.policy_gradient import GroupRelative, Reinforce, Setting
from jaxdecode.train.ppo import PPO

# One object each, by which runs share a compiled program.
RLOO, GRPO = Reinforce(), GroupRelative()


def by_reward(course: Course) -> Aligned:
    """Policy gradients: a reward, a first beta, and the learner that adapts it.

    Raises:
      ValueError: see `algorithms.alignment.align.align`.
    """
    c, plan = course, course.plan
    reward, beta, learner = _rewarded(course)
    held = controlled(learner)
    tx = holding(plan.optimizer, plan.steps, learner.updates)
    setting = placed(Setting(c.generator, reward, jnp.float32(beta), plan.group), plan)
    model, betas = setting.generator.model, [beta]
    c = replace(c, generator=replace(c.generator, model=model))  # where the policy lies
    where = None if c.folder is None else c.folder / c.method

    def train(steps: int) -> Any:
        c.watch("training", 0 if where is None else min(kept(where / "policy"), steps), steps, {})
        longer = replace(plan, steps=steps, learner=held, optimizer=tx, save=c.save)
        module = Held(learner.module(adapted(model, plan)), beta)
        module = learn(
            beside(module, model),
            setting,
            c.prompts,
            longer,
            where,
            c.trained(steps),
            lambda ids, step: {"aim": aims(c.kl, plan.steps, step)},
            c.told_every,
        )
        betas.append(module.beta)
        return merged(held.policy(module))

    looks = [plan.steps, plan.steps * 3 // 2, plan.steps * 2]
    begun = 0 if where is None else kept(where / "policy")
    place, seen = reach.reach(model, train, looks, c.kl, c.measure, begun, True, c.at)
    return c.told(replace(place, policy=deployed(place.policy, plan)), seen, betas[-1])


def _rewarded(course: Course) -> tuple[Any, float, Any]:
    """(reward, first beta, learner) of a method that draws."""
    c, plan = course, course.plan
    count = len(c.prompts)
    table = calibrate(
        c.generator, c.scorer, c.prompts, plan, c.folder,
        lambda done: c.watch("base responses", done, count, {}),
    )  # fmt: skip
    if c.method == "ctrl":
        found = fixed_point_of(_procedure(course, table), c.kl)
        phi = Table(jnp.asarray(found.phi, jnp.float32))
        table.warn(phi)
        reward = CalibratedReward(c.scorer, table.quantiles, tabulate(phi, 2 * table.samples + 1))
        return reward, found.beta, RLOO
    if c.method == "grpo":
        # A tilt by z / beta, z normal as standardised rewards are, has a KL of 1 / (2 beta^2).
        return RawReward(c.scorer), (2 * c.kl) ** -0.5, GRPO
    spread = float(np.sqrt(np.mean(np.var(np.asarray(table.quantiles.rewards), axis=1))))
    if not spread > 0:
        raise ValueError(
            f"scorer: it gives all {table.samples} base responses to every prompt the same reward; "
            "there is nothing to learn"
        )
    beta = spread * (2 * c.kl) ** -0.5  # the same of a normal reward of this spread
    learner = RLOO if c.method == "rloo" else PPO(_width(c.generator.model))
    return RawReward(c.scorer), beta, learner


def _procedure(course: Course, table: Any) -> Procedure:
    """In closed form, or estimated by what it returns over the base."""
    c = course
    if c.procedure is None:
        return Single()
    known = closed_form(c.procedure, c.scorer, c.generator)
    if known is not None:
        return known
    c.watch("procedure", 0, 1, {})
    found = quantiles(c.procedure, table, c.scorer, c.prompts, c.plan)
    c.watch("procedure", 1, 1, {})
    return estimate(found, table.samples)


def fixed_point_of(procedure: Procedure, kl: float) -> FixedPoint:
    """`fixed_point_at`, whose failures say what to do.

    Raises:
      ValueError: the equations have no solution at this KL that can be found.
    """
    try:
        return fixed_point_at(procedure, kl, NODES)
    except (ArithmeticError, ValueError) as error:
        raise ValueError(
            f"kl={kl}: no transform of the reward was found for {type(procedure).__name__} there "
            f"({error}); aim at a smaller one, or use method 'rloo'"
        ) from error


def _width(model: Any) -> int:
    """D of the hidden states."""
    shape = jax.eval_shape(model.forward, jax.ShapeDtypeStruct((1, 1), jnp.int32))
    return int(shape[1].shape[-1])
