"""The paper's claims about self-certainty, and how what was measured is held against them."""

from __future__ import annotations

import numpy as np

from experiments.harness.report import Claim
from experiments.harness.statistics import Floats, correlation, paired, separation
from experiments.selection.self_certainty.votes import NAMES, Findings, by_level


def claims(found: Findings) -> list[Claim]:
    """The paper's claims, by rules fixed before measuring."""
    pool, top = found.pool, found.plan.sizes[-1]

    def beats(
        claim: str, paper: str, one: Floats, other: Floats, more: str = "", headline: bool = False
    ) -> Claim:
        mean, low, high = paired(one, other)
        measured = (
            f"{100 * one.mean():.2f} against {100 * other.mean():.2f}: "
            f"{mean:+.2f} ({low:+.2f}..{high:+.2f}){more}"
        )
        return Claim(claim, paper, measured, low > 0, (low, high), 0.0, headline=headline)

    middle = (len(found.plan.sizes) - 1) // 2
    less = found.plan.sizes[middle]
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
        value = found.curve(own)[-1]
        others = {name: found.curve(prefix + name)[-1] for name in names}
        measured = ", ".join(f"{name} {other:.2f}" for name, other in others.items())
        stated.append(Claim(claim, paper, f"{value:.2f}; {measured}", value > max(others.values())))
    stated.append(
        Claim(
            "the power that serves best grows with N",
            "about 0.5 at N=8, 1.2 at N=64",
            f"{found.chosen[middle]:g} at N={less}, {found.chosen[-1]:g} at N={top}",
            found.chosen[-1] > found.chosen[middle],
        )
    )
    along = {key: correlation(pool.scores[key], pool.length) for key in NAMES}
    stated.append(
        Claim(
            "self-certainty goes along with a response's length less than any other measure does",
            "no correlation for it, a clear one for the others (figure)",
            ", ".join(f"{NAMES[key]} {value:+.2f}" for key, value in along.items()),
            all(abs(along["kl"]) < abs(value) for key, value in along.items() if key != "kl"),
        )
    )
    auc = separation(pool.scores["kl"], pool.right)
    stated.append(
        Claim(
            "right responses are more certain than wrong ones",
            "histograms apart (figure)",
            f"AUC {auc:.3f}",
            auc > 0.5,
        )
    )
    levels, means = by_level(pool)
    trend = correlation(np.broadcast_to(pool.level[:, None], pool.answers.shape), pool.scores["kl"])
    if len(levels) > 1:
        stated.append(
            Claim(
                "mean self-certainty falls with difficulty",
                "LiveBench-Math and MATH levels (figure)",
                ", ".join(f"{m:.2f} at {n}" for n, m in zip(levels, means, strict=True))
                + f"; correlation {trend:.2f}",
                bool(trend < 0 and means[-1] == min(means)),
            )
        )
    return stated
