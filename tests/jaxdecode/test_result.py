"""Counting: what is added up, priced and grouped."""

from __future__ import annotations

from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.lm import ModelCost
from jaxdecode.result import Status, Usage


def numbers(usage: Usage) -> dict[str, list]:
    return {item.name: np.asarray(getattr(usage, item.name)).tolist() for item in fields(usage)}


def test_nothing_has_been_spent_at_first() -> None:
    usage = Usage.zeros(3, depth=4)
    assert usage.histogram.shape == (3, 5)
    for name, value in numbers(usage).items():
        assert not np.any(value), name
        assert len(value) == 3
    assert usage.flops.dtype == usage.attended.dtype == usage.peak_cache_bytes.dtype == jnp.float32
    assert usage.emitted.dtype == jnp.int32


def test_counts_are_added_and_others_stay() -> None:
    usage = Usage.zeros(2).add(emitted=jnp.array([3, 4])).add(emitted=jnp.array([1, 0]))
    assert usage.emitted.tolist() == [4, 4]
    assert usage.bonus.tolist() == [0, 0]
    with pytest.raises(AttributeError, match="emited"):
        Usage.zeros(2).add(emited=jnp.array([1, 1]))


def test_a_peak_never_falls() -> None:
    usage = Usage.zeros(2).peak(jnp.array([5, 2])).peak(jnp.array([3, 4]))
    assert usage.peak_cache_tokens.tolist() == [5, 4]


def test_a_price_follows_from_the_counts() -> None:
    """FLOPs of the target join those that drafts and scorers have reported."""
    usage = Usage.zeros(2).add(
        target_tokens=jnp.array([10, 0]),
        attended=jnp.array([55.0, 0.0]),
        flops=jnp.array([7.0, 9.0]),
    )
    usage = usage.peak(jnp.array([8, 1])).priced(ModelCost(1000, 32, 64))
    assert usage.flops.tolist() == [7 + 2 * 1000 * 10 + 32 * 55, 9]
    assert usage.peak_cache_bytes.tolist() == [512, 64]


def test_rows_are_summed_into_their_groups() -> None:
    usage = jax.tree.map(
        lambda x: x + jnp.arange(6).reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype),
        Usage.zeros(6, depth=1),
    )
    grouped = usage.grouped(2)
    for name, value in numbers(grouped).items():
        expected = [[3, 3], [12, 12]] if name == "histogram" else [3, 12]
        assert value == expected, name


def test_statuses_have_the_numbers_that_are_stored() -> None:
    """Results on disk keep their meaning."""
    names = ["RUNNING", "EOS", "LENGTH", "CAPACITY", "BUDGET", "EXHAUSTED", "INVALID"]
    assert [(status.name, int(status)) for status in Status] == [
        (name, number) for number, name in enumerate(names)
    ]
