"""What a value is, as a few hexadecimal digits: equal ones for what computes the same.

Names do not identify: a closure keeps its name when its numbers change, a function when its body
does. A fingerprint reads

    arrays and models     their contents, wherever and however spread they lie
    data classes, objects their class and attributes; not what a `cached_property` has kept
    functions             bytecode, constants, defaults, closure, attributes and, of the globals
                          that the code names, functions, classes, numbers, texts and CONSTANTS,
                          all of them recursively; docstrings and line numbers do not count
    classes               their methods, and the attributes that are numbers or texts

Code of installed libraries is known by its name: a run's `jaxdecode.train.identity` keeps their
versions. What cannot be looked into, such as an extension's object or an open file, counts with
its class alone. Give such a thing, or one whose parts say too much, a version by hand:

    reward = versioned("2")(reward)    # changed whenever its meaning is
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer

MARK = "__fingerprint__"
PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
BIG = 2**20  # bytes from which an array is summed where it lies instead of being fetched
TOLD = ("__doc__", "__module__", "__qualname__", "__firstlineno__")
WRITTEN = ("__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__")
INNER = ("_pytree__", "_object__", "__weakref__", "__dict__")  # bookkeeping of flax and of Python
T = TypeVar("T")


def fingerprint(*values: Any) -> str:
    """16 digits for the values in their order; see the module."""
    return _Reader().whole(values)[:16]


def versioned(version: str) -> Callable[[T], T]:
    """Known by its name and `version` alone from now on: a function, a class or an object."""

    def mark(value: T) -> T:
        setattr(
            value, MARK, f"{getattr(value, '__qualname__', type(value).__qualname__)} {version}"
        )
        return value

    return mark


class _Reader:
    """One reading. A value's digest is a hash of its parts' digests; bodies of code, which refer to
    each other without end, are a set beside it."""

    def __init__(self) -> None:
        self.met: dict[int, tuple[str, Any]] = {}  # the values too, lest an address be used again
        self.waiting: list[Callable[[], str]] = []

    def whole(self, value: Any) -> str:
        top, bodies = self.of(value), set()
        while self.waiting:
            bodies.add(self.waiting.pop()())
        return _sha(top, *sorted(bodies))

    def of(self, value: Any) -> str:
        if isinstance(value, PLAIN):
            return _sha(type(value).__name__, repr(value))
        if id(value) not in self.met:
            self.met[id(value)] = ("cycle", value)
            mark = inspect.getattr_static(value, MARK, None)
            found = _sha("versioned", mark) if isinstance(mark, str) else self.value(value)
            self.met[id(value)] = (found, value)
        return self.met[id(value)][0]

    def all(self, *values: Any) -> str:
        return _sha(*map(self.of, values))

    def value(self, value: Any) -> str:
        kind = type(value).__qualname__
        if isinstance(value, jax.Array | np.ndarray | np.generic):
            return self.array(value)
        if isinstance(value, nnx.Variable):
            return _sha(kind, self.of(value.get_value()))
        if isinstance(value, enum.Enum):
            return _sha(kind, value.name)
        if isinstance(value, tuple | list):
            return _sha(kind, self.all(*value))
        if isinstance(value, Mapping):
            keys = sorted(value, key=repr)
            return _sha("mapping", self.all(*keys), self.all(*(value[key] for key in keys)))
        if isinstance(value, set | frozenset):
            return _sha("set", *sorted(map(self.of, value)))
        if isinstance(value, Path | np.dtype | range | slice | jax.ShapeDtypeStruct):
            return _sha(kind, value)
        if isinstance(value, np.random.Generator):
            return self.of(value.bit_generator.state)
        if isinstance(value, types.ModuleType):
            return _sha("module", value.__name__)
        if isinstance(value, type):
            if _own(value):
                self.waiting.append(lambda: self.methods(value))
            return _sha("class", _name(value))
        return self.code_or_object(value, kind)

    def code_or_object(self, value: Any, kind: str) -> str:
        if isinstance(value, types.FunctionType):
            return self.function(value)
        if isinstance(value, types.CodeType):
            return self.code(value)
        if isinstance(value, types.MethodType):
            return _sha("method", self.all(value.__func__, value.__self__))
        if isinstance(value, functools.partial):
            return _sha("partial", self.all(value.func, value.args, value.keywords))
        if isinstance(value, property):
            return _sha("property", self.all(value.fget, value.fset))
        if isinstance(value, functools.cached_property):
            return _sha("property", self.of(value.func))
        if isinstance(value, classmethod | staticmethod):
            return _sha(kind, self.of(value.__func__))
        if not isinstance(value, types.BuiltinFunctionType) and hasattr(value, "__wrapped__"):
            return _sha("wrapped", kind, self.of(value.__wrapped__))  # jit, lru_cache
        name = getattr(value, "__qualname__", "")
        return _sha("object", name, self.all(type(value), _attributes(value)))

    def array(self, value: Any) -> str:
        if isinstance(value, Tracer):
            raise ValueError("fingerprint: a traced value has no contents; call it outside of jit")
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return _sha("key", value.dtype, self.of(jax.random.key_data(value)))
        if isinstance(value, jax.Array) and (value.nbytes >= BIG or not value.is_fully_addressable):
            data = " ".join(str(int(part)) for part in jax.device_get(_sums(value)))
        elif value.dtype == object:
            data = self.of(value.tolist())
        else:
            data = np.asarray(value).tobytes()
        return _sha("array", value.dtype, value.shape, data)

    def function(self, function: types.FunctionType) -> str:
        cells = []
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # one that is empty as yet
                cells.append(cell.cell_contents)
        if _own(function):
            self.waiting.append(lambda: self.body(function))
        defaults = self.all(function.__defaults__, function.__kwdefaults__)
        return _sha("function", _name(function), self.all(*cells), defaults)

    def body(self, function: types.FunctionType) -> str:
        code, globals_ = function.__code__, function.__globals__
        attributes = dict(vars(function))
        attributes.pop("__wrapped__", None)  # the closure has it
        found = [_name(function), self.of(code), self.of(attributes)]
        for name in sorted(_names(code) & globals_.keys()):
            found += self.referred(name, globals_[name], code)
        return _sha(*found)

    def referred(self, name: str, value: Any, code: types.CodeType) -> list[str]:
        """A global that the code names; of a module of one's own what is named of it."""
        if isinstance(value, types.ModuleType):
            found = [name, value.__name__]
            if _own(value):
                for inner in sorted(_names(code) & vars(value).keys()):
                    if not isinstance(vars(value)[inner], types.ModuleType):
                        found += self.referred(inner, vars(value)[inner], code)
            return found
        if name.isupper() or callable(value) or isinstance(value, (*PLAIN, tuple, frozenset)):
            return [name, self.of(value)]
        return []

    def code(self, code: types.CodeType) -> str:
        told = code.co_consts
        documented = code.co_name != "<lambda>" and bool(told) and isinstance(told[0], str)
        shape = (code.co_argcount, code.co_kwonlyargcount, code.co_flags, code.co_names)
        return _sha(code.co_code, self.of(shape), self.all(*told[int(documented) :]))

    def methods(self, owner: type) -> str:
        found = [_name(owner)]
        kinds = (types.FunctionType, property, functools.cached_property, classmethod, staticmethod)
        for base in filter(_own, owner.__mro__):
            for name, value in sorted(vars(base).items()):
                # What `dataclass` has written follows from the fields.
                made = dataclasses.is_dataclass(base) and name in WRITTEN
                if isinstance(value, (*kinds, *PLAIN)) and not made and name not in TOLD:
                    found += [name, self.of(value)]
        return _sha(*found)


