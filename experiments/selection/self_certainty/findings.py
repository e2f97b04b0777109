"""The paper's claims about self-certainty, and how what was measured is held against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import Floats, bootstrap, correlation, points, separation
from experiments.selection.self_certainty.setting import Config
from experiments.selection.self_certainty.votes import NAMES, Findings, by_level


@dataclass(frozen=True)
class Evidence:
    """What the claims read.

    Attributes:
      accuracy: method -> that of every question at a middle and at the largest N, f64[2, Q].
      chosen: the powers that were best on other questions at these N.
      along: measure -> its correlation with a response's length.
      apart: of every question with right and wrong responses, how often a right one is more
        certain than a wrong one.
      levels: [difficulty, mean self-certainty], rising.
      trend: correlation of the two over responses.
    """

    accuracy: dict[str, Any]
    chosen: list[float]
    along: dict[str, float]
    apart: list[float]
    levels: list[list[float]]
    trend: float

    @classmethod
    def of(cls, found: Findings) -> Evidence:
        pool, places = found.pool, (middle_of(found.plan.sizes), -1)
        certain = pool.scores["kl"]
        levels, means = by_level(pool)
        level = np.broadcast_to(pool.level[:, None], pool.answers.shape)
        within = [separation(*pair) for pair in zip(certain, pool.right, strict=True)]
        return cls(
            accuracy={
                name: [values[place] for place in places] for name, values in found.accuracy.items()
            },
            chosen=[found.chosen[place] for place in places],
            along={key: correlation(pool.scores[key], pool.length) for key in NAMES},
            apart=[value for value in within if np.isfinite(value)],
            levels=[[float(n), float(m)] for n, m in zip(levels, means, strict=True)],
            trend=correlation(level, certain),
        )

    def at(self, method: str, place: int = -1) -> Floats:
        return np.array(self.accuracy[method][place], float)


def middle_of(sizes: Sequence[int]) -> int:
    return (len(sizes) - 1) // 2


def claims(config: Config, evidence: dict[str, Any]) -> list[Claim]:
    """The paper's claims, by rules fixed before measuring; intervals over questions."""
    found, sizes = Evidence(**evidence), config.plan.sizes
    top, middle = sizes[-1], 0

    def beats(
        claim: str, paper: str, one: Floats, other: Floats, more: str = "", headline: bool = False
    ) -> Claim:
        measured = f"{100 * one.mean():.2f} against {100 * other.mean():.2f}{more}"
        gain = above(points(one, other), "0 points")
        return Claim.tested(claim, paper, gain, measured=measured, headline=headline)

    less = sizes[middle_of(sizes)]
    growth = {
        name: 100 * (found.at(name).mean() - found.at(name, middle).mean())
        for name in ("self-certainty", "perplexity")
    }
    stated = [
        beats(
            f"self-certainty, best of {top}, beats greedy decoding",
            "GSM8K 88.90 against 84.00, MATH 56.70 against 47.96",
            found.at("self-certainty"),
            found.at("greedy"),
        ),
        beats(
            f"self-certainty, best of {top}, beats perplexity",
            "GSM8K 88.90 against 87.81, MATH 56.70 against 51.96",
            found.at("self-certainty"),
            found.at("perplexity"),
        ),
        beats(
            f"self-certainty goes on improving from N={less} to {top}",
            "LiveBench-Math 22.01 (N=32) against 20.87 (N=8); perplexity falls by 2.12",
            found.at("self-certainty"),
            found.at("self-certainty", middle),
            f"; perplexity {growth['perplexity']:+.2f}",
        ),
        beats(
            f"Borda votes by self-certainty with the advised power beat the majority at N={top}",
            "power 1.2: GSM8K 90.95 against 90.99, MATH 64.10 against 63.40",
            found.at("Borda"),
            found.at("majority"),
            headline=True,
        ),
        beats(
            f"so do those with a power chosen on validation questions (N={top})",
            "best power in the table: GSM8K 91.07, MATH 64.10",
            found.at("Borda, tuned"),
            found.at("majority"),
            f", power {found.chosen[-1]:g}",
        ),
        beats(
            f"the majority beats the average of an answer's self-certainty at N={top}",
            "MATH 63.40 against 32.94",
            found.at("majority"),
            found.at("average"),
        ),
    ]
    shapes = [name for key, name in NAMES.items() if key not in ("kl", "neg_perplexity")]
    for claim, paper, own, prefix, names in (
        (
            f"of the measures of whole distributions self-certainty selects best (N={top})",
            "alone in rising to N=64 (figure, LiveBench-Math)",
            "self-certainty",
            "",
            shapes,
        ),
        (
            f"of all measures self-certainty serves Borda votes best (N={top})",
            "MATH level 5, power 1.2: 39.43; Gini 38.75, perplexity 38.60, entropy 38.40",
            "Borda",
            "Borda by ",
            [*shapes, NAMES["neg_perplexity"]],
        ),
    ):
        values = [found.at(own), *(found.at(prefix + name) for name in names)]
        measured = ", ".join(
            f"{name} {100 * other.mean():.2f}"
            for name, other in zip(names, values[1:], strict=True)
        )
        stated.append(
            Claim.tested(
                claim,
                paper,
                above(bootstrap(_lead, *values, unit="points"), "0 points"),
                measured=f"{100 * values[0].mean():.2f}; {measured}; over the best of them",
            )
        )
    stated.append(
        Claim(
            "the power that serves best grows with N",
            "about 0.5 at N=8, 1.2 at N=64",
            f"{found.chosen[0]:g} at N={less}, {found.chosen[-1]:g} at N={top}",
            found.chosen[-1] > found.chosen[0],
        )
    )
    stated.append(
        Claim(
            "self-certainty goes along with a response's length less than any other measure does",
            "no correlation for it, a clear one for the others (figure)",
            ", ".join(f"{NAMES[key]} {value:+.2f}" for key, value in found.along.items()),
            all(
                abs(found.along["kl"]) < abs(value)
                for key, value in found.along.items()
                if key != "kl"
            ),
        )
    )
    surer = (
        "of one question's responses right ones are more certain than wrong ones",
        "histograms apart (figure)",
    )
    stated.append(
        Claim.tested(
            *surer,
            above(bootstrap(lambda each: each.mean(), found.apart), "0.5"),
            measured="AUC within a question",
        )
        if found.apart
        else Claim(*surer, "no question has right and wrong responses", None)
    )
    if len(found.levels) > 1:
        stated.append(
            Claim(
                "mean self-certainty falls with difficulty",
                "LiveBench-Math and MATH levels (figure)",
                ", ".join(f"{m:.2f} at {n:g}" for n, m in found.levels)
                + f"; correlation {found.trend:.2f}",
                found.trend < 0 and found.levels[-1][1] == min(m for _, m in found.levels),
            )
        )
    return stated


def _lead(own: Floats, *others: Floats) -> float:
    """Over the best of the others, in points."""
    return 100 * float(own.mean() - max(other.mean() for other in others))
