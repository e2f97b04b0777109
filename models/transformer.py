"""A decoder-only transformer behind jaxdecode's `LanguageModel` protocol.

The weights of all layers are stacked in front and the layers are scanned, with the stacked
cache in the loop carry and written in place: compile time stays flat with depth, and no copy
of the cache is made. The module holds nothing but `nnx.Param`s and its static config, so it
passes through `jax.jit`, `jax.grad` and `lax.while_loop` as a pytree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdecode.cache import Cache, allocate, place, write
from jaxdecode.lm import ModelCost, ModelOutput, View
from jaxdecode.types import Array, Bool, Float, Int
from models.attention import Sight, attend, attend_fused, fused
from models.config import TransformerConfig, logical_axes, matmul_count, parameters
from models.layers import Weights, linear, mlp, normalize, soft_cap
from models.rope import rotate, rotation


class Transformer(nnx.Module):
    """See the module; `TransformerConfig` lists what it can be.

    Build one from random numbers, `Transformer(config, rngs=nnx.Rngs(0))`, or from arrays by
    path, `Transformer(config, arrays=...)`, with the shapes of `models.config.parameters`.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        rngs: nnx.Rngs | None = None,
        arrays: Mapping[str, Array] | None = None,
    ):
        if (rngs is None) == (arrays is None):
            raise ValueError("Transformer: pass either rngs or arrays")
        table = parameters(config)
        if arrays is None:
            assert rngs is not None
            arrays = {}
            for path, want in table.items():
                arrays[path] = jnp.full(want.shape, want.fill, config.dtype)
                if want.spread:
                    noise = jax.random.normal(rngs.params(), want.shape, jnp.float32)
                    arrays[path] = (noise * want.spread).astype(config.dtype)
        for path in table.keys() ^ arrays.keys():
            raise ValueError(f"arrays[{path!r}] is {'missing' if path in table else 'unknown'}")
        for path, want in table.items():
            if arrays[path].shape != want.shape:
                raise ValueError(
                    f"arrays[{path!r}] has shape {arrays[path].shape}, not the {want.shape} "
                    "of the config"
                )
        self.config = config
        param = {path: nnx.Param(arrays[path]) for path in table}
        stacked = {p.removeprefix("layers/"): v for p, v in param.items() if "/" in p}
        self.layers = nnx.Dict(stacked)
        self.embedding = param["embedding"]
        self.position = param.get("position")
        self.project_in = param.get("project_in")
        self.project_out = param.get("project_out")
        self.norm = param.get("norm")
        self.norm_bias = param.get("norm_bias")
        self.head = param.get("head")

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def dtype(self) -> np.dtype:
        """Of parameters, activations and cache."""
        return self.embedding.get_value().dtype  # an abstract model has no array to index

    @property
    def cost(self) -> ModelCost:
        c = self.config
        return ModelCost(
            parameters=matmul_count(c),
            attention=4 * c.q_width * c.layers,
            cache_bytes=2 * c.layers * c.kv_width * self.dtype.itemsize,
        )

    @property
    def logical_axes(self) -> dict[str, tuple[str | None, ...]]:
        """See `jaxdecode.sharding.Partitioned`."""
        return logical_axes(self.config)

    @property
    def axis_parts(self) -> dict[str, int]:
        """Projections are split between heads and never within one."""
        return {"heads": self.config.heads, "kv_heads": self.config.kv_heads}

    def configured(self, **changes) -> Transformer:
        """The same weights under a changed config, e.g. `unroll=True`."""
        config = dataclasses.replace(self.config, **changes)
        return Transformer(config, arrays=arrays_of(self))

    def init_cache(self, batch: int, capacity: int) -> Cache:
        c = self.config
        return allocate(c.layers, batch, c.kv_heads, c.head_dim, capacity, self.dtype)

    def __call__(self, tokens: Int[Array, "B T"], cache: Cache, view: View) -> ModelOutput:
        hidden = self.embed(tokens, view.position)
        hidden, filled = self.run_layers(hidden, cache, view)
        assert filled is not None
        hidden = self.final(hidden)
        return ModelOutput(logits=self.unembed(hidden), hidden=hidden, cache=filled)

    def forward(
        self,
        tokens: Int[Array, "B T"],
        valid: Bool[Array, "B T"] | None = None,
        *,
        position: Int[Array, "B T"] | None = None,
        block: Bool[Array, "B T T"] | None = None,
    ) -> tuple[Float[Array, "B T V"], Float[Array, "B T D"]]:
        """Logits and final hidden states of whole sequences, without a cache: for training
        and scoring. The other arguments are those of `View`."""
        batch, count = tokens.shape
        zero = jnp.zeros((batch,), jnp.int32)
        index = jnp.broadcast_to(jnp.arange(count), tokens.shape)
        view = View(
            position=index if position is None else position,
            start=zero,
            prefix=zero,
            valid=jnp.ones(tokens.shape, bool) if valid is None else valid,
            block=block,
            fresh=True,
        )
        hidden, _ = self.run_layers(self.embed(tokens, view.position), None, view)
        hidden = self.final(hidden)
        return self.unembed(hidden), hidden

    def embed(
        self, tokens: Int[Array, "B T"], position: Int[Array, "B T"] | None = None
    ) -> Float[Array, "B T D"]:
        """Scaled token embeddings, plus learned positions where the model has them and
        `position` is given. Ids and positions outside the tables are clamped to them."""
        x = jnp.take(self.embedding[...], tokens, axis=0, mode="clip")
        if self.config.embed_scale != 1.0:
            x = x * jnp.asarray(self.config.embed_scale, x.dtype)
        if self.project_in is not None:
            x = x @ self.project_in[...]
        if self.position is not None and position is not None:
            row = position + self.config.position_offset
            x = x + jnp.take(self.position[...], row, axis=0, mode="clip")
        return x

    def final(self, hidden: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """The last norm: what `unembed` expects of the residual stream."""
        if self.norm is None:
            return hidden
        weights = {"norm": self.norm[...]}
        if self.norm_bias is not None:
            weights["norm_bias"] = self.norm_bias[...]
        return normalize(self.config, weights, "norm", hidden)

    def unembed(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        if self.project_out is not None:
            hidden = hidden @ self.project_out[...]
        if self.head is None:
            form, table = "...d,vd->...v", self.embedding[...]
        else:
            form, table = "...d,dv->...v", self.head[...]
        logits = jnp.einsum(form, hidden, table, preferred_element_type=jnp.float32)
        return soft_cap(logits[..., : self.vocab_size], self.config.logit_cap)

    def run_layers(
        self,
        hidden: Float[Array, "B T D"],
        cache: Cache | None,
        view: View,
        first: int = 0,
        last: int | None = None,
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """Run layers first..last-1 on the residual stream.

        Without a cache the view must be fresh, and nothing is stored.
        """
        c = self.config
        last = c.layers if last is None else last
        if not 0 <= first <= last <= c.layers:
            raise ValueError(f"layers {first}..{last} are outside 0..{c.layers}")
        if cache is None and not view.fresh:
            raise ValueError("cache=None needs a fresh view: there is no prefix to see")
        slot = None
        if cache is not None:
            slot = view.slot(cache.capacity)
            cache = place(cache, view.position, slot)
        sight = Sight.of(c, view, view.position if cache is None else cache.position)
        ropes = [rope for rope in (c.rope, c.rope_local) if rope is not None]
        tables = [rotation(rope, view.position, view.valid) for rope in ropes]

        def layer(carry, xs):
            hidden, cache = carry
            weights, index, local = xs
            if not mixed:
                local = bool(c.sliding) and c.sliding[0]
            h = hidden if not c.pre_norm else normalize(c, weights, "attention_norm", hidden)
            h, cache = self._attention(weights, index, h, cache, view, slot, sight, tables, local)
            hidden = self._join(weights, "attention", hidden, h)
            h = hidden if not c.pre_norm else normalize(c, weights, "mlp_norm", hidden)
            return (self._join(weights, "mlp", hidden, mlp(c, weights, h)), cache), None

        mixed = len(set(c.sliding)) > 1
        step = jax.checkpoint(layer) if c.remat else layer
        stacked = {name: p[...] for name, p in self.layers.items()}
        carry = (hidden, cache)
        if c.unroll:
            for i in range(first, last):
                weights = {name: p[i] for name, p in stacked.items()}
                carry, _ = step(carry, (weights, i, mixed and c.sliding[i]))
            return carry
        part = (first, last) != (0, c.layers)
        if part and cache is None:
            stacked = {name: p[first:last] for name, p in stacked.items()}
        elif part:
            # A slice would be copied in every step of a decoding loop, so each layer indexes the
            # whole stack; a gradient, which training takes without a cache, prefers the slice.
            whole, inner = stacked, step

            def step(carry, xs):
                return inner(carry, ({name: p[xs[1]] for name, p in whole.items()}, *xs[1:]))

            stacked = None
        flags = jnp.asarray(c.sliding[first:last] or (False,) * (last - first), bool)
        carry, _ = jax.lax.scan(step, carry, (stacked, jnp.arange(first, last), flags))
        return carry

    def _attention(
        self, weights: Weights, index, x, cache, view, slot, sight, tables, local
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """Project, rotate, store, attend, project back."""
        c = self.config
        batch, tokens, _ = x.shape
        q = linear(weights, "q", x).reshape(batch, tokens, c.heads, c.head_dim)
        k = linear(weights, "k", x).reshape(batch, tokens, c.kv_heads, c.head_dim)
        v = linear(weights, "v", x).reshape(batch, tokens, c.kv_heads, c.head_dim)
        if c.qk_norm:
            q = normalize(c, weights, "q_norm", q)
            k = normalize(c, weights, "k_norm", k)
        if tables:
            cos, sin = tables[0]
            if len(tables) == 2:
                cos = jnp.where(local, tables[1][0], cos)
                sin = jnp.where(local, tables[1][1], sin)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            cache = write(cache, index, k, v, slot)
        if fused(c, view, x.dtype):
            out = attend_fused(c, q, k, v, local)
        elif view.fresh:
            out = attend(c, sight, q, k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3), local)
        else:
            assert cache is not None
            out = attend(c, sight, q, cache.k[index], cache.v[index], local)
        return linear(weights, "o", out.reshape(batch, tokens, -1)), cache

    def _join(self, weights: Weights, half: str, x, out) -> Float[Array, "B T D"]:
        """Add the output of a half layer to the residual stream."""
        c = self.config
        if c.output_norms:
            out = normalize(c, weights, half + "_output_norm", out)
        return x + out if c.pre_norm else normalize(c, weights, half + "_norm", x + out)


def arrays_of(model: Transformer) -> dict[str, Array]:
    """Path -> array of every parameter, in the order of `models.config.parameters`."""
    state = nnx.to_flat_state(nnx.state(model, nnx.Param))
    found = {"/".join(map(str, path)): param[...] for path, param in state}
    return {path: found[path] for path in parameters(model.config)}


def abstract(config: TransformerConfig) -> Transformer:
    """The model as shapes and dtypes only: for tracing published sizes without memory."""
    return nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
