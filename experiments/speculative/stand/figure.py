"""The figure of the experiment on STAND."""

from __future__ import annotations

from pathlib import Path

from experiments.harness.report import figure


def draw(path: Path, found, overlaps, acceptance) -> None:
    """Repetition among samples, tokens by sample, and drawn against likeliest by temperature."""
    with figure(path, columns=3) as (repeats, samples, temperatures):
        for order, shares in overlaps.items():
            repeats.plot(range(1, len(shares) + 1), shares, label=f"{order}-grams")
        repeats.set(xlabel="earlier samples", ylabel="share found in them")
        for name, row in found.items():
            samples.plot(range(1, len(row["by_sample"]) + 1), row["by_sample"], label=name)
        samples.set(xlabel="sample", ylabel="tokens per call")
        samples.legend(fontsize=6)
        for name in ("likeliest tokens", "drawn tokens"):
            own = sorted(
                (r for r in acceptance if r["method"] == name), key=lambda r: r["temperature"]
            )
            temperatures.plot(
                [r["temperature"] for r in own], [r["tokens_per_call"] for r in own], label=name
            )
        temperatures.set(xlabel="temperature", ylabel="tokens per call")
