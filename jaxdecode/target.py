"""What a program is compiled for: asked of its arguments, never of the machine one compiles on.

A program for a pod may be compiled on a laptop, and a process with eight devices may run one on
one of them. Arrays that lie on a mesh name its devices while a function is traced, so that a
choice of layout, of kernel or of chunk can look at the arrays it is made for. Arrays on no mesh
are taken to lie on the one device that jax would put them on.

`aimed` overrides it: for tests of another platform's forms, and for a program for one device
that is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
from jax.core import Tracer
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

ROWS, PARTS = "data", "model"
"""Mesh axes: of the rows of a batch, and of the parts of a model."""

Kernels = Literal["compiled", "interpreted", "none"]


@dataclass(frozen=True)
class Target:
    """Where a program runs.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      mesh: the devices that its arrays are spread over; None for one device.
      kernels: whether what this package has in Pallas is used where it is the better form:
        "compiled", "interpreted" (on any platform, slowly), or "none".
    """

    platform: str
    mesh: Mesh | AbstractMesh | None = None
    kernels: Kernels = "compiled"

    @property
    def devices(self) -> int:
        """Of the mesh; one without a mesh."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def interpreted(self) -> bool:
        """Whether kernels run as plain JAX, which a CPU can check them by."""
        return self.kernels == "interpreted"

    @property
    def has_kernels(self) -> bool:
        """Whether the kernels for TPUs run here."""
        return self.platform == "tpu" and self.kernels != "none"

    def size(self, axis: str) -> int:
        """Devices along a mesh axis; 1 where there is none."""
        return 1 if self.mesh is None else self.mesh.shape.get(axis, 1)

    def axis(self, name: str, size: int) -> str | None:
        """`name` if a dimension of `size` is split over it, and None if it is whole."""
        return name if self.size(name) > 1 and size % self.size(name) == 0 else None

    def per_device(self, f: Callable, specs: Any, out: Any) -> Callable:
        """`f` on the part that each device holds, as it is on one device: for kernels, which no
        partitioner can look into."""
        if self.devices == 1:
            return f
        return jax.shard_map(f, mesh=self.mesh, in_specs=specs, out_specs=out, check_vma=False)

    def lay(self, array: jax.Array, *axes: str | tuple[str, ...] | None) -> jax.Array:
        """The array with its dimensions split over these mesh axes."""
        if self.devices == 1:
            return array
        assert self.mesh is not None
        return jax.lax.with_sharding_constraint(
            array, NamedSharding(self.mesh, PartitionSpec(*axes))
        )


def by_rows(tree: Any) -> Any:
    """A tree whose leaves lead with B, each row with the devices that hold its cache."""
    target = target_of(tree)
    if target.size(PARTS) == 1:
        return tree
    return jax.tree.map(lambda x: target.lay(x, target.axis(ROWS, x.shape[0])), tree)


_aim = jax.make_user_context(default_value=None)


def aimed(target: Target) -> AbstractContextManager[None]:
    """Within it `target_of` answers with this target; where it names no mesh, with that of the
    arguments. A jitted function that is called within it is traced anew for it."""
    return _aim(target)


def target_of(*trees: Any) -> Target:
    """The target of a program whose arguments these are, or were made of."""
    found = next((t for leaf in jax.tree.leaves(trees) if (t := _of(leaf)) is not None), None)
    aim = _aim.value
    if aim is not None:
        return aim if aim.mesh is not None or found is None else replace(aim, mesh=found.mesh)
    return Target(_default()) if found is None else found


def _of(leaf: Any) -> Target | None:
    """What a leaf says: that it lies on a mesh, or, if it is no tracer, on which device."""
    if not isinstance(leaf, jax.Array):
        return None
    mesh = jax.typeof(leaf).sharding.mesh
    if not mesh.empty:
        device = mesh.abstract_device
        platform = _default() if device is None else device.platform
        manual = AxisType.Manual in mesh.axis_types  # already one device's part
        return Target(platform, None if manual else mesh)
    if isinstance(leaf, Tracer):
        return None
    return Target(next(iter(leaf.devices())).platform)


def _default() -> str:
    """The platform of arrays that nobody has placed."""
    device = jax.config.values["jax_default_device"]
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform
