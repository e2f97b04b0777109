"""Trees that grow where the next draw is likeliest to be reached (Xiong et al. 2025,
arXiv:2410.11744).

The probability of a token under the draft model stands in for the chance that it is accepted.
The k-th draw at a node matters if the path is accepted and the k-1 siblings before it are not:

    value = q(path) * (1 - q(t_1) - ... - q(t_{k-1})),

which says nothing about the token that will be drawn, as it must not. `Greedy` makes the
`budget` most valuable draws one by one, a pass of the draft model each; `Threshold` makes those
of at least a given value, level by level. Both draw the same tokens at the same nodes.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from algorithms.speculative.drafters.branching import Children, Front, Step
from jaxdecode import struct
from jaxdecode.cache import put
from jaxdecode.paper import Paper
from jaxdecode.types import Array, Float, Int

PAPER = Paper(
    slug="dyspec",
    title="DySpec: Faster Speculative Decoding with Dynamic Token Tree Structure",
    authors=("Yunfan Xiong", "Ruoyu Zhang", "Yanzeng Li", "Tianhao Wu", "Lei Zou"),
    year=2025,
    arxiv="2410.11744",
    venue="WWW 2025",
    claim=(
        "A tree grown by the draft model's own probabilities has more tokens accepted per pass "
        "of the target than fixed trees of the same size."
    ),
    losslessness="exact",
)


def draws(front: Front, count: int) -> tuple[Int[Array, "B W K"], Float[Array, "B W K"]]:
    """Tokens of the next `count` draws at each place and their values, which decrease; 0 where
    there is nothing to be drawn."""
    ranked = front.ranked(min(count, front.logq.shape[2]))
    spent = jnp.cumsum(jnp.exp(ranked.logprob[..., :-1]), axis=2)
    left = jnp.concatenate([jnp.ones_like(ranked.logprob[..., :1]), 1.0 - spent], axis=2)
    value = jnp.exp(front.logprob)[..., None] * jnp.maximum(left, 0.0)
    there = jnp.isfinite(ranked.perturbed) & front.open[..., None]
    return ranked.index, jnp.where(there, value, 0.0)


@struct.dataclass
class Table:
    """Draws that can be made, and those that were made or cannot be: value 0."""

    token: Int[Array, "B N K"]
    value: Float[Array, "B N K"]


@struct.dataclass
class Greedy:
    """The most valuable draw again and again.

    Attributes:
      budget: static, nodes.
      levels: static, the deepest a tree may grow; the budget if None.
    """

    budget: int = struct.field(pytree_node=False)
    levels: int | None = struct.field(pytree_node=False, default=None)

    replacement = False

    def __post_init__(self) -> None:
        check(self.budget, self.levels)

    @property
    def steps(self) -> tuple[Step, ...]:
        return (Step(1),) * self.budget

    @property
    def nodes(self) -> int:
        return self.budget

    @property
    def depth(self) -> int:
        return min(self.budget, self.levels or self.budget)

    def init(self, batch: int) -> Table:
        shape = (batch, self.budget, self.budget)
        return Table(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32))

    def __call__(self, memory: Table, front: Front, step: Step) -> tuple[Table, Children]:
        count = min(self.budget, front.logq.shape[2])
        token, value = draws(front, count)
        # A row that did not grow shows its front again, closed: it must not lose its draws.
        row = jnp.where(front.open, front.row, self.budget)
        blank = ((0, 0), (0, 0), (0, self.budget - count))
        memory = Table(
            put(memory.token, row, jnp.pad(token, blank)),
            put(memory.value, row, jnp.pad(value, blank)),
        )
        flat = memory.value.reshape(len(token), -1)
        best = jnp.argmax(flat, axis=1)[:, None]
        worth = jnp.take_along_axis(flat, best, axis=1)
        token = jnp.take_along_axis(memory.token.reshape(flat.shape), best, axis=1)
        left = put(flat, best, jnp.zeros_like(worth)).reshape(memory.value.shape)
        return Table(memory.token, left), Children(
            source=best // self.budget, rank=best % self.budget, token=token, valid=worth > 0
        )


@struct.dataclass
class Threshold:
    """All draws of at least some value, in `levels` passes at most.

    Attributes:
      threshold: the least value of a draw; about one over the budget.
      budget: static, the most nodes; where a level does not fit, its most valuable draws stay.
      levels: static, the deepest a tree may grow; the budget if None.
      children: static, the most children of a node; the budget if None.
    """

    threshold: Float[Array, ""] | float
    budget: int = struct.field(pytree_node=False)
    levels: int | None = struct.field(pytree_node=False, default=None)
    children: int | None = struct.field(pytree_node=False, default=None)

    replacement = False

    def __post_init__(self) -> None:
        check(self.budget, self.levels)
        if self.children is not None and self.children < 1:
            raise ValueError(f"children={self.children}: a node may have at least one child")
        if isinstance(self.threshold, int | float) and not 0 < self.threshold <= 1:
            raise ValueError(
                f"threshold={self.threshold}: values of draws are probabilities, above 0 and at "
                "most 1"
            )

    @property
    def steps(self) -> tuple[Step, ...]:
        return (Step(self.budget),) * self.depth

    @property
    def nodes(self) -> int:
        return self.budget

    @property
    def depth(self) -> int:
        return min(self.budget, self.levels or self.budget)

    def init(self, batch: int) -> tuple[Any, ...]:
        return ()

    def __call__(
        self, memory: tuple[Any, ...], front: Front, step: Step
    ) -> tuple[tuple[Any, ...], Children]:
        token, value = draws(front, min(self.children or self.budget, front.logq.shape[2]))
        count = token.shape[2]
        flat = jnp.where(value >= self.threshold, value, 0.0).reshape(len(token), -1)
        flat = jnp.pad(flat, ((0, 0), (0, max(self.budget - flat.shape[1], 0))))
        best, index = jax.lax.top_k(flat, self.budget)
        index = jnp.minimum(index, token[0].size - 1)
        return memory, Children(
            source=jnp.take_along_axis(front.row, index // count, axis=1),
            rank=index % count,
            token=jnp.take_along_axis(token.reshape(len(token), -1), index, axis=1),
            valid=best > 0,
        )


def check(budget: int, levels: int | None) -> None:
    """Refuse trees without a node."""
    if budget < 1 or (levels is not None and levels < 1):
        raise ValueError(f"budget={budget}, levels={levels}: a tree has at least one node")
