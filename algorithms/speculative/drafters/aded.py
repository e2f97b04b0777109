"""Adaptive draft-verification: a search over trigrams that the text adapts.

Liu et al. 2024, arXiv:2407.12021. A table of what follows pairs of tokens, counted in a corpus,
stands in for the target; before every draft the newest 16 tokens raise what they hold of it.
A search by visits (`puct`) over the table gives 23 sentences of at most 4 tokens, and their
prefixes, at most 64, are the draft.

Here the value of a visit is that of its path, as designed; `rollout=False` is what the
published program computes, 1 for every visit. Children are ordered by value, then by id, where
that program leaves the order to its hash maps, and an unseen pair drafts nothing.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from algorithms.speculative.drafters.puct import search, sentences
from jaxdecode import struct
from jaxdecode.draft import Draft
from jaxdecode.drafter import Now, Outcome
from jaxdecode.lm import LanguageModel
from jaxdecode.ngram.counts import Counts
from jaxdecode.ngram.preferences import adapt, successors
from jaxdecode.ngram.table import Table
from jaxdecode.ngram.trie import grow
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.shared import Shared
from jaxdecode.text import Text
from jaxdecode.types import Array, Float

PAPER = Paper(
    slug="aded",
    title="Adaptive Draft-Verification for Efficient Large Language Model Decoding",
    authors=("Xukun Liu", "Bowen Lei", "Ruqi Zhang", "Dongkuan Xu"),
    year=2024,
    arxiv="2407.12021",
    venue="AAAI 2025",
    claim="Drafts searched in an adapting trigram table decode up to 2.5 times faster without "
    "training, accepted about 20% more than those of retrieval.",
    losslessness="exact",
)

ROOM = 4  # successors that an entry can gain beside those of the corpus
ROLL = 1


@struct.dataclass
class Adapted:
    """What the drafter remembers.

    Attributes:
      text: of the rows.
      met: of the prompts, the entries that their texts have changed.
    """

    text: Text
    met: Shared


@struct.dataclass
class Adaptive:
    """Drafts by searching what tends to follow.

    Attributes:
      corpus: what followed pairs of tokens.
      memory: one table of changed entries to start from, or one for each prompt, as in the
        trace of `Learning`; None for none.
      step, cap: by how much an entry grows, and how far.
      c1, c2: of the exploration rate.
      iterations: static, visits of a search.
      length: static, pairs of tokens on a path of the search, the root's among them.
      top: static, nodes that become sentences, the root, which becomes none, among them.
      nodes: static, the most nodes of a draft.
      window: static, the newest tokens that adapt the table.
      rollout: static, see the module.
      capacity: static, changed entries that there is room for.
      adapts: static, whether the text changes the table at all; a `step` of 0 still adds to an
        entry the successors that the corpus lacks.
    """

    corpus: Counts
    memory: Table | None = None
    step: float | Float[Array, ""] = 0.04
    cap: float | Float[Array, ""] = 3.0
    c1: float | Float[Array, ""] = 32.0
    c2: float | Float[Array, ""] = 8.0
    iterations: int = struct.field(pytree_node=False, default=150)
    length: int = struct.field(pytree_node=False, default=4)
    top: int = struct.field(pytree_node=False, default=24)
    nodes: int = struct.field(pytree_node=False, default=64)
    window: int = struct.field(pytree_node=False, default=16)
    rollout: bool = struct.field(pytree_node=False, default=True)
    capacity: int = struct.field(pytree_node=False, default=1 << 13, range=(1, 2**24))
    adapts: bool = struct.field(pytree_node=False, default=True)

    drawn = False

    def __post_init__(self) -> None:
        if isinstance(self.corpus, Counts) and isinstance(self.corpus.keys, jax.Array):
            if self.corpus.order != 2:
                raise ValueError(
                    f"corpus: counts after {self.corpus.order} tokens; count with order=2"
                )
            places = (self.iterations + 1) * (self.corpus.tokens.shape[1] + ROOM)
            if not 2 <= self.top <= places:
                raise ValueError(f"top={self.top}: from 2 to the {places} nodes of the search")
        if self.iterations < 1 or self.length < 2 or self.window < 3:
            raise ValueError(
                f"iterations={self.iterations}, length={self.length}, window={self.window}: a "
                "search has at least 1 visit of 2 pairs, and a window 3 tokens"
            )

    @property
    def depth(self) -> int:
        return self.length

    @property
    def vocab_size(self) -> int:
        return self.corpus.vocab

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Adapted:
        batch = prompt.batch
        if self.memory is None:
            met = Table.empty(batch, self.capacity, 2, self.corpus.tokens.shape[1] + ROOM)
        else:
            met = jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape[1:])), self.memory)
        return Adapted(Text.of(prompt, room), Shared(met))

    def propose(self, target: LanguageModel, state: Adapted, now: Now) -> tuple[Draft, Adapted]:
        met: Table = state.met.value
        prompts = met.count.shape[0]
        newest = state.text.last(self.window)
        grams = jnp.stack([newest[:, i : self.window - 2 + i] for i in range(3)], axis=2)
        valid = (grams[..., 0] >= 0) & now.active[:, None]
        if self.adapts:
            met = adapt(
                met,
                self.corpus,
                grams.reshape(prompts, -1, 3),
                valid.reshape(prompts, -1),
                self.step,
                self.cap,
            )

        def after(pairs: Array) -> tuple[Array, Array]:
            found = successors(met, self.corpus, pairs.reshape(prompts, -1, 2))
            tokens, values = (x.reshape(*pairs.shape[:2], -1) for x in found)
            return tokens, values

        keys = jax.vmap(lambda key: jax.random.fold_in(key, ROLL))(now.key)
        root, c1, c2 = newest[:, -2:], self.c1, self.c2
        tree = search(keys, root, after, self.iterations, self.length, c1, c2, self.rollout)
        found = sentences(tree, after, self.top - 1, self.length, self.nodes)
        draft = grow(found, self.nodes, "shallow").draft(now.active, self.length)
        return draft, Adapted(state.text, Shared(met))

    def commit(
        self, target: LanguageModel, state: Adapted, draft: Draft, outcome: Outcome
    ) -> Adapted:
        return Adapted(state.text.append(outcome.tokens, outcome.count), state.met)
