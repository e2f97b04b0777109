"""The figure of the speculative-rejection experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from experiments.harness.figures import figure


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
            for row in (rejection[0], rejection[-1]):  # enough to tell which way alpha runs
                label(axes, row["method"].rpartition(" ")[2], row[name], row["improvement"], 5)
            for row in normal:
                label(axes, row["method"].rpartition("-")[2], row[name], row["improvement"], -10)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:,g}")
            axes.set(xlabel=unit, ylabel="improvement score")
        correlation.plot(means["tokens"], means["pearson"], label="Pearson")
        correlation.plot(means["tokens"], means["kendall"], label="Kendall")
        correlation.set(
            xscale="log",
            xlabel="tokens of the prefix",
            ylabel="correlation with the final reward",
            ylim=(0, 1.02),
        )
        for found in runs:
            position, held = saw_tooth(found["rows"][0]["cuts"], found["rows"][0]["prompt"])
            share = [100 * tokens / found["budget"] for tokens in held]
            memory.plot(position, share, marker="", label=f"alpha {found['alpha']}")
        memory.set(xscale="log", xlabel="tokens of a response", ylabel="cache in use, % of budget")
        memory.set_ylim(bottom=0)
        memory.legend(loc="upper left")


def label(axes: Axes, text: str, x: float, y: float, above: int) -> None:
    """A small note beside a point."""
    axes.annotate(text, (x, y), xytext=(3, above), textcoords="offset points", fontsize=7)


def saw_tooth(cuts: Sequence[dict], prompt: int) -> tuple[list[int], list[float]]:
    """Cache tokens held as responses grow: a rise through each stage, a drop at each cut."""
    position, held = [], []
    reached, before = 1, float(prompt)
    for cut in cuts:
        position += [reached, max(cut["longest"], reached)]
        held += [before * cut["width"], cut["tokens"]]
        reached = max(cut["longest"], reached)
        before = cut["tokens"] / cut["width"]
    return position, held
