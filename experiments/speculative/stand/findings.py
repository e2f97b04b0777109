"""What the experiment on STAND makes of its measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.harness.judging.claim import Claim, above, below
from experiments.harness.statistics import Estimate, points
from experiments.speculative.stand.setting import Config
from experiments.speculative.trees import gain, over_prompts

AS_OFTEN = 5  # points of right solutions within which two ways are as good
TIMES, DRAWN, FITTED = 1.33, 1.1, 1.08  # 3.67 over 2.75, 3.24 over 2.94, 64.99 over 59.96


def claims(config: Config, evidence: dict[str, Any]) -> list[Claim]:
    """The paper's, judged by rules fixed beforehand; intervals over problems."""
    found, plain, shared = (evidence[name] for name in ("methods", "plain", "shared"))
    recycled, own = found["token recycling"], found["STAND, drawn tokens, fitted tree"]
    likeliest, drawn = found["STAND, likeliest tokens"], found["STAND, drawn tokens"]
    right = [np.divide(row["right"], row["samples"]) for row in (shared, plain)]
    alike = points(*right)
    return [
        Claim.tested(
            f"{TIMES} times the tokens a call of token recycling over {config.samples} samples",
            "3.67 against 2.75",
            above(_gain(own, recycled), f"{TIMES}x"),
            measured=_calls(own, recycled),
            headline=True,
        ),
        Claim.tested(
            "The gain from earlier samples is larger than token recycling's",
            "STAND rises with the number of samples, token recycling is flat",
            above(_rise(own, recycled), "0 tokens"),
            measured=f"from the first sample to the mean of the later half "
            f"{own['last'] - own['first']:+.2f} against "
            f"{recycled['last'] - recycled['first']:+.2f}",
        ),
        Claim.tested(
            f"Drawn tokens yield {DRAWN} times the tokens a call of the likeliest, in the same "
            "tree",
            "3.24 against 2.94 tokens a call; 65-71 % against 60-64 % accepted",
            above(_gain(drawn, likeliest), f"{DRAWN}x"),
            measured=_calls(drawn, likeliest),
        ),
        Claim.tested(
            f"A tree fitted to counts yields {FITTED} times what the guessed one does",
            "64.99 against 59.96 tokens a second",
            above(_gain(own, drawn), f"{FITTED}x"),
            measured=_calls(own, drawn),
        ),
        Claim.tested(
            f"Solutions are as often right as plain samples, within {AS_OFTEN} points",
            "lossless",
            above(alike, f"-{AS_OFTEN} points"),
            below(alike, f"{AS_OFTEN} points"),
            measured=f"{100 * right[0].mean():.1f} against {100 * right[1].mean():.1f} %",
        ),
    ]


def _gain(row: dict[str, Any], other: dict[str, Any]) -> Estimate:
    mine, its = ({"by prompt": one["by problem"]["all"]} for one in (row, other))
    return gain(mine, its)


def _calls(row: dict[str, Any], other: dict[str, Any]) -> str:
    return f"{row['tokens_per_call']:.2f} against {other['tokens_per_call']:.2f}"


def _rise(row: dict[str, Any], other: dict[str, Any]) -> Estimate:
    """By how much more tokens a call grow from the first sample to the later half."""
    chosen = [
        {"by prompt": one["by problem"][name]} for one in (row, other) for name in ("last", "first")
    ]
    return over_prompts(lambda a, b, c, d: (a - b) - (c - d), *chosen, unit="tokens")
