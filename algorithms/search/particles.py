"""Particle filtering and particle Gibbs over steps (Puri et al. 2025, arXiv 2502.01618).

A state-space model: the language model draws steps, and a process reward r is the probability
of observing that all is well. N particles take one step each, then N are drawn with replacement
by weight, and so on until none is under way; the best by its last reward is returned. Finished
particles are not extended, but go on being drawn. Weights are a softmax over the particles:

    "odds"          logit(r) / T     the authors' code, r kept within 1e-6 of 0 and 1
    "softmax"       r / T            the algorithm as printed
    "proportional"  log(r) / T       Bayes' rule for one observation

T goes from `temperature` to `final` linearly over `annealing` rounds. Weights are not carried
over, and every round draws anew.

With more than one iteration it is particle Gibbs: a reference path is drawn by weight from the
particles of one run, and the next has N - 1 new ones that are drawn from themselves and the
reference's prefix of the same number of steps, which is never given up. The reference is weighed
by the reward of that prefix; the authors' code takes the step after.

A particle is a node of the arena: drawing moves no cache, and the reference's prefixes are there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import jax.numpy as jnp

from algorithms.search.final_responses import final_responses, scored, standing
from jaxdecode import struct
from jaxdecode.arena import Choice, Evaluator, Search
from jaxdecode.logits.transform import check_number
from jaxdecode.nodes import NONE, Arena, Fresh, look
from jaxdecode.process_reward import Aggregation, Judgement, check_aggregation
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.rows import check_start
from jaxdecode.sampling import draw_many, row_keys, step_keys
from jaxdecode.steps import StepSampler
from jaxdecode.types import Array, Float, Int, Key

Weights = Literal["odds", "softmax", "proportional"]
EDGE = 1e-6
DRAWS = 1  # the stream of keys that particles are drawn with


def log_weights(
    rule: Weights, reward: Float[Array, "..."], temperature: Any
) -> Float[Array, "..."]:
    """Unnormalised; -inf where the reward is -inf."""
    inside = jnp.clip(reward, EDGE, 1 - EDGE)
    match rule:
        case "odds":
            weight = jnp.log(inside) - jnp.log1p(-inside)
        case "softmax":
            weight = reward
        case "proportional":
            weight = jnp.log(inside)
    return jnp.where(reward == -jnp.inf, -jnp.inf, weight / temperature)


@struct.dataclass
class Swarm:
    """Where the particles are.

    Attributes:
      particle: i32[B, K], nodes; NONE where one was lost.
      score: f32[B, N], the reward of every node, combined along its path.
      reference: i32[B], the node that ends the reference path; NONE in the first iteration.
      iteration, time: i32[B], runs before this one, and steps taken in it.
    """

    particle: Int[Array, "B K"]
    score: Float[Array, "B N"]
    reference: Int[Array, "B"]
    iteration: Int[Array, "B"]
    time: Int[Array, "B"]


@struct.dataclass
class Resampling:
    """The strategy: see the module. Attributes as those of `Particles`."""

    particles: int = struct.field(pytree_node=False)
    iterations: int = struct.field(pytree_node=False)
    weights: Weights = struct.field(pytree_node=False)
    aggregation: Aggregation = struct.field(pytree_node=False)
    finished: bool = struct.field(pytree_node=False)
    annealing: int = struct.field(pytree_node=False)
    temperature: Float[Array, ""] | float
    final: Float[Array, ""] | float

    @property
    def lanes(self) -> int:
        return self.particles

    def init(self, arena: Arena) -> Swarm:
        batch, nodes = arena.depth.shape
        zero = jnp.zeros((batch,), jnp.int32)
        return Swarm(
            particle=jnp.zeros((batch, self.particles), jnp.int32),
            score=jnp.ones((batch, nodes), jnp.float32),
            reference=zero + NONE,
            iteration=zero,
            time=zero,
        )

    def weigh(self, score: Float[Array, "B K"], time: Int[Array, "B"]) -> Float[Array, "B K"]:
        """Log-weights after `time` steps."""
        share = jnp.clip((time - 1) / max(1, self.annealing - 1), 0.0, 1.0)
        heat = self.temperature + (self.final - self.temperature) * share
        return log_weights(self.weights, score, heat[:, None])

    def whole(self, note: Swarm) -> Int[Array, "B K"]:
        """The particles, the reference in its full length."""
        led = (note.reference >= 0)[:, None] & (jnp.arange(self.particles) == 0)
        return jnp.where(led, note.reference[:, None], note.particle)

    def select(
        self, key: Key[Array, ""], arena: Arena, note: Swarm, step: Int[Array, ""]
    ) -> tuple[Choice, Swarm]:
        lanes = jnp.arange(self.particles)
        zero = jnp.zeros_like(note.time)
        keys = step_keys(row_keys(key, arena.prompt.id, zero, DRAWS), arena.rounds)
        led = (note.reference >= 0)[:, None] & (lanes == 0)
        status, score = standing(arena, note.score, note.particle)
        active = (status == Status.RUNNING) & ~led
        # A run that is over hands its reference on, and the next begins at the prompt.
        over = ~jnp.any(active, axis=1)
        again = over & (note.iteration + 1 < self.iterations)
        whole = self.whole(note)
        ending = self.weigh(standing(arena, note.score, whole)[1], note.time)
        drawn = draw_many(step_keys(keys, zero + 1), ending, 1)
        heir = jnp.take_along_axis(whole, jnp.maximum(drawn, 0), axis=1)[:, 0]
        reference = jnp.where(again, heir, note.reference)
        time = jnp.where(again, 0, note.time)

        able = jnp.ones_like(active) if self.finished else active
        weight = jnp.where(able, self.weigh(score, note.time), -jnp.inf)
        index = draw_many(step_keys(keys, zero), weight, self.particles)
        moved = (index >= 0) & able & ~led & (time > 0)[:, None]
        index = jnp.where(moved, index, lanes)
        particle = jnp.take_along_axis(note.particle, index, axis=1)
        particle = jnp.where(again[:, None], 0, particle)
        particle = jnp.where(over[:, None] & ~again[:, None], note.particle, particle)
        led = (reference >= 0)[:, None] & (lanes == 0)
        going = standing(arena, note.score, particle)[0] == Status.RUNNING
        parents = jnp.where(going & ~led, particle, NONE)
        note = replace(
            note,
            particle=particle,
            reference=reference,
            iteration=note.iteration + again,
            time=time,
        )
        return Choice(parents, jnp.zeros_like(over), over & ~again), note

    def backup(self, arena: Arena, note: Swarm, fresh: Fresh, child: Int[Array, "B K"]) -> Swarm:
        particle = jnp.where(fresh.parent >= 0, child, note.particle)
        time = note.time + 1
        steps = jnp.minimum(time, look(arena.depth, note.reference[:, None])[:, 0])
        path = look(arena.path, note.reference[:, None])[:, 0]
        prefix = jnp.take_along_axis(path, steps[:, None], axis=1)
        led = (note.reference >= 0)[:, None] & (jnp.arange(self.particles) == 0)
        return replace(
            note,
            particle=jnp.where(led, prefix, particle),
            score=scored(arena, note.score, self.aggregation, fresh, child),
            time=time,
        )


@struct.dataclass
class Particles:
    """Particle filtering, or particle Gibbs where there are several iterations.

    The trace is the `FinalResponses` of the last run's particles.

    Attributes:
      steps: how steps are drawn; the authors take temperature 0.8.
      evaluator: process rewards of steps.
      particles: static, N.
      iterations: static; 1 is particle filtering.
      weights: static, see the module.
      aggregation: static, how the rewards of a path combine; "last" is the authors' best.
      finished: static; finished particles may be drawn. Else those under way are drawn from
        among themselves.
      temperature, final, annealing: T of the weights; see the module.
      slots: static, of the arena; None for what the worst case needs.
    """

    steps: StepSampler
    evaluator: Evaluator
    particles: int = struct.field(pytree_node=False)
    iterations: int = struct.field(pytree_node=False, default=1)
    weights: Weights = struct.field(pytree_node=False, default="odds")
    aggregation: Aggregation = struct.field(pytree_node=False, default="last")
    finished: bool = struct.field(pytree_node=False, default=True)
    annealing: int = struct.field(pytree_node=False, default=1)
    temperature: Float[Array, ""] | float = 1.0
    final: Float[Array, ""] | float = 1.0
    slots: int | None = struct.field(pytree_node=False, default=None)

    def __post_init__(self) -> None:
        least = 1 if self.iterations == 1 else 2
        if self.particles < least:
            raise ValueError(f"particles={self.particles}: at least {least} are needed")
        for name in ("iterations", "annealing"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1 is needed")
        if self.weights not in get_args(Weights):
            raise ValueError(f"weights={self.weights!r}: use one of {', '.join(get_args(Weights))}")
        check_aggregation(self.aggregation)
        check_number("temperature", self.temperature, 0.0, above=True)
        check_number("final", self.final, 0.0, above=True)

    @property
    def strategy(self) -> Resampling:
        """What the arena is searched by."""
        return Resampling(
            self.particles,
            self.iterations,
            self.weights,
            self.aggregation,
            self.finished,
            self.annealing,
            self.temperature,
            self.final,
        )

    def check(self, prompt: Prompt) -> None:
        check_start(self.steps.generator, prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        rounds = self.iterations * (self.steps.depth + 1)
        most = self.particles * self.iterations * self.steps.depth
        slots = self.slots or most * self.steps.width
        strategy = self.strategy
        search = Search(self.steps, self.evaluator, strategy, rounds, 1 + most, slots)
        arena, note, judged = search.run(key, prompt)
        assert isinstance(judged, Judgement)
        node = strategy.whole(note)
        _, score = standing(arena, note.score, node)
        return final_responses(
            self.steps.model, arena, judged, node, score, jnp.argmax(score, axis=1)
        )
