"""A test of the parity tests: every deliberate mistake shows in the logits.

Run on the stored fixtures. A mistake that the comparison would let pass means that the fixture
is too tame, not that the mistake is harmless.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from models.checkpoints import load
from models.config import TransformerConfig
from models.parameters import parameters
from models.rope import Rope
from models.transformer import Transformer, arrays_of
from tests.models.generate import ragged
from tests.models.variants import LENGTHS, TOLERANCE

FIXTURES = Path(__file__).parent / "fixtures"
Arrays = dict[str, jnp.ndarray]
Mutation = Callable[[TransformerConfig, Arrays], tuple[TransformerConfig, Arrays]]


def config(**changes) -> Mutation:
    """Other switches, the same weights; weights that no longer exist are dropped."""

    def mutate(c: TransformerConfig, arrays: Arrays) -> tuple[TransformerConfig, Arrays]:
        c = dataclasses.replace(c, **changes)
        return c, {path: arrays[path] for path in parameters(c)}

    return mutate


def rope(**changes) -> Mutation:
    def mutate(c: TransformerConfig, arrays: Arrays) -> tuple[TransformerConfig, Arrays]:
        assert c.rope is not None
        return dataclasses.replace(c, rope=dataclasses.replace(c.rope, **changes)), arrays

    return mutate


def weights(change: Callable[[Arrays], Arrays]) -> Mutation:
    """Other weights, the same switches."""
    return lambda c, arrays: (c, arrays | change(arrays))


def constant(word: str, value: float) -> Mutation:
    """Every weight whose path contains `word` set to a constant."""
    return weights(
        lambda a: {path: jnp.full_like(x, value) for path, x in a.items() if word in path}
    )


def _heads(arrays: Arrays, path: str, axis: int, order: list[int], heads: int) -> jnp.ndarray:
    """The weight with its heads in another order along `axis`."""
    split = np.split(np.asarray(arrays[path]), heads, axis=axis)
    return jnp.concatenate([split[i] for i in order], axis=axis)


def tile_heads(arrays: Arrays) -> Arrays:
    """What repeating key/value heads as 0 1 0 1 instead of 0 0 1 1 amounts to."""
    order = [0, 2, 1, 3]
    return {
        "layers/q": _heads(arrays, "layers/q", 2, order, 4),
        "layers/o": _heads(arrays, "layers/o", 1, order, 4),
    }


def interleave(arrays: Arrays) -> Arrays:
    """What rotating neighbours instead of halves of a head of 8 amounts to."""
    width = 8
    order = np.arange(width).reshape(2, -1).T.reshape(-1)

    def columns(x: jnp.ndarray) -> jnp.ndarray:
        return x.reshape(*x.shape[:-1], -1, width)[..., order].reshape(x.shape)

    return {path: columns(arrays[path]) for path in ("layers/q", "layers/k")}


def turn_experts(arrays: Arrays) -> Arrays:
    """Every expert's weights in the place of the one before."""
    return {f"layers/{x}": jnp.roll(arrays[f"layers/{x}"], 1, 1) for x in ("gate", "up", "down")}


def swap(a: str, b: str) -> Mutation:
    return weights(lambda arrays: {a: arrays[b], b: arrays[a]})


