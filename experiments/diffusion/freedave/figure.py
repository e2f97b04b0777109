"""The figure of FreeDave: accuracy by places a pass, and how far drafts hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.diffusion.freedave.findings import Findings
from experiments.harness.figures import MARKERS, PALETTE, figure

KINDS = {
    "static": "static",
    "drafts": "FreeDave",
    "fixed": "fixed",
    "threshold": "threshold",
    "plus": "FreeDave++",
}


def draw(path: Path | None, found: Findings) -> None:
    """Two panels."""
    with figure(path, columns=2) as (curve, held):
        places = np.mean(found.found["static"]["passes"])
        for (kind, label), colour, marker in zip(KINDS.items(), PALETTE, MARKERS, strict=False):
            some = [n for n in found.found if n.split()[0].strip(",") == kind and "dual" not in n]
            speed = [places / np.mean(found.found[n]["passes"]) for n in some]
            right = [np.mean(found.found[n]["right"]) for n in some]
            curve.plot(speed, right, label=label, color=colour, marker=marker)
        curve.set(xlabel="places a pass", ylabel="right answers", ylim=(-0.03, 1.03))
        for count, colour in zip(found.config.drafts, PALETTE, strict=False):
            histogram = np.asarray(found.found[f"drafts {count}"]["histogram"], float)
            held.plot(
                np.arange(len(histogram)),
                histogram / histogram.sum(),
                label=f"{count} drafts",
                color=colour,
                marker="o",
            )
        held.set(xlabel="places decided beyond one step", ylabel="share of passes")
