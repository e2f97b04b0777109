"""SpecDec++: drafts that end where a head foresees a rejection.

Claim (Huang et al. 2024, arXiv 2405.19715): which draft length is best changes from place to
place, and a small head on the draft model that predicts acceptance finds it: 2.04x over plain
decoding on Alpaca where the best fixed length has 1.90x (+7.2 %; GSM8K +9.4 %, HumanEval
+11.1 %), with fewer discarded tokens at any rate of verification.

    python -m experiments specdec_pp --preset cpu

The zoo's pair of models of the standard library's source at temperature 1. Heads are trained in
the run, on responses of the target to prompts of the validation files. Everything is counted
and nothing is timed: a rule for draft lengths is told by how many tokens it discards and how
often the target runs for each token of text, and speed-ups follow for any ratio of the models'
speeds. Beside fixed lengths stand rules without training: the heuristic schedule, the draft
model's own probabilities, and depths by a running estimate of acceptance. Greedy decoding shows
what hindsight would make of it. About 3 minutes on two cores.
"""

from __future__ import annotations

from pathlib import Path

from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.speculative.specdec_pp.figure import draw
from experiments.speculative.specdec_pp.findings import claims
from experiments.speculative.specdec_pp.measures import hindsight, reliability, rules
from experiments.speculative.specdec_pp.setting import Config, Setting

PRESETS = {
    "smoke": Config(
        prompts=6,
        max_tokens=16,
        batch=6,
        most=4,
        lengths=(1, 2, 4),
        thresholds=(0.5, 0.9),
        few=(),
        weights=(1.0,),
        depths=(),
        lessons=12,
        steps=20,
    ),
    "cpu": Config(),
    # The published setting. Give the folders and the prompts:
    #   --config.target DIR --config.draft DIR --config.questions alpaca.jsonl
    "paper": Config(
        prompts=2000,
        max_tokens=512,
        batch=1,
        most=20,
        lengths=(2, 4, 6, 8, 10, 12, 14),
        lessons=40000,
        steps=3750,
        rate=5e-5,
        target="",
        draft="",
        questions=Path("alpaca.jsonl"),
    ),
}


def run(config: Config) -> Report:
    """Every rule on the same prompts and draws."""
    setting = Setting.of(config)
    runs = rules(setting)
    with Resumption(config) as finished, Progress("specdec_pp", len(runs) + 2) as progress:
        rows = []
        for name, (family, make) in runs.items():
            found = finished.row(name, lambda make=make: setting.measure(make))
            rows.append({"rule": name, "family": family} | found)
            progress.advance(note=name)
        greedy = finished.row("hindsight", lambda: hindsight(setting))
        progress.advance(note="hindsight")
        head = finished.row("reliability", lambda: reliability(setting))
        progress.advance(note="reliability")
    draw(config, rows, head)
    evidence = {"rules": rows, "hindsight": greedy, "reliability": head}
    return Report.of(claims, config, evidence, rows, finished.seconds)