def _sha(*words: Any) -> str:
    found = hashlib.sha256()
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode(errors="surrogatepass")
        found.update(f"{len(data)}:".encode() + data)
    return found.hexdigest()


def _name(value: Any) -> str:
    """Of code under way without its module, which a script's own name changes."""
    return value.__qualname__ if _own(value) else f"{value.__module__}.{value.__qualname__}"


def _names(code: types.CodeType) -> set[str]:
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _attributes(value: Any) -> dict[str, Any]:
    held = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                held[name] = getattr(value, name)
    lazy = functools.cached_property
    kept = {n for b in type(value).__mro__ for n, v in vars(b).items() if isinstance(v, lazy)}
    return {n: v for n, v in held.items() if n not in kept and not n.startswith(INNER)}


@functools.cache
def _foreign(root: str) -> bool:
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return root in sys.stdlib_module_names or "site-packages" in file or "dist-packages" in file


def _own(value: Any) -> bool:
    """Whether it is code that is under way, not a library's."""
    module = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    return isinstance(module, str) and not _foreign(module.partition(".")[0])


@jax.jit
def _sums(array: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two sums over all elements, each weighed by its place, modulo 2^32: however an array is
    spread they are the same, since sums of integers are."""
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    kind = {1: jnp.uint8, 2: jnp.uint16}.get(array.dtype.itemsize, jnp.uint32)
    word = jax.lax.bitcast_convert_type(array, kind).astype(jnp.uint32)
    place = jnp.zeros(word.shape, jnp.uint32)
    for axis, size in enumerate(word.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, word.shape, axis)

    def mixed(salt: int) -> jax.Array:
        x = word ^ (place * jnp.uint32(0x9E3779B1) + jnp.uint32(salt))
        x *= jnp.uint32(0x85EBCA6B)
        x = (x ^ (x >> 15)) * jnp.uint32(0xC2B2AE35)
        return jnp.sum(x ^ (x >> 13), dtype=jnp.uint32)

    return mixed(0x27D4EB2F), mixed(0x165667B1)
