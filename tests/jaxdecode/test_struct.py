"""Pytree dataclasses: leaves, structure, and structures that tell classes apart."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxdecode import struct


@struct.dataclass
class Slot:
    number: Any
    inner: Any = None
    size: int = struct.field(pytree_node=False, default=3)


@struct.dataclass
class Other:
    number: Any
    inner: Any = None
    size: int = struct.field(pytree_node=False, default=3)


def test_look_alike_classes_have_structures_of_their_own() -> None:
    assert jax.tree.structure(Slot(1.0)) != jax.tree.structure(Other(1.0))
    assert jax.tree.structure(Slot(1.0)) == jax.tree.structure(Slot(2.0))
    assert jax.tree.structure(Slot(1.0)) != jax.tree.structure(Slot(1.0, size=4))


def test_a_compiled_function_never_confuses_look_alike_classes() -> None:
    """A cache that compared field names alone went wrong for one pair in fifty."""
    for index in range(150):
        pair = []
        for value in (1.0, 2.0):
            bare = type(f"Pair{index}", (), {"__annotations__": {"x": float}, "value": value})
            pair.append(struct.dataclass(bare))
        read = jax.jit(lambda slot: slot.x + slot.value)
        assert [float(read(cls(0.0))) for cls in pair] == [1.0, 2.0]


def test_trees() -> None:
    slot = Slot(1.0, Slot(jnp.arange(2), size=5))
    assert len(jax.tree.leaves(slot)) == 2
    doubled = jax.tree.map(lambda x: 2 * x, slot)
    assert doubled.number == 2.0 and doubled.inner.size == 5
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(slot)]
    assert paths == [".number", ".inner.number"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        slot.__setattr__("number", 2.0)
    assert dataclasses.replace(slot, number=3.0).number == 3.0
