"""A draft tree that spends its nodes where the probability is (Clover, Xiao et al. 2024, arXiv
2405.00263).

On every level each open node offers its top-p set, without the tokens less probable than a
quarter of its first. Of all that is offered, the most probable paths are kept while the budget
lasts, and they are open on the next level. The rule is that of the authors' description of
their sampling strategy; probabilities are over the whole vocabulary.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from algorithms.speculative.drafters.ranked import Grown, Guess
from jaxdecode import struct
from jaxdecode.cache import put
from jaxdecode.draft import ROOT, Shape
from jaxdecode.paper import Paper
from jaxdecode.types import Array, Bool, Float, Int

PAPER = Paper(
    slug="clover",
    title="Clover: Regressive Lightweight Speculative Decoding with Sequential Knowledge",
    authors=(
        "Bin Xiao",
        "Chunan Shi",
        "Xiaonan Nie",
        "Fan Yang",
        "Xiangwei Deng",
        "Lei Su",
        "Weipeng Chen",
        "Bin Cui",
    ),
    year=2024,
    arxiv="2405.00263",
    venue="arXiv",
    claim="heads that are shown the tokens guessed before them guess better than Medusa's, the "
    "more so the further ahead, and speed up decoding with a tree of only four tokens",
    losslessness="exact",
)


@struct.dataclass
class Nucleus:
    """A tree of at most `budget` nodes (static), where the probability is.

    Attributes:
      top_p: of a node's children, the fewest most probable with this much probability together.
      ratio: children less probable than this times the first are left out.
    """

    budget: int = struct.field(pytree_node=False)
    top_p: float | Array = 0.8
    ratio: float | Array = 0.25

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ValueError(f"budget={self.budget}: a draft has at least one token")
        for name in ("top_p", "ratio"):
            value = getattr(self, name)
            if isinstance(value, float | int) and not 0 <= value <= 1:
                raise ValueError(f"{name}={value} must lie in [0, 1]")

    @property
    def nodes(self) -> int:
        return self.budget

    def levels(self, heads: int) -> int:
        return min(heads, self.budget)

    def __call__(
        self,
        guess: Guess,
        hidden: Float[Array, "B D"],
        root: Int[Array, "B"],
        limit: Int[Array, "B"],
        levels: int,
    ) -> Grown:
        batch, places = root.shape[0], self.budget
        tokens = jnp.zeros((batch, places), jnp.int32)
        parent, left = tokens - 1, jnp.full((batch,), places, jnp.int32)
        token, node = root[:, None], jnp.full((batch, 1), ROOT, jnp.int32)
        joint, guesses = jnp.zeros((batch, 1)), jnp.zeros((batch,), jnp.int32)
        hidden = hidden[:, None]
        for index in range(levels):
            open_ = jnp.isfinite(joint) & (left > 0)[:, None] & (index < limit)[:, None]
            guesses += jnp.sum(open_, axis=1)
            logits, hidden = guess(index, hidden, token)
            count = min(places, logits.shape[2])
            logp, order = jax.lax.top_k(jax.nn.log_softmax(logits), count)
            offered = self.offered(jnp.exp(logp)) & open_[..., None]
            score = jnp.where(offered, joint[..., None] + logp, -jnp.inf).reshape(batch, -1)
            width = min(places, score.shape[1])
            best, flat = jax.lax.top_k(score, width)
            kept = jnp.isfinite(best) & (jnp.arange(width) < left[:, None])
            above = flat // count
            slot = jnp.where(kept, (places - left)[:, None] + jnp.arange(width), places)
            token = jnp.take_along_axis(order.reshape(batch, -1), flat, axis=1)
            tokens = put(tokens, slot, token)
            parent = put(parent, slot, jnp.take_along_axis(node, above, axis=1))
            hidden = jnp.take_along_axis(hidden, above[..., None], axis=1)
            joint, node = jnp.where(kept, best, -jnp.inf), slot
            left = left - jnp.sum(kept, axis=1)
        return Grown(
            tokens=tokens,
            shape=Shape.grown(parent, levels),
            valid=jnp.arange(places) < (places - left)[:, None],
            guesses=guesses,
        )

    def offered(self, p: Float[Array, "B W K"]) -> Bool[Array, "B W K"]:
        """Which of a node's tokens may become children; `p` falls along the last axis."""
        before = jnp.cumsum(p, axis=-1) - p
        return (before < self.top_p) & (p >= self.ratio * p[..., :1])
