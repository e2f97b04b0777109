"""The slots of speculation: who drafts, who verifies, and how deep to draft."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import Cache
from jaxdecode.draft import Draft, Verdict
from jaxdecode.judge import Judge
from jaxdecode.lm import LanguageModel
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int, Key


@struct.dataclass
class Now:
    """Where B rows stand when a round begins.

    Attributes:
      root: i32[B], the newest token, not yet run.
      length: i32[B], tokens before the root: its position and slot.
      emitted: i32[B], tokens emitted so far.
      limit: i32[B], the deepest node that will be verified.
      active: bool[B], rows that take part; the others' state must not change.
      cache: the target's.
      transform: the state of the generator's transform at the root.
      key: this round's keys for drafting.
    """

    root: Int[Array, "B"]
    length: Int[Array, "B"]
    emitted: Int[Array, "B"]
    limit: Int[Array, "B"]
    active: Bool[Array, "B"]
    cache: Cache
    transform: Any
    key: Key[Array, "B"]


@struct.dataclass
class Outcome:
    """What a round came to, for the drafter to learn from.

    Attributes:
      verdict: the verifier's.
      tokens: i32[B, P + 1], accepted tokens and the next.
      count: i32[B], how many of them were emitted, 0 on rows that took no part; fewer than
        accepted where the text ended or the room did.
      hidden: f32[B, N + 1, D], the target's final hidden states at root and nodes.
      judge: what the target says there.
    """

    verdict: Verdict
    tokens: Int[Array, "B Pp1"]
    count: Int[Array, "B"]
    hidden: Float[Array, "B Np1 D"]
    judge: Judge


@runtime_checkable
class Drafter(Protocol):
    """Guesses what the target will say. State is a pytree whose leaves lead with the rows, or
    are caches, or `Shared`."""

    @property
    def nodes(self) -> int:
        """N, nodes of a draft."""
        ...

    @property
    def depth(self) -> int:
        """Nodes on its longest path."""
        ...

    @property
    def drawn(self) -> bool:
        """Whether tokens are draws from laws that the draft states."""
        ...

    @property
    def vocab_size(self) -> int | None:
        """Of the drafter's own tables or model; None if it has none."""
        ...

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Any:
        """State for prompts that were read.

        Args:
          hidden: the target's final hidden states of all but their last tokens.
          room: tokens that a text can come to have, prompt and output.
          capacity: tokens that a cache must hold for now, drafts not counted; every cache in
            the state is enlarged when more are needed.
        """
        ...

    def propose(self, target: LanguageModel, state: Any, now: Now) -> tuple[Draft, Any]:
        """A draft for the rows that take part, and the state after drafting it."""
        ...

    def commit(self, target: LanguageModel, state: Any, draft: Draft, outcome: Outcome) -> Any:
        """Learn from the round. Also called after rounds without a draft, of no nodes."""
        ...


@runtime_checkable
class Searching(Protocol):
    """A drafter that may find nothing, and can be asked at next to no cost. Where no row has a
    draft the round is a step of plain decoding, as narrow and as cheap."""

    def finds(self, state: Any) -> Bool[Array, "B"]:
        """Whether `propose`, bounded to no less than one token, gives a row anything."""
        ...


@runtime_checkable
class Verifier(Protocol):
    """Decides how much of a draft holds."""

    def pair(self, drafter: Drafter) -> None:
        """Raise ValueError, with the reason, for a drafter whose drafts it cannot judge."""
        ...

    def __call__(
        self, keys: Key[Array, "B"], judge: Judge, draft: Draft, depth: int
    ) -> Verdict: ...


@runtime_checkable
class Policy(Protocol):
    """Bounds the depth of drafts from round to round. State leads with the rows."""

    @property
    def rests(self) -> bool:
        """Whether it may bound drafts to nothing."""
        ...

    def init(self, rows: int) -> Any: ...

    def limit(self, state: Any) -> Int[Array, "B"]:
        """i32[B], the deepest node of the next draft; 0 rests."""
        ...

    def update(
        self,
        state: Any,
        drafted: Int[Array, "B"],
        accepted: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> Any:
        """Take note of the longest valid path and of the accepted one, on the active rows."""
        ...

    def rest(self, state: Any, active: Bool[Array, "B"]) -> Any:
        """The same of a round in which no row drafted. It runs in every step of plain decoding,
        so it had better be little."""
        ...


@struct.dataclass
class Always:
    """Drafts as deep as the drafter goes, every round."""

    @property
    def rests(self) -> bool:
        return False

    def init(self, rows: int) -> Any:
        return jnp.full((rows,), jnp.iinfo(jnp.int32).max, jnp.int32)

    def limit(self, state: Any) -> Int[Array, "B"]:
        return state

    def update(
        self,
        state: Any,
        drafted: Int[Array, "B"],
        accepted: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> Any:
        return state

    def rest(self, state: Any, active: Bool[Array, "B"]) -> Any:
        return state
