"""Transfer Q*: values by an aligned policy's rollouts, against ARGS, CD and best-of-N.

Claim (Chakraborty, Ghosal et al. 2024, arXiv 2405.20495): guiding a decoder by the value of an
aligned policy's completions reaches a higher reward than guiding it by the base's own values (CD)
or by a reward model on prefixes (ARGS), up to 1.45 times CD's; where the policy was aligned to
another reward, weighing its rollouts (indirect) beats trusting them, and both beat CD.

    python -m experiments transfer_q_star --preset cpu

Openings of dialog replies, 20 tokens, by the zoo's generator and its Bradley-Terry reward model;
the policy is aligned here by DPO on the base's responses. Guided methods draw from their tilted
laws over the same k = 8 candidates, those with rollouts from n = 4 of each; 1 / alpha is swept, and
N and K of best-of-N and blockwise CD, and rewards are compared where the KL to the base is equal:
linear between settings, at the KL of Transfer Q*'s middle setting, with a 95 % bootstrap interval
over prompts. The KL is that of the law drawn from given the rollouts, which is no less than the
true one; for best-of-N and blocks it is their bound. Transfer Q* tilts the aligned policy itself,
as published; the table has the base tilted by the same values too. The judge of wins is the
task's known reward, which no method sees. About 3 minutes on two cores. To expect: far above CD
and ARGS on the base, a little above ARGS on the aligned policy; best-of-N is better than all at
equal KL, and indirect transfer no better than trusting the wrong policy.

The preset `paper` takes an aligned checkpoint and its base by path:
    python -m experiments transfer_q_star --preset paper --config.generator SFT
        --config.policy DPO --config.reward RM --config.input prompts.jsonl
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.search.transfer_q_star.figure import draw
from experiments.search.transfer_q_star.findings import claims
from experiments.search.transfer_q_star.measures import Frontier, arms, measure
from experiments.search.transfer_q_star.setting import Config, World

UNJUDGED = ("TQ*, base tilted", "TQ*, by width", "TQ*, by horizon", "CD, blocks", "aligned (DPO)")
PRESETS = {
    "smoke": Config(
        methods=("ARGS",),
        train=16,
        judged=24,
        samples=8,
        steps=40,
        value_steps=40,
        max_tokens=8,
        opening=3,
        candidates=4,
        rollouts=2,
        weights=(0.5,),
        sizes=(4,),
        blocks=(4,),
        block=4,
    ),
    "cpu": Config(),
    # The published sizes; the reward is that of whole responses.
    "paper": Config(
        generator="pythia-6.9b-sft",
        policy="pythia-6.9b-dpo",
        reward="pythia-6.9b-reward",
        input=Path("hh-rlhf.jsonl"),
        train=300,
        judged=300,
        max_tokens=128,
        candidates=10,
        opening=32,
        block=32,
    ),
}


def run(config: Config) -> Report:
    """Train what is to be trained, then every method at every setting on the same prompts."""
    world, found = World(config), {}
    todo = [(name, at) for name, arm in arms(config).items() for at in arm.settings]
    with Resumption(config) as finished, Progress("Transfer Q*", len(todo)) as progress:
        for name, at in todo:
            key = f"{name} {at:g}"
            row = finished.row(key, partial(measure, world, arms(config)[name], at))
            found.setdefault(name, []).append({"setting": at} | row)
            progress.advance(note=key)
    frontiers = {name: Frontier.of(rows) for name, rows in found.items()}
    if config.out is not None:
        draw(Path(config.out) / "figure.png", frontiers)
    evidence = {
        name: {
            column: values.tolist()
            for column, values in frontier.columns.items()
            if column in ("reward", "kl", "known reward")
        }
        for name, frontier in frontiers.items()
        if name not in UNJUDGED
    }
    return Report.of(claims, config, evidence, table(found), finished.seconds)


def table(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row for every setting of every method."""
    shown = ("reward", "known reward", "kl", "grammatical", "diversity")
    spent = ("tokens run", "reward tokens", "seconds")
    return [
        {"method": name, "setting": row["setting"]}
        | {key: float(np.mean(row[key])) for key in (*shown, *spent) if key in row}
        for name, rows in found.items()
        for row in rows
    ]
