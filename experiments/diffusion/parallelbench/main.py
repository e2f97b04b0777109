"""ParallelBench: what decoding several tokens at once costs on tasks whose law is known.

Claim (Kang et al. 2025, arXiv 2510.04767): deciding places together samples a product of
conditionals, whose divergence from the data is at least their total correlation, whatever the
model; so shuffling a list collapses as parallelism grows while copying it does not, and no
policy adapts as well as an oracle that picks the setting of every question.

    python -m experiments parallelbench --preset cpu

Three parts. Known laws run through the canvas engine as an ideal model: accuracies against the
closed forms, by exact binomial tests. The zoo's denoiser on lists of six: accuracy by places a
step, and its divergence all at once and one by one against the bound, question by question. The
grid of policies on all ten operations with padded answers, greedily, with its oracle and the
autoregressive twin, where there is one. About 3 minutes on one core, most of it compiling. Gaps
come with 95 % bootstrap intervals over questions. The preset `paper` takes a published denoiser and
the benchmark's files by path; there the parts on lists of symbols are left out.

To be expected: the known laws are on their closed forms. The denoiser's curves fall as theirs do,
from 70 to 38 % for replacing anywhere and from 48 % to none for shuffling six items, while copying
stays; drawn one place at a time it is not yet right on these two, so that claims about where the
curves begin fail. Of greedy policies thresholds are the best, 4 points below the oracle.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.diffusion.parallelbench import grid, known, measured
from experiments.diffusion.parallelbench.claims import claims
from experiments.diffusion.parallelbench.figure import draw
from experiments.diffusion.parallelbench.findings import Findings
from experiments.diffusion.parallelbench.setting import MEASURED, Config, Setting
from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption

PRESETS = {
    "smoke": Config(
        items=3,
        laws=("shuffle",),
        steps=(1, 3),
        trials=200,
        asked=8,
        questions=2,
        canvas=8,
        blocks=(8,),
        orders=("confidence",),
        counts=(1, 8),
        thresholds=(0.9,),
        factors=(),
        bounds=(),
        squares=0,
    ),
    "cpu": Config(),
    "paper": Config(
        denoiser="LLaDA-1.5",
        data=Path("parallel_bench"),
        questions=100,
        canvas=32,
        blocks=(1, 2, 4, 8, 16, 32),
        counts=(1, 2, 4, 8, 16, 32),
    ),
}


def run(config: Config) -> Report:
    """Known laws, the denoiser on lists of one length, the grid."""
    return study(Setting.of(config))


def study(setting: Setting) -> Report:
    """`run` with the model at hand."""
    config = setting.config
    every = list(grid.cells(config))
    names, examples, prompt = grid.asked(setting)
    right: dict[int, Any] = {}
    ideal = len(config.steps) * len(config.laws) + len(config.thresholds) + len(config.factors)
    more = 3 * bool(config.squares) + (config.twin is not None)
    lists = 0 if config.data is not None else len(config.steps) + len(MEASURED)
    total = len(every) + ideal + more + lists
    with Resumption(config) as kept, Progress("parallelbench", total) as progress:

        def row(key: str, measure: Any) -> dict[str, Any]:
            progress.advance(note=key)
            return kept.row(key, measure)

        known_rows = [
            row(f"known {name} {k}", partial(known.sampled, config, name, k))
            for name in config.laws
            for k in config.steps
        ]
        for policy, values in (("threshold", config.thresholds), ("factor", config.factors)):
            known_rows += [
                row(f"known {policy} {v}", partial(known.greedy, config, policy, v)) for v in values
            ]
        if config.squares:
            known_rows += [
                row(f"squares {k}", partial(known.squares, config, k)) for k in (1, 4, 16)
            ]
        for k in config.steps if config.data is None else ():
            right[k] = row(f"lists {k}", partial(measured.accuracies, setting, k))
        bits = [
            row(f"bits {name}", partial(measured.divergences, setting, name))
            for name in (MEASURED if config.data is None else ())
        ]
        cells = {
            cell: row(cell.key, partial(grid.measure, setting, cell, names, examples, prompt))
            for cell in every
        }
        twin = None
        if config.twin is not None:
            answered = row(
                "twin",
                lambda: {"right": grid.autoregressive(setting, names, examples, prompt)},
            )
            twin = np.asarray(answered["right"])
    used = [len(setting.text.encode(e.target, add_special=False)) + 1 for e in examples]
    table = grid.Grid.of(cells, config.canvas, used, names)
    found = Findings(config, known_rows, right, bits, table, twin)
    if config.out is not None:
        draw(Path(config.out) / "figure.png", found)
    rows = [*known_rows, *_lists(setting, found), *_bits(found), *table.rows()]
    return Report.of(claims, config, found.evidence, rows, kept.seconds)


def _lists(setting: Setting, found: Findings) -> list[dict[str, Any]]:
    return [
        measured.row(setting, k, name, some[name])
        for k, some in found.right.items()
        for name in some
    ]


def _bits(found: Findings) -> list[dict[str, Any]]:
    return [
        row | {name: float(np.mean(row[name])) for name in ("at once", "one by one")}
        for row in found.bits
    ]
