"""The training loop: gradient, update, log, save; killed at any step, it continues.

The batch of a step is a function of the step, so the position in the data is the step itself
and a resumed run sees what an uninterrupted one would have seen. What is saved is the model,
the optimiser's state and the step.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from flax import nnx

from jaxdecode.types import Array

Model = TypeVar("Model", bound=nnx.Module)
Loss = Callable[..., tuple[Array, Mapping[str, Array]]]
Batches = Callable[[int], Mapping[str, Any]]
Watcher = Callable[[int, Mapping[str, float]], None]


class Checkpoints(NamedTuple):
    """Where and how often to save.

    Attributes:
      folder: one run's own folder; a run resumes from the newest step found there.
      every: steps between saves; the last step is always saved.
    """

    folder: Path
    every: int = 500


def fit(
    model: Model,
    loss: Loss,
    batches: Batches,
    optimizer: optax.GradientTransformation,
    steps: int,
    checkpoints: Checkpoints | None = None,
    watch: Watcher | None = None,
    watch_every: int = 50,
) -> Model:
    """Train for `steps` steps in all and return the trained model.

    Args:
      model: a module whose parameters are `nnx.Param`s; it is not changed.
      loss: (model, **batch) -> (scalar, metrics); see `jaxdecode.train.losses`.
      batches: step -> the loss's other arguments, as arrays of a few fixed shapes.
      optimizer: any optax transformation; schedules count steps from 0.
      checkpoints: save there and resume from there; a finished run is returned as it is.
      watch: called with (step, means since the last call); also kept as metrics.jsonl beside
        the checkpoints.
    Raises:
      FloatingPointError: the loss is not finite; the last checkpoint is intact.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: at least one step is needed")
    graph, params = nnx.split(model)
    update = _updater(graph, loss, optimizer)
    state = {"params": params, "optimizer": optimizer.init(params)}
    with _Store(checkpoints) as store:
        first, state = store.restore(state)
        seen, started = [], time.perf_counter()
        for step in range(first, steps):
            state["params"], state["optimizer"], metrics = update(
                state["params"], state["optimizer"], dict(batches(step))
            )
            seen.append(metrics)
            done = step + 1
            if done % watch_every == 0 or done == steps:
                means = _means(seen, step)
                seconds = time.perf_counter() - started
                means["seconds_per_step"] = seconds / len(seen)
                store.log(done, means)
                if watch is not None:
                    watch(done, means)
                seen, started = [], time.perf_counter()
            store.save(done, state, last=done == steps)
    return nnx.merge(graph, state["params"])


def _updater(graph, loss: Loss, optimizer: optax.GradientTransformation):
    """One jitted step over flat state: a module at the border would cost milliseconds."""

    @jax.jit
    def update(params, state, batch):
        def objective(params):
            value, metrics = loss(nnx.merge(graph, params), **batch)
            return value, {"loss": value, **metrics}

        gradient, metrics = jax.grad(objective, has_aux=True)(params)
        metrics = dict(metrics) | {"gradient_norm": optax.global_norm(gradient)}
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, metrics

    return update


def _means(seen: list[dict[str, Array]], step: int) -> dict[str, float]:
    """Average metrics on the host; waits for the device only here."""
    means = {
        name: float(jnp.mean(jnp.stack([metrics[name] for metrics in seen]))) for name in seen[0]
    }
    if not math.isfinite(means["loss"]):
        raise FloatingPointError(
            f"the loss became {means['loss']} within the {len(seen)} steps up to {step}; "
            "lower the learning rate or clip the gradient and resume from the last checkpoint"
        )
    return means


class _Store:
    """Checkpoints and the metrics file of a run, or nothing at all."""

    def __init__(self, where: Checkpoints | None):
        self.where = where
        self.manager = None
        if where is not None:
            options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
            self.manager = ocp.CheckpointManager(where.folder.absolute(), options=options)

    def __enter__(self) -> _Store:
        return self

    def __exit__(self, *_) -> None:
        if self.manager is not None:
            self.manager.wait_until_finished()
            self.manager.close()

    def restore(self, state: dict) -> tuple[int, dict]:
        """The newest saved step and its state, or step 0 and the state given."""
        newest = None if self.manager is None else self.manager.latest_step()
        if self.manager is None or newest is None:
            return 0, state
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        saved = self.manager.restore(newest, args=ocp.args.StandardRestore(abstract))
        return newest, dict(saved)

    def save(self, step: int, state: dict, last: bool) -> None:
        if self.manager is None or self.where is None:
            return
        if last or step % self.where.every == 0:
            self.manager.save(step, args=ocp.args.StandardSave(state), force=True)

    def log(self, step: int, means: Mapping[str, float]) -> None:
        if self.where is not None:
            with (self.where.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"step": step, **means}) + "\n")
