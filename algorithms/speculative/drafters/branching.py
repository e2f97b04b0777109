"""How a draft tree branches: the slot of the drafter that grows trees, and what it is shown.

A tree grows in steps of a fixed number of places. In each the rule sees the laws at the nodes
of the step before, the front, and says which children to add. Randomness comes with the
places: every node has a key of its own, folded from its parent's and its rank among its
siblings, so that a node draws the same children whenever, and beside whatever, it is grown.

A rule may look at nothing that depends on the token it is about to add: whether the k-th child
of a node is there must follow from the k-1 before it, or drafts are no draws from their laws.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

from jaxdecode import struct
from jaxdecode.judge import stream
from jaxdecode.sampling import Ranked, gumbel_top_k
from jaxdecode.types import Array, Bool, Float, Int, Key

RANK = 0


class Step(NamedTuple):
    """A step of growth.

    Attributes:
      width: places for new nodes.
      plan: what else the rule knows of the step beforehand.
    """

    width: int
    plan: Hashable = None


@struct.dataclass
class Front:
    """The W places grown last, of which the open ones may have children.

    Attributes:
      row: i32[B, W], the root's is 0, that of node n is n + 1.
      logq: f32[B, W, V], log-law of the token after each place.
      logprob: f32[B, W], log-probability of the path to it under the draft model.
      open: bool[B, W].
      key: the places' own keys.
    """

    row: Int[Array, "B W"]
    logq: Float[Array, "B W V"]
    logprob: Float[Array, "B W"]
    open: Bool[Array, "B W"]
    key: Key[Array, "B W"]

    @property
    def width(self) -> int:
        return self.row.shape[1]

    def ranked(self, count: int) -> Ranked:
        """`count` distinct tokens of every place, drawn without replacement, [B, W, count].

        Raises:
          ValueError: if the vocabulary has fewer.
        """
        return each(
            lambda key, logq: gumbel_top_k(stream(key, RANK), logq, count), self.key, self.logq
        )


@struct.dataclass
class Children:
    """New nodes, siblings in the order in which they were drawn; `valid` ones are there.

    Attributes:
      source: i32[B, C], the row that each was drawn at.
      rank: i32[B, C], how many siblings were drawn before it.
      token: i32[B, C].
      valid: bool[B, C].
    """

    source: Int[Array, "B C"]
    rank: Int[Array, "B C"]
    token: Int[Array, "B C"]
    valid: Bool[Array, "B C"]


@runtime_checkable
class Branching(Protocol):
    """A rule of growth."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps; equal ones that follow one another run in a loop."""
        ...

    @property
    def nodes(self) -> int:
        """The most nodes of a tree."""
        ...

    @property
    def depth(self) -> int:
        """The most nodes on a path."""
        ...

    @property
    def replacement(self) -> bool:
        """Whether siblings are independent draws, and not draws without replacement."""
        ...

    def init(self, batch: int) -> Any:
        """What the rule remembers from step to step."""
        ...

    def __call__(self, memory: Any, front: Front, step: Step) -> tuple[Any, Children]: ...


def each(function: Any, *places: Array) -> Any:
    """A function of rows, applied to places [B, W, ...] as if each were a row."""
    batch, width = places[0].shape[:2]
    flat = function(*(x.reshape(batch * width, *x.shape[2:]) for x in places))
    return jax.tree.map(lambda x: x.reshape(batch, width, *x.shape[1:]), flat)
