"""Gradient accumulation: a large batch in parts, one after another, for the memory of one part.

A loss is a mean, and over ragged texts the parts have different numbers of tokens. With w_i the
number of things that part i's loss is the mean of,

    gradient = sum_i w_i gradient_i / sum_i w_i

is that of the whole batch; the plain mean of the parts' gradients is another one. A loss tells w
as the metric `weight`; one that tells none is a mean over rows, of which all parts have as many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdecode.types import Array

WEIGHT = "weight"
Metrics = Mapping[str, Array]


@dataclass(frozen=True)
class Accumulate:
    """How the batch of a step is cut: rows i, i + parts, i + 2 parts, ... are part i.

    So cut, rows that are spread over devices stay where they are. Scalars, keys and modules are
    the same for every part.

    Attributes:
      parts: how many; they must divide the rows of what the loss is given.
      whole: the names of other arguments of the loss that have no rows.
    """

    parts: int = 1
    whole: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.parts < 1:
            raise ValueError(f"parts={self.parts}: a batch has at least one part")

    def gradient(
        self, objective: Callable[..., Any], params: Any, batch: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Array]]:
        """Gradient and metrics of `objective(params, batch) -> (loss, metrics)`."""
        grad = jax.grad(objective, has_aux=True)
        if self.parts == 1:
            gradient, metrics = grad(params, batch)
            return gradient, dict(metrics)
        pieces, rebuild = self._cut(batch)

        def part(total: Any, piece: list[Array]) -> tuple[Any, tuple[Metrics, Array]]:
            gradient, metrics = grad(params, rebuild(piece))
            weight = jnp.asarray(metrics.get(WEIGHT, 1.0), jnp.float32)
            total = jax.tree.map(lambda t, g: t + weight * g.astype(t.dtype), total, gradient)
            return total, (metrics, weight)

        zero = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        total, (metrics, weights) = jax.lax.scan(part, zero, pieces)
        share = weights / jnp.where(weights.sum() > 0, weights.sum(), 1.0)
        scale = 1 / jnp.where(weights.sum() > 0, weights.sum(), 1.0)
        means = {name: jnp.sum(share * value) for name, value in metrics.items()}
        if WEIGHT in means:
            means[WEIGHT] = weights.sum()
        return jax.tree.map(lambda t, p: (t * scale).astype(p.dtype), total, params), means

    def _cut(self, batch: Mapping[str, Any]) -> tuple[list[Array], Callable[..., Any]]:
        """What has rows, in parts, and how to make a batch of one part's rows."""
        arguments = {name: jax.tree.flatten(value) for name, value in batch.items()}
        pieces, places = [], []
        for name, (leaves, _) in arguments.items():
            if name in self.whole or isinstance(batch[name], nnx.Module):
                continue
            for index, leaf in enumerate(leaves):
                if jnp.ndim(leaf) == 0:
                    continue
                rows, rest = jnp.shape(leaf)[0], jnp.shape(leaf)[1:]
                if rows % self.parts:
                    raise ValueError(
                        f"parts={self.parts} do not divide the {rows} rows of {name}; change the "
                        f"batch, or name it in `whole` if it has no rows"
                    )
                apart = jnp.reshape(leaf, (rows // self.parts, self.parts, *rest))
                pieces.append(jnp.moveaxis(apart, 1, 0))
                places.append((name, index))

        def rebuild(piece: list[Array]) -> dict[str, Any]:
            found = {name: list(leaves) for name, (leaves, _) in arguments.items()}
            for (name, index), leaf in zip(places, piece, strict=True):
                found[name][index] = leaf
            return {n: jax.tree.unflatten(arguments[n][1], leaves) for n, leaves in found.items()}

        return pieces, rebuild
