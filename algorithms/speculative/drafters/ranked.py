"""How draft trees grow from the guesses of heads, and the tree that is known beforehand.

A node of `Ranked` is its parent's r-th most probable token, with r fixed (Medusa, Cai et al.
2024, arXiv 2401.10774).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.draft import ROOT, Shape
from jaxdecode.sampling import likeliest
from jaxdecode.types import Array, Bool, Float, Int


@runtime_checkable
class Guess(Protocol):
    """Head `index`: logits after each of W tokens, and what the next head starts from."""

    def __call__(
        self, index: int, hidden: Float[Array, "B W D"], token: Int[Array, "B W"]
    ) -> tuple[Float[Array, "B W V"], Float[Array, "B W D"]]: ...


@struct.dataclass
class Grown:
    """A tree; `guesses` i32[B] is how many guesses it took."""

    tokens: Int[Array, "B N"]
    shape: Shape
    valid: Bool[Array, "B N"]
    guesses: Int[Array, "B"]


@runtime_checkable
class Plan(Protocol):
    """How a tree grows."""

    @property
    def nodes(self) -> int:
        """The most nodes."""
        ...

    def levels(self, heads: int) -> int:
        """The most nodes on a path, with so many heads.

        Raises:
          ValueError: if they are too few.
        """
        ...

    def __call__(
        self,
        guess: Guess,
        hidden: Float[Array, "B D"],
        root: Int[Array, "B"],
        limit: Int[Array, "B"],
        levels: int,
    ) -> Grown:
        """Grow from the root, down to `limit`; what is below need not be left out."""
        ...


@struct.dataclass
class Ranked:
    """A tree known beforehand.

    Attributes:
      paths: static; every node as the ranks on the path to it, from 0, and no node without
        its parent. `of` sorts them.
    """

    paths: tuple[tuple[int, ...], ...] = struct.field(pytree_node=False)

    def __post_init__(self) -> None:
        known = set(self.paths)
        ordered = tuple(sorted(known, key=lambda path: (len(path), path)))
        if not known or self.paths != ordered:
            raise ValueError("paths: give at least one, sorted by length and rank, none twice")
        for path in self.paths:
            if not path or min(path) < 0:
                raise ValueError(f"paths: {path} is no path of ranks from 0 on")
            if len(path) > 1 and path[:-1] not in known:
                raise ValueError(f"paths: {path} stands without its parent {path[:-1]}; add it")

    @classmethod
    def of(cls, paths: Sequence[Sequence[int]]) -> Ranked:
        """The same nodes in order."""
        return cls(tuple(sorted((tuple(path) for path in paths), key=lambda p: (len(p), p))))

    @classmethod
    def line(cls, length: int) -> Ranked:
        """The most probable token of every head."""
        return cls(tuple((0,) * (i + 1) for i in range(length)))

    @classmethod
    def best(cls, accuracy: np.ndarray, nodes: int) -> Ranked:
        """The tree of `nodes` nodes that is expected to be accepted deepest.

        Args:
          accuracy: [heads, ranks], how often the token of each rank is the right one, measured
            with the tokens before it right. A node is worth the product along its path, and the
            sum over nodes is the expected number of accepted tokens.
        """
        heads, ranks = accuracy.shape
        worth = {(r,): float(accuracy[0, r]) for r in range(ranks)}
        chosen: list[tuple[int, ...]] = []
        while len(chosen) < nodes and worth:
            path = max(worth, key=lambda p: (worth[p], [-len(p), *(-r for r in p)]))
            value = worth.pop(path)
            chosen.append(path)
            if len(path) < heads:
                below = {(*path, r): value * float(accuracy[len(path), r]) for r in range(ranks)}
                worth |= below
        return cls.of(chosen)

    @property
    def nodes(self) -> int:
        return len(self.paths)

    @cached_property
    def parents(self) -> np.ndarray:
        """i64[N], of each node."""
        index = {path: node for node, path in enumerate(self.paths)}
        return np.array([index.get(path[:-1], ROOT) for path in self.paths])

    def levels(self, heads: int) -> int:
        depth = len(self.paths[-1])
        if depth > heads:
            raise ValueError(
                f"paths: {self.paths[-1]} is {depth} deep, and there are {heads} heads"
            )
        return depth

    def __call__(
        self,
        guess: Guess,
        hidden: Float[Array, "B D"],
        root: Int[Array, "B"],
        limit: Int[Array, "B"],
        levels: int,
    ) -> Grown:
        batch, inner = root.shape[0], sorted({path[:-1] for path in self.paths})
        above: dict[tuple[int, ...], int] = {(): 0}
        tokens, guesses = [], 0
        hidden, token = hidden[:, None], root[:, None]
        for index in range(levels):
            logits, hidden = guess(index, hidden, token)
            guesses += token.shape[1]
            level = [path for path in self.paths if len(path) == index + 1]
            most = max(path[-1] for path in level) + 1
            _, order = likeliest(logits, most, "paths: ranks")
            place = np.array([above[path[:-1]] for path in level])
            here = order[:, place, np.array([path[-1] for path in level])]
            tokens.append(here)
            opened = [path for path in level if path in inner]
            if opened:
                own = np.array([level.index(path) for path in opened])
                hidden, token = hidden[:, place[own]], here[:, own]
                above = {path: number for number, path in enumerate(opened)}
        found = jnp.concatenate(tokens, axis=1)
        chain = np.array_equal(self.parents, np.arange(self.nodes) - 1)
        return Grown(
            tokens=found,
            shape=Shape.line(batch, self.nodes) if chain else Shape.fixed(self.parents, batch),
            valid=jnp.ones(found.shape, bool),
            guesses=jnp.full((batch,), guesses, jnp.int32),
        )
