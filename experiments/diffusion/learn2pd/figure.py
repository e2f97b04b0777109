"""The figure of Learn2PD: accuracy by passes, gains by length, depths, and who decides when."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.diffusion import commit_order
from experiments.diffusion.learn2pd.findings import Findings
from experiments.harness.figures import MARKERS, PALETTE, figure


def draw(path: Path | None, found: Findings) -> None:
    """Four panels."""
    with figure(path, columns=2, rows=2) as (curve, gains, depths, order):
        kinds = ("static", "fixed", "threshold", "factor", "filter", "ends")
        for kind, colour, marker in zip(kinds, PALETTE, MARKERS, strict=False):
            some = [name for name in found.found if name.split()[0].strip(",") == kind]
            measured = [found.test(name) for name in some]
            curve.plot(
                [one["passes"].mean() for one in measured],
                [one["right"].mean() for one in measured],
                label=kind,
                color=colour,
                marker=marker,
                linestyle="" if kind == "ends" else "-",
            )
        curve.set(xlabel="passes", ylabel="right answers", ylim=(-0.03, 1.03))
        lengths = found.config.lengths
        for name, colour, marker in zip(("filter", "ends"), PALETTE, MARKERS, strict=False):
            each = np.array([found.gain(name, places) for places in lengths]).T
            gains.plot(lengths, each[0], label=name, color=colour, marker=marker)
            gains.fill_between(lengths, each[1], each[2], color=colour, alpha=0.2)
        gains.set(xlabel="places of the canvas", ylabel="times fewer tokens run than static")
        gains.set(xscale="log", yscale="log")
        gains.set_xticks(lengths, [str(places) for places in lengths], minor=False)
        gains.minorticks_off()
        for depth, colour, marker in zip(found.config.depths, PALETTE, MARKERS, strict=False):
            some = [f"{found.config.kind(depth)} {tau:g}" for tau in found.config.taus]
            measured = [found.test(name) for name in some]
            depths.plot(
                [one["passes"].mean() for one in measured],
                [one["right"].mean() for one in measured],
                label=f"{depth} layer" + "s" * (depth > 1),
                color=colour,
                marker=marker,
            )
        depths.set(xlabel="passes, by threshold of the filter", ylabel="right answers")
        depths.set(ylim=(-0.03, 1.03))
        commit_order.draw(order, found.orders)
