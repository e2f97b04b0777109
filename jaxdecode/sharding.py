"""Where arrays live when there are many devices: a mesh and one table of rules.

Engines and models know nothing of meshes. Weights are placed by the names of their axes and
prompts by their rows; XLA's partitioner carries both through the compiled program. The cache
then has its rows on `data` and its heads on `model`; a layer costs the two all-reduces over
`model` of Shoeybi et al. 2019 (arXiv:1909.08053), and over `data` a step exchanges one bit,
whether any row still runs.

A weight's dimension is split where the mesh axis divides its parts, whole heads for one, and
is kept whole on every device where it does not: the projections of two key/value heads on a
`model` axis of four are held by all four.

Decoding reads every weight in every step and has them split over `model` alone, `RULES`. Training
holds gradients and an optimiser's state beside them, and by `FSDP` all of these are split over
`data` as well: `shard(model, mesh, FSDP)` before `jaxdecode.train.fit`, `shard(model, mesh)` after.
"""

from __future__ import annotations

import math
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
from jaxdecode.target import target_of
from jaxdecode.types import Array, Int, Key

Tree = TypeVar("Tree")
Rules = Mapping[str, str | tuple[str, ...]]

RULES: Mapping[str, str] = MappingProxyType(
    {"rows": "data", "heads": "model", "kv_heads": "model", "mlp": "model", "vocab": "model"}
)
"""Logical axis -> mesh axis; an axis without a rule is whole on every device."""

FSDP: Rules = MappingProxyType(
    {"rows": "data", "embed": "data"}
    | {name: ("model", "data") for name in ("heads", "kv_heads", "mlp", "vocab")}
)
"""Those of training: weights in parts over all devices (Rajbhandari et al. 2020, arXiv 1910.02054,
stage 3; Zhao et al. 2023, arXiv 2304.11277). `data` splits the residual stream's dimension, one
that `model` splits if it does not divide that, and none if it divides neither."""


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
        spec = _split(axes, weight.shape, model.axis_parts, mesh, rules)
        shardings[path] = NamedSharding(mesh, spec)
    return shardings


def _split(
    axes: Sequence[str | None],
    shape: Sequence[int],
    parts: Mapping[str, int],
    mesh: Mesh | AbstractMesh,
    rules: Rules,
) -> PartitionSpec:
    """How a weight is split. An axis of the mesh is used once, by the first name of the table that
    it fits; the first axis of a rule divides whole parts, and those after it what is left."""
    spec: list[tuple[str, ...]] = [() for _ in axes]
    for name, rule in rules.items():
        wanted = (rule,) if isinstance(rule, str) else rule
        for place in (i for i, own in enumerate(axes) if own == name):
            for axis in wanted:
                if axis not in mesh.shape:
                    raise ValueError(f"rules[{name!r}]={axis!r} is no axis of {mesh.axis_names}")
                left = shape[place] // math.prod(mesh.shape[other] for other in spec[place])
                left = parts.get(name, left) if axis == wanted[0] else left
                if left % mesh.shape[axis] == 0 and not any(axis in others for others in spec):
                    spec[place] += (axis,)
    return PartitionSpec(*(held if len(held) > 1 else held[0] if held else None for held in spec))


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
    """Arrays that lie on fewer devices than the mesh of `other`, if it has one, copied to each."""
    places = (getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(other))
    where = next((place for place in places if isinstance(place, NamedSharding)), None)
    if where is None:
        return tree
    whole = NamedSharding(where.mesh, PartitionSpec())
    return jax.tree.map(
        # What is moved to a device where it already is would be the same memory under two names.
        lambda x: (
            x if x.sharding.device_set == where.device_set else jax.device_put(jnp.copy(x), whole)
        ),
        tree,
    )


def laid(tree: Tree, rules: Rules = RULES) -> Tree:
    """What `shard` does, of traced arrays: models in parts, where they are on a mesh."""

    def lay(node: Any) -> Any:
        mesh = target_of(node).mesh if isinstance(node, Partitioned) else None
        if mesh is None:
            return node
        where = list(named_shardings(node, mesh, rules).values())
        weights, structure = jax.tree.flatten(node)
        return jax.tree.unflatten(structure, jax.lax.with_sharding_constraint(weights, where))

    return jax.tree.map(lay, tree, is_leaf=lambda node: isinstance(node, Partitioned))


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
