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
from jaxdecode.train.update import GUARDED, Loss, Rollout, places_of, updater
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
    keep: bool = True,
) -> Model:
    """Train for `steps` steps in all and return the trained model.

    Args:
      model: a module, of which the `nnx.Param`s are trained; it is not changed. It trains where
        it lies: `shard(model, mesh, FSDP)` of `jaxdecode.sharding` splits it, its gradient and
        the optimiser's state over all devices. `jaxdecode.train.lora` trains adapters instead.
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
      visit: called after `watch` with (step, a copy of the model as it is then), for whoever
        evaluates it; what it returns is told and kept as metrics are.
      accumulate: take the gradient of a batch in parts.
      compute: type to compute in, e.g. "bfloat16", with float32 weights to train.
      keep: whether the given weights stay, beside those that are trained. Without, training
        consumes them, in the model and wherever else these arrays are, and has their memory.
    Raises:
      FloatingPointError: a loss, a gradient or an update is not finite; what is saved is finite.
      OSError: a checkpoint could not be written; the ones before it are whole.
      ValueError: the folder's run is longer than `steps`, or another one.
    """
    counts = (("steps", steps), ("watch_every", watch_every), ("updates", updates))
    for name, value in counts:
        if value < 1:
            raise ValueError(f"{name}={value}: at least one step is needed")
    accumulate = accumulate or Accumulate()
    graph, params, frozen = nnx.split(model, nnx.Param, ...)
    check(params, compute)
    params = beside(params, model)
    state = {"params": params, "optimizer": beside(optimizer.init(params), model)}
    given = model if keep else None
    parts = {"loss": loss, "rollout": rollout, "optimizer": optimizer, "weights": model}
    parts |= {"updates": updates, "accumulate": accumulate, "compute": compute}
    with Store(checkpoints) as store:
        store.claim(lambda: identity(parts, batches, steps))
        first, state = store.restore(state, steps, batches)
        state = _owned(state, given)
        places = places_of(state["params"], state["optimizer"], frozen)
        update = updater(graph, loss, optimizer, rollout, updates, accumulate, compute, places)
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
                    # The next step consumes the weights, and a visitor may keep its model.
                    now = nnx.merge(graph, _owned(state["params"], state["params"]), frozen)
                    _tell(done, visit(done, merged(now)) or {}, store, watch)
                seen, started = [], time.perf_counter()
            if saving:
                store.save(done, state, batches)
    return nnx.merge(graph, state["params"], frozen)


def _owned(tree: Any, others: Any) -> Any:
    """A tree whose arrays are nobody else's, so that a step may consume them.

    All are bound to their devices, as those of a checkpoint are, or a run that is taken up again
    would compile its step a second time.
    """
    seen = {id(leaf) for leaf in jax.tree.leaves(others)}

    def own(leaf: Array) -> Array:
        alone = id(leaf) not in seen
        seen.add(id(leaf))  # optimisers may begin with the weights themselves
        return jax.device_put(leaf, leaf.sharding, may_alias=None if alone else False)

    return jax.tree.map(own, tree)


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
