"""One step of `fit` as one compiled program: roll out, differentiate, update.

Runs whose loss, rollout, optimiser (the same object) and structure of the model are equal share
one compiled program: what differs between them, a coefficient or a reward, belongs in the batches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxdecode.train.accumulate import Accumulate
from jaxdecode.train.lora import merged
from jaxdecode.train.precision import cast
from jaxdecode.types import Array

Loss = Callable[..., tuple[Array, Mapping[str, Array]]]
Rollout = Callable[..., tuple[Mapping[str, Any], Mapping[str, Array]]]
GUARDED = ("loss", "gradient_norm", "update_norm")
"""Metrics that must be finite for the weights of a step to be sound."""


@functools.lru_cache(maxsize=8)
def updater(
    graph: Any,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    rollout: Rollout | None,
    updates: int,
    accumulate: Accumulate,
    compute: Any,
) -> Callable[..., tuple[Any, Any, dict[str, Array]]]:
    """(params, frozen, optimiser's state, batch) -> params, state, metrics.

    Flat state crosses the border: a module would cost milliseconds a call.
    """

    def model(params: Any, frozen: Any) -> Any:
        """What loss and rollout see: plain, in the type to compute in."""
        return cast(merged(nnx.merge(graph, params, frozen)), compute)

    @jax.jit
    def update(params, frozen, state, batch):
        made: Mapping[str, Array] = {}
        if rollout is not None:
            batch, made = rollout(model(params, frozen), **batch)

        def objective(params, batch):
            value, metrics = loss(model(params, frozen), **batch)
            return value, {"loss": value, **metrics}

        def once(carry, _=None):
            params, state = carry
            gradient, metrics = accumulate.gradient(objective, params, batch)
            change, state = optimizer.update(gradient, state, params)
            metrics |= {
                "gradient_norm": optax.tree.norm(gradient),
                "update_norm": optax.tree.norm(change),
            }
            return (optax.apply_updates(params, change), state), metrics

        if updates == 1:
            (params, state), metrics = once((params, state))
        else:
            (params, state), several = jax.lax.scan(once, (params, state), length=updates)
            metrics = jax.tree.map(jnp.mean, several)
        return params, state, {**metrics, **made}

    return update
