"""DoLa: next tokens by what the last layers add to an early exit.

    F(x) = log p_N(x) - log p_M(x)   where p_N(x) >= alpha max p_N, else minus infinity
    M = argmax over the candidate exits j of JSD(p_N, p_j)

p_N is the model's law and p_j that of its output head on the residual stream after j layers.
Source: Chuang et al. 2024, arXiv 2309.03883. It is a language model: what decodes with it samples
from softmax(F), and best-of-N, searches and speculation take it like any other. Greedy or sampled,
the paper adds a `RepetitionPenalty` of 1.2.

M is chosen for every row and token by the divergence of Jensen and Shannon; the program in
transformers takes one M for the whole batch by a mean of reversed terms.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from jaxdecode import struct
from jaxdecode.cache import Cache
from jaxdecode.lm import LayeredModel, ModelCost, ModelOutput, View
from jaxdecode.logits.transform import check_number
from jaxdecode.types import Array, Float, Int


@struct.dataclass
class Dola:
    """A model and its early exits.

    Attributes:
      model: runs in parts.
      exits: static, rising numbers of layers after which a law is read; 0 reads the embeddings.
        Published: every second layer of the first or the second half.
      alpha: of the plausible tokens.
      normed: static; the early stream passes the last norm before the head. The published program
        leaves it out.
    """

    model: LayeredModel
    exits: tuple[int, ...] = struct.field(pytree_node=False)
    alpha: Float[Array, ""] | float = 0.1
    normed: bool = struct.field(pytree_node=False, default=False)

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha, 0.0, 1.0)
        if not self.exits or sorted(set(self.exits)) != list(self.exits) or self.exits[0] < 0:
            raise ValueError(f"exits={self.exits}: give rising numbers of layers, one at least")

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    @property
    def max_positions(self) -> int | None:
        return self.model.max_positions

    @property
    def cost(self) -> ModelCost:
        """With the heads of the early exits."""
        token = jax.ShapeDtypeStruct((1, 1), jnp.int32)
        width = jax.eval_shape(self.model.embed, token, token).shape[2]
        own = self.model.cost
        heads = len(self.exits) * width * self.vocab_size
        return ModelCost(own.parameters + heads, own.attention, own.cache_bytes)

    def init_cache(self, batch: int, capacity: int) -> Cache:
        return self.model.init_cache(batch, capacity)

    def unembed(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """The model's own head, without the contrast, which needs the exits."""
        return self.model.unembed(hidden)

    def __call__(self, tokens: Int[Array, "B T"], cache: Cache, view: View) -> ModelOutput:
        hidden, filled = self.model.embed(tokens, view.position), cache
        early, done = [], 0
        for layer in self.exits:
            hidden, filled = self.model.run_layers(hidden, filled, view, done, layer)
            read = self.model.final(hidden) if self.normed else hidden
            early.append(jax.nn.log_softmax(self.model.unembed(read)))
            done = layer
        hidden, filled = self.model.run_layers(hidden, filled, view, done, None)
        assert filled is not None
        hidden = self.model.final(hidden)
        mature = jax.nn.log_softmax(self.model.unembed(hidden))
        return ModelOutput(self.contrast(mature, early), hidden, filled)

    def contrast(
        self, mature: Float[Array, "B T V"], early: list[Float[Array, "B T V"]]
    ) -> Float[Array, "B T V"]:
        """F, from log-laws."""
        farthest, premature = jnp.full(mature.shape[:2], -jnp.inf), early[0]
        for law in early:
            apart = divergence(mature, law)
            premature = jnp.where((apart > farthest)[..., None], law, premature)
            farthest = jnp.maximum(farthest, apart)
        top = jnp.max(mature, axis=2, keepdims=True)
        plausible = mature >= top + jnp.log(self.alpha)
        return jnp.where(plausible | jnp.isnan(mature), mature - premature, -jnp.inf)


def divergence(logp: Float[Array, "... V"], logq: Float[Array, "... V"]) -> Float[Array, "..."]:
    """Jensen-Shannon, in nats."""
    p, q = jnp.exp(logp), jnp.exp(logq)
    middle = (p + q) / 2
    return jnp.sum((xlogy(p, p) + xlogy(q, q)) / 2 - xlogy(middle, middle), axis=-1)
