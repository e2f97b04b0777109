"""Routed experts: every way of computing them is the plain sum over a token's experts."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.speculative.token_recycling import token_recycling
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.target import Target
from models.experts import WAYS, mix, route, way_of
from models.form import formed
from models.heads.block import Block
from models.parameters import MATRICES, count, matmul_count, parameters
from models.presets import QWEN3_30B_A3B
from tests.models.samples import CONFIGS, VOCABULARY, perturbed

CPU = Target("cpu")
CONFIG = CONFIGS["experts"]


def layer(config=CONFIG, seed: int = 0) -> dict[str, jax.Array]:
    """The weights of one layer's experts, large enough to matter."""
    draws = np.random.default_rng(seed)
    sizes = {"router": (config.hidden, config.experts)}
    sizes |= dict.fromkeys(("gate", "up"), (config.experts, config.hidden, config.mlp))
    sizes["down"] = (config.experts, config.mlp, config.hidden)
    return {name: jnp.asarray(draws.normal(0, 0.3, s), jnp.float32) for name, s in sizes.items()}


def tokens(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, CONFIG.hidden)).astype(np.float32)


def plainly(config, weights, x: np.ndarray) -> np.ndarray:
    """Token by token, expert by expert, in double precision."""
    w = {name: np.asarray(array, np.float64) for name, array in weights.items()}
    out = np.zeros(x.shape)
    for row, token in enumerate(x.astype(np.float64)):
        logits = token @ w["router"]
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = sorted(range(config.experts), key=lambda e: -shares[e])[: config.experts_per_token]
        whole = sum(shares[e] for e in best) if config.renormalize else 1.0
        for e in best:
            gate = token @ w["gate"][e]
            inner = gate / (1 + np.exp(-gate)) * (token @ w["up"][e])
            out[row] += shares[e] / whole * (inner @ w["down"][e])
    return out


def run(way: str, config, weights, x) -> jax.Array:
    choice, share = route(config, weights["router"], x)
    return WAYS[way](config, weights, x, choice, share)


compiled = jax.jit(run, static_argnums=(0, 1))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("picked", [1, 2, 6])
def test_every_way_is_the_sum_over_a_tokens_experts(way: str, picked: int):
    config = dataclasses.replace(CONFIG, experts_per_token=picked, renormalize=picked == 2)
    for size in (1, 50):
        found = compiled(way, config, layer(), tokens(size))
        np.testing.assert_allclose(found, plainly(config, layer(), tokens(size)), atol=3e-5)


@pytest.mark.parametrize("way", WAYS)
def test_no_token_is_dropped_where_all_want_the_same_experts(way: str):
    weights = layer()
    x = np.abs(tokens(50))
    weights["router"] = weights["router"].at[:, 4].set(1.0).at[:, 1].set(0.9)
    choice, _ = route(CONFIG, weights["router"], jnp.asarray(x))
    assert np.unique(choice).tolist() == [1, 4]
    np.testing.assert_allclose(
        compiled(way, CONFIG, weights, x), plainly(CONFIG, weights, x), atol=3e-4
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_token_does_not_depend_on_its_neighbours(way: str):
    x, weights = tokens(50), layer()
    alone = np.asarray(compiled(way, CONFIG, weights, x))
    for seed in (5, 6):
        other = tokens(50, seed) * 3
        other[[3, 17, 49]] = x[[3, 17, 49]]
        found = np.asarray(compiled(way, CONFIG, weights, other))
        np.testing.assert_allclose(found[[3, 17, 49]], alone[[3, 17, 49]], rtol=0, atol=1e-6)
        assert np.abs(found[4] - alone[4]).max() > 0.1


@pytest.mark.parametrize("way", WAYS)
def test_an_expert_that_overflows_is_felt_by_those_who_picked_it_alone(way: str):
    weights, x = layer(), tokens(50)
    weights["up"] = weights["up"].at[3].set(1e38)
    choice, _ = route(CONFIG, weights["router"], jnp.asarray(x))
    free = ~np.any(np.asarray(choice) == 3, axis=1)
    assert 10 < free.sum() < 50
    found = np.asarray(compiled(way, CONFIG, weights, x))[free]
    np.testing.assert_allclose(found, plainly(CONFIG, layer(), x)[free], atol=3e-5)


def test_gradients_of_all_ways_agree():
    x, aim = tokens(20), tokens(20, 2)
    grad = jax.jit(
        jax.grad(lambda w, x, way: jnp.sum(run(way, CONFIG, w, x) * aim), (0, 1)),
        static_argnums=2,
    )
    wanted = grad(layer(), x, "picked")
    assert all(float(jnp.abs(leaf).max()) > 0.1 for leaf in jax.tree.leaves(wanted))
    for way in WAYS.keys() - {"picked"}:
        for one, other in zip(
            jax.tree.leaves(grad(layer(), x, way)), jax.tree.leaves(wanted), strict=True
        ):
            np.testing.assert_allclose(one, other, atol=2e-4, err_msg=way)


def test_few_tokens_fetch_and_many_are_grouped():
    wide = dataclasses.replace(CONFIG, experts=128, experts_per_token=8)
    for platform, last in (("cpu", "grouped"), ("gpu", "grouped"), ("tpu", "ragged")):
        ways = [way_of(wide, size, Target(platform)) for size in (1, 5, 10**4)]
        assert ways == ["picked", "picked", last]
        assert way_of(CONFIG, 1, Target(platform)) == "picked"
        assert way_of(CONFIG, 2, Target(platform)) == "every"


def test_half_precision_keeps_its_type_and_its_value():
    x, weights = tokens(50), layer()
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), weights)
    found = mix(CONFIG, half, jnp.asarray(x, jnp.bfloat16)[None], CPU)[0]
    assert found.dtype == jnp.bfloat16
    wide = {name: np.asarray(array, np.float32) for name, array in half.items()}
    wanted = plainly(CONFIG, wide, np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32))
    error = np.abs(np.asarray(found, np.float32) - wanted) / np.abs(wanted).max()
    assert np.mean(error.max(axis=1) < 0.02) > 0.9  # rounding may change a close choice


