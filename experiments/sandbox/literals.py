"""Values of Python's literals as text, between two processes of which neither trusts the other.

None, numbers, strings, bytes, lists, tuples, sets and dictionaries cross, one inside the other.
Subclasses cross as what they are subclasses of, so that no method of theirs ever runs on the other
side; whatever else there is does not cross. JSON with a mark on what JSON has no word for; the
standard library alone, for this runs in a bare interpreter. Depth, size and number of values are
bounded on both ways.
"""

import json
from typing import Any

DEPTH, VALUES, MEMBERS, TEXT = 50, 100_000, 10_000, 1_000_000
_BITS = 1_000_000  # of an integer


# How the members of a kind are gone through, whatever a subclass makes of it.
_KINDS: tuple[tuple[type, Any], ...] = (
    *((list, list.__iter__), (tuple, tuple.__iter__)),
    *((set, set.__iter__), (frozenset, frozenset.__iter__)),
)


class Unspeakable(ValueError):
    """A value that does not cross."""


def dumps(value: object) -> str:
    """One line of text. Raises Unspeakable."""
    text = json.dumps(_out(value, DEPTH, [VALUES]))
    if len(text) > TEXT:
        raise Unspeakable(f"a value of {len(text)} characters; at most {TEXT} cross")
    return text


def loads(text: str) -> Any:
    """The value. Raises Unspeakable for whatever `dumps` does not write."""
    if len(text) > TEXT:
        raise Unspeakable(f"a text of {len(text)} characters; at most {TEXT} cross")
    try:
        return _in(json.loads(text, parse_int=_plain), DEPTH, [VALUES])
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise Unspeakable(f"no value: {type(error).__name__}") from error


def _plain(digits: str) -> int:
    # Writers use JSON's own integers for short ones only; conversion of long ones is quadratic.
    if len(digits) > 20:
        raise ValueError("a long integer")
    return int(digits)


def _count(left: list[int], depth: int) -> None:
    left[0] -= 1
    if depth < 0 or left[0] < 0:
        raise Unspeakable(f"more than {VALUES} values, or {DEPTH} inside one another")


def _out(value: object, depth: int, left: list[int]) -> object:
    _count(left, depth)
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        value = int.__index__(value)
        if value.bit_length() > _BITS:
            raise Unspeakable(f"an integer of {value.bit_length()} bits")
        return value if -(2**53) < value < 2**53 else {"int": hex(value)}
    if isinstance(value, float):
        return {"float": float.hex(value)}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, complex):
        return {"complex": [complex(value).real.hex(), complex(value).imag.hex()]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, dict):
        pairs = list(dict.items(value))
        return {"dict": [[_out(part, depth - 1, left) for part in pair] for pair in pairs]}
    for kind, members in _KINDS:
        if isinstance(value, kind):
            return {kind.__name__: [_out(member, depth - 1, left) for member in members(value)]}
    raise Unspeakable(f"a {type(value).__name__}, which is no literal")


def _in(value: Any, depth: int, left: list[int]) -> Any:
    _count(left, depth)
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is not dict or len(value) != 1:
        raise ValueError("no value")
    ((kind, parts),) = value.items()
    if kind == "int":
        return int(parts, 16)
    if kind == "float":
        return float.fromhex(parts)
    if kind == "complex":
        real, imaginary = parts
        return complex(float.fromhex(real), float.fromhex(imaginary))
    if kind == "bytes":
        return bytes.fromhex(parts)
    if type(parts) is not list or (kind not in ("list", "tuple") and len(parts) > MEMBERS):
        raise ValueError("no members, or too many")
    if kind == "dict":
        return dict([[_in(part, depth - 1, left) for part in pair] for pair in parts])
    kinds = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
    return kinds[kind](_in(member, depth - 1, left) for member in parts)
