"""A model computes the same, and decoders emit the same, in every target's layout and kernels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.search.beam_search import BeamSearch
from algorithms.speculative.token_recycling import token_recycling
from jaxdecode.autoregress import Generator
from jaxdecode.cache import arrays, read, truncate
from jaxdecode.decoder import decode
from jaxdecode.lm import View, extend
from jaxdecode.logits import Temperature
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.target import Target, aimed
from models.presets import small
from models.transformer import Transformer
from tests.models.samples import draw, perturbed

CONFIG = small(53, hidden=32, layers=2, heads=4, kv_heads=2)
SLIDING = dataclasses.replace(
    CONFIG, window=9, sliding=(True, False), attention_cap=5.0, qk_norm=True
)
TARGETS = [Target("tpu", kernels="none"), Target("tpu", kernels="interpreted")]


def run(model: Transformer, form: str) -> tuple[jax.Array, list[jax.Array]]:
    """A fresh prefill of ragged rows, then tokens that follow in one of the ways of engines."""
    valid = jnp.arange(24) < jnp.asarray([[24], [11], [17]])
    cache = extend(model, draw(3, 24), model.init_cache(3, 140), valid=valid, fresh=True).cache
    cache = truncate(cache, jnp.sum(valid, axis=1))
    tokens = 1 if form == "step" else 5
    new, there = draw(3, tokens, 1), jnp.arange(tokens) < jnp.asarray([[5], [5], [1]])
    block, beyond = None, None
    if form in ("tree", "arena"):
        block = jnp.eye(5, dtype=bool).at[:, 0].set(True).at[3, 1].set(True)
        block = jnp.broadcast_to(block, (3, 5, 5))
    depth = jnp.sum(block, axis=2) - 1 if block is not None else jnp.arange(tokens)[None]
    view = View(
        position=cache.length[:, None] + depth,
        start=cache.length + 3 * (form == "arena"),
        prefix=cache.length - 2 * (form == "arena"),
        valid=there,
        block=block,
        beyond=beyond,
    )
    if form == "arena":
        slots = jnp.arange(140) == cache.length[:, None] - 1
        view = dataclasses.replace(view, beyond=jnp.broadcast_to(slots[:, None], (3, 5, 140)))
    output = model(new, cache, view)
    held = [jnp.stack(read(output.cache, layer)[:1]) for layer in range(2)]
    filled = jnp.arange(140) < cache.length[:, None]
    held = [jnp.where(filled[:, None, None], x, 0) for x in held]
    return jnp.where(there[..., None], output.logits, 0), held


@pytest.mark.parametrize("form", ["step", "chain", "tree", "arena"])
@pytest.mark.parametrize("config", [CONFIG, SLIDING], ids=["plain", "sliding"])
def test_a_model_computes_the_same_for_every_target(config, form: str) -> None:
    model = perturbed(config)
    logits, held = jax.jit(run, static_argnums=1)(model, form)
    for target in TARGETS:
        with aimed(target):
            others, held_there = jax.jit(run, static_argnums=1)(model, form)
        np.testing.assert_allclose(others, logits, atol=1e-4)
        for one, other in zip(held, held_there, strict=True):
            np.testing.assert_allclose(other, one, atol=1e-5)


@pytest.mark.parametrize("apart", [False, True])
def test_on_a_tpu_slots_fill_lanes(apart: bool) -> None:
    model = perturbed(CONFIG)
    with aimed(TARGETS[1]):
        cache = (model.unstacked() if apart else model).init_cache(3, 140)
    k, v, _ = arrays(cache, 1)
    assert k.shape == v.shape == (1 if apart else 2, 3, 2, 8, 256)
    assert cache.capacity == 140 and isinstance(cache.k, tuple) == apart


PROMPT = Prompt.of([[3, 9, 4], [7, 2, 2, 8, 30, 11], [5]])
STOP = Stop.of(50)
TREE = (-1, -1, 0, 0, 1, 2)


def decoder(name: str, model: Transformer):
    greedy = Generator(model, Temperature(1.3), Greedy(), STOP, 8)
    drawn = Generator(model, Temperature(1.3), Categorical(), STOP, 8)
    match name:
        case "plain":
            return Autoregressive(drawn)
        case "tree":
            table = jnp.arange(53)[:, None] + jnp.arange(1, 4)
            return Autoregressive(token_recycling(greedy, table % 53, TREE))
        case "beams":
            return BeamSearch(greedy, 3)
    raise AssertionError(name)


@pytest.mark.parametrize("name", ["plain", "tree", "beams"])
def test_decoders_emit_the_same_for_every_target(name: str) -> None:
    subject = decoder(name, perturbed(CONFIG))
    expected = decode(subject, 3, PROMPT)
    assert int(jnp.min(expected.length)) > 0
    for target in TARGETS:
        with aimed(target):
            found = decode(subject, 3, PROMPT)
        np.testing.assert_array_equal(found.tokens, expected.tokens)
        np.testing.assert_array_equal(found.length, expected.length)
        np.testing.assert_allclose(found.logprob, expected.logprob, atol=1e-3)
