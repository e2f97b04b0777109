"""Timing on a machine that other things run on: interleaved repeats, medians, and its limits."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from experiments.harness.environment import usable_cpus

K = TypeVar("K")


def interleaved(
    calls: Mapping[K, Callable[[], Any]],
    repeats: int,
    seconds: float = float("inf"),
    told: Callable[[K], None] = lambda name: None,
    warm: Iterable[K] | None = None,
) -> dict[K, list[float]]:
    """Wall times of every call, taken in rotation so that a slow spell hits them all.

    Each is called once before, unmeasured; of calls that share programs only those of `warm`
    need be. The rotation stops after `repeats`, or after the first round that ends past
    `seconds`. `told` is called with its name after every call.
    """
    for name in calls if warm is None else warm:
        jax.block_until_ready(calls[name]())
        told(name)
    taken: dict[K, list[float]] = {name: [] for name in calls}
    began = time.perf_counter()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            taken[name].append(time.perf_counter() - start)
            told(name)
        if time.perf_counter() - began > seconds:
            break
    return taken


def medians(taken: Mapping[K, list[float]]) -> dict[K, float]:
    """The median of every call's times."""
    return {name: statistics.median(times) for name, times in taken.items()}


def read_rate(nbytes: int, dtype: Any = jnp.float32) -> float:
    """Bytes a second at which `nbytes` of weights can be read: a matrix times a vector.

    Measured at the size in question, because what fits a cache is read faster than memory.
    """
    width = 1024
    rows = max(1, nbytes // jnp.dtype(dtype).itemsize // width)
    matrix, vector = jnp.ones((rows, width), dtype), jnp.ones((width,), dtype)
    return matrix.nbytes / _fastest(jax.jit(jnp.dot), matrix, vector)


def arithmetic_rate(dtype: Any = jnp.float32, size: int = 1024) -> float:
    """Floating-point operations a second of a large matrix product."""
    matrix = jnp.ones((size, size), dtype)
    return 2.0 * size**3 / _fastest(jax.jit(jnp.dot), matrix, matrix)


def _fastest(function: Callable[..., Any], *arguments: Any) -> float:
    """Seconds a call, over batches of calls long enough to time; the best of several."""
    jax.block_until_ready(function(*arguments))
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    calls = max(1, int(0.02 / max(time.perf_counter() - start, 1e-7)))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls):
            result = function(*arguments)
        jax.block_until_ready(result)
        best = min(best, (time.perf_counter() - start) / calls)
    return best


def load() -> float | None:
    """Processes that wanted a core in the last minute, for each core; None where untold."""
    if not hasattr(os, "getloadavg"):
        return None
    return os.getloadavg()[0] / usable_cpus()


def program_bytes(compiled: Any) -> int:
    """Bytes a compiled program needs at once: arguments, results and what lies between."""
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return held + memory.temp_size_in_bytes - memory.alias_size_in_bytes
