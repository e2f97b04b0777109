"""Every annotation of an array is checked as its function is called: kind, shape and dtype.

The letters of a shape stand for one length throughout a signature; so do those of a dataclass,
whose fields are checked where it is built, and not where jax rebuilds it: a transformation may put
anything in place of a leaf. What traces a function pays, what runs it compiled does not. Arguments
that are not arrays are left to the function, which says of wrong ones what it wants (tests of bad
input are about that); pyright checks them where they are written.
"""

from __future__ import annotations

import functools
import importlib
import runpy
import sys
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

PACKAGES = ("jaxdecode", "models", "algorithms")
building = True  # whether fields are checked
typed = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int serves where a float does


def check(function: Any) -> Any:
    """A function that raises `TypeError` where it is given, or gives, what it does not say."""
    if isinstance(function, type):
        return function
    for name, said in function.__annotations__.items():
        if not (holds_arrays if name == "return" else of_arrays)(said):
            function.__annotations__[name] = Any
    checked = typed(function)
    return unless_rebuilding(checked, function) if function.__name__ == "__init__" else checked


def holds_arrays(said: Any) -> bool:
    """Whether arrays stand somewhere in an annotation."""
    return of_arrays(said) or any(map(holds_arrays, typing.get_args(said)))


def of_arrays(said: Any) -> bool:
    """Whether an annotation allows arrays, and nothing else but None."""
    if isinstance(said, type) and issubclass(said, jaxtyping.AbstractArray):
        return True
    parts = [part for part in typing.get_args(said) if part is not type(None)]
    unions = typing.get_origin(said) in (typing.Union, types.UnionType)
    return unions and bool(parts) and all(map(of_arrays, parts))


@contextmanager
def fields_of_any_kind() -> Iterator[None]:
    """Leave the fields of dataclasses to what the project itself says of wrong ones."""
    global building
    before, building = building, False
    try:
        yield
    finally:
        building = before


def unless_rebuilding(checked: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    from jaxdecode import struct

    @functools.wraps(plain)
    def init(*args: Any, **named: Any) -> Any:
        return (checked if building and not struct.rebuilding() else plain)(*args, **named)

    return init


def install() -> None:
    """Check what is imported from here on."""
    jaxtyping.install_import_hook(PACKAGES, "tests.annotations.check")
    from jaxdecode import fingerprint

    reader: Any = fingerprint._Reader
    read = reader.function
    reader.function = lambda self, function: read(self, unchecked(function))


def unchecked(function: Any) -> Any:
    """A function without what checks it: that is no part of the function, and is long to read."""
    checks = function.__code__.co_filename == jaxtyping._decorator.__file__
    return function.__wrapped__ if checks and hasattr(function, "__wrapped__") else function


if __name__ == "__main__":  # python -m tests.annotations MODULE ...: run it, checked as here
    importlib.import_module("tests.annotations").install()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
