"""The training loop: gradient, update, log, save; killed at any step, it continues.

The batch of a step is a function of the step, so the position in the data is the step itself
and a resumed run sees what an uninterrupted one would have seen; a stream's position is saved
(`jaxdecode.train.data`). What is saved is what is trained, the optimiser's state and the step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
import optax
from flax import nnx

from jaxdecode.sharding import beside
from jaxdecode.train.accumulate import Accumulate
from jaxdecode.train.checkpoints import Checkpoints, Store
from jaxdecode.train.identity import identity
from jaxdecode.train.lora import merged
from jaxdecode.train.precision import check
from jaxdecode.train.update import GUARDED, Loss, Rollout, updater
from jaxdecode.types import Array

__all__ = ["Batches", "Checkpoints", "Visitor", "Watcher", "fit"]

Model = TypeVar("Model", bound=nnx.Module)
Batches = Callable[[int], Mapping[str, Any]]
Watcher = Callable[[int, Mapping[str, float]], None]
Visitor = Callable[[int, Any], Mapping[str, float] | None]


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
    accumulate: Accumulate | None = None,
    compute: Any = None,
) -> Model:
    """Train for `steps` steps in all and return the trained model.

    Args:
      model: a module, of which the `nnx.Param`s are trained; it is not changed. It trains where
        it lies: see `jaxdecode.sharding`. `jaxdecode.train.lora` trains adapters instead.
      loss: (model, **batch) -> (scalar, metrics); see `jaxdecode.train.losses`.
      batches: step -> the loss's other arguments, as arrays of a few fixed shapes.
      optimizer: any optax transformation, such as `jaxdecode.train.optimizer` makes; schedules
        count updates from 0.
      checkpoints: save there and resume from there; a finished run is returned as it is. The
        first batches are read once more, to know the run by.
      watch: called with (step, means since the last call); also kept as metrics.jsonl beside
        the checkpoints. `jaxdecode.train.metrics` has some. A run that resumes between two calls
        has at the first the means since it resumed.
      rollout: (model, **batch) -> (the loss's arguments, metrics), for data that the weights of
        the step themselves make; it is not differentiated, and may decode.
      updates: gradient steps on the data of one step.
      visit: called after `watch` with (step, the model as it is then), for whoever evaluates it;
        what it returns is told and kept as metrics are.
      accumulate: take the gradient of a batch in parts.
      compute: type to compute in, e.g. "bfloat16", with float32 weights to train.
    Raises:
      FloatingPointError: a loss, a gradient or an update is not finite; what is saved is finite.
      OSError: a checkpoint could not be written; the ones before it are whole.
      ValueError: the folder's run is longer than `steps`, or another one.
    """
    counts = (("steps", steps), ("watch_every", watch_every), ("updates", updates))
    for name, value in counts:
        if value < 1:
            raise ValueError(f"{name}={value}: at least one step is needed")
    graph, params, frozen = nnx.split(model, nnx.Param, ...)
    check(params, compute)
    update = updater(graph, loss, optimizer, rollout, updates, accumulate or Accumulate(), compute)
    state = {"params": params, "optimizer": beside(optimizer.init(params), params)}
    parts = {"loss": loss, "rollout": rollout, "optimizer": optimizer, "weights": model}
    parts |= {"updates": updates, "accumulate": accumulate or Accumulate(), "compute": compute}
    with Store(checkpoints) as store:
        store.claim(lambda: identity(parts, batches, steps))
        first, state = store.restore(state, steps, batches)
        # Restored arrays are bound to their devices; new ones too, or a run that goes on compiles
        # its step again.
        state = jax.tree.map(lambda x: jax.device_put(x, x.sharding), state)
        seen, started = [], time.perf_counter()
        for step in range(first, steps):
            state["params"], state["optimizer"], metrics = update(
                state["params"], frozen, state["optimizer"], dict(batches(step))
            )
            seen.append(metrics)
            done = step + 1
            last = done == steps
            telling, saving = last or done % watch_every == 0, store.due(done, last)
            # The means refuse what is not finite, so that it is never saved.
            means = _means(seen, done, store) if telling or saving else {}
            if telling:
                means["seconds_per_step"] = (time.perf_counter() - started) / len(seen)
                _tell(done, means, store, watch)
                if visit is not None:
                    now = merged(nnx.merge(graph, state["params"], frozen))
                    _tell(done, visit(done, now) or {}, store, watch)
                seen, started = [], time.perf_counter()
            if saving:
                store.save(done, state, batches)
    return nnx.merge(graph, state["params"], frozen)


def _tell(done: int, means: Mapping[str, float], store: Store, watch: Watcher | None) -> None:
    if means:
        store.log(done, means)
        if watch is not None:
            watch(done, means)


def _means(seen: list[dict[str, Array]], done: int, store: Store) -> dict[str, float]:
    """Average metrics on the host; waits for the device only here.

    Raises:
      FloatingPointError: naming the first step that is not sound.
    """
    seen = jax.device_get(seen)
    found = {name: np.asarray([metrics[name] for metrics in seen]) for name in seen[0]}
    for index, values in enumerate(zip(*(found[name] for name in GUARDED), strict=True)):
        for name, value in zip(GUARDED, values, strict=True):
            if not math.isfinite(value):
                step = done - len(seen) + index + 1
                raise FloatingPointError(
                    f"{name} became {value} at step {step}; {store.settle()}; "
                    "lower the learning rate or clip the gradient, and resume"
                )
    return {name: float(values.mean()) for name, values in found.items()}
