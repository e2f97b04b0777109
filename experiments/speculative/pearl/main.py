"""PEARL: both models run all the time.

Claim (Liu et al. 2024, arXiv 2408.11850): drafting while the target verifies, in windows as long
as the target is slow, is up to 1.50x as fast as speculative decoding at its best draft length
(4.43x plain decoding), and the number of drafts accepted in a row is more than 3 times larger.

    python -m experiments pearl --preset cpu

Tokens are decoded on one device, where the order of the two models does not matter, and time is
a model's: with c passes of the draft model to one of the target, a step of PEARL takes
max(window / c, 1) target passes and a round of speculative decoding K / c + 1. Nothing here is
wall time. Held-out prompts of the standard library at temperature 1; the drafts are the zoo's
and, as stand-ins for better ones, the target itself with noise in its weights. The closed forms
for independent acceptances are drawn beside what is measured. About 3 minutes on two cores.

To expect: the best window is c; PEARL wins by most where drafts are good and c is small, and
loses to well-tuned speculative decoding where drafts are poor and c is large, because it never
drafts past the first rejection of a window without having paid a step for it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.speculative.pearl.figure import draw
from experiments.speculative.pearl.findings import claims, table
from experiments.speculative.pearl.setting import (
    Config,
    in_turn,
    measure,
    pairs,
    parallel,
    same_text,
)

PRESETS = {
    "smoke": Config(
        prompts=6,
        max_tokens=16,
        batch=6,
        ratios=(3,),
        windows=(3,),
        lengths=(1, 2, 3),
        noise=(),
        ablated=0,
    ),
    "cpu": Config(),
    # The published setting. Give the folders and the prompts:
    #   --config.target DIR --config.draft DIR --config.questions humaneval.jsonl
    "paper": Config(
        prompts=164,
        max_tokens=1024,
        batch=1,
        windows=(2, 3, 4, 5, 6, 7, 8),
        lengths=(1, 2, 3, 4, 5, 6, 8, 10),
        noise=(),
        target="",
        draft="",
        questions=Path("humaneval.jsonl"),
    ),
}


def run(config: Config) -> Report:
    """Every window and every length for every draft, on the same prompts."""
    found: dict[str, dict[str, Any]] = {}
    here = pairs(config)
    each = len(config.windows) + len(config.lengths)
    steps = each * len(here) + 3 * bool(config.ablated)
    with Resumption(config) as finished, Progress("pearl", steps) as progress:

        def row(key: str, make) -> dict[str, Any]:
            value = finished.row(key, make)
            progress.advance(note=key)
            return value

        for name, pair in here.items():
            for k in config.lengths:
                spec = in_turn(pair, max(config.lengths), k)
                key = f"{name}, K = {k}"
                found[key] = row(key, partial(measure, pair, spec))
            for g in config.windows:
                key = f"{name}, window {g}"
                found[key] = row(key, lambda p=pair, g=g: measure(p, parallel(p, g)))
        first, same = next(iter(here.values())), None
        if config.ablated:
            for flag in ("pre_verify", "post_verify"):
                spec = partial(parallel, first, config.ablated, **{flag: False})
                found[flag] = row(f"no {flag}", lambda spec=spec: measure(first, spec()))
            same = row("greedy", lambda: same_text(config, first))["share"]
    rows = table(config, list(here), found)
    draw(config, rows)
    evidence = {"drafts": list(here), "runs": found, "same text": same}
    return Report.of(claims, config, evidence, rows, finished.seconds)
