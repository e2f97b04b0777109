"""An encoder-decoder behind jaxdecode's `LanguageModel` protocol.

A prompt is a source, the token that begins answers, and whatever of the answer is given:

    prompt   source ... </s>  START  <extra_id_0>

Its first call, the fresh one, tells the source by what stands before START (all of it where START
is the last token of the prompt, the root), has it read both ways by the encoder, and stores for
every layer of the decoder the keys and values of what the encoder made of it, in the slots of the
source. All further tokens are the decoder's: they see what the view names, the source by cross
attention and the answer so far by self-attention. So a cache is one cache, and everything that
forks, truncates or compacts it works as with a causal model. Slots of a source are told by
negative positions.

The fresh call runs both stacks over the whole prompt, and the logits of source tokens mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdecode.cache import Cache, Places, allocate, place, places, read, write
from jaxdecode.lm import ModelCost, ModelOutput, View
from jaxdecode.prompt import Prompt
from jaxdecode.target import target_of
from jaxdecode.types import Array, Bool, Float, Int
from models.config import TransformerConfig
from models.encoder_decoder.attention import attend, bias_of
from models.encoder_decoder.config import EncoderDecoderConfig, table
from models.layers import Weights, mlp, normalize
from models.parameters import check_arrays

Hidden = Float[Array, "B T D"]
MULTIPLIED = ("q", "o", "cross_q", "cross_o", "k", "v", "gate", "up", "down")


class _Call(NamedTuple):
    """What the layers of the decoder share: where tokens go, which of them are the source's, what
    the encoder made of those (fresh calls), and what is seen, with the bias of self-attention."""

    slot: Places
    source: Bool[Array, "B T"]
    encoded: Hidden | None
    own: Bool[Array, "B T S"]
    other: Bool[Array, "B T S"]
    bias: Float[Array, "#B H T S"]


class EncoderDecoder(nnx.Module):
    """See the module; `arrays` are by path, as `models.encoder_decoder.config.table` has them."""

    def __init__(self, config: EncoderDecoderConfig, arrays: Mapping[str, Array]):
        check_arrays(arrays, table(config))
        self.config = config

        def stack(name: str) -> nnx.Dict:
            inside = {p.removeprefix(name + "/"): a for p, a in arrays.items()
                      if p.startswith(name + "/")}  # fmt: skip
            return nnx.Dict({p: nnx.Param(a) for p, a in inside.items()})

        self.embedding = nnx.Param(arrays["embedding"])
        self.encoder, self.decoder = stack("encoder"), stack("decoder")
        self.head = None if config.tied else nnx.Param(arrays["head"])

    @property
    def vocab_size(self) -> int:
        return self.config.decoder.vocab_size

    @property
    def max_positions(self) -> int | None:
        """None: distances have buckets without end."""
        return None

    @property
    def dtype(self) -> np.dtype:
        """Of parameters, activations and cache."""
        return self.embedding.get_value().dtype

    @property
    def cost(self) -> ModelCost:
        """By a token of the decoder. One of a source is read by the encoder instead, whose layers
        have two matrices fewer."""
        c, weights = self.config.decoder, table(self.config)
        size = sum(weights[p].size for n in MULTIPLIED if (p := f"decoder/{n}") in weights)
        return ModelCost(
            parameters=size + weights["embedding"].size,
            attention=4 * c.q_width * c.layers,
            cache_bytes=2 * c.layers * c.kv_width * self.dtype.itemsize,
        )

    def asked(self, sources: Sequence[Sequence[int]], given: Sequence[int] = ()) -> Prompt:
        """Prompts of sources.

        Args:
          sources: tokens of each, the end of a text included where the model was trained with it.
          given: what every answer begins with, behind the token that begins all.
        Raises:
          ValueError: for a source that is empty, or that has the token in it that begins answers.
        """
        start = self.config.start
        for row, tokens in enumerate(sources):
            if len(tokens) == 0 or start in [int(token) for token in tokens]:
                raise ValueError(
                    f"sources[{row}]: {'no tokens' if len(tokens) == 0 else f'token {start}'}; a "
                    f"source is tokens before the one that begins an answer, {start}: leave "
                    "padding out"
                )
        return Prompt.of([[*map(int, tokens), start, *given] for tokens in sources])

    def init_cache(self, batch: int, capacity: int) -> Cache:
        c, target = self.config.decoder, target_of(self.embedding.get_value())
        return allocate(
            c.layers, batch, c.kv_heads, c.head_dim, capacity, self.dtype, target=target
        )

    def __call__(self, tokens: Int[Array, "B T"], cache: Cache, view: View) -> ModelOutput:
        x = jnp.take(self.embedding[...], tokens, axis=0, mode="clip")
        source = self._source(tokens, view)
        encoded = self.encode(x, source) if view.fresh else None
        position = jnp.where(source, -1, view.position)
        slot = view.slot(cache.capacity)
        cache = place(cache, position, slot)
        seen, told = view.mask(cache.capacity), (cache.position < 0)[:, None]
        bias = bias_of(
            self.decoder["bias"][...], view.position, cache.position, self.config.farthest, False
        )
        call = _Call(places(cache, slot), source, encoded, seen & ~told, seen & told, bias)
        stacked = self._layers("decoder")

        def layer(carry: tuple[Hidden, Cache], xs: Any) -> tuple[tuple[Hidden, Cache], None]:
            (x, cache), (weights, index) = carry, xs
            return self._decode(x, cache, weights, index, call, view.fresh), None

        count = jnp.arange(self.config.decoder.layers)
        (x, cache), _ = jax.lax.scan(layer, (x, cache), (stacked, count))
        x = normalize(self.config.decoder, {"norm": self.decoder["norm"][...]}, "norm", x)
        return ModelOutput(logits=self.unembed(x), hidden=x, cache=cache)

    def _source(self, tokens: Int[Array, "B T"], view: View) -> Bool[Array, "B T"]:
        """Which tokens of a call are a source's: those of a fresh one before START."""
        if not view.fresh:
            return jnp.zeros(tokens.shape, bool)
        begun = jnp.cumsum((tokens == self.config.start) & view.valid, axis=1) > 0
        return view.valid & ~begun

    def encode(self, x: Hidden, source: Bool[Array, "B T"]) -> Hidden:
        """What the encoder makes of embedded tokens, of which those of `source` see each other."""
        c = self.config.encoder
        index = jnp.arange(x.shape[1])[None]
        bias = bias_of(self.encoder["bias"][...], index, index, self.config.farthest, True)
        mask = jnp.broadcast_to(source[:, None], (*source.shape, x.shape[1]))

        def layer(x: Hidden, weights: Weights) -> tuple[Hidden, None]:
            h = normalize(c, weights, "attention_norm", x)
            q, k, v = (_heads(c, h @ weights[name]) for name in "qkv")
            out = attend(q, k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3), mask, bias)
            x = x + out.reshape(*x.shape[:2], -1) @ weights["o"]
            return x + mlp(c, weights, normalize(c, weights, "mlp_norm", x)), None

        x, _ = jax.lax.scan(layer, x, self._layers("encoder"))
        return normalize(c, {"norm": self.encoder["norm"][...]}, "norm", x)

    def _decode(
        self, x: Hidden, cache: Cache, weights: Weights, index: Any, call: _Call, fresh: bool
    ) -> tuple[Hidden, Cache]:
        """One layer of the decoder."""
        c = self.config.decoder
        h = normalize(c, weights, "attention_norm", x)
        q, k, v = (_heads(c, h @ weights[name]) for name in "qkv")
        if call.encoded is not None:
            told = call.source[..., None, None]
            k = jnp.where(told, _heads(c, call.encoded @ weights["cross_k"]), k)
            v = jnp.where(told, _heads(c, call.encoded @ weights["cross_v"]), v)
        cache = write(cache, index, k, v, call.slot, fresh)
        held = read(cache, index)
        out = attend(q, *held, call.own, call.bias)
        x = x + out.reshape(*x.shape[:2], -1) @ weights["o"]
        h = normalize(c, weights, "cross_norm", x)
        out = attend(_heads(c, h @ weights["cross_q"]), *held, call.other)
        x = x + out.reshape(*x.shape[:2], -1) @ weights["cross_o"]
        return x + mlp(c, weights, normalize(c, weights, "mlp_norm", x)), cache

    def unembed(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Logits of final hidden states, float32."""
        if self.config.scaled:
            hidden = hidden * jnp.asarray(self.config.decoder.hidden**-0.5, hidden.dtype)
        if self.head is None:
            form, weights = "...d,vd->...v", self.embedding[...]
        else:
            form, weights = "...d,dv->...v", self.head[...]
        logits = jnp.einsum(form, hidden, weights, preferred_element_type=jnp.float32)
        return logits[..., : self.vocab_size]

    def _layers(self, name: str) -> dict[str, Array]:
        """The stacked weights of the layers of a stack."""
        return {p: w[...] for p, w in getattr(self, name).items() if p not in ("norm", "bias")}


def _heads(config: TransformerConfig, x: Float[Array, "B T W"]) -> Float[Array, "B T H hd"]:
    return x.reshape(*x.shape[:2], config.heads, config.head_dim)
