"""How long compiling takes, cold and from the persistent cache."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx
from jax.experimental.compilation_cache import compilation_cache

from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from models.presets import small
from models.transformer import Transformer

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@contextlib.contextmanager
def persistent_cache(folder: str) -> Iterator[None]:
    """Compiled programs go to `folder`, and nothing compiled before is remembered."""
    before = {option: jax.config.values[option] for option in OPTIONS}
    try:
        for option, value in zip(OPTIONS, (folder, 0.0, -1), strict=True):
            jax.config.update(option, value)
        compilation_cache.reset_cache()
        jax.clear_caches()
        yield
    finally:
        for option, value in before.items():
            jax.config.update(option, value)
        compilation_cache.reset_cache()


def measure(layers: int) -> dict[str, Any]:
    """Seconds to trace and to compile greedy decoding with `layers` scanned layers."""
    model = Transformer(small(256, hidden=64, layers=layers), rngs=nnx.Rngs(0))
    decoder = Autoregressive(Generator(model, Identity(), Greedy(), Stop.of(), 32))
    prompt, key = Prompt.of([[1] * 16]), jax.random.key(0)

    def once() -> tuple[float, float]:
        start = time.perf_counter()
        lowered = jax.jit(lambda d, k, p: d(k, p)).lower(decoder, key, prompt)
        traced = time.perf_counter()
        lowered.compile()
        return traced - start, time.perf_counter() - traced

    with tempfile.TemporaryDirectory() as folder, persistent_cache(folder):
        trace, cold = once()
        jax.clear_caches()
        _, warm = once()
    return {"layers": layers, "trace_s": trace, "compile_s": cold, "cached_s": warm}
