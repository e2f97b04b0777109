"""The figure of ParallelBench: closed forms, the denoiser on them, divergences, the grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from algorithms.diffusion.parallelbench import sampled_accuracy
from experiments.diffusion.parallelbench.findings import Findings
from experiments.diffusion.parallelbench.measured import ideal
from experiments.diffusion.parallelbench.setting import MEASURED
from experiments.harness.figures import MARKERS, PALETTE, figure


def draw(path: Path | None, found: Findings) -> None:
    """Four panels."""
    config = found.config
    with figure(path, columns=2, rows=2) as (known, trained, bits, grid):
        every = np.arange(1, config.items + 1)
        for panel, title in ((known, "an ideal model"), (trained, "the denoiser")):
            names = dict.fromkeys(ideal(name) for name in MEASURED)
            for name, colour in zip(names, PALETTE, strict=False):
                formula = [sampled_accuracy(name, config.items, int(k)) for k in every]  # type: ignore[arg-type]
                panel.plot(every, formula, color=colour, marker="", linestyle=":")
            panel.set(title=f"{title}, {config.items} items", ylim=(-0.03, 1.35))
            panel.set(xlabel="places decided in a step", ylabel="right answers")
        for name, colour, marker in zip(
            dict.fromkeys(ideal(name) for name in MEASURED), PALETTE, MARKERS, strict=False
        ):
            rows = [r for r in found.known if r["task"] == name and "p" in r]
            if not rows:
                continue
            middle = np.array([r["accuracy"] for r in rows])
            ends = np.array([[r["low"], r["high"]] for r in rows]).T
            gap = np.abs(ends - middle)
            known.errorbar(
                [r["k"] for r in rows],
                middle,
                gap,
                color=colour,
                marker=marker,
                linestyle="",
                label=name.replace("_", " "),
            )
        shades = dict(
            zip(("copy", "replace_random", "shuffle", "replace_index"), PALETTE, strict=False)
        )
        for name, marker in zip(MEASURED if found.right else (), MARKERS, strict=False):
            values = [np.mean(found.right[k][name]) for k in config.steps]
            label = name.replace("_", " ")
            trained.plot(config.steps, values, color=shades[name], marker=marker, label=label)
        for panel in (known, trained):
            if panel.get_legend_handles_labels()[0]:
                panel.legend(loc="upper center", ncols=2)
        place = np.arange(len(found.bits))
        once = [np.mean(row["at once"]) for row in found.bits]
        chain = [np.mean(row["one by one"]) for row in found.bits]
        bits.bar(place - 0.2, once, 0.35, color=PALETTE[0], label="all at once")
        bits.bar(place + 0.2, chain, 0.35, color=PALETTE[5], label="one by one")
        for at, row in zip(place, found.bits, strict=True):
            bits.plot([at - 0.42, at + 0.02], [row["bound"]] * 2, color=PALETTE[6], marker="")
        bits.set_xticks(place, [row["task"].replace("_", "\n") for row in found.bits])
        bits.set(title="divergence, line: total correlation", ylabel="bits")
        whole = max(config.blocks)
        static = [f"top k, {order}" for order in config.orders if order in ("confidence", "random")]
        for name in (*static, "threshold", "factor", "entropy bound"):
            if not found.grid.of_policy(name, whole):
                continue
            speed, accuracy = found.grid.curve(found.grid.of_policy(name, whole))
            grid.plot(speed, accuracy, label=name)
        speed, accuracy = found.grid.oracle()
        grid.plot(speed, accuracy, color=PALETTE[6], marker="", linestyle="--", label="oracle")
        if found.twin is not None:
            grid.axhline(float(found.twin.mean()), color="#888888", linewidth=1)
            grid.annotate(
                "autoregressive twin", (1.05, float(found.twin.mean()) + 0.015), fontsize=7
            )
        grid.set(title="ten operations", xscale="log", ylim=(-0.03, 1.03))
        grid.set(xlabel="tokens per step (canvas / passes)", ylabel="right answers")
