"""Weights that training has split over `data` too, gathered where whole texts are read.

Where `jaxdecode.sharding.FSDP` placed a model, a device has a part of every weight, and its rows
need the others too. They are gathered layer by layer, and once more for the gradient, to what
decoding has: split over `model` alone. On one device, and where rows are not split, nothing is
done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jaxdecode.sharding import RULES
from jaxdecode.target import ROWS, target_of
from models.config import TransformerConfig
from models.layers import Weights
from models.parameters import logical_axes

Model = TypeVar("Model", bound=nnx.Module)
GATHERED = "gathered"
TABLES = ("embedding", "position", "project_in", "project_out", "norm", "norm_bias", "head")
"""Weights outside the layers."""


def gathered(config: TransformerConfig, weights: Weights, prefix: str = "") -> Weights:
    """Weights by name, whole but for their parts of `model`; `prefix` leads to their paths."""
    target = target_of(weights)
    if target.size(ROWS) == 1:
        return weights
    axes, parts = logical_axes(config), {"heads": config.heads, "kv_heads": config.kv_heads}

    def placed(axis: str | None, size: int) -> str | None:
        rule = RULES.get(axis or "")
        return None if rule is None else target.axis(rule, parts.get(axis or "", size))

    def whole(name: str, array: Any) -> Any:
        own = axes[prefix + name][-array.ndim :]  # of one layer, or of a stack
        spec = map(placed, own, array.shape)
        return checkpoint_name(target.lay(array, *spec), GATHERED)

    return {name: whole(name, array) for name, array in weights.items()}


def with_tables(model: Model, config: TransformerConfig) -> Model:
    """The model with its weights outside the layers gathered."""
    tables = {name: p for name in TABLES if (p := getattr(model, name)) is not None}
    weights = {name: param[...] for name, param in tables.items()}
    if target_of(weights).size(ROWS) == 1:
        return model
    model = nnx.merge(*nnx.split(model))
    for name, array in gathered(config, weights).items():
        setattr(model, name, nnx.Param(array))
    return model


def forgetting(layer: Callable[..., Any]) -> Callable[..., Any]:
    """A layer whose gradient does not keep what was gathered, but gathers it again."""
    kept = jax.checkpoint_policies.save_anything_except_these_names(GATHERED)
    return jax.checkpoint(layer, policy=kept)
