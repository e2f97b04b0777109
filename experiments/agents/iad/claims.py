"""The paper's claims on IAD, by rules fixed before measuring; intervals are over questions, of
which all arms answer the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.agents.iad.setting import Config
from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import points

Scores = NDArray[np.float64]
PROGRAMS = "programs: "  # before the names of arms on the second task
CONFUSED = "IAD, another's feedback"
KEEPING, REPLACING = "IAD, one at a time", "IAD, one at a time, always replaced"
PAIR = ("IAD", "best-of-N")
MORE = 3  # points on text-to-SQL, the least published


def blurred(config: Config) -> tuple[str, str]:
    """The verifiers that say least."""
    return f"noise {config.sigmas[-1]:g}", "sparse"


def kept(config: Config, curves: Mapping[str, Scores]) -> dict[str, Any]:
    """What the claims are judged by, question by question: who solved it, at the end and of two
    arms after two rounds' worth of calls, and the scores of those whose lead is compared."""
    early = {"IAD": 1, "best-of-N": 2 * config.samples - 1}
    on_programs = [f"{PROGRAMS}{name}" for name in (*PAIR, CONFUSED) if config.writer is not None]
    blurry = [f"{name}, {told}" for told in blurred(config) for name in PAIR]

    def solved(scores: Scores) -> list[int]:
        return (scores == 1).astype(int).tolist()

    return {
        "solved": {
            name: solved(curves[name][:, -1])
            for name in (*PAIR, CONFUSED, KEEPING, REPLACING, *on_programs)
        },
        "early": {name: solved(curves[name][:, at]) for name, at in early.items()},
        "scores": {name: np.round(curves[name][:, -1], 4) for name in (*PAIR, *blurry)},
    }


def claims(config: Config, evidence: Mapping[str, Any]) -> list[Claim]:
    """By rules fixed before measuring, from what a record keeps."""
    solved, early, scores = (
        {name: np.asarray(values, float) for name, values in evidence[part].items()}
        for part in ("solved", "early", "scores")
    )

    def beats(
        claim: str, paper: str, left: Scores, right: Scores, measured: str = "", least: int = 0
    ) -> Claim:
        bar = above(points(left, right), f"{least} points")
        return Claim.tested(claim, paper, bar, measured=measured)

    def compared(claim: str, paper: str, one: str, other: str, least: int = 0) -> Claim:
        left, right = solved[one], solved[other]
        rates = f"{100 * left.mean():.1f} against {100 * right.mean():.1f} %"
        return beats(claim, paper, left, right, rates, least)

    def lead(verifier: str = "") -> Scores:
        suffix = f", {verifier}" if verifier else ""
        return scores[f"IAD{suffix}"] - scores[f"best-of-N{suffix}"]

    later = {name: solved[name] - early[name] for name in PAIR}
    noisy, sparse = blurred(config)
    stated = [
        compared(
            f"IAD solves {MORE} points and more above best-of-N at {config.calls} calls each",
            "+3 to 6 points on text-to-SQL, 8 to 10 on Webshop",
            *PAIR,
            least=MORE,
        ),
        beats(
            f"IAD gains more than best-of-N from call {2 * config.samples} to {config.calls}",
            "best-of-N gains nothing after about two rounds' worth, IAD goes on",
            *later.values(),
            measured=f"best-of-N itself gains {100 * later['best-of-N'].mean():+.1f}",
        ),
        compared(
            "the gain is the feedback's: IAD solves more than with another question's feedback",
            "gains come from verifier-guided refinement, not from diversity",
            "IAD",
            CONFUSED,
        ),
        compared(
            "one answer at a time, keeping the better one solves more than always replacing it",
            "acceptance is part of the method",
            KEEPING,
            REPLACING,
        ),
    ]
    for what, name in (
        (f"a verifier with noise of {config.sigmas[-1]:g}", noisy),
        ("a verifier that tells only perfect answers apart", sparse),
    ):
        stated.append(
            beats(
                f"{what} makes IAD's lead in score smaller",
                "noisy or sparse rewards break the scaling",
                lead(),
                lead(name),
                f"lead {100 * lead().mean():+.1f}, then {100 * lead(name).mean():+.1f}",
            )
        )
    for name, told in (
        ("best-of-N", "best-of-N at equal calls"),
        (CONFUSED, "with another problem's feedback"),
    ):
        if config.writer is not None:
            stated.append(
                compared(
                    f"on list programs IAD solves more hidden tests whole than {told}",
                    "not in the paper",
                    f"{PROGRAMS}IAD",
                    f"{PROGRAMS}{name}",
                )
            )
    return stated
