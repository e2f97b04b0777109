"""A tree whose shape is known beforehand, its siblings drawn without replacement.

Where the law of a node runs out of tokens before its children do, the rest are missing, or,
on request, drawn uniformly from the tokens not drawn yet, as in Sequoia (Chen et al. 2024,
arXiv:2402.12374); recursive rejection sampling continues in the same way.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from algorithms.speculative.drafters.branching import Children, Front, Step, each
from jaxdecode import struct
from jaxdecode.draft import ROOT, check_parents
from jaxdecode.judge import stream
from jaxdecode.sampling import gumbel_top_k

FILL = 1


@struct.dataclass
class Fixed:
    """A static tree.

    Attributes:
      parents: static, of each node, ROOT for the root's children; level by level, siblings side
        by side, in the order of their parents.
      fill: static; draw on uniformly where a law has no token left.
    """

    parents: tuple[int, ...] = struct.field(pytree_node=False)
    fill: bool = struct.field(pytree_node=False, default=False)

    replacement = False

    def __post_init__(self) -> None:
        check_parents(np.asarray(self.parents, int))
        if not self.parents or list(self.parents) != sorted(self.parents):
            raise ValueError(
                f"parents={self.parents}: number the nodes level by level, so that parents never "
                "decrease, and give at least one"
            )

    @property
    def steps(self) -> tuple[Step, ...]:
        """The plan of a level: for each node its parent's place in the level before, its rank."""
        steps, level = [], [ROOT]
        while level:
            plan, below = [], []
            for place, above in enumerate(level):
                children = [node for node, own in enumerate(self.parents) if own == above]
                plan += [(place, rank) for rank in range(len(children))]
                below += children
            if plan:
                steps.append(Step(len(plan), tuple(plan)))
            level = below
        return tuple(steps)

    @property
    def nodes(self) -> int:
        return len(self.parents)

    @property
    def depth(self) -> int:
        return len(self.steps)

    def init(self, batch: int) -> tuple[Any, ...]:
        return ()

    def __call__(
        self, memory: tuple[Any, ...], front: Front, step: Step
    ) -> tuple[tuple[Any, ...], Children]:
        place, rank = np.array(step.plan).T
        count = int(rank.max()) + 1
        ranked = front.ranked(count)
        token, there = ranked.index, jnp.isfinite(ranked.perturbed)
        if self.fill:
            rest = each(
                lambda key, logq: gumbel_top_k(
                    stream(key, FILL), jnp.where(jnp.isfinite(logq), -jnp.inf, 0.0), count
                ),
                front.key,
                front.logq,
            )
            own = jnp.sum(there, axis=2, keepdims=True)
            after = jnp.maximum(jnp.arange(count) - own, 0)
            further = jnp.take_along_axis(rest.index, after, axis=2)
            more = jnp.isfinite(jnp.take_along_axis(rest.perturbed, after, axis=2)) & (own > 0)
            token, there = jnp.where(there, token, further), there | more
        batch = len(token)
        return memory, Children(
            source=front.row[:, place],
            rank=jnp.broadcast_to(jnp.asarray(rank), (batch, len(rank))),
            token=token[:, place, rank],
            valid=(there & front.open[..., None])[:, place, rank],
        )
