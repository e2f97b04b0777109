"""The module as a pytree, a language model and a thing to train."""

from __future__ import annotations

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, struct

from jaxdecode.cache import Cache, allocate, truncate
from jaxdecode.lm import View, extend
from jaxdecode.sharding import make_mesh, named_shardings, shard
from models.config import TransformerConfig
from models.parameters import count, logical_axes, matmul_count, parameters
from models.presets import small
from models.rope import Rope
from models.transformer import Transformer, abstract, arrays_of
from tests.models.samples import CONFIGS, VOCABULARY, draw, perturbed

PLAIN, WINDOWED = CONFIGS["plain"], CONFIGS["windowed"]
forward = jax.jit(lambda model, tokens: model.forward(tokens)[0])


def test_it_passes_through_jit_grad_and_loops_as_a_field_of_a_dataclass():
    @struct.dataclass
    class Holder:
        model: Transformer

    holder, tokens = Holder(perturbed(PLAIN)), draw(2, 4)

    @jax.jit
    def twice(holder: Holder, tokens: jax.Array) -> jax.Array:
        def body(carry):
            i, tokens = carry
            return i + 1, jnp.argmax(holder.model.forward(tokens)[0], -1).astype(jnp.int32)

        return jax.lax.while_loop(lambda carry: carry[0] < 2, body, (0, tokens))[1]

    once = jnp.argmax(holder.model.forward(tokens)[0], -1)
    again = jnp.argmax(holder.model.forward(once)[0], -1)
    np.testing.assert_array_equal(twice(holder, tokens), again)
    gradient = jax.grad(lambda h: h.model.forward(tokens)[0].sum())(holder)
    assert isinstance(gradient.model, Transformer)
    assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(gradient))


def test_a_second_model_of_the_same_config_does_not_retrace():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(model: Transformer, tokens: jax.Array) -> jax.Array:
        return model.forward(tokens)[0]

    first = run(perturbed(PLAIN, 0), draw(1, 3))
    second = run(perturbed(PLAIN, 1), draw(1, 3))
    assert float(jnp.abs(first - second).max()) > 0


def test_all_state_is_param():
    state = nnx.to_flat_state(nnx.state(perturbed(WINDOWED)))
    assert state
    assert all(isinstance(value, nnx.Param) for _, value in state)


@pytest.mark.parametrize("name", CONFIGS)
def test_unrolled_layers_compute_the_same(name: str):
    model, tokens = perturbed(CONFIGS[name]), draw(2, 9)
    unrolled = model.configured(unroll=True)
    np.testing.assert_allclose(forward(model, tokens), forward(unrolled, tokens), atol=1e-5)
    unstacked = model.unstacked()
    np.testing.assert_allclose(forward(model, tokens), forward(unstacked, tokens), atol=1e-5)
    kept = arrays_of(unstacked)
    assert list(kept) == list(arrays_of(model))
    for path, array in arrays_of(model).items():
        np.testing.assert_array_equal(kept[path], array)


def test_unstacked_layers_have_shardings_of_their_own():
    mesh = make_mesh(1, 1)
    whole = named_shardings(abstract(WINDOWED), mesh)
    unstacked = perturbed(WINDOWED).unstacked()
    apart = named_shardings(unstacked, mesh)
    assert apart["embedding"] == whole["embedding"]
    for layer in range(WINDOWED.layers):
        assert tuple(apart[f"layers/{layer}/q"].spec) == tuple(whole["layers/q"].spec)[1:]
    moved = arrays_of(shard(unstacked, mesh))
    np.testing.assert_array_equal(moved["layers/q"], arrays_of(unstacked)["layers/q"])


@pytest.mark.parametrize("name", CONFIGS)
def test_recomputing_layers_keeps_the_gradient(name: str):
    model, tokens = perturbed(CONFIGS[name]), draw(2, 9)

    @jax.jit
    def gradient(model: Transformer) -> Transformer:
        return jax.grad(lambda m: jnp.sum(m.forward(tokens)[0] ** 2))(model)

    kept, recomputed = gradient(model), gradient(model.configured(remat=True))
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(recomputed), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3 * float(jnp.abs(a).max()))


@pytest.mark.parametrize("layout", ["scanned", "unrolled", "unstacked"])
@pytest.mark.parametrize("cached", [False, True])
def test_layers_run_in_pieces(layout: str, cached: bool):
    """One after the other, as an early exit runs them; a piece may be empty."""
    model, tokens = perturbed(WINDOWED).configured(unroll=layout == "unrolled"), draw(2, 9)
    model = model.unstacked() if layout == "unstacked" else model
    whole = extend(model, tokens, model.init_cache(2, 12), fresh=True)
    zero = jnp.zeros(2, jnp.int32)
    position = jnp.broadcast_to(jnp.arange(9), (2, 9))
    view = View(position, zero, zero, jnp.ones((2, 9), bool), fresh=True)
    hidden, cache = model.embed(tokens, position), model.init_cache(2, 12) if cached else None
    for first, last in ((0, 1), (1, 1), (1, 3)):
        hidden, cache = model.run_layers(hidden, cache, view, first, last)
    np.testing.assert_allclose(model.final(hidden), whole.hidden, atol=1e-5)
    if cache is not None:
        np.testing.assert_allclose(cache.k, whole.cache.k, atol=1e-5)
        np.testing.assert_array_equal(cache.position, whole.cache.position)
    with pytest.raises(ValueError, match=r"layers 2\.\.4 are outside 0\.\.3"):
        model.run_layers(hidden, cache, view, 2, 4)


def test_pieces_inside_a_decoding_loop_copy_no_weights():
    """The layers of a piece are read where they lie: temporary memory stays below one layer's."""
    config = small(64, hidden=128, layers=4)
    model, cache = abstract(config), jax.eval_shape(lambda: allocate(4, 1, 2, 32, 16))
    # Four layers of four-byte numbers: as many bytes a layer as numbers in all.
    layer_bytes = sum(p.size for path, p in parameters(config).items() if "layers/" in path)

    def decode(model: Transformer, token, cache: Cache, cuts):
        def step(carry, _):
            token, cache = carry
            view = View(cache.length[:, None], cache.length, cache.length, token > -1)
            hidden = model.embed(token)
            for first, last in cuts:
                hidden, filled = model.run_layers(hidden, cache, view, first, last)
                assert filled is not None
                cache = filled
            best = jnp.argmax(model.unembed(model.final(hidden)), -1).astype(jnp.int32)
            return (best, truncate(cache, cache.length + 1)), None

        return jax.lax.scan(step, (token, cache), length=8)[0][0]

    def temporary(cuts) -> int:
        token = jax.ShapeDtypeStruct((1, 1), jnp.int32)
        memory = jax.jit(decode, static_argnums=3).lower(model, token, cache, cuts).compile()
        analysis = memory.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert temporary(((0, 2), (2, 4))) < temporary(((0, 4),)) + layer_bytes


def test_final_hidden_states_give_the_logits():
    model = perturbed(WINDOWED)
    logits, hidden = model.forward(draw(2, 5))
    np.testing.assert_allclose(model.unembed(hidden), logits, atol=1e-6)
    assert float(jnp.abs(logits).max()) < 3.0  # the cap


def test_padded_rows_of_the_table_are_no_tokens():
    model = perturbed(dataclasses.replace(PLAIN, rows=VOCABULARY + 3))
    assert model.forward(draw(1, 4))[0].shape == (1, 4, VOCABULARY)


def test_ids_outside_the_table_are_clamped():
    model = perturbed(PLAIN)
    low, high = model.embed(jnp.asarray([[-1, VOCABULARY + 5]]))[0]
    first, last = model.embed(jnp.asarray([[0, VOCABULARY - 1]]))[0]
    np.testing.assert_array_equal(low, first)
    np.testing.assert_array_equal(high, last)


def test_a_tied_table_gets_gradient_from_both_ends():
    model = perturbed(small(VOCABULARY, hidden=32, layers=1, heads=4))
    tokens = jnp.asarray([[3, 5]])
    gradient = jax.grad(lambda m: m.forward(tokens)[0][0, -1, 7])(model).embedding[...]
    assert float(jnp.abs(gradient[3]).max()) > 0  # as an input
    assert float(jnp.abs(gradient[7]).max()) > 0  # as an output
    assert float(jnp.abs(gradient[9]).max()) == 0


@pytest.mark.parametrize(
    ("hidden", "rounded"),
    [(2048, 45.25), (3072, 55.5), (2560, 50.5), (3584, 59.75), (1152, 34.0), (2304, 48.0)],
)
def test_the_embedding_scale_is_rounded_to_the_models_dtype(hidden: int, rounded: float):
    config = TransformerConfig(3, hidden, 1, 1, 1, 1, 2, embed_scale=hidden**0.5)
    arrays = {p: jnp.ones(want.shape, jnp.bfloat16) for p, want in parameters(config).items()}
    scaled = Transformer(config, arrays=arrays).embed(jnp.asarray([[0]]))
    assert float(scaled[0, 0, 0]) == rounded


