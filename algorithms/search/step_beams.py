"""Beams over steps: the baselines of guided search, as one strategy.

Lanes stand in groups that know nothing of each other. After every step each group keeps its
`keep` best responses so far and grows `branch` steps from each:

    best-of-N            N groups, keep 1, branch 1: nothing is ever cut
    beam over steps      1 group, keep w, branch m      (Snell et al. 2024, arXiv 2408.03314)
    DVTS                 N / m groups, keep 1, branch m (Beeching et al. 2024, the diverse
                         verifier tree search of Hugging Face's search-and-learn)

A complete response competes for a place like any other, and is not grown. The first of equals
stays. The best by its combined rewards is returned; the responses that are left can vote.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from algorithms.search.final_responses import final_responses, scored, standing
from jaxdecode import struct
from jaxdecode.arena import Choice, Evaluator, Search
from jaxdecode.nodes import NONE, Arena, Fresh
from jaxdecode.process_reward import Aggregation, Judgement, check_aggregation
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.rows import check_start
from jaxdecode.steps import StepSampler
from jaxdecode.types import Array, Float, Int, Key


@struct.dataclass
class Beams:
    """The nodes i32[B, K] that the lanes ended on, and f32[B, N], every node's score."""

    node: Int[Array, "B K"]
    score: Float[Array, "B N"]


@struct.dataclass
class Pruning:
    """The strategy: see the module. Attributes as those of `StepBeams`."""

    groups: int = struct.field(pytree_node=False)
    keep: int = struct.field(pytree_node=False)
    branch: int = struct.field(pytree_node=False)
    aggregation: Aggregation = struct.field(pytree_node=False)

    @property
    def lanes(self) -> int:
        return self.groups * self.keep * self.branch

    def init(self, arena: Arena) -> Beams:
        batch, nodes = arena.depth.shape
        return Beams(
            node=jnp.zeros((batch, self.lanes), jnp.int32),
            score=jnp.ones((batch, nodes), jnp.float32),
        )

    def kept(self, arena: Arena, note: Beams) -> Int[Array, "B K"]:
        """The survivors, each in the first of the lanes that it is to have; NONE in the rest."""
        batch = note.node.shape[0]
        _, score = standing(arena, note.score, note.node)
        grouped = score.reshape(batch, self.groups, -1)
        order = jnp.argsort(-grouped, axis=2, stable=True)[..., : self.keep]
        node = jnp.take_along_axis(
            note.node.reshape(grouped.shape), jnp.sort(order, axis=2), axis=2
        )
        first = jnp.arange(self.branch) == 0
        return jnp.where(first, node[..., None], NONE).reshape(batch, -1)

    def select(
        self, key: Key[Array, ""], arena: Arena, note: Beams, step: Int[Array, ""]
    ) -> tuple[Choice, Beams]:
        opening = step == 0
        node = jnp.where(opening, note.node, self.kept(arena, note))
        running = standing(arena, note.score, node)[0] == Status.RUNNING
        parents = jnp.where(running, node, NONE)
        heads = parents.reshape(-1, self.branch)[:, :1]
        spread = jnp.broadcast_to(heads, (heads.shape[0], self.branch)).reshape(node.shape)
        done = ~jnp.any(running, axis=1)
        choice = Choice(jnp.where(opening, parents, spread), jnp.zeros_like(done), done)
        return choice, replace(note, node=node)

    def backup(self, arena: Arena, note: Beams, fresh: Fresh, child: Int[Array, "B K"]) -> Beams:
        return Beams(
            node=jnp.where(fresh.parent >= 0, child, note.node),
            score=scored(arena, note.score, self.aggregation, fresh, child),
        )


@struct.dataclass
class StepBeams:
    """Best-of-N, beam search or DVTS over steps; the trace is a `FinalResponses`.

    Attributes:
      steps: how steps are drawn.
      evaluator: process rewards of steps.
      groups, keep, branch: static, see the module.
      aggregation: static, how the rewards of a path combine.
      slots: static, of the arena; None for what the worst case needs.
    """

    steps: StepSampler
    evaluator: Evaluator
    groups: int = struct.field(pytree_node=False, default=1)
    keep: int = struct.field(pytree_node=False, default=1)
    branch: int = struct.field(pytree_node=False, default=1)
    aggregation: Aggregation = struct.field(pytree_node=False, default="last")
    slots: int | None = struct.field(pytree_node=False, default=None)

    def __post_init__(self) -> None:
        for name in ("groups", "keep", "branch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1 is needed")
        check_aggregation(self.aggregation)

    @classmethod
    def best_of(
        cls, samples: int, steps: StepSampler, evaluator: Evaluator, **options: Any
    ) -> StepBeams:
        """Best-of-N with the rewards of all steps at hand."""
        return cls(steps, evaluator, groups=samples, **options)

    @classmethod
    def dvts(
        cls, samples: int, branch: int, steps: StepSampler, evaluator: Evaluator, **options: Any
    ) -> StepBeams:
        """`samples` lanes in trees of `branch` each."""
        if samples % branch:
            raise ValueError(f"branch={branch} must divide samples={samples}; choose a divisor")
        return cls(steps, evaluator, groups=samples // branch, branch=branch, **options)

    @property
    def strategy(self) -> Pruning:
        return Pruning(self.groups, self.keep, self.branch, self.aggregation)

    def check(self, prompt: Prompt) -> None:
        check_start(self.steps.generator, prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        strategy, depth = self.strategy, self.steps.depth
        most = strategy.lanes * depth
        slots = self.slots or most * self.steps.width
        search = Search(self.steps, self.evaluator, strategy, depth + 1, 1 + most, slots)
        arena, note, judged = search.run(key, prompt)
        assert isinstance(judged, Judgement)
        _, score = standing(arena, note.score, note.node)
        return final_responses(
            self.steps.model, arena, judged, note.node, score, jnp.argmax(score, axis=1)
        )
