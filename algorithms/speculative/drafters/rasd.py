"""A drafter's tree and a retrieved tree, verified in one pass (RASD, Quan et al. 2025, arXiv
2503.03434).

The drafter is EAGLE-2; continuations come from a corpus (REST) or from the text itself (prompt
lookup). Of the continuations those stay whose first token is among the `candidates` most
probable by the drafter's first law, which is there anyhow; of their prefixes the `extra` that
were found most often are a tree, and `fusion.fuse` makes the two one. Nothing depends on what
the verifier draws, so the drafts are exact under `Match`.

Deliberate choice where the paper is silent: the retrieved tree is cut by weight, as in REST.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp

from algorithms.speculative.drafters.eagle import Eagle, Foreseen
from algorithms.speculative.drafters.fusion import fuse
from algorithms.speculative.drafters.heads import owed
from algorithms.speculative.drafters.retrieval import Source
from jaxdecode import struct
from jaxdecode.draft import Draft
from jaxdecode.drafter import Now, Outcome
from jaxdecode.lm import LanguageModel
from jaxdecode.ngram.trie import Continuations, grow
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.text import Text
from jaxdecode.types import Array, Float

PAPER = Paper(
    slug="rasd",
    title="RASD: Retrieval-Augmented Speculative Decoding",
    authors=(
        "Guofeng Quan",
        "Wenfeng Feng",
        "Chuzhan Hao",
        "Guochao Jiang",
        "Yuewei Zhang",
        "Hao Wang",
    ),
    year=2025,
    arxiv="2503.03434",
    venue="Findings of ACL 2025",
    claim="where a trained drafter is out of its domain, retrieved continuations, pruned by the "
    "drafter's own law and fused with its tree, make drafts that are accepted longer than either",
    losslessness="exact",
)


@struct.dataclass
class Retrieving:
    """State of the drafter: EAGLE's, and the text."""

    foreseen: Foreseen
    text: Text


@struct.dataclass
class Rasd:
    """See the module.

    Attributes:
      eagle: grows the tree that is fused with.
      source: see `retrieval.Source`.
      extra: static, the most nodes of the retrieved tree.
      candidates: static; 0 keeps every continuation.
      merge: static; False repeats what both trees have.
    """

    eagle: Eagle
    source: Source
    extra: int = struct.field(pytree_node=False, default=16)
    candidates: int = struct.field(pytree_node=False, default=10)
    merge: bool = struct.field(pytree_node=False, default=True)

    drawn = False

    def __post_init__(self) -> None:
        if self.extra < 1 or self.candidates < 0:
            raise ValueError(
                f"extra={self.extra}, candidates={self.candidates}: at least 1 and 0 are needed"
            )
        if not isinstance(self.eagle, Eagle):  # a tree transformation's stand-in
            return
        own, wanted = getattr(self.source, "vocab_size", None), self.eagle.vocab_size
        if isinstance(own, int) and own != wanted:
            raise ValueError(f"source: its vocabulary has {own} tokens, the drafter's {wanted}")

    @property
    def nodes(self) -> int:
        return self.eagle.nodes + self.extra

    @property
    def depth(self) -> int:
        return max(self.eagle.depth, min(self.source.length, self.extra))

    @property
    def vocab_size(self) -> int:
        return self.eagle.vocab_size

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Retrieving:
        foreseen = self.eagle.init(target, prompt, hidden, room, capacity)
        return Retrieving(foreseen, Text.of(prompt, room))

    def propose(
        self, target: LanguageModel, state: Retrieving, now: Now
    ) -> tuple[Draft, Retrieving]:
        going, eagle, before = now.active & (now.limit > 0), self.eagle, state.foreseen
        pool, logp, cache, spent = eagle.grow(target, before, going)
        found = self.pruned(self.source(state.text), logp)
        draft = fuse(eagle.chosen(pool, going), grow(found, self.extra), self.depth, self.merge)
        draft = replace(draft, valid=draft.valid & going[:, None], spent=owed(spent, going))
        foreseen = replace(before, cache=cache, spent=owed(before.spent, ~going))
        return draft, replace(state, foreseen=foreseen)

    def pruned(self, found: Continuations, logp: Float[Array, "B V"]) -> Continuations:
        """Without the continuations whose first token is not among the drafter's first choices.

        Of equally probable tokens the one with the lower number comes first.
        """
        if not self.candidates:
            return found
        first = jnp.maximum(found.tokens[..., :1], 0)  # [B, M, 1]
        own = jnp.take_along_axis(logp, first[..., 0], axis=1)[..., None]
        law, number = logp[:, None], jnp.arange(logp.shape[1])
        rank = jnp.sum((law > own) | ((law == own) & (number < first)), axis=2)
        return replace(found, weight=jnp.where(rank < self.candidates, found.weight, 0.0))

    def commit(
        self, target: LanguageModel, state: Retrieving, draft: Draft, outcome: Outcome
    ) -> Retrieving:
        return Retrieving(
            self.eagle.commit(target, state.foreseen, draft, outcome),
            state.text.append(outcome.tokens, outcome.count),
        )
