"""The experiment on ADED, at its smallest."""

import dataclasses

import jax.numpy as jnp

from experiments.speculative.aded import PRESETS, bytes_of, records, run


def test_records_recur_and_bytes_are_counted() -> None:
    first, second = records(2, 0)
    assert first != second and '"harbour"' in first and '"harbour"' in second
    assert bytes_of({"a": jnp.zeros((3, 4)), "b": jnp.zeros(2, jnp.int8)}) == 50


def test_smoke(tmp_path) -> None:
    report = run(dataclasses.replace(PRESETS["smoke"], out=tmp_path))
    better, smaller, adapts = report.claims
    assert smaller.holds is False and smaller.interval is None
    low, _ = better.interval or (0.0, 0.0)
    assert low > 1.0, "so few rounds tell that it is better, not by how much"
    assert adapts.holds
    assert (tmp_path / "figure.png").stat().st_size > 10_000
