"""Where arrays live when there are many devices: a mesh and one table of rules.

Engines and models know nothing of meshes. Weights are placed by the names of their axes and
prompts by their rows; XLA's partitioner carries both through the compiled program. The cache
then has its rows on `data` and its heads on `model`; a layer costs the two all-reduces over
`model` of Shoeybi et al. 2019 (arXiv:1909.08053), and over `data` a step exchanges one bit,
whether any row still runs.

A weight's dimension is split where the mesh axis divides its parts, whole heads for one, and
is kept whole on every device where it does not: the projections of two key/value heads on a
`model` axis of four are held by all four.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdecode import struct
from jaxdecode.decoder import Decoder
from jaxdecode.distributed import together
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.types import Array, Int, Key

Tree = TypeVar("Tree")
Rules = Mapping[str, str]

RULES: Rules = MappingProxyType(
    {"rows": "data", "heads": "model", "kv_heads": "model", "mlp": "model", "vocab": "model"}
)
"""Logical axis -> mesh axis; an axis without a rule is whole on every device."""


@runtime_checkable
class Partitioned(Protocol):
    """A model that names the axes of its weights.

    Attributes:
      logical_axes: path of a weight, joined by "/" -> a name or None for each dimension.
      axis_parts: name -> how many parts a dimension has, where not its size: an axis of 8
        heads of width 64 has 8.
    """

    @property
    def logical_axes(self) -> Mapping[str, tuple[str | None, ...]]: ...

    @property
    def axis_parts(self) -> Mapping[str, int]: ...


def make_mesh(data: int, model: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """`data` groups of `model` devices; by default out of all devices of all processes."""
    devices = jax.devices() if devices is None else devices
    if data < 1 or model < 1:
        raise ValueError(f"data={data}, model={model}: both axes need at least one device")
    if data * model != len(devices):
        divisors = [m for m in (1, 2, 4, 8, 16) if len(devices) % m == 0]
        fits = ", ".join(f"{len(devices) // m} x {m}" for m in divisors)
        raise ValueError(
            f"data={data} x model={model} makes {data * model} devices and there are "
            f"{len(devices)}; use {fits}, or pass the devices to use"
        )
    kinds = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((data, model), ("data", "model"), kinds, devices=devices)


def named_shardings(
    model: Partitioned, mesh: Mesh | AbstractMesh, rules: Rules = RULES
) -> dict[str, NamedSharding]:
    """Path of a weight -> where its parts go. Shapes are enough: the model may be abstract."""
    shardings = {}
    for path, weight in _weights(model):
        axes = model.logical_axes.get(path, ())
        if len(axes) != len(weight.shape):
            raise ValueError(f"logical_axes[{path!r}]={axes} does not fit {weight.shape}")
        spec = []
        for name, size in zip(axes, weight.shape, strict=True):
            axis = rules.get(name or "")
            if axis is not None and axis not in mesh.shape:
                raise ValueError(f"rules[{name!r}]={axis!r} is no axis of {mesh.axis_names}")
            parts = model.axis_parts.get(name or "", size)
            spec.append(axis if axis is not None and parts % mesh.shape[axis] == 0 else None)
        shardings[path] = NamedSharding(mesh, PartitionSpec(*spec))
    return shardings


def shard(tree: Tree, mesh: Mesh, rules: Rules = RULES) -> Tree:
    """Put a tree, a model or a decoder, on a mesh: models in parts, other arrays whole.

    In a run of several processes all must hold the same tree.
    """

    def place(node: Any) -> Any:
        if isinstance(node, Partitioned):
            where = list(named_shardings(node, mesh, rules).values())
            weights, structure = jax.tree.flatten(node)
            return jax.tree.unflatten(structure, jax.device_put(weights, where))
        if isinstance(node, jax.Array | np.ndarray):
            return jax.device_put(node, NamedSharding(mesh, PartitionSpec()))
        return node  # a Python number

    return jax.tree.map(place, tree, is_leaf=lambda node: isinstance(node, Partitioned))


def beside(tree: Tree, other: Any) -> Tree:
    """Arrays that lie on fewer devices than those of `other`, whole on each of these."""
    where = jax.tree.leaves(other)[0].sharding
    if not isinstance(where, NamedSharding):
        return tree
    whole = NamedSharding(where.mesh, PartitionSpec())
    return jax.tree.map(
        lambda x: x if x.sharding.device_set == where.device_set else jax.device_put(x, whole),
        tree,
    )


def by_rows(mesh: Mesh) -> NamedSharding:
    """Where arrays go that lead with B."""
    return NamedSharding(mesh, PartitionSpec(RULES["rows"]))


def shard_rows(tree: Tree, mesh: Mesh) -> Tree:
    """Spread a batch, whose leaves lead with B, over a mesh.

    In a run of several processes each passes the rows that `own_rows` tells it to.
    """
    groups = sum(_own_groups(mesh))
    for leaf in jax.tree.leaves(tree):
        if len(leaf) % groups:
            raise ValueError(
                f"{len(leaf)} rows do not divide over the {groups} groups of devices of this "
                f"process; use a multiple of {groups}"
            )
    return jax.make_array_from_process_local_data(by_rows(mesh), tree)


def own_rows(mesh: Mesh, batch: int) -> Int[np.ndarray, "b"]:
    """Which rows of a batch this process reads: those of the groups it has devices of.

    Where a model is spread over several processes, they read the same rows.
    """
    groups = _own_groups(mesh)
    if batch % len(groups):
        raise ValueError(
            f"batch={batch} does not divide over data={len(groups)}; use a multiple of it"
        )
    return np.flatnonzero(np.repeat(groups, batch // len(groups)))


def _own_groups(mesh: Mesh) -> list[bool]:
    """Whether this process has a device of each group that shares rows."""
    here = jax.process_index()
    return [any(device.process_index == here for device in group) for group in mesh.devices]


@struct.dataclass
class Sharded:
    """A decoder whose rows are spread over a mesh; itself a decoder.

    Prompts are arrays of this process, the same ones on every process, or global arrays from
    `shard_rows`. A batch that does not divide over `data` is filled up with copies of its last
    row, whose results are dropped. The result is whole on every process.

    Attributes:
      decoder: with its models on the mesh.
      mesh: static.
    """

    decoder: Decoder
    mesh: Mesh = struct.field(pytree_node=False)

    @classmethod
    def of(cls, decoder: Decoder, mesh: Mesh, rules: Rules = RULES) -> Sharded:
        """Put a decoder on a mesh."""
        return cls(shard(decoder, mesh, rules), mesh)

    def check(self, prompt: Prompt) -> None:
        together(lambda: self.decoder.check(jax.tree.map(_local, prompt)))

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        batch = prompt.batch
        row = jnp.minimum(jnp.arange(batch + -batch % self.mesh.shape[RULES["rows"]]), batch - 1)
        if row.size != batch:
            prompt = jax.tree.map(lambda x: x[row], prompt)
        prompt = jax.lax.with_sharding_constraint(prompt, by_rows(self.mesh))
        result = self.decoder(key, prompt)
        if row.size != batch:
            result = jax.tree.map(lambda x: x[:batch], result)
        return jax.lax.with_sharding_constraint(result, NamedSharding(self.mesh, PartitionSpec()))


def _local(array: Array) -> Array | np.ndarray:
    """The rows that this process holds."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return array
    parts = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])


def _weights(model: Partitioned) -> list[tuple[str, Any]]:
    """(path, weight) in the order of the tree's leaves."""
    found = jax.tree_util.tree_flatten_with_path(model)[0]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in found]
    # A parameter's array is its `value`, which the names of weights leave out.
    return [
        (name.removesuffix("/value"), leaf) for name, (_, leaf) in zip(names, found, strict=True)
    ]
