"""The fast paths of attention compute what the plain one does, within their memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.cache import truncate
from jaxdecode.lm import View, extend
from jaxdecode.target import Target
from models import attention
from models.attention import Sight, attend, attend_fused
from models.presets import small
from models.transformer import Transformer, abstract
from tests.models.samples import CONFIGS, draw, perturbed


@pytest.mark.parametrize("name", ["plain", "learned", "windowed"])
@pytest.mark.parametrize("form", ["fresh", "tree", "later", "gradient"])
def test_queries_in_chunks(name: str, form: str, monkeypatch: pytest.MonkeyPatch):
    """37 queries in chunks of 16, which leaves a remainder of 5."""
    model, tokens = perturbed(CONFIGS[name]), draw(2, 37)
    valid = jnp.arange(37) < jnp.asarray([[37], [20]])

    def loss(model: Transformer) -> jax.Array:
        return jnp.sum(jnp.where(valid[..., None], model.forward(tokens)[0], 0) ** 2)

    def run(model: Transformer) -> jax.Array:
        if form == "gradient":
            return jax.grad(loss)(model).layers["q"][...]
        cache = model.init_cache(2, 48)
        if form == "later":
            cache = truncate(extend(model, draw(2, 7, 1), cache).cache, jnp.full((2,), 7))
        block = jnp.tril(jnp.ones((2, 37, 37), bool), -1).at[:, :, 0].set(True)
        block = block if form == "tree" else None
        output = extend(model, tokens, cache, valid=valid, block=block, fresh=form == "fresh")
        return jnp.where(valid[..., None], output.logits, 0)

    whole = jax.jit(run)(model)
    monkeypatch.setattr(attention, "budget", lambda target: 1)
    # A new function: the compiled program of the old one would be found again.
    parts = jax.jit(lambda model: run(model))(model)
    np.testing.assert_allclose(whole, parts, atol=2e-5 * float(jnp.abs(whole).max()))


@pytest.mark.parametrize("fresh", [True, False])
def test_a_long_prompt_never_makes_a_square_matrix(fresh: bool):
    config = small(101, hidden=64, heads=8, layers=2, window=100, sliding=(True, False))
    model, count = abstract(config), 4096
    cache = jax.eval_shape(lambda: Transformer.init_cache(model, 1, count))
    run = jax.jit(lambda m, t, c: extend(m, t, c, fresh=fresh).cache)
    tokens = jax.ShapeDtypeStruct((1, count), jnp.int32)
    memory = run.lower(model, tokens, cache).compile().memory_analysis()
    assert memory is not None
    one_head = 4 * count * count
    assert memory.temp_size_in_bytes < one_head, "scores of all heads would take eight times that"


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("traced", [True, False])
def test_the_fused_form_of_a_plain_prefill(local: bool, traced: bool):
    """The call made on a GPU, with the portable implementation behind it."""
    config = CONFIGS["windowed"]
    draws = np.random.default_rng(0)
    q, k, v = (
        jnp.asarray(draws.normal(size=(2, 12, heads, config.head_dim)), jnp.float32)
        for heads in (config.heads, config.kv_heads, config.kv_heads)
    )
    lengths = jnp.asarray([[12], [7]])
    view = View(
        position=jnp.broadcast_to(jnp.arange(12), (2, 12)),
        start=jnp.zeros(2, jnp.int32),
        prefix=jnp.zeros(2, jnp.int32),
        valid=jnp.arange(12) < lengths,
        fresh=True,
    )
    uncapped = perturbed(config).configured(attention_cap=0.0).config
    sight = Sight.of(uncapped, view, None, q.dtype, Target("cpu"))
    flag = jnp.asarray(local) if traced else local
    ours = attend(uncapped, sight, q, k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3), flag)
    theirs = attend_fused(uncapped, q, k, v, flag, implementation="xla")
    for row, length in enumerate((12, 7)):
        np.testing.assert_allclose(ours[row, :length], theirs[row, :length], atol=1e-5)
