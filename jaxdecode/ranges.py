"""What a field may hold: stated once, where it is declared, checked wherever one is built.

A field's annotation says its kind, `struct.field(range=(low, high))` narrows it:

    int, int | None                 static; a size, 0 to 2^24 unless said otherwise
    float                           static; a finite number
    bool, str, Literal[...]         static; that and nothing else
    tuple[int, ...]                 static; whole numbers of 32 bits
    Float[Array, ""] | float        a leaf; a number that is not too large for float32
    Int[Array, ""] | int            a leaf; a whole number of 32 bits
    Bool[Array, ""] | bool          a leaf; True or False
    Scorer, Evaluator, Reward       something that has what the protocol asks for
    a data class or a protocol      no number, text, list or dict

Computation is in 32 bits, so that numbers are judged as those will have them: 1e-45 is 0 there, no
temperature, and 2^31 is negative. NaN is never meant. Values that cannot be read, because they are
traced or stand for a shape, pass; so does whatever a tree transformation puts in a leaf's place.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import operator
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args, get_origin

import jax
import numpy as np
from jax.core import Tracer

HIGHEST = 2**31 - 1
LARGEST = 2**24  # of sizes: far above every real one, and below where products leave 32 bits
TINY, HUGE = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
Range = tuple[float, float | None]

_ONE = r"""(Float\[Array, ['"](\.\.\.)?['"]\]|Array)"""
_FLOATS = re.compile(rf"{_ONE} \| float|float \| {_ONE}")
_ARRAY = re.compile(r"(Float|Int|Bool)\[Array, .*\]$")
_FLAGS = re.compile(r"""Bool\[Array, ['"]['"]\] \| bool|bool \| Bool\[Array, ['"]['"]\]""")
_INTS = re.compile(r"""Int\[Array, ['"]['"]\] \| int|int \| Int\[Array, ['"]['"]\]""")
_PLAIN = (str, bytes, bool, int, float, complex, list, dict, set, np.generic)
_NO_NUMBER = (str, bytes, bool, np.bool_, complex, list, tuple, dict, set, type(None))
_TEXT = "HostJudge.of(function, tokenizer)"
# Protocol -> what it asks for, and what to pass instead of a plain function.
_PROTOCOLS = {
    "Scorer": (("init", "score"), f"for a function of text pass {_TEXT}.scorer, of tokens "
               "FunctionScorer(function)"),
    "Evaluator": (("init", "score"), f"for a function of text pass {_TEXT}.evaluator, of tokens "
                  "StepFunction(function)"),
    "Reward": (("__call__",), f"for a function of text pass {_TEXT}"),
}  # fmt: skip


def _told(number: float) -> str:
    """A bound as people write it."""
    return str(int(number)) if number == number // 1 and abs(number) < 1e15 else f"{number:g}"


def fault(
    owner: type, name: str, annotation: str, static: bool, range: Range | None, value: Any
) -> tuple[str | None, str | None]:
    """What is wrong with a field's kind, and what with its size; None where nothing is."""
    spread = isinstance(value, np.ndarray | jax.Array) and value.ndim > 0
    if isinstance(value, Tracer | jax.ShapeDtypeStruct) or (spread and not static):
        return None, None
    kind = annotation.removesuffix(" | None")
    if kind != annotation and value is None:
        return None, None
    if kind != annotation and _ARRAY.match(kind) and not hasattr(value, "shape"):
        return "must be an array or None", None
    if static:
        return _static(owner, kind, range, value)
    if kind in _PROTOCOLS:
        return _protocol(kind, value), None
    if _FLOATS.fullmatch(kind):
        if isinstance(value, _NO_NUMBER):
            return "must be a number", None
        if isinstance(value, int) and not -(2**31) <= value <= HIGHEST:
            return "must fit in 32 bits; pass a float where a number is that large", None
        return None, _sized(value, range) if _readable(value) else None
    if _INTS.fullmatch(kind):
        return _whole(value, range or (-(2**31), HIGHEST))
    made = vars(sys.modules[owner.__module__]).get(kind) if kind.isidentifier() else None
    structured = dataclasses.is_dataclass(made) or getattr(made, "_is_protocol", False)
    # An empty tuple is what stands where a part of a state is not needed.
    if structured and (isinstance(value, _PLAIN) or (type(value) is tuple and len(value) > 0)):
        return f"must be a {kind}", None
    if _FLAGS.fullmatch(kind):
        array = isinstance(value, np.ndarray | jax.Array) and value.dtype == bool
        sound = array or isinstance(value, bool | np.bool_) or type(value) is object
        return None if sound else "must be True or False", None
    return None, None


def _static(
    owner: type, kind: str, range: Range | None, value: Any
) -> tuple[str | None, str | None]:
    if kind == "int":
        return _whole(value, range or (0, LARGEST))
    if kind == "bool":
        return (None if isinstance(value, bool | np.bool_) else "must be True or False"), None
    if kind == "str":
        return None if isinstance(value, str) else "must be a text", None
    if kind == "float":
        if isinstance(value, _NO_NUMBER) or not isinstance(value, int | float | np.generic):
            return "must be a number", None
        return None, _sized(value, range)
    if kind == "tuple[int, ...]":
        if not isinstance(value, tuple):
            return "must be a tuple of whole numbers", None
        wrong = [_whole(x, (-(2**31), HIGHEST)) for x in value]
        return next((kinds or sizes for kinds, sizes in wrong if kinds or sizes), None), None
    choices = _choices(owner, kind)
    if choices and not any(type(value) is type(x) and value == x for x in choices):
        said = f"must be one of {', '.join(map(repr, choices))}"
        return (None, said) if isinstance(value, str) else (said, None)
    return None, None


def _whole(value: Any, range: Range) -> tuple[str | None, str | None]:
    if isinstance(value, bool | np.bool_):
        return "must be a whole number", None
    if isinstance(value, int | np.integer):
        number = int(value)
    elif isinstance(value, np.ndarray | jax.Array) and np.issubdtype(value.dtype, np.integer):
        if not _readable(value):
            return None, None
        number = int(value)
    else:
        whole = isinstance(value, _NO_NUMBER) or hasattr(value, "dtype") or _is_float(value)
        return ("must be a whole number" if whole else None), None
    if not -(2**31) <= number <= max(HIGHEST, range[1] or 0):
        return f"must fit in 32 bits, -2^31 to {HIGHEST}", None
    low, high = range[0], HIGHEST if range[1] is None else range[1]
    return None, None if low <= number <= high else f"must be in {_told(low)}..{_told(high)}"


def _is_float(value: Any) -> bool:
    return isinstance(value, float | np.floating)


def in_32_bits(value: Any) -> float:
    """A number as it is computed with: what is too small is 0, what is too large infinite."""
    number = as_float(value)
    if abs(number) < TINY:
        return 0.0
    return math.copysign(math.inf, number) if abs(number) > HUGE else number


def as_float(value: Any) -> float:
    """A float, infinite where a whole number is beyond all floats."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _is_infinite(value: Any) -> bool:
    return not isinstance(value, int) and math.isinf(float(value))


def _sized(value: Any, range: Range | None) -> str | None:
    number = in_32_bits(value)
    if math.isnan(number):
        return "is no number"
    if math.isinf(number) and not _is_infinite(value):
        return "is infinite in the 32 bits in which it is used; pass a smaller number"
    if range is None:
        return None
    low, high = range[0], math.inf if range[1] is None else range[1]
    return None if low <= number <= high else f"must be in {_told(low)}..{_told(high)}"


def _readable(value: Any) -> bool:
    if isinstance(value, jax.Array):
        return value.is_fully_addressable and np.issubdtype(value.dtype, np.number)
    return isinstance(value, int | float | np.generic | np.ndarray)


def _protocol(kind: str, value: Any) -> str | None:
    methods, fix = _PROTOCOLS[kind]
    if isinstance(value, str | bytes | int | float | list | tuple | type(None)):
        return f"is no {kind.lower()}; {fix}"
    missing = [name for name in methods if not callable(getattr(value, name, None))]
    return f"has no `{missing[0]}`; {fix}" if missing else None


def _choices(owner: type, kind: str) -> tuple[Any, ...]:
    """The values of a `Literal`, written out or by its name in the owner's module."""
    module: Callable[[str], Any] = vars(sys.modules[owner.__module__]).get
    found = module(kind) if kind.isidentifier() else None
    if kind.startswith("Literal["):
        return ast.literal_eval(f"({kind[len('Literal[') : -1]},)")
    return get_args(found) if get_origin(found) is Literal else ()


def integers(name: str, values: Iterable[Any], low: int = 0, high: int = HIGHEST) -> list[int]:
    """Whole numbers, such as tokens or ids; what is no integer is refused and not cut to one.

    Raises:
      ValueError: naming the place, the value and the range.
    """
    found = []
    for place, value in enumerate(np.asarray(values) if hasattr(values, "dtype") else values):
        try:
            number = operator.index(value) if not isinstance(value, bool | np.bool_) else None
        except TypeError:
            number = None
        if number is None or not low <= number <= high:
            raise ValueError(
                f"{name}[{place}]={repr(value)[:60]} must be a whole number in {low}..{high}"
            )
        found.append(number)
    return found


def seeded(seed: Any) -> Any:
    """A key of a seed, or the key that it is.

    Raises:
      ValueError: a seed that 32 bits cannot tell from another.
    """
    if isinstance(seed, jax.Array):
        return seed
    (number,) = integers("key", [seed], 0, 2**32 - 1)
    return jax.random.key(number)