def test_a_cast_model_computes_and_caches_in_its_dtype():
    model, tokens = perturbed(PLAIN), draw(2, 6)
    cast = jax.tree.map(lambda x: x.astype(jnp.bfloat16), model)
    output = extend(cast, tokens, cast.init_cache(2, 8), fresh=True)
    assert output.cache.k.dtype == output.hidden.dtype == jnp.bfloat16
    assert output.logits.dtype == jnp.float32
    error = jnp.abs(output.logits - model.forward(tokens)[0]).max()
    assert 0 < float(error) < 0.3


def test_cost_is_what_the_compiler_counts():
    config = small(256, hidden=64, layers=2, heads=4, unroll=True)
    model, batch, width = abstract(config), 4, 32
    tokens = jax.ShapeDtypeStruct((batch, width), jnp.int32)
    analysis = jax.jit(lambda m, t: m.forward(t)[0]).lower(model, tokens).compile()
    counts = analysis.cost_analysis()
    assert counts is not None
    cost = model.cost
    ours = batch * width * (2 * cost.parameters + cost.attention * width)
    assert counts["flops"] == pytest.approx(ours, rel=0.08)
    assert cost.cache_bytes * 8 == perturbed(config).init_cache(1, 8).nbytes


def test_parameter_counts():
    config = small(100, hidden=32, layers=2, heads=4, tied=False)
    layer = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 96
    assert matmul_count(config) == 2 * layer + 32 * 100
    assert count(config) == 2 * (layer + 2 * 32) + 32 + 2 * 32 * 100
    assert count(config) == sum(x.size for x in jax.tree.leaves(perturbed(config)))


@pytest.mark.parametrize("name", CONFIGS)
def test_axes_are_named_for_every_dimension(name: str):
    model, axes = perturbed(CONFIGS[name]), logical_axes(CONFIGS[name])
    arrays = arrays_of(model)
    assert arrays.keys() == axes.keys()
    for path, array in arrays.items():
        assert array.ndim == len(axes[path]), path


def test_published_sizes_trace_without_memory():
    model = abstract(small(256, hidden=256, layers=6))
    assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(model))


def test_initial_values():
    model = Transformer(small(512, hidden=128, layers=8), rngs=nnx.Rngs(0))
    arrays = arrays_of(model)
    assert float(arrays["layers/q"].std()) == pytest.approx(0.02, rel=0.05)
    assert float(arrays["layers/down"].std()) == pytest.approx(0.02 / 4, rel=0.05)
    np.testing.assert_array_equal(arrays["norm"], 1.0)


def test_wrong_arrays_are_refused():
    arrays = arrays_of(perturbed(PLAIN))
    with pytest.raises(ValueError, match=r"arrays\['norm'\] is missing"):
        Transformer(PLAIN, arrays={k: v for k, v in arrays.items() if k != "norm"})
    with pytest.raises(ValueError, match=r"arrays\['other'\] is unknown"):
        Transformer(PLAIN, arrays=arrays | {"other": arrays["norm"]})
    with pytest.raises(ValueError, match=r"arrays\['norm'\] has shape \(1,\)"):
        Transformer(PLAIN, arrays=arrays | {"norm": jnp.ones(1)})
    with pytest.raises(ValueError, match="either rngs or arrays"):
        Transformer(PLAIN)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"vocab_size": 2**31}, "vocab_size=2147483648"),
        ({"layers": 10**6}, "layers=1000000"),
        ({"hidden": 0}, "hidden=0"),
        ({"heads": True}, "heads=True"),
        ({"kv_heads": 3}, "heads=4 is not a multiple of kv_heads=3"),
        ({"rows": 5}, "rows=5"),
        ({"rope": Rope(10)}, "rope width=10 exceeds head_dim=8"),
        ({"rope": None, "rope_local": Rope(8)}, "rope_local"),
        ({"sliding": (True,), "window": 4}, "1 flags for layers=3"),
        ({"sliding": (True, True, True)}, "window=0"),
        ({"window": -1}, "window=-1"),
        ({"norm_eps": float("nan")}, "norm_eps=nan"),
    ],
)
def test_impossible_configs_are_refused(changes: dict, named: str):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(PLAIN, **changes)
