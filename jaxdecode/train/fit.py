"""The training loop: gradient, update, log, save; killed at any step, it continues.

The batch of a step is a function of the step, so the position in the data is the step itself
and a resumed run sees what an uninterrupted one would have seen. What is saved is the model,
the optimiser's state and the step.

Runs whose loss, rollout, optimiser (the same object) and structure of the model are equal share
one compiled program: what differs between them, a coefficient or a reward, belongs in the batches.
"""

from __future__ import annotations

import functools
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

from jaxdecode.distributed import primary
from jaxdecode.sharding import beside
from jaxdecode.types import Array

Model = TypeVar("Model", bound=nnx.Module)
Loss = Callable[..., tuple[Array, Mapping[str, Array]]]
Batches = Callable[[int], Mapping[str, Any]]
Rollout = Callable[..., tuple[Mapping[str, Any], Mapping[str, Array]]]
Watcher = Callable[[int, Mapping[str, float]], None]
Visitor = Callable[[int, Any], None]
METRICS = "metrics.jsonl"


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
    rollout: Rollout | None = None,
    updates: int = 1,
    visit: Visitor | None = None,
) -> Model:
    """Train for `steps` steps in all and return the trained model.

    Args:
      model: a module whose parameters are `nnx.Param`s; it is not changed. It trains where it
        lies: see `jaxdecode.sharding`.
      loss: (model, **batch) -> (scalar, metrics); see `jaxdecode.train.losses`.
      batches: step -> the loss's other arguments, as arrays of a few fixed shapes.
      optimizer: any optax transformation; schedules count steps from 0.
      checkpoints: save there and resume from there; a finished run is returned as it is.
      watch: called with (step, means since the last call); also kept as metrics.jsonl beside
        the checkpoints.
      rollout: (model, **batch) -> (the loss's arguments, metrics), for data that the weights of
        the step themselves make; it is not differentiated, and may decode.
      updates: gradient steps on the data of one step.
      visit: called after `watch` with (step, the model as it is then), for whoever evaluates it.
    Raises:
      FloatingPointError: a loss or a gradient is not finite; what is saved is finite.
      ValueError: the folder's run is longer than `steps`.
    """
    counts = (("steps", steps), ("watch_every", watch_every), ("updates", updates))
    for name, value in counts:
        if value < 1:
            raise ValueError(f"{name}={value}: at least one step is needed")
    graph, params = nnx.split(model)
    update = _updater(graph, loss, optimizer, rollout, updates)
    state = {"params": params, "optimizer": beside(optimizer.init(params), params)}
    with _Store(checkpoints) as store:
        first, state = store.restore(state, steps)
        seen, started = [], time.perf_counter()
        for step in range(first, steps):
            state["params"], state["optimizer"], metrics = update(
                state["params"], state["optimizer"], dict(batches(step))
            )
            seen.append(metrics)
            done = step + 1
            last = done == steps
            telling, saving = last or done % watch_every == 0, store.due(done, last)
            # The means refuse what is not finite, so that it is never saved.
            means = _means(seen, done) if telling or saving else {}
            if telling:
                means["seconds_per_step"] = (time.perf_counter() - started) / len(seen)
                store.log(done, means)
                if watch is not None:
                    watch(done, means)
                if visit is not None:
                    visit(done, nnx.merge(graph, state["params"]))
                seen, started = [], time.perf_counter()
            if saving:
                store.save(done, state)
    return nnx.merge(graph, state["params"])


@functools.lru_cache(maxsize=8)
def _updater(
    graph,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    rollout: Rollout | None,
    updates: int,
):
    """One jitted step over flat state: a module at the border would cost milliseconds."""

    @jax.jit
    def update(params, state, batch):
        made: Mapping[str, Array] = {}
        if rollout is not None:
            batch, made = rollout(nnx.merge(graph, params), **batch)

        def objective(params):
            value, metrics = loss(nnx.merge(graph, params), **batch)
            return value, {"loss": value, **metrics}

        def once(carry, _=None):
            params, state = carry
            gradient, metrics = jax.grad(objective, has_aux=True)(params)
            metrics = dict(metrics) | {"gradient_norm": optax.tree.norm(gradient)}
            change, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, change), state), metrics

        if updates == 1:
            (params, state), metrics = once((params, state))
        else:
            (params, state), several = jax.lax.scan(once, (params, state), length=updates)
            metrics = jax.tree.map(jnp.mean, several)
        return params, state, {**metrics, **made}

    return update


def _means(seen: list[dict[str, Array]], done: int) -> dict[str, float]:
    """Average metrics on the host; waits for the device only here."""
    means = {
        name: float(jnp.mean(jnp.stack([metrics[name] for metrics in seen]))) for name in seen[0]
    }
    for name in ("loss", "gradient_norm"):
        if not math.isfinite(means[name]):
            raise FloatingPointError(
                f"{name} became {means[name]} within the {len(seen)} steps up to step {done}; "
                "lower the learning rate or clip the gradient and resume from the last checkpoint"
            )
    return means


class _Store:
    """Checkpoints and the metrics file of a run, or nothing at all."""

    def __init__(self, where: Checkpoints | None):
        self.where = where
        self.metrics = where.folder / METRICS if where is not None and primary() else None
        self.manager = None
        if where is not None:
            if where.every < 1:
                raise ValueError(f"every={where.every}: at least one step lies between saves")
            options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
            self.manager = ocp.CheckpointManager(where.folder.absolute(), options=options)

    def __enter__(self) -> _Store:
        return self

    def __exit__(self, *_) -> None:
        if self.manager is not None:
            self.manager.wait_until_finished()
            self.manager.close()

    def restore(self, state: dict, steps: int) -> tuple[int, dict]:
        """The newest saved step and its state, or step 0 and the state given."""
        if self.manager is None or self.where is None:
            return 0, state
        newest = self.manager.latest_step() or 0
        if newest > steps:
            raise ValueError(
                f"checkpoints.folder={self.where.folder} holds step {newest} of a longer run, "
                f"steps={steps} was asked for; ask for {newest} or name another folder"
            )
        self._forget(newest)
        if newest == 0:
            return 0, state
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        saved = self.manager.restore(newest, args=ocp.args.StandardRestore(abstract))
        return newest, dict(saved)

    def due(self, step: int, last: bool) -> bool:
        return self.where is not None and (last or step % self.where.every == 0)

    def save(self, step: int, state: dict) -> None:
        if self.manager is not None:
            self.manager.save(step, args=ocp.args.StandardSave(state), force=True)

    def log(self, step: int, means: Mapping[str, float]) -> None:
        if self.metrics is not None:
            with self.metrics.open("a") as file:
                file.write(json.dumps({"step": step, **means}) + "\n")

    def _forget(self, newest: int) -> None:
        """Drop the metrics of steps that are about to be run again, and a line cut short."""
        if self.metrics is None or not self.metrics.is_file():
            return
        lines = self.metrics.read_text().splitlines(keepends=True)
        kept = [
            line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= newest
        ]
        draft = self.metrics.with_name(f"{METRICS}.tmp")
        draft.write_text("".join(kept))
        draft.replace(self.metrics)
