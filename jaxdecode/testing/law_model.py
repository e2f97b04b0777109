"""A model that knows a finite law exactly: the conditional of every place, whatever stands.

With texts x_n of probability p_n and the decided places D of a canvas,

    p(x_i = v | D) = sum over n that agree with D of p_n [x_n,i = v] / sum over n that agree of p_n

Whether a text agrees adds up over the places: what a token at a place adds to those who see it is
1 for every text it contradicts. That is what the cache holds, so a place that is missed or seen
by mistake, a stale one and a wrong position all change the answer, and every engine that runs a
`Denoiser` runs this one. It needs no training: the known answers of a task are known answers of
the engine.
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import Cache, allocate, place, read, write
from jaxdecode.finite_law import FiniteLaw
from jaxdecode.lm import ModelCost, ModelOutput, View
from jaxdecode.types import Array, Bool, Float, Int

FLOOR = 1e-30
"""Probability of the impossible: its logit is finite, and after an impossible canvas all are."""


@struct.dataclass
class LawModel:
    """The law of the places first..first+L-1; what stands elsewhere, such as a prompt, is ignored.

    Attributes:
      support: i32[N, L].
      probability: f32[N].
      tokens: static; the vocabulary, the mask among it.
      mask_id: static; contradicts nothing.
      first: static; where the texts begin.
    """

    support: Int[Array, "N L"]
    probability: Float[Array, "N"]
    tokens: int = struct.field(pytree_node=False)
    mask_id: int = struct.field(pytree_node=False)
    first: int = struct.field(pytree_node=False, default=0)

    @classmethod
    def of(cls, law: FiniteLaw, tokens: int, mask_id: int, first: int = 0) -> LawModel:
        """Raises ValueError where the law's tokens are not all in the vocabulary, or are masks."""
        if law.support.min() < 0 or law.support.max() >= tokens or (law.support == mask_id).any():
            raise ValueError(
                f"tokens={tokens}, mask_id={mask_id}: the law has tokens {law.support.min()}.."
                f"{law.support.max()}, which must be in the vocabulary and not be the mask"
            )
        support = jnp.asarray(law.support, jnp.int32)
        return cls(support, jnp.asarray(law.probability, jnp.float32), tokens, mask_id, first)

    @property
    def vocab_size(self) -> int:
        return self.tokens

    @property
    def max_positions(self) -> None:
        return None

    @property
    def width(self) -> int:
        """Of the hidden states: one number a text, and the position."""
        return self.support.shape[0] + 1

    @property
    def cost(self) -> ModelCost:
        return ModelCost(
            parameters=self.support.size, attention=self.width, cache_bytes=8 * self.width
        )

    def init_cache(self, batch: int, capacity: int) -> Cache:
        return allocate(1, batch, 1, self.width, capacity)

    def forward(
        self,
        tokens: Int[Array, "B T"],
        valid: Bool[Array, "B T"] | None = None,
        *,
        position: Int[Array, "B T"] | None = None,
        block: Bool[Array, "B T T"] | None = None,
    ) -> tuple[Float[Array, "B T V"], Float[Array, "B T D"]]:
        """Logits and hidden states of whole sequences, without a cache."""
        batch, count = tokens.shape
        index = jnp.broadcast_to(jnp.arange(count), tokens.shape)
        zero = jnp.zeros((batch,), jnp.int32)
        view = View(
            position=index if position is None else position,
            start=zero,
            prefix=zero,
            valid=jnp.ones(tokens.shape, bool) if valid is None else valid,
            block=block,
            fresh=True,
        )
        output = self(tokens, self.init_cache(batch, count), view)
        return output.logits, output.hidden

    def __call__(self, tokens: Int[Array, "B T"], cache: Cache, view: View) -> ModelOutput:
        at = view.position - self.first
        inside = (at >= 0) & (at < self.support.shape[1]) & (tokens != self.mask_id)
        texts = self.support.T[jnp.clip(at, 0, self.support.shape[1] - 1)]  # [B, T, N]
        against = (inside[..., None] & (texts != tokens[..., None])).astype(jnp.float32)
        added = jnp.concatenate([against, jnp.zeros((*tokens.shape, 1))], axis=2)
        slot = view.slot(cache.capacity)
        cache = place(cache, view.position, slot)
        even = jnp.arange(self.width) % 2 == 0  # both halves of the cache are put to use
        k, v = jnp.where(even, added, 0.0), jnp.where(even, 0.0, added)
        cache = write(cache, 0, k[:, :, None], v[:, :, None], slot)
        k, v = read(cache, 0)
        held = jnp.swapaxes(k[:, 0], 1, 2) + v[:, 0]  # [B, S, D]
        seen = view.mask(cache.capacity)[..., None]
        total = jnp.sum(jnp.where(seen, held[:, None], 0.0), axis=2)
        hidden = total.at[..., -1].set(view.position.astype(jnp.float32))
        return ModelOutput(logits=self.unembed(hidden), hidden=hidden, cache=cache)

    def unembed(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Log-probabilities of the place itself, which sees nothing of its own decision."""
        at = hidden[..., -1].astype(jnp.int32) - self.first
        texts = self.support.T[jnp.clip(at, 0, self.support.shape[1] - 1)]  # [..., N]
        agree = jnp.where(hidden[..., :-1] < 0.5, self.probability, 0.0)
        one_hot = (texts[..., None] == jnp.arange(self.tokens)).astype(jnp.float32)
        mass = jnp.einsum("...n,...nv->...v", agree, one_hot)
        total = jnp.maximum(agree.sum(axis=-1, keepdims=True), FLOOR)
        return jnp.log(jnp.maximum(mass / total, FLOOR))
