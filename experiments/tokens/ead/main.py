"""EAD: a small and a large model take turns by the entropy of what they write.

Claim (Simonds 2025, arXiv 2502.06833): switching between two models of one family by the rolling
mean of next-token entropy keeps 96.7 % of the large model's score on MATH at 58.5 % of its cost
(LLaMA 3B and 11B), or 92.9 % at 33 % (Qwen2.5 1.5B and 14B).

    python -m experiments ead --preset cpu

Multi-step arithmetic, answered greedily by the zoo's `arithmetic` and its small brother alone, by
both under thresholds of entropy, by both under a coin of the same share and runs, and by routing
whole questions. A threshold is chosen on validation questions by its height above the line between
the two models; claims are judged on test questions by 95 % bootstrap intervals over questions.
Cost is given by parameters, as published, and as counted FLOPs, which have in them what a model
reads to catch up. About 5 minutes on one core.

To expect: in 384 questions the small model is right in 63 %, the large one in 74 %, and switching
by entropy lies on the line between them, within 2 or 3 points: in a solution the hard token is one
digit, which as published the model that finds it hard still writes, and the large one comes for
the easy ones behind it. Where it writes such tokens anew (ours: an open point, and a window of
one) 79 % are right with 16 % of the tokens, more than the large model alone. Short runs save no
FLOPs: both models read nearly everything.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.tasks.task import Split
from experiments.tokens.ead.figure import draw
from experiments.tokens.ead.findings import Findings, choose, claims
from experiments.tokens.ead.setting import Config, Row, Setting

PRESETS = {
    "smoke": Config(
        questions=16, validation=16, batch=16, max_tokens=40, thresholds=(0.7, 0.2),
        windows=((5, 1),),
    ),
    "cpu": Config(),
    "paper": Config(
        large="Llama-3.1-8B-Instruct",
        small="Llama-3.2-3B-Instruct",
        data=Path("gsm8k"),
        questions=1319,
        validation=300,
        batch=1,
        max_tokens=512,
        thresholds=(2.0, 1.6, 1.2, 0.9, 0.7, 0.5, 0.35, 0.2, 0.1),
        windows=((5, 10), (5, 1), (5, 5), (5, 20), (1, 1)),
        routed=32,
    ),
}  # fmt: skip


def run(config: Config) -> Report:
    """Both models alone, then together, on validation and on test questions."""
    return study(Setting.of(config))


def study(setting: Setting) -> Report:
    """`run` with the models at hand."""
    config = setting.config
    first, count = config.windows[0], len(config.thresholds)
    steps = 4 + count * (len(config.windows) + 4) + 1
    with Resumption(config) as finished, Progress("EAD", steps) as progress:

        def row(key: str, measure) -> Row:
            found = finished.row(key, measure)
            progress.advance(note=key)
            return found

        splits: tuple[Split, ...] = ("validation", "test")
        alone = {
            (which, split): row(f"{split}: {which}", partial(setting.alone, which, split))
            for split in splits
            for which in ("small", "large")
        }
        tried = [
            row(f"validation: {tau}", partial(setting.by_entropy, tau, first, "validation"))
            for tau in config.thresholds
        ]
        chosen = choose(tried, alone["small", "validation"], alone["large", "validation"])
        curves = {
            window: [
                row(f"test: {tau}, {window}", partial(setting.by_entropy, tau, window, "test"))
                for tau in config.thresholds
            ]
            for window in config.windows
        }
        pairs = list(zip(config.thresholds, curves[first], strict=True))
        chance = [
            row(f"by chance: {tau}", partial(setting.by_chance, like, "test"))
            for tau, like in pairs
        ]
        routed = [
            row(f"routed: {tau}", partial(setting.routing, tau, "test"))
            for tau in config.thresholds
        ]
        anew = [
            row(f"anew: {tau}", partial(setting.anew, tau, "test")) for tau in config.thresholds
        ]
        strip = row("one answer", partial(setting.strip, config.thresholds[chosen], first))
    found = Findings(
        config,
        setting.ratio,
        alone["large", "test"],
        alone["small", "test"],
        curves,
        chance,
        routed,
        chosen,
        strip,
        tried,
        anew,
    )
    if config.out is not None:
        draw(Path(config.out) / "figure.png", found)
    return Report.of(claims, config, found.evidence, found.table(), finished.seconds)