MISTAKES: list[tuple[str, str, Mutation]] = [
    ("llama", "norm weights ignored", constant("norm", 1.0)),
    ("llama", "theta of another model", rope(theta=5e5)),
    ("llama", "no rotation at all", config(rope=Rope(2, 1e30))),
    ("llama", "epsilon ten times too small", config(norm_eps=1e-6)),
    ("llama", "key/value heads tiled", weights(tile_heads)),
    ("llama", "interleaved rotation", weights(interleave)),
    ("llama", "gate and up swapped", swap("layers/gate", "layers/up")),
    ("llama", "tanh gelu for silu", config(activation="gelu_tanh")),
    ("llama", "head taken as tied", config(tied=True)),
    ("llama_biased", "output bias dropped", constant("o_bias", 0.0)),
    ("llama_biased", "MLP bias dropped", constant("up_bias", 0.0)),
    ("llama_llama3", "scaling ignored", rope(kind="default")),
    ("llama_llama3", "factor of another release", rope(factor=32.0)),
    ("llama_linear", "scaling ignored", rope(kind="default")),
    ("llama_dynamic", "scaling ignored", rope(kind="default")),
    ("llama_yarn", "scaling ignored", rope(kind="default")),
    ("llama_yarn", "amplitude forgotten", rope(amplitude=1.0)),
    ("mistral", "window one too wide", config(window=9)),
    ("mistral", "window off", config(window=0, sliding=())),
    ("qwen2", "query, key and value bias dropped", config(qkv_bias=False)),
    ("qwen2", "window that is switched off", config(window=8)),
    ("qwen2_sliding", "window on every layer", config(sliding=(True, True))),
    ("qwen3", "query and key norms dropped", config(qk_norm=False)),
    ("gemma", "(1 + w) taken as w", config(norm="rms")),
    ("gemma", "embedding scale forgotten", config(embed_scale=1.0)),
    ("gemma2", "attention cap off", config(attention_cap=0.0)),
    ("gemma2", "logit cap off", config(logit_cap=0.0)),
    ("gemma2", "scale by the width of a head", config(query_scale=0.25)),
    ("gemma2", "sliding and full layers exchanged", config(sliding=(False, True))),
    ("gemma2", "output norms dropped", config(output_norms=False)),
    ("gemma3", "one rotary table", config(rope_local=None)),
    ("gemma3", "all layers sliding", config(sliding=(True,) * 7)),
    ("gemma3_linear", "linear factor dropped", rope(kind="default")),
    ("phi3", "partial rotation ignored", rope(width=8)),
    ("phi3_longrope", "long factors unused", rope(long=(1.0, 1.2, 1.5, 2.0))),
    ("phi3_longrope", "amplitude forgotten", rope(amplitude=1.0)),
    ("smollm3", "every layer rotates", config(rotated=())),
    ("smollm3_sliding", "another layer rotates", config(rotated=(False, True))),
    ("olmo2", "epsilon of another family", config(norm_eps=1e-2)),
    ("granite", "half layers not scaled", config(residual_scale=1.0)),
    ("granite", "logits not scaled", config(logit_divisor=1.0)),
    ("granite", "scale by the width of a head", config(query_scale=8**-0.5)),
    ("mixtral", "one expert fewer", config(experts_per_token=1)),
    ("mixtral", "shares of all experts", config(renormalize=False)),
    ("mixtral", "experts in another order", weights(turn_experts)),
    ("mixtral", "gate and up swapped", swap("layers/gate", "layers/up")),
    ("mixtral", "window off", config(window=0, sliding=())),
    ("qwen3_moe", "shares of all experts", config(renormalize=False)),
    ("qwen3_moe", "query and key norms dropped", config(qk_norm=False)),
    ("qwen3_moe_biased", "shares that sum to one", config(renormalize=True)),
    ("olmoe", "shares that sum to one", config(renormalize=True)),
    ("olmoe", "one expert more", config(experts_per_token=5)),
    ("opt", "positions not offset", config(position_offset=0, max_positions=66)),
    ("opt", "gelu for relu", config(activation="gelu_tanh")),
    ("opt_post", "normalised before", config(pre_norm=False, norm_eps=1e-2)),
    ("gpt2", "norm biases dropped", constant("norm_bias", 0.0)),
    ("gpt2", "keys and values exchanged", swap("layers/k", "layers/v")),
    ("gpt2", "positions off by one", config(position_offset=1, max_positions=63)),
]


@pytest.mark.parametrize(
    ("name", "mutate"),
    [pytest.param(name, mutate, id=f"{name}: {what}") for name, what, mutate in MISTAKES],
)
def test_a_mistake_shows(name: str, mutate: Mutation):
    assert error_of(name, mutate) > 1e-3


def test_even_the_other_gelu_shows():
    """The two forms differ by less than 5e-4 anywhere; still ten times what parity allows."""
    assert error_of("gemma", config(activation="gelu")) > 10 * TOLERANCE


def error_of(name: str, mutate: Mutation) -> float:
    """The largest error of a fixture's logits under a mistake."""
    expected = np.load(FIXTURES / name / "expected.npz")
    right = load(FIXTURES / name, dtype="float32")
    changed, arrays = mutate(right.config, arrays_of(right))
    wrong = Transformer(changed, arrays=arrays)
    logits = ragged(wrong, expected["tokens"], LENGTHS)
    return max(
        np.abs(logits[row, :length] - expected["logits"][row, :length]).max()
        for row, length in enumerate(LENGTHS)
    )
