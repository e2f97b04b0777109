"""What the experiment on diverse beams makes of its lists: claims, a table, a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.harness.figures import figure
from experiments.harness.report import Claim
from experiments.harness.statistics import paired
from experiments.search.diverse_beam_search.setting import Config, Lists, oracle

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


def claims(
    config: Config, chosen: dict[str, float], test: dict[str, Lists], own: Lists
) -> list[Claim]:
    """The paper's, by rules fixed before measuring."""
    plain, top = test["beam search"], config.beams

    def compared(claim: str, paper: str, k: int | None, other: Lists, least: float) -> Claim:
        """Holds if the interval of the difference is above `least`; 0 asks for a gain."""
        mean, low, high = paired(oracle(own, k), oracle(other, k))
        one, two = (100 * oracle(x, k).mean() for x in (own, other))
        measured = f"{one:.2f} against {two:.2f}: {mean:+.2f} ({low:+.2f}..{high:+.2f})"
        return Claim(claim, paper, measured, bool(low > least), (low, high), least)

    found = [
        compared(
            f"the best of {top} is better than that of beam search",
            "SPICE 28.09 against 27.34 (COCO), 9.293 against 8.74 (PASCAL-50S), at 20",
            None,
            plain,
            0.0,
        ),
        compared(
            "so is the first of the list",
            "SPICE 16.783 against 16.27, 5.357 against 4.93",
            1,
            plain,
            0.0,
        ),
        compared(
            f"the best of {top} is better than that of sibling ranks",
            "28.09 against 27.59",
            None,
            test["sibling ranks"],
            0.0,
        ),
    ]
    four, base = (float(np.mean(x["distinct"], axis=0)[3]) for x in (own, plain))
    found.append(
        Claim(
            f"at least {MORE:g} times the distinct 4-grams of beam search",
            "2.4x (COCO), 2.9x (PASCAL-50S), 1.7x (translation), 2.3x (questions)",
            f"{four / base:.2f}x ({four:.3f} against {base:.3f})",
            bool(four >= MORE * base),
        )
    )
    flat = [s for s in config.strengths if FLAT[0] <= s <= FLAT[1]]
    means = {s: 100 * oracle(test[f"Hamming {s}"]).mean() for s in flat}
    found.append(
        Claim(
            f"every strength from {FLAT[0]} to {FLAT[1]} beats beam search's oracle",
            "a flat top from 0.2 to 0.8 (figure)",
            ", ".join(f"{m:.2f} at {s}" for s, m in means.items())
            + f"; beam search {100 * oracle(plain).mean():.2f}",
            bool(all(m > 100 * oracle(plain).mean() for m in means.values())),
        )
    )
    others = {term: 100 * oracle(test[f"{term} {chosen[term]}"]).mean() for term in config.terms}
    hamming = 100 * oracle(own).mean()
    if others:
        found.append(
            Claim(
                "no other term has a better oracle than Hamming",
                "Hamming has the best oracle (figure)",
                f"Hamming {hamming:.2f}; " + ", ".join(f"{t} {m:.2f}" for t, m in others.items()),
                bool(hamming >= max(others.values())),
            )
        )
    sizes = {g: 100 * oracle(test[f"{g} groups"]).mean() for g in config.groups[:-1]}
    if sizes:
        found.append(
            Claim(
                "as many groups as beams have the best oracle",
                "rising with the number of groups (figure)",
                ", ".join(f"{m:.2f} with {g}" for g, m in sizes.items())
                + f", {hamming:.2f} with {top}",
                bool(hamming >= max(sizes.values())),
            )
        )
    mine, theirs = float(np.mean(own["logprob"])), float(np.mean(plain["logprob"]))
    found.append(
        Claim(
            "the likeliest of a list is likelier than beam search's",
            "-6.53 against -6.91 (PASCAL-50S)",
            f"{mine:.3f} against {theirs:.3f}",
            mine > theirs,
        )
    )
    return found


def draw(
    path: Path,
    config: Config,
    tuned: dict[str, list[Lists]],
    chosen: dict[str, float],
    test: dict[str, Lists],
    own: Lists,
) -> None:
    """Oracle and distinct 4-grams by strength, and oracle by the number of groups."""
    plain = test["beam search"]
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
