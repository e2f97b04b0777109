"""A tiny problem to train on, in this process or, as a script, in one that is killed.

Usage: python -m tests.jaxdecode.train.problem FOLDER STEP [full]

The process does not survive that step; with `full`, nothing longer than a few bytes can be
written from then on, as on a disk without room.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.types import Array

STEPS, EVERY = 60, 5


class Line(nnx.Module):
    """y = x @ weight + bias."""

    def __init__(self, rngs: nnx.Rngs):
        self.weight = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), (4, 2)))
        self.bias = nnx.Param(jnp.zeros((2,)))


def loss(model: Line, x: Array, y: Array) -> tuple[Array, Mapping[str, Array]]:
    error = x @ model.weight[...] + model.bias[...] - y
    return jnp.mean(error**2), {"largest": jnp.max(jnp.abs(error))}


def batches(step: int) -> dict[str, np.ndarray]:
    """A linear law with noise, other data at every step."""
    rng = np.random.default_rng([3, step])
    x = rng.normal(size=(8, 4)).astype(np.float32)
    y = x @ np.arange(8, dtype=np.float32).reshape(4, 2) / 8 + 1
    return {"x": x, "y": (y + 0.1 * rng.normal(size=y.shape)).astype(np.float32)}


def optimizer() -> optax.GradientTransformation:
    """One with a state and a schedule, which a resumed run must find again."""
    return optax.adam(optax.cosine_decay_schedule(0.1, STEPS))


def train(
    folder: Path | None,
    source: Callable[[int], Mapping[str, np.ndarray]] = batches,
    steps: int = STEPS,
    every: int = EVERY,
    watch: Callable[[int, Mapping[str, float]], None] | None = None,
    model: Line | None = None,
) -> Line:
    checkpoints = None if folder is None else Checkpoints(folder, every)
    model = Line(nnx.Rngs(0)) if model is None else model
    return fit(model, loss, source, optimizer(), steps, checkpoints, watch, watch_every=EVERY)


def weights(model: Line) -> list[bytes]:
    """The bits of every weight."""
    return [np.asarray(model.weight[...]).tobytes(), np.asarray(model.bias[...]).tobytes()]


if __name__ == "__main__":

    def deadly(step: int) -> dict[str, np.ndarray]:
        if step == int(sys.argv[2]):
            if sys.argv[3:] != ["full"]:
                os.kill(os.getpid(), signal.SIGKILL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8, resource.RLIM_INFINITY))
        return batches(step)

    train(Path(sys.argv[1]), deadly)
