"""Placeholders draft what a model that learned lexical units says at once; its own pass verifies.

The exact form of LUD (Sun et al. 2024, arXiv 2405.15208; see `algorithms.tokens.lud`). Behind the
root and behind every token of the draft stand k - 1 placeholders. Whatever the target accepts,
those behind it have said the k - 1 tokens after the next one, and these, as long as each is
given at least beta, are the next draft: a pass a round, as in lookahead decoding. The text is
that of plain decoding with the same weights.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.draft import ROOT, Draft, Shape, Spent
from jaxdecode.drafter import Now, Outcome
from jaxdecode.lm import LanguageModel
from jaxdecode.logits.transform import check_number
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Float, Int


class Foreseen(NamedTuple):
    """The next draft: tokens, and how many of them there are."""

    tokens: Int[Array, "B km1"]
    count: Int[Array, "B"]


@struct.dataclass
class Placeholders:
    """See the module.

    Attributes:
      pad: the placeholder's id.
      longest: static, k.
      confidence: beta.
    """

    pad: Int[Array, ""] | int
    longest: int = struct.field(pytree_node=False, default=4)
    confidence: Float[Array, ""] | float = 0.5

    drawn = False

    def __post_init__(self) -> None:
        if self.longest < 2:
            raise ValueError(f"longest={self.longest}: a draft has at least one token")
        check_number("confidence", self.confidence, 0.0)

    @property
    def depth(self) -> int:
        return self.longest - 1

    @property
    def nodes(self) -> int:
        return self.depth * (self.depth + 2)

    @property
    def vocab_size(self) -> None:
        return None

    @property
    def parents(self) -> np.ndarray:
        """The draft's tokens first, then the placeholders of the root, of the first token, ..."""
        size = self.depth
        parents = [*range(-1, size - 1)]
        for owner in range(ROOT, size):
            first = len(parents)
            parents += [owner, *range(first, first + size - 1)]
        return np.asarray(parents)

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Foreseen:
        zero = jnp.zeros((prompt.batch,), jnp.int32)
        return Foreseen(jnp.zeros((prompt.batch, self.depth), jnp.int32), zero)

    def propose(self, target: LanguageModel, state: Foreseen, now: Now) -> tuple[Draft, Foreseen]:
        batch, size = state.tokens.shape
        there = (jnp.arange(size) < state.count[:, None]) & now.active[:, None]
        owner = jnp.concatenate([now.active[:, None], there], axis=1)
        pads = jnp.full((batch, self.nodes - size), self.pad, jnp.int32)
        draft = Draft(
            tokens=jnp.concatenate([state.tokens, pads], axis=1),
            shape=Shape.fixed(self.parents, batch),
            valid=jnp.concatenate([there, jnp.repeat(owner, size, axis=1)], axis=1),
            candidate=jnp.broadcast_to(jnp.arange(self.nodes) < size, (batch, self.nodes)),
            spent=Spent.nothing(batch),
        )
        return draft, state

    def commit(
        self, target: LanguageModel, state: Foreseen, draft: Draft, outcome: Outcome
    ) -> Foreseen:
        took = outcome.count > 0
        if not draft.nodes:
            return state._replace(count=jnp.where(took, 0, state.count))
        size, accepted = self.depth, outcome.verdict.count
        node = size * (1 + accepted[:, None]) + jnp.arange(size)
        logits = jnp.take_along_axis(outcome.judge.logits, node[..., None] + 1, axis=1)
        law = jax.nn.softmax(logits)
        sure = jnp.max(law, axis=2) >= self.confidence
        sure &= jnp.take_along_axis(draft.valid, node, axis=1)
        # Where fewer tokens were emitted than accepted the root is another.
        sure &= (outcome.count == accepted + 1)[:, None]
        count = jnp.sum(jnp.cumprod(sure, axis=1), axis=1, dtype=jnp.int32)
        tokens = jnp.argmax(logits, axis=2).astype(jnp.int32)
        return Foreseen(
            tokens=jnp.where(took[:, None], tokens, state.tokens),
            count=jnp.where(took, count, state.count),
        )
