"""The claims of the experiment on Mirostat, by rules fixed before measuring.

Intervals are over contexts, on which all samplers wrote: they are resampled together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.harness.judging.claim import Claim, above, below
from experiments.harness.statistics import Estimate, bootstrap, correlation, difference
from experiments.tokens.mirostat.findings import LOOPS, Findings, Floats
from experiments.tokens.mirostat.measures import Config
from experiments.tokens.mirostat.repetition import repetition

NEAR = 0.03  # bits between version 2 and its targets, as published
TIMES = 10  # less spread than top-p's
STRAIGHT = 0.95  # R^2 of a straight line


def claims(config: Config, evidence: dict[str, Any]) -> list[Claim]:
    """By rules fixed before measuring, from what a record keeps."""
    found, tokens = Findings.of(config, evidence), config.tokens
    return [
        on_target(
            found,
            "mirostat",
            NEAR,
            f"after {tokens} tokens the surprise is within {NEAR} bits of every target from "
            f"{config.above} above greedy text to {config.below} below sampled text (version 2)",
            "1.97 for 2, 2.99 for 3, 3.98 for 4 (GPT-2, floor 0.68, ceiling 5.3 to 6.0)",
            True,
        ),
        on_target(
            found,
            "mirostat 1",
            config.near,
            f"and within {config.near} bits by version 1, which cuts at a rank",
            "1.81 for 2, 3.00 for 3, 4.00 for 4",
            False,
        ),
        spread_ratio(found),
        *traps(found),
        *repetition(found),
        *shape(found),
        biased(found),
    ]


def off(values: Floats) -> Estimate:
    """How far a mean is from 0, to whichever side."""
    return bootstrap(lambda each: abs(each.mean()), values, unit="bits")


def out_of_reach(claim: str, paper: str, measured: str, headline: bool = False) -> Claim:
    return Claim(claim, paper, f"no target is in reach; {measured}", None, headline=headline)


def on_target(
    found: Findings, family: str, near: float, claim: str, paper: str, headline: bool
) -> Claim:
    """The mean is near every target in reach."""
    missed = [t for t in found.config.targets if t not in found.within]
    measured = f"greedy {found.floor:.2f}, sampling {found.ceiling:.2f}, out of reach {missed}"
    if not found.within:
        return out_of_reach(claim, paper, measured, headline)
    told = ", ".join(f"{found.mean(family, t):.2f} for {t:g}" for t in found.within)
    bars = [below(off(found.values(family, t) - t), f"{near} bits") for t in found.within]
    measured = f"{told}; {measured}; off by"
    return Claim.tested(claim, paper, *bars, measured=measured, headline=headline)


def spread_ratio(found: Findings) -> Claim:
    """How much less texts differ, at the setting of top-p whose mean is nearest."""
    claim = (
        "texts of one target differ at least ten times less in surprise than those of top-p with "
        "the same mean"
    )
    paper = "runs of top-k and top-p spread by 0.3 to 0.7 bits, Mirostat's by 0.03"

    def less(own: Floats, other: Floats) -> float:
        return float(other.std() / max(own.std(), 1e-9))

    if not found.within:
        return out_of_reach(claim, paper, "nothing to compare")
    others = {t: found.alike("top-p", t) for t in found.within}
    ratios = [
        bootstrap(less, found.values("mirostat", t), found.values("top-p", p), unit="x")
        for t, p in others.items()
    ]
    told = ", ".join(f"{t:g} beside p = {p:g}" for t, p in others.items())
    return Claim.tested(
        claim, paper, *(above(ratio, f"{TIMES}x") for ratio in ratios), measured=told
    )


def traps(found: Findings) -> list[Claim]:
    """Surprise against length."""
    near, parts = found.config.near, "last quarter less second"
    ends = {family: found.outer(family) for family in ("top-p", "top-k")}
    short = {"top-p": "p", "top-k": "k"}

    def drift(family: str, setting: float) -> Estimate:
        return bootstrap(lambda x: x.mean(), found.values(family, setting, "drift"), unit="bits")

    def more_loops(family: str) -> Estimate:
        few, many = (found.values(family, x, LOOPS) for x in ends[family])
        return difference(few, many, "points")

    def named(end: int) -> str:
        return ", ".join(f"{short[family]} {few_many[end]:g}" for family, few_many in ends.items())

    claim = f"under Mirostat it stays, within {near} bits at every target in reach"
    paper = "constant at any length (figure)"
    still = [below(off(found.values("mirostat", t, "drift")), f"{near} bits") for t in found.within]
    return [
        Claim.tested(
            "boredom trap: under small k and p the surprise falls with length, and with it text "
            "repeats",
            "cross-entropy falls with length at small k and p (figure)",
            *(below(drift(family, few), "0 bits") for family, (few, _) in ends.items()),
            *(above(more_loops(family), "0 points") for family in ends),
            measured=f"{named(0)}: {parts}; repeated 6-grams beyond those under large ones",
        ),
        Claim.tested(
            "confusion trap: under large k and p it rises with length",
            "cross-entropy rises with length at large k and p (figure)",
            *(above(drift(family, many), "0 bits") for family, (_, many) in ends.items()),
            measured=f"{named(1)}: {parts}",
        ),
        Claim.tested(
            claim,
            paper,
            *still,
            measured=f"{', '.join(f'{t:g}' for t in found.within)}: {parts}, to either side",
        )
        if still
        else out_of_reach(claim, paper, "nothing to follow"),
    ]


def shape(found: Findings) -> list[Claim]:
    """How surprise grows with p and with log k."""
    result = []
    for family, settings, name in (
        ("top-p", np.array(found.config.ps), "p"),
        ("top-k", np.log(np.array(found.config.ks)), "log k"),
    ):

        def fit(bits: Floats, settings: NDArray[Any] = settings) -> float:
            return correlation(settings, bits.mean(axis=0)) ** 2

        bits = found.stacked("bits", [(family, x) for x in found.rows[family]])
        result.append(
            Claim.tested(
                f"in {family} surprise grows as {name} does (straight line, R^2 of {STRAIGHT} and "
                "more)",
                "near linear in p, like log k in k (theorems and figure)",
                above(bootstrap(fit, bits), f"{STRAIGHT}"),
                measured="R^2",
            )
        )
    return result


def biased(found: Findings) -> Claim:
    """The libraries' rule."""
    near = found.config.near
    claim = (
        "measured by the renormalised law instead, as llama.cpp does, texts miss every target, "
        f"more surprising by {near} bits and more"
    )
    if not found.within:
        return out_of_reach(claim, "not measured", "nothing to miss")
    more = [difference(found.values("llama.cpp", t), t, "bits") for t in found.within]
    told = ", ".join(f"{found.mean('llama.cpp', t):.2f} for {t:g}" for t in found.within)
    return Claim.tested(
        claim, "not measured", *(above(gap, f"{near} bits") for gap in more), measured=told
    )
