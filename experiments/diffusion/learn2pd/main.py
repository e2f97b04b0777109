"""Learn2PD: a small filter decides what is final, and the canvas is cut where its text ends.

Claim (Bao et al. 2025, arXiv 2509.25188): an oracle that decides a token once it equals the
model's own decoding needs two passes a block; a filter of the block's confidences comes near it;
with end-of-text prediction decoding is 22.58 times faster on canvases of 1,024 places without
loss, 57.51 times with a dual cache, and the gain grows with the canvas.

    python -m experiments learn2pd --preset cpu

The zoo's denoiser on its three tasks. The oracle's traces on training questions teach the filter, a
split by question apart from what judges it. The thresholds of the filter and of plain confidence
are chosen on validation questions, the fewest passes at no more than a point below static
decoding, and judged on test questions: passes, tokens run, accuracy; without a cache, with a
prefix and a dual one; on canvases of several sizes; by filters of one, two and four layers,
each at its own threshold, and by one that was taught on list operations alone. Intervals are
bootstraps over questions. `paper` takes a published denoiser and GSM8K's files by path. About 3
minutes on one core.

To be expected: on canvases of 64 places the filter with predicted ends runs 39 times fewer tokens
than static decoding, 53 with a dual cache, as often right; the filter alone needs a quarter more
passes than a threshold that was tuned as it was.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from experiments.diffusion import commit_order
from experiments.diffusion.canvas_ground import Ground, summary
from experiments.diffusion.learn2pd.claims import claims
from experiments.diffusion.learn2pd.figure import draw
from experiments.diffusion.learn2pd.findings import Findings
from experiments.diffusion.learn2pd.setting import Config, Study
from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption

PRESETS = {
    "smoke": Config(
        places=8,
        block=4,
        lengths=(8, 16),
        lessons=8,
        tuning=2,
        questions=3,
        long=2,
        taus=(0.9,),
        thresholds=(0.9,),
        counts=(2,),
        factors=(),
        depths=(2,),
        steps=200,
        caches=("dual",),
    ),
    "cpu": Config(),
    "paper": Config(
        denoiser="LLaDA-8B-Instruct",
        data=Path("gsm8k"),
        places=256,
        block=32,
        lengths=(128, 256, 512, 1024),
        lessons=2640,
        tuning=200,
        questions=1319,
        long=1319,
        steps=40_000,
    ),
}


def run(config: Config) -> Report:
    """Traces, filters, tuned thresholds, caches, lengths, transfer."""
    return study(config, Ground.of(config.denoiser, config.data))


def study(config: Config, ground: Ground) -> Report:
    """`run` with the denoiser at hand."""
    with Resumption(config) as kept, Progress("learn2pd", config.measures) as progress:

        def row(key: str, measure: Any) -> dict[str, Any]:
            progress.advance(note=key)
            return kept.row(key, measure)

        it = Study(config, ground)
        traces = row("traces", it.traces)
        taught = {
            name: row(f"filter {name}", partial(it.teach, traces, depth, only))
            for name, depth, only in it.filters
        }
        found: dict[str, dict[str, Any]] = {}
        for name, generator in it.policies(taught).items():
            found[name] = row(name, partial(ground.ask, generator, it.asked))
        tuned = it.tuned(found)
        for name, generator in it.final(taught, tuned).items():
            found[name] = row(name, partial(ground.ask, generator, it.asked))
        long = it.already(found, tuned)
        long |= {
            name: row(name, partial(ground.ask, generator, it.few))
            for name, generator in it.lengths(taught, tuned).items()
        }
        shown = {
            "static": "static",
            **{k: tuned[k] for k in ("threshold", "filter")},
            "ends": "ends",
        }
        generators = it.policies(taught) | it.final(taught, tuned)
        orders = row(
            "order",
            lambda: {
                kind: commit_order.seen(ground, generators[name], it.few.of([0]))
                for kind, name in shown.items()
            },
        )
    findings = Findings(config, it.names, traces, taught, found, tuned, long, orders)
    if config.out is not None:
        draw(Path(config.out) / "figure.png", findings)
    rows = [{"method": name, **summary(findings.test(name))} for name in found]
    rows += [{"method": name, **summary(one)} for name, one in long.items()]
    rows += [
        {"method": f"filter {name}", **{key: one[key] for key in ("precision", "recall", "false")}}
        for name, one in taught.items()
    ]
    return Report.of(claims, config, findings.evidence, rows, kept.seconds)
