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

from jaxdecode.cache import Cache, allocate
from jaxdecode.lm import ModelCost, ModelOutput, View
from jaxdecode.target import by_rows, target_of
from jaxdecode.types import Array, Bool, Float, Int
from models.config import TransformerConfig
from models.gathering import with_tables
from models.layer import Call
from models.layers import Weights, normalize, soft_cap
from models.parameters import check_arrays, logical_axes, matmul_count, parameters
from models.stack import run, run_both


class Transformer(nnx.Module):
    """See the module; `TransformerConfig` lists what it can be.

    Build one from random numbers, `Transformer(config, rngs=nnx.Rngs(0))`, or from arrays by
    path, `Transformer(config, arrays=...)`, with the shapes of `models.parameters.parameters`.
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
        check_arrays(arrays, table)
        self.config = config
        param = {path: nnx.Param(arrays[path]) for path in table}
        stacked = {p.removeprefix("layers/"): v for p, v in param.items() if "/" in p}
        self.layers: nnx.Dict | nnx.List = nnx.Dict(stacked)
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
    def max_positions(self) -> int | None:
        """`TransformerConfig.bound`; most rotations go on past the context length."""
        return self.config.bound

    @property
    def dtype(self) -> np.dtype:
        """Of parameters, activations and cache."""
        return self.embedding.get_value().dtype  # an abstract model has no array to index

    @property
    def cost(self) -> ModelCost:
        """Of a model that works twice (see `TransformerConfig.longest`), before the crossing."""
        c, times = self.config, 2 if self.config.crossing else 1
        return ModelCost(
            parameters=times * matmul_count(c),
            attention=times * 4 * c.q_width * c.layers,
            cache_bytes=times * 2 * c.layers * c.kv_width * self.dtype.itemsize,
        )

    @property
    def logical_axes(self) -> dict[str, tuple[str | None, ...]]:
        """See `jaxdecode.sharding.Partitioned`."""
        table = logical_axes(self.config)
        if isinstance(self.layers, nnx.Dict):
            return table
        alone = {path: axes for path, axes in table.items() if "/" not in path}
        for path in table.keys() - alone.keys():
            for layer in range(self.config.layers):
                alone[path.replace("/", f"/{layer}/")] = table[path][1:]
        return alone

    @property
    def axis_parts(self) -> dict[str, int]:
        """Projections are split between heads and never within one."""
        return {"heads": self.config.heads, "kv_heads": self.config.kv_heads}

    def configured(self, **changes) -> Transformer:
        """The same weights under a changed config, e.g. `unroll=True`."""
        config = dataclasses.replace(self.config, **changes)
        return Transformer(config, arrays=arrays_of(self))

    @property
    def written(self) -> bool:
        """Whether every layer has arrays of its own; see `models.form`."""
        return isinstance(self.layers, nnx.List)

    def within(self, longest: int) -> Transformer:
        """The same for texts of at most `longest` tokens; a model that works twice (see
        `TransformerConfig.longest`) is spared it where they end before the change."""
        if not self.config.crossing or longest > self.config.crossing:
            return self
        model = nnx.merge(*nnx.split(self))
        model.config = dataclasses.replace(self.config, longest=longest)
        return model

    def unstacked(self) -> Transformer:
        """The same weights with every layer's in arrays of their own, the layers written out.

        A scan copies the weights of a layer before it uses them, on a CPU in every step of a
        decoding loop. Without the copies a step at batch 1 is 1.5-2 times as fast, at batch 8
        up to 1.2 times; compilation takes longer, the more layers the longer.
        """
        arrays = arrays_of(self)
        model = Transformer(self.config, arrays=arrays)
        stacked = {p.removeprefix("layers/"): a for p, a in arrays.items() if "/" in p}
        model.layers = nnx.List(
            nnx.Dict({name: nnx.Param(array[i]) for name, array in stacked.items()})
            for i in range(self.config.layers)
        )
        return model

    def layer(self, index: int) -> Weights:
        """The weights of one layer."""
        if isinstance(self.layers, nnx.Dict):
            return {name: p[index] for name, p in self.layers.items()}
        return {name: p[...] for name, p in self.layers[index].items()}

    def init_cache(self, batch: int, capacity: int) -> Cache:
        c = self.config
        # With many rows the copy of a layer's part of one array for all costs up to a quarter of
        # a step; with one row it is nothing, and arrays of their own are the slower form.
        apart = isinstance(self.layers, nnx.List) and batch > 1
        # Where the rotation changes at a length, the first half is rotated for texts before it.
        layers = 2 * c.layers if c.crossing else c.layers
        target = target_of(self.embedding.get_value())
        return allocate(layers, batch, c.kv_heads, c.head_dim, capacity, self.dtype, apart, target)

    def __call__(self, tokens: Int[Array, "B T"], cache: Cache, view: View) -> ModelOutput:
        view, hidden = by_rows((view, self.embed(tokens, view.position)))
        if self.config.crossing:
            hidden, filled = run_both(self, hidden, cache, view)
        else:
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
        model = with_tables(self, self.config)
        hidden, _ = model.run_layers(model.embed(tokens, view.position), None, view)
        hidden = model.final(hidden)
        return model.unembed(hidden), hidden

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

    def output_rows(self, tokens: Int[Array, "..."]) -> Float[Array, "... D"]:
        """What `unembed` multiplies hidden states by to get the logits of these tokens."""
        if self.head is None:
            rows = jnp.take(self.embedding[...], tokens, axis=0, mode="clip")
        else:
            rows = jnp.moveaxis(jnp.take(self.head[...], tokens, axis=1, mode="clip"), 0, -1)
        rows = rows if self.project_out is None else rows @ self.project_out[...].T
        return rows if self.config.logit_divisor == 1.0 else rows / self.config.logit_divisor

    def unembed(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        if self.project_out is not None:
            hidden = hidden @ self.project_out[...]
        if self.head is None:
            form, table = "...d,vd->...v", self.embedding[...]
        else:
            form, table = "...d,dv->...v", self.head[...]
        logits = jnp.einsum(form, hidden, table, preferred_element_type=jnp.float32)
        logits = logits[..., : self.vocab_size]
        if self.config.logit_divisor != 1.0:
            logits = logits / self.config.logit_divisor
        return soft_cap(logits, self.config.logit_cap)

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

        Raises:
          ValueError: of a model that works twice, whose residual streams are two.
        """
        c = self.config
        last = c.layers if last is None else last
        if not 0 <= first <= last <= c.layers:
            raise ValueError(f"layers {first}..{last} are outside 0..{c.layers}")
        if cache is not None and c.crossing:
            raise ValueError(
                f"the model's rotation changes at position {c.crossing}, so that its layers can "
                f"only be run together; `configured(longest={c.crossing})` makes it a model of "
                "texts up to there, whose layers can be run in parts"
            )
        return run(self, hidden, *Call.of(c, view, cache, hidden), first, last)


def arrays_of(model: Transformer) -> dict[str, Array]:
    """Path -> array of every parameter, in the order of `models.parameters.parameters`."""
    state = nnx.to_flat_state(nnx.state(model, nnx.Param))
    found = {"/".join(map(str, path)): param[...] for path, param in state}
    if isinstance(model.layers, nnx.List):
        for name in model.layers[0]:
            parts = [found[f"layers/{i}/{name}"] for i in range(model.config.layers)]
            found[f"layers/{name}"] = jnp.stack(parts)
    return {path: found[path] for path in parameters(model.config)}


def abstract(config: TransformerConfig) -> Transformer:
    """The model as shapes and dtypes only: for tracing published sizes without memory."""
    return nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
