"""The figure of the speculative-rejection experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.figures import figure


def draw(path: Path, runs, means, rows) -> None:
    """Improvement against tokens and time, correlation, and the saw-tooth of memory."""
    normal = [row for row in rows if row["method"].startswith("best")]
    rejection = [row for row in rows if row not in normal]
    with figure(path, columns=2, rows=2) as (by_tokens, by_time, correlation, memory):
        for axes, name, unit in (
            (by_tokens, "decoded tokens", "decoded tokens a prompt"),
            (by_time, "seconds", "seconds a prompt"),
        ):
            axes.plot(
                [r[name] for r in normal], [r["improvement"] for r in normal], label="best-of-N"
            )
            axes.plot(
                [r[name] for r in rejection],
                [r["improvement"] for r in rejection],
                label="speculative rejection",
            )
            for row in rejection:
                axes.annotate(
                    row["method"].rpartition(" ")[2],
                    (row[name], row["improvement"]),
                    xytext=(3, 4),
                    textcoords="offset points",
                    fontsize=7,
                )
            for row in normal:
                axes.annotate(
                    row["method"].rpartition("-")[2],
                    (row[name], row["improvement"]),
                    xytext=(3, -9),
                    textcoords="offset points",
                    fontsize=7,
                )
            axes.set(xscale="log", xlabel=unit, ylabel="improvement score")
        correlation.plot(means["tokens"], means["pearson"], label="Pearson")
        correlation.plot(means["tokens"], means["kendall"], label="Kendall")
        correlation.set(
            xscale="log",
            xlabel="tokens of the prefix",
            ylabel="correlation with the final reward",
            ylim=(0, 1.02),
        )
        for found in runs:
            position, held = saw_tooth(found["rows"][0]["cuts"])
            share = [100 * tokens / found["budget"] for tokens in held]
            memory.plot(position, share, marker="", label=f"alpha {found['alpha']}")
        memory.set(xscale="log", xlabel="tokens of a response", ylabel="cache in use, % of budget")


def saw_tooth(cuts: Sequence[dict]) -> tuple[list[int], list[float]]:
    """Cache tokens held as responses grow: a rise through each stage, a drop at each cut."""
    position, held = [], []
    reached, before = 1, 0.0
    for cut in cuts:
        position += [reached, max(cut["longest"], reached)]
        held += [before * cut["width"], cut["tokens"]]
        reached = max(cut["longest"], reached)
        before = cut["tokens"] / cut["width"]
    return position, held
