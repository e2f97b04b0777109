"""Reading a published config.json without trusting it.

A missing field and a null are the same thing; every value is checked for its type and its range
before it is used, so that a hostile or damaged config ends in a `ValueError` that names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.config import LIMITS, Activation
from models.safetensors import brief

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


_HUGE = 1e30  # what float32 holds with room to spare


class Fields:
    """Typed access to the fields of one JSON object; `where` names it in errors."""

    def __init__(self, data: Mapping[str, Any], where: str = "config.json") -> None:
        self.data = data
        self.where = where

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self.data.get(name) is not None

    def integer(self, name: str, default: int | None = None) -> int:
        """Of 32 bits, the width in which everything here counts."""
        value = self._get(name, default)
        if type(value) is not int or not -(2**31) <= value < 2**31:
            raise self._wrong(name, value, "an integer of 32 bits")
        return value

    def size(self, name: str, limit: str, default: int | None = None) -> int:
        """An integer from 1 to `LIMITS[limit]`: one that things are allocated or looped by."""
        value = self._get(name, default)
        if type(value) is not int or not 1 <= value <= LIMITS[limit]:
            raise self._wrong(name, value, f"an integer in 1..{LIMITS[limit]}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number, or the default."""
        value = self._get(name, default)
        if type(value) not in (int, float) or not abs(value) < _HUGE:
            raise self._wrong(name, value, "a finite number")
        return float(value)

    def above(self, name: str, least: float, default: float | None = None) -> float:
        """A finite number greater than `least`."""
        value = self.number(name, default)
        if not value > least:
            raise self._wrong(name, value, f"a number above {least:g}")
        return value

    def at_least(self, name: str, least: float, default: float | None = None) -> float:
        """A finite number, `least` or more."""
        value = self.number(name, default)
        if not value >= least:
            raise self._wrong(name, value, f"a number of at least {least:g}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """A yes or no, or the default."""
        value = self._get(name, default)
        if type(value) is not bool:
            raise self._wrong(name, value, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A text, or the default."""
        value = self._get(name, default)
        if type(value) is not str:
            raise self._wrong(name, value, "a string")
        return value

    def table(self, name: str) -> Fields:
        """A nested object; an absent one is empty."""
        value = self._get(name, {})
        if not isinstance(value, dict):
            raise self._wrong(name, value, "an object")
        return Fields(value, f"{self.where}: {name}")

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of positive numbers."""
        value = self._get(name, None)
        if not isinstance(value, list) or not all(
            type(x) in (int, float) and 0 < x < _HUGE for x in value
        ):
            raise self._wrong(name, value, "a list of positive numbers")
        return tuple(float(x) for x in value)

    def activation(self, name: str, default: str | None = None) -> Activation:
        """The name of an activation that we have."""
        value = self.text(name, default)
        if value not in ACTIVATIONS:
            raise self._wrong(name, value, f"one of {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[value]

    def sliding(self, layers: int) -> tuple[bool, ...] | None:
        """`layer_types` as flags, or None where the field is absent."""
        if not self.has("layer_types"):
            return None
        kinds = self.data["layer_types"]
        known = {"sliding_attention": True, "full_attention": False}
        if not isinstance(kinds, list) or any(
            type(kind) is not str or kind not in known for kind in kinds
        ):
            raise self._wrong("layer_types", kinds, f"a list of {' and '.join(known)}")
        if len(kinds) != layers:
            raise ValueError(f"{self.where}: layer_types names {len(kinds)} of {layers} layers")
        return tuple(known[kind] for kind in kinds)

    def refuse(self, name: str, *harmless: Any) -> None:
        """An error if a switch that is not implemented is set to anything but `harmless`."""
        value = self.data.get(name)
        if value is not None and value not in harmless:
            allowed = " or ".join(map(repr, harmless)) or "absent"
            raise self._wrong(name, value, f"{allowed}: what else it may ask for is not built")

    def _get(self, name: str, default: Any) -> Any:
        value = self.data.get(name)
        value = default if value is None else value
        if value is None:
            raise ValueError(f"{self.where}: the field {name!r} is missing")
        return value

    def _wrong(self, name: str, value: Any, wanted: str) -> ValueError:
        return ValueError(f"{self.where}: {name}={brief(value)} must be {wanted}")