MODEL = perturbed(CONFIG)
PROMPTS = Prompt.of([[3, 1, 4, 1, 5], [9, 2], [6]])


def texts(decoder, prompt: Prompt) -> list[list[int]]:
    result = jax.device_get(decode(decoder, 7, prompt))
    return [row[:n].tolist() for row, n in zip(result.tokens, result.length, strict=True)]


@pytest.mark.parametrize("select", [Greedy(), Categorical()], ids=["greedy", "sampling"])
def test_a_model_decodes_and_rows_are_those_of_each_alone(select):
    generator = Generator(MODEL, Identity(), select, Stop.of(0), 8)
    plain = Autoregressive(generator)
    found = texts(plain, PROMPTS)
    assert len({tuple(text) for text in found}) == 3
    first = Prompt.of([[3, 1, 4, 1, 5], [7, 7, 7], [8, 8]])
    assert texts(plain, first)[0] == found[0]
    if isinstance(select, Greedy):
        written = dataclasses.replace(generator, model=formed(MODEL, "written"))
        assert texts(Autoregressive(written), PROMPTS) == found
        table = (jnp.arange(VOCABULARY)[:, None] + jnp.arange(1, 4)) % VOCABULARY
        speculating = Autoregressive(token_recycling(generator, table, (-1, -1, 0, 0, 1, 2)))
        assert texts(speculating, PROMPTS) == found


def test_a_block_is_the_last_layer():
    for parts in ("layer", "mlp"):
        block = Block.last_of(MODEL, parts)
        used = [f"layers/{name}" for name in block.weights]
        assert {"layers/router", "layers/gate"} <= set(used)
        assert block.cost.parameters == matmul_count(block.config, used)


def test_what_is_counted_is_what_a_token_has():
    attention = 2 * 32 * 32 + 2 * 32 * 16
    experts = 3 * 32 * 24
    assert matmul_count(CONFIG) == 2 * (attention + 32 * 6 + 2 * experts) + 32 * VOCABULARY
    assert count(CONFIG) == 2 * (attention + 32 * 6 + 6 * experts + 2 * 32) + 32 + 32 * VOCABULARY
    assert round(matmul_count(QWEN3_30B_A3B) / 1e8) == 30
    assert matmul_count(CONFIG, [path for path in MATRICES if "router" in path]) == 2 * 32 * 6
    assert parameters(CONFIG)["layers/gate"].axes == ("layers", "experts", "embed", "mlp")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"experts_per_token": 7}, r"experts_per_token=7 must be an integer in 1\.\.6"),
        ({"experts_per_token": 0}, r"experts_per_token=0 must be an integer in 1\.\.6"),
        ({"experts_per_token": True}, "experts_per_token=True"),
        ({"experts": 0}, r"experts_per_token=2 must be an integer in 0\.\.0"),
        ({"experts": 10**9}, "experts=1000000000 must be"),
        ({"experts": -1}, "experts=-1 must be"),
        ({"gated": False}, "need gated=True"),
        ({"mlp_bias": True}, "need gated=True and mlp_bias=False"),
    ],
)
def test_impossible_experts_are_refused(changes: dict, named: str):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(CONFIG, **changes)


def test_a_mesh_splits_widths_and_computes_the_same():
    """In a process of its own, which pretends to have four devices."""
    program = """
import dataclasses, jax, jax.numpy as jnp, numpy as np
from flax import nnx
from jaxdecode.sharding import make_mesh, shard, shard_rows
from models.transformer import arrays_of
from tests.models.samples import CONFIGS, draw, perturbed
def loss(model, text):
    logits, _ = model.forward(text)
    return jnp.mean(logits**2), logits
slope = jax.jit(nnx.grad(loss, has_aux=True))
config = dataclasses.replace(CONFIGS["experts"], layers=1)
model, text = perturbed(config), draw(4, 5)
wanted = slope(model, text)
mesh = make_mesh(2, 2)
spread = shard(model, mesh)
part = arrays_of(spread)["layers/gate"].addressable_shards[0].data
assert part.shape == (1, 6, 32, 12), part.shape
found = slope(spread, shard_rows(text, mesh))
for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(one, other, atol=2e-5)
"""
    quickly = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    quickly += " --xla_cpu_use_fusion_emitters=false"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={"XLA_FLAGS": quickly, "PATH": "", "JAX_PLATFORMS": "cpu"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
