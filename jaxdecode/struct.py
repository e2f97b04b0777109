"""Frozen dataclasses that are pytrees: what every slot, state and decoder is made of.

The interface is that of `flax.struct`: fields are leaves or subtrees, save for those marked
`pytree_node=False`, which belong to the structure. The registration differs. On jaxlib 0.10.2
the tree structures of two classes registered with `jax.tree_util.register_dataclass` compare
equal if their fields look alike, whatever the classes: a compiled function may then run the
program of `Greedy` on a `Categorical` (9 of 400 pairs of look-alike classes did). Classes
registered as custom nodes compare as they should.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, TypeVar, cast, dataclass_transform

from jax.tree_util import GetAttrKey, register_pytree_with_keys

from jaxdecode.ranges import Range, fault

T = TypeVar("T")
CLASSES: list[type] = []  # all that were made here, for whoever goes through them
_state = threading.local()


def field(pytree_node: bool = True, range: Range | None = None, **options: Any) -> Any:
    """A field; `pytree_node=False` makes it part of the structure, hashable and static.

    `range` (least, most) narrows what `jaxdecode.ranges` says of the annotation.
    """
    return dataclasses.field(metadata={"pytree_node": pytree_node, "range": range}, **options)


def rebuilding() -> bool:
    """Whether this thread is putting a tree together again, with whatever for its leaves."""
    return getattr(_state, "rebuilding", False)


@dataclass_transform(frozen_default=True, field_specifiers=(field, dataclasses.field))
def dataclass(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and a pytree.

    Building one checks its fields by `jaxdecode.ranges`: their kinds, and the ranges declared,
    before its `__post_init__`, what the annotation says of sizes after it. Rebuilding a tree calls
    the constructor without those checks, so `__post_init__` must accept whatever a tree
    transformation may put in place of a leaf.
    """
    own = cls.__dict__.get("__post_init__")

    def post_init(self: Any) -> None:
        found = [] if rebuilding() else _faults(self)
        for name, kind, _ in found:
            if kind is not None:
                raise ValueError(f"{_shown(self, name)} {kind}")
        if own is not None:
            own(self)
        for name, _, size in found:
            if size is not None:
                raise ValueError(f"{_shown(self, name)} {size}")

    type.__setattr__(cls, "__post_init__", post_init)
    cls = dataclasses.dataclass(frozen=True)(cls)
    CLASSES.append(cls)
    leaves, static = [], []
    for item in dataclasses.fields(cast(Any, cls)):
        (leaves if item.metadata.get("pytree_node", True) else static).append(item.name)
    keys = [GetAttrKey(name) for name in leaves]

    def flatten(tree: T) -> tuple[list[Any], tuple[Any, ...]]:
        return [getattr(tree, name) for name in leaves], tuple(getattr(tree, n) for n in static)

    def flatten_with_keys(tree: T) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
        children, structure = flatten(tree)
        return list(zip(keys, children, strict=True)), structure

    def unflatten(structure: tuple[Any, ...], children: Any) -> T:
        before, _state.rebuilding = rebuilding(), True
        try:
            return cls(**dict(zip((*leaves, *static), (*children, *structure), strict=True)))
        finally:
            _state.rebuilding = before

    register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def _faults(value: Any) -> list[tuple[str, str | None, str | None]]:
    found = []
    for item in dataclasses.fields(value):
        static = not item.metadata.get("pytree_node", True)
        kind, size = fault(
            type(value),
            item.name,
            item.type if isinstance(item.type, str) else "",
            static,
            item.metadata.get("range"),
            getattr(value, item.name),
        )
        if item.metadata.get("range") is not None:  # said here, so said first
            kind, size = kind or size, None
        if kind is not None or size is not None:
            found.append((item.name, kind, size))
    return found


def _shown(owner: Any, name: str) -> str:
    """`Class.field=value`, as long as fits a line."""
    value = repr(getattr(owner, name))
    value = value if len(value) <= 80 else value[:77] + "..."
    return f"{type(owner).__name__}.{name}={value}"
