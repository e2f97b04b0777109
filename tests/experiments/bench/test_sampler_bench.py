"""The bench of samplers at its smallest."""

from dataclasses import replace

from experiments.bench.sampler_bench import PRESETS, run, transforms


def test_every_transform_is_timed_at_every_batch(tmp_path) -> None:
    config = replace(PRESETS["smoke"], vocab=512, batches=(1, 2), out=tmp_path)
    report = run(config)
    rows = {(row["transform"], row["batch"]): row for row in report.rows}
    assert set(rows) == {(n, b) for n in ("draw", *transforms(config)) for b in (1, 2)}
    assert all(row["milliseconds"] > 0 for row in report.rows)
    assert len(report.claims) == 2 and (tmp_path / "figure.png").stat().st_size > 10_000
    worst = max(r["share of a step"] for r in report.rows if r["batch"] == 2)
    assert report.claims[1].holds == (worst <= 0.05) or rows["draw", 2]["share of a step"] == worst
