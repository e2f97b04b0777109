"""What the experiment on diverse beams makes of its lists: claims, a table, a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.figures import figure
from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import Floats, bootstrap, difference, points
from experiments.search.diverse_beam_search.setting import Config, Lists, oracle

PLAIN = "beam search"
MORE = 2.0  # times the distinct 4-grams of beam search; published are 2.4, 2.9, 1.7 and 2.3
FLAT = (0.2, 0.8)  # strengths that are said to be equally good


def summary(found: Lists, beams: int) -> dict[str, float]:
    """The columns of the table, in percent where they are shares of similarity."""
    columns = {
        f"oracle@{k}": 100 * float(oracle(found, k).mean())
        for k in sorted({1, min(5, beams), beams})
    }
    shares = np.mean(found["distinct"], axis=0)
    columns |= {f"distinct-{n}": float(share) for n, share in enumerate(shares, 1)}
    return columns | {
        "unique": float(np.mean(found["unique"])),
        "best log-probability": float(np.mean(found["logprob"])),
    }


def kept(chosen: dict[str, float], test: dict[str, Lists], own: Lists) -> dict[str, Any]:
    """What the claims are judged by, passage by passage: the best of every list, and more of the
    two lists that are compared throughout."""
    pair = {"own": own, PLAIN: test[PLAIN]}
    return {
        "chosen": chosen,
        "best": {name: oracle(found) for name, found in test.items()},
        "first": {name: oracle(found, 1) for name, found in pair.items()},
        "4-grams": {name: np.asarray(found["distinct"])[:, 3] for name, found in pair.items()},
        "logprob": {name: found["logprob"] for name, found in pair.items()},
    }


def claims(config: Config, evidence: dict[str, Any]) -> list[Claim]:
    """The paper's, by rules fixed before measuring: intervals over passages, of lists that all
    methods made for the same ones."""
    chosen, best, top = evidence["chosen"], evidence["best"], config.beams
    own, plain = best[f"Hamming {chosen['Hamming']}"], best[PLAIN]

    def better(claim: str, paper: str, one: Any, other: Any) -> Claim:
        values = f"{100 * np.mean(one):.2f} against {100 * np.mean(other):.2f}"
        return Claim.tested(claim, paper, above(points(one, other), "0 points"), measured=values)

    flat = {s: best[f"Hamming {s}"] for s in config.strengths if FLAT[0] <= s <= FLAT[1]}
    found = [
        better(
            f"the best of {top} is better than that of beam search",
            "SPICE 28.09 against 27.34 (COCO), 9.293 against 8.74 (PASCAL-50S), at 20",
            own,
            plain,
        ),
        better(
            "so is the first of the list",
            "SPICE 16.783 against 16.27, 5.357 against 4.93",
            *evidence["first"].values(),
        ),
        better(
            f"the best of {top} is better than that of sibling ranks",
            "28.09 against 27.59",
            own,
            best["sibling ranks"],
        ),
        _more_grams(*evidence["4-grams"].values()),
    ]
    if flat:
        found.append(
            Claim.tested(
                f"every strength from {FLAT[0]} to {FLAT[1]} beats beam search's oracle",
                "a flat top from 0.2 to 0.8 (figure)",
                *(above(points(one, plain), "0 points") for one in flat.values()),
                measured=", ".join(f"{100 * np.mean(one):.2f} at {s}" for s, one in flat.items())
                + f"; beam search {100 * np.mean(plain):.2f}",
            )
        )
    others = {term: best[f"{term} {chosen[term]}"] for term in config.terms}
    groups = {f"{g} groups": best[f"{g} groups"] for g in config.groups[:-1]}
    for claim, paper, rivals in (
        (
            "no other term has a better oracle than Hamming",
            "Hamming has the best oracle (figure)",
            others,
        ),
        (
            "as many groups as beams have the best oracle",
            "rising with the number of groups (figure)",
            groups,
        ),
    ):
        if rivals:
            found.append(_best_of_all(claim, paper, own, rivals))
    mine, theirs = evidence["logprob"].values()
    found.append(
        Claim.tested(
            "the likeliest of a list is likelier than beam search's",
            "-6.53 against -6.91 (PASCAL-50S)",
            above(difference(mine, theirs, "nats"), "0 nats"),
            measured=f"{np.mean(mine):.3f} against {np.mean(theirs):.3f}",
        )
    )
    return found


def _more_grams(own: Any, plain: Any) -> Claim:
    ratio = bootstrap(
        lambda one, other: float(one.mean() / max(other.mean(), 1e-9)), own, plain, unit="x"
    )
    return Claim.tested(
        f"at least {MORE:g} times the distinct 4-grams of beam search",
        "2.4x (COCO), 2.9x (PASCAL-50S), 1.7x (translation), 2.3x (questions)",
        above(ratio, f"{MORE:g}x"),
        measured=f"{np.mean(own):.3f} against {np.mean(plain):.3f}",
    )


def _best_of_all(claim: str, paper: str, own: Any, others: dict[str, Any]) -> Claim:
    """Above whichever of the others is best."""

    def lead(own: Floats, others: Floats) -> float:
        return 100 * float(own.mean() - others.mean(axis=0).max())

    told = ", ".join(f"{name} {100 * np.mean(one):.2f}" for name, one in others.items())
    over = bootstrap(lead, own, np.stack([*others.values()], axis=1), unit="points")
    measured = f"{100 * np.mean(own):.2f}; {told}; over the best of these"
    return Claim.tested(claim, paper, above(over, "0 points"), measured=measured)


def draw(
    path: Path,
    config: Config,
    tuned: dict[str, list[Lists]],
    chosen: dict[str, float],
    test: dict[str, Lists],
    own: Lists,
) -> None:
    """Oracle and distinct 4-grams by strength, and oracle by the number of groups."""
    plain = test[PLAIN]
    with figure(path, columns=3) as (left, middle, right):
        for term, found in tuned.items():
            left.plot(config.strengths, [100 * oracle(one).mean() for one in found], label=term)
            shares = [np.mean(one["distinct"], axis=0)[3] for one in found]
            middle.plot(config.strengths, shares, label=term)
        for axis, label in ((left, f"oracle@{config.beams}, %"), (middle, "distinct-4")):
            axis.set(xscale="log", xlabel="strength (validation passages)", ylabel=label)
            axis.set_xticks(config.strengths, [f"{s:g}" for s in config.strengths], minor=False)
            axis.minorticks_off()
        sizes = [(1, plain), *((g, test[f"{g} groups"]) for g in config.groups[:-1])]
        sizes.append((config.beams, own))
        for k in (1, config.beams):
            values = [100 * oracle(found, k).mean() for _, found in sizes]
            right.plot(
                [str(g) for g, _ in sizes],
                values,
                label="the first" if k == 1 else f"the best of {k}",
            )
        right.set(
            xlabel=f"groups of {config.beams} beams, strength {chosen['Hamming']:g} (test)",
            ylabel="similarity, %",
        )
