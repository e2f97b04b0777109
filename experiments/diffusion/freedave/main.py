"""FreeDave: the steps of static decoding, several to a pass, and none of them changed.

Claim (Wu & Zhang 2025, arXiv 2510.00294): guesses that a pass makes anyway are drafts of the steps
to come, and the pass that the next step needs verifies several at once; the text is that of
deciding one place a pass, at up to 3.78 times its throughput (v2; 2.83 in v3), which no decoder
reaches without as many times fewer passes. Deciding more at once without verifying, by a fixed
number or a threshold, is as fast and changes the text.

    python -m experiments freedave --preset cpu

The zoo's denoiser on its three tasks, answers padded with ends, decoded to the last place. Static
decoding without a cache and with a dual one is the reference of each; drafts of 2 to 16 steps;
fixed numbers and thresholds beside them; FreeDave++ over the thresholds. Gains are told in passes,
in tokens run, which count every draft, and in seconds of this machine. Intervals are bootstraps
over questions. `paper` takes a published denoiser and GSM8K's files by path. About 3 minutes on one
core.

To be expected: every text is static decoding's, in 2.4 times fewer passes with 16 drafts, for 3.4
times the tokens, so that it is slower on a CPU; FreeDave++ saves a tenth to a quarter of the passes
of the thresholds it wraps.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from algorithms.diffusion.choosers import Threshold
from algorithms.diffusion.freedave import freedave, freedave_plus
from experiments.diffusion.canvas_ground import Ground, summary
from experiments.diffusion.freedave.figure import draw
from experiments.diffusion.freedave.findings import Findings, claims
from experiments.diffusion.freedave.setting import Config
from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from jaxdecode.choose import Fixed, Top
from jaxdecode.ending import Whole
from jaxdecode.guess import Chooser
from jaxdecode.rows import Expander
from jaxdecode.sampling import Greedy
from jaxdecode.unmask import Unmasker

PRESETS = {
    "smoke": Config(
        questions=4,
        places=8,
        block=8,
        drafts=(4,),
        counts=(4,),
        thresholds=(0.9,),
        repeats=0,
    ),
    "cpu": Config(),
    "paper": Config(
        denoiser="LLaDA-8B-Instruct",
        data=Path("gsm8k"),
        questions=1319,
        places=1024,
        block=32,
        drafts=(4, 8),
        counts=(2, 4),
        thresholds=(0.9, 0.95),
        plus=4,
        cached=4,
        repeats=1,
    ),
}


def run(config: Config) -> Report:
    """Static decoding, drafts, fixed numbers, thresholds, caches, seconds."""
    return study(config, Ground.of(config.denoiser, config.data))


def study(config: Config, ground: Ground) -> Report:
    """`run` with the denoiser at hand."""
    asked = ground.questions(config.questions, config.seed)
    every = methods(config, ground)
    found: dict[str, dict[str, Any]] = {}
    seconds: dict[str, list[float]] = {}
    with Resumption(config) as kept, Progress("freedave", len(every) + 1) as progress:
        for name, generator in every.items():
            found[name] = kept.row(name, partial(ground.ask, generator, asked))
            progress.advance(note=name)
        if config.repeats:
            timed = {name: every[name] for name in ("static", f"drafts {config.drafts[0]}")}
            timed |= {name: every[name] for name in ("static, dual", "drafts, dual")}
            seconds = kept.row("seconds", lambda: ground.seconds(timed, asked, config.repeats))
            progress.advance(note="seconds")
    findings = Findings(config, found, seconds)
    if config.out is not None:
        draw(Path(config.out) / "figure.png", findings)
    rows = [{"method": name, **summary(one)} for name, one in found.items()]
    for row in rows:
        taken = seconds.get(str(row["method"]))
        row["seconds of a batch"] = float(np.median(taken)) if taken else ""
        row["text of its reference"] = findings.same(str(row["method"]))
    return Report.of(claims, config, findings.evidence, rows, kept.seconds)


def methods(config: Config, ground: Ground) -> dict[str, Expander]:
    """Every way of decoding, by name."""

    def decoding(chooser: Chooser, cache: Any = "none") -> Unmasker:
        return Unmasker(
            ground.denoiser,
            chooser,
            Greedy(),
            ground.stop,
            config.places,
            config.block,
            cache,
            Whole(),
        )

    one = Top(Fixed(jnp.int32(1)))  # an array: other counts are the same program
    gamma = {value: Threshold(jnp.float32(value)) for value in config.thresholds}
    made: dict[str, Expander] = {"static": decoding(one)}
    for count in config.drafts:
        made[f"drafts {count}"] = freedave(decoding(one), count)
    for count in config.counts:
        made[f"fixed {count}"] = decoding(Top(Fixed(jnp.int32(count))))
    for value, chooser in gamma.items():
        made[f"threshold {value:g}"] = decoding(chooser)
        made[f"plus {value:g}"] = freedave_plus(decoding(chooser), config.plus)
    made["static, dual"] = decoding(one, "dual")
    made["drafts, dual"] = freedave(decoding(one, "dual"), config.cached)
    return made
