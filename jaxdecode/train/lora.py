"""LoRA: train a low-rank change of some projections and nothing else (Hu et al. 2021, arXiv
2106.09685).

    W' = W + (alpha / r) A B,    A [in, r] Gaussian, B [r, out] zero at first,

so that training begins at the base, exactly. `LoRA.adapt(model)` takes the model's place in
`fit`, for any loss and any learner; fit trains, counts and saves A and B alone, and hands the loss
and the rollout the plain model W', made once a step. The base stays as it was, and is the
reference of a KL penalty at no further memory.

Making W' keeps every model, cache and decoder as it is, and a rollout at the speed of the plain
model. Its price beside the form x W + (x A) B: a step holds W' and its gradient of the adapted
projections for a moment, and computes that gradient; what is saved is the optimiser's state, the
accumulated gradient and the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from jaxdecode.types import Array

Tree = TypeVar("Tree")


class Frozen(nnx.Variable[Array]):
    """A weight that `fit` leaves as it is."""


@dataclass(frozen=True)
class LoRA:
    """Which projections are adapted, and how much.

    Attributes:
      rank: r.
      alpha: A B counts alpha / rank, so that the step size need not follow the rank.
      projections: by the last part of their weights' paths: q, k, v, o, gate, up, down.
      seed: of A.
    """

    rank: int = 8
    alpha: float = 16.0
    projections: tuple[str, ...] = ("q", "v")
    seed: int = 0

    def adapt(self, base: Any) -> Adapted:
        """The model with adapters; its arrays are shared, not copied.

        Raises:
          ValueError: a projection is not there, or no larger than the rank.
        """
        return Adapted(base, self)


class Adapted(nnx.Module):
    """A frozen model and its adapters; lies where the model lies."""

    def __init__(self, base: Any, lora: LoRA) -> None:
        found, structure = jax.tree_util.tree_flatten_with_path(base)
        self.structure: Any = structure
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in found]
        self.names: tuple[str, ...] = tuple(name.removesuffix(".value") for name in names)
        self.scale: float = lora.alpha / lora.rank if lora.rank > 0 else 0.0
        self.base: Any = nnx.List([Frozen(weight) for _, weight in found])
        last = {name: name.rpartition(".")[2] for name in self.names}
        matrices = {last[n] for n, (_, w) in zip(self.names, found, strict=True) if w.ndim >= 2}
        for projection in lora.projections:
            if projection not in matrices:
                raise ValueError(
                    f"projections={lora.projections}: the model has no {projection!r}; it has "
                    f"{', '.join(sorted(matrices))}"
                )
        self.down: Any = nnx.Dict()
        self.up: Any = nnx.Dict()
        for index, (name, (_, weight)) in enumerate(zip(self.names, found, strict=True)):
            if last[name] not in lora.projections:
                continue
            *lead, wide, out = weight.shape
            if not 1 <= lora.rank <= min(wide, out):
                raise ValueError(
                    f"rank={lora.rank}: {name} is {wide} x {out}; use 1..{min(wide, out)}"
                )
            key = jax.random.fold_in(jax.random.key(lora.seed), index)
            down = jax.random.normal(key, (*lead, wide, lora.rank)) * wide**-0.5
            up = jnp.zeros((*lead, lora.rank, out))
            self.down[name] = nnx.Param(_along(down, weight, -1))
            self.up[name] = nnx.Param(_along(up, weight, -2))

    def merge(self) -> Any:
        """The plain model W', for decoding and for export."""
        weights = []
        for name, frozen in zip(self.names, self.base, strict=True):
            weight = frozen[...]
            if name in self.down:
                change = self.scale * (self.down[name][...] @ self.up[name][...])
                # Summed in the wider type, so that a narrow base rounds once.
                weight = (weight.astype(change.dtype) + change).astype(weight.dtype)
            weights.append(weight)
        return jax.tree.unflatten(self.structure, weights)


def merged(tree: Tree) -> Tree:
    """A tree with every adapted model in it made plain; one without is returned as it is."""

    def adapted(node: Any) -> bool:
        return isinstance(node, Adapted)

    return jax.tree.map(lambda n: n.merge() if adapted(n) else n, tree, is_leaf=adapted)


def _along(adapter: Array, weight: Array, narrow: int) -> Array:
    """An adapter split over devices as its weight is, whole along the axis of the rank."""
    where = getattr(weight, "sharding", None)
    if not isinstance(where, NamedSharding):
        return adapter
    spec = [*where.spec, *(None,) * (weight.ndim - len(where.spec))]
    spec[narrow] = None
    return jax.device_put(adapter, NamedSharding(where.mesh, PartitionSpec(*spec)))
