"""Means with their 95 % intervals, several at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from experiments.tokens.open_texts import shown

Span = tuple[float, float, float]  # a mean and its 95 % interval


def outermost(spans: Iterable[Span]) -> tuple[float, float]:
    """The interval of the largest distance from 0."""
    far = [
        (0.0 if low < 0 < high else min(abs(low), abs(high)), low, high) for _, low, high in spans
    ]
    return max(x[0] for x in far), max(max(abs(x[1]), abs(x[2])) for x in far)


def smallest(spans: Iterable[Span]) -> tuple[float, float]:
    """The interval of the smallest of several."""
    spans = list(spans)
    return min(low for _, low, _ in spans), min(high for _, _, high in spans)


def largest(spans: Iterable[Span]) -> tuple[float, float]:
    """The interval of the largest of several."""
    spans = list(spans)
    return max(low for _, low, _ in spans), max(high for _, _, high in spans)


def told(spans: Mapping[Any, Span], form: str = "+.2f") -> str:
    """Several intervals by name."""
    return ", ".join(f"{name}: {shown(span, form)}" for name, span in spans.items())
