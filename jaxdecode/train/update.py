"""One step of `fit` as one compiled program: roll out, differentiate, update.

Runs whose loss, rollout, optimiser (the same object), structure and places of the model are equal
share one compiled program: what differs between them, a coefficient or a reward, belongs in the
batches. A step consumes the weights and the state that it replaces: what comes out lies in their
memory, and they cannot be read any more.

Weights that are split over `data` are fetched by a model layer by layer where it reads whole texts
(`models.gathering`); a rollout, which reads them for every token, is given them fetched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding

from jaxdecode.sharding import laid
from jaxdecode.target import ROWS
from jaxdecode.train.accumulate import Accumulate
from jaxdecode.train.lora import merged
from jaxdecode.train.precision import cast
from jaxdecode.types import Array

Loss = Callable[..., tuple[Array, Mapping[str, Array]]]
Rollout = Callable[..., tuple[Mapping[str, Any], Mapping[str, Array]]]
Places = tuple[NamedSharding | None, ...] | None
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
    places: Places = None,
) -> Callable[..., tuple[Any, Any, dict[str, Array]]]:
    """(params, frozen, optimiser's state, batch) -> params, state, metrics.

    Flat state crosses the border: a module would cost milliseconds a call.

    Args:
      places: of params, state and frozen; see `places_of`.
    """

    def model(params: Any, frozen: Any) -> Any:
        """What loss and rollout see: plain, in the type to compute in."""
        return cast(merged(nnx.merge(graph, params, frozen)), compute)

    @functools.partial(jax.jit, donate_argnums=(0, 2))
    def update(params, frozen, state, batch):
        made: Mapping[str, Array] = {}
        if rollout is not None:
            given = model(params, frozen)
            batch, made = rollout(laid(given) if divided(places) else given, **batch)

        def objective(params, batch):
            params = kept(params, places)  # and so is the gradient
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
            return kept((optax.apply_updates(params, change), state), places), metrics

        if updates == 1:
            (params, state), metrics = once((params, state))
        else:
            (params, state), several = jax.lax.scan(once, (params, state), length=updates)
            metrics = jax.tree.map(jnp.mean, several)
        return params, state, {**metrics, **made}

    return update


def places_of(params: Any, state: Any, frozen: Any = ()) -> Places:
    """Where on a mesh the leaves lie; None for those of one device, and where all are."""
    found = [getattr(leaf, "sharding", None) for leaf in jax.tree.leaves((params, state, frozen))]
    places = tuple(place if isinstance(place, NamedSharding) else None for place in found)
    return places if any(places) else None


def divided(places: Places) -> bool:
    """Whether something is split over the devices of different rows."""
    specs = [place.spec for place in places or () if place is not None]
    return any(ROWS in (axis if isinstance(axis, tuple) else (axis,)) for s in specs for axis in s)


def kept(tree: Any, places: Places) -> Any:
    """A tree, whose leaves are the first that `places` tells of, where it was."""
    if places is None:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    lain = [
        leaf if place is None else jax.lax.with_sharding_constraint(leaf, place)
        for leaf, place in zip(leaves, places, strict=False)
    ]
    return jax.tree.unflatten(structure, lain)
