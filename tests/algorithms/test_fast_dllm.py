"""The block cache on a model of several layers: exact where it claims to be, stale where not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from algorithms.diffusion.fast_dllm import fast_dllm
from jaxdecode import autoregress
from jaxdecode.denoiser import Denoiser
from jaxdecode.prompt import Prompt
from jaxdecode.stop import Stop
from models.presets import small
from models.transformer import Transformer

MODEL = Transformer(small(24, hidden=16, layers=3), rngs=nnx.Rngs(0))
PROMPT = Prompt.of([[1, 2, 3], [4], [5, 6, 7, 8, 9]], width=5)


@jax.jit
def run(un: Any) -> Any:
    return autoregress.generate(un, jax.random.key(0), PROMPT)


@pytest.mark.parametrize("shift", [False, True])
def test_the_dual_cache(shift) -> None:
    """One pass a block, or a cache filled in every pass, is decoding without a cache; with more
    passes what is stored grows stale, and the log-probabilities tell."""
    sharp = louder(MODEL, 4.0)
    denoiser = Denoiser(sharp, 23, shift)

    def made(threshold: float, cache: Any, refresh: int | None = None) -> Any:
        gamma = jnp.float32(threshold)
        return run(fast_dllm(denoiser, Stop.of(), 8, gamma, block=4, cache=cache, refresh=refresh))

    for threshold, refresh in ((0.0, None), (1.0, 1)):
        plain, cached = made(threshold, "none"), made(threshold, "dual", refresh)
        np.testing.assert_array_equal(plain.tokens, cached.tokens)
        np.testing.assert_array_equal(plain.speculation.decided, cached.speculation.decided)
        np.testing.assert_allclose(plain.logprob, cached.logprob, 1e-4)
    plain, cached = made(1.0, "none"), made(1.0, "dual")
    gap = np.abs(np.asarray(plain.logprob - cached.logprob))
    assert gap.max() > 1e-4
    assert (cached.usage.target_tokens < plain.usage.target_tokens).all()


def louder(model: Transformer, scale: float) -> Transformer:
    """The same model with larger weights, so that its layers have something to say."""
    graph, params = nnx.split(model)
    params = jax.tree.map(lambda x: x * scale if x.ndim > 1 and x.shape[-1] > 1 else x, params)
    return nnx.merge(graph, params)


def test_the_published_defaults() -> None:
    un = fast_dllm(Denoiser(MODEL, 23), Stop.of(), 64)
    assert (un.block, un.cache) == (32, "dual") and getattr(un.chooser, "gamma", None) == 0.9
    factor = fast_dllm(Denoiser(MODEL, 23), Stop.of(), 64, factor=1.3)
    assert type(factor.chooser).__name__ == "Factor"
    assert replace(un, cache="none").looker.reach == 64
