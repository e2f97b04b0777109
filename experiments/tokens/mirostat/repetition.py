"""What the experiment on Mirostat says of repetition: a function of surprise alone?"""

from __future__ import annotations

import numpy as np

from experiments.harness.judging.claim import Claim, below
from experiments.harness.statistics import Estimate, bootstrap, correlation
from experiments.tokens.mirostat.findings import CURVES, LOOPS, Findings, Floats

VANISHED = 1.0  # percent of repeated 6-grams that count as none
LONG = 3.0  # bits from which they are said to vanish
POINTS, LINE = 5.0, -0.95  # marks of the rules below


def curves(found: Findings) -> dict[str, tuple[Floats, Floats]]:
    """Family -> bits rising and repeated 6-grams in percent."""
    result = {}
    for family in CURVES:
        points = sorted(
            (found.mean(family, x), found.mean(family, x, LOOPS)) for x in found.rows[family]
        )
        result[family] = tuple(np.array(points).T)
    return result


def repetition(found: Findings) -> list[Claim]:
    """Repetition as a function of surprise alone, its intervals over contexts."""
    settings = [(family, x) for family in CURVES for x in found.rows[family]]
    long = [setting for setting in settings if found.mean(*setting) >= LONG]

    def line(bits: Floats, once: Floats) -> float:
        return correlation(bits.mean(axis=0), once.mean(axis=0))

    straight = bootstrap(line, *(found.stacked(name, settings) for name in ("bits", "rep-1")))
    return [
        Claim.tested(
            "repetition falls near linearly with surprise (correlation of single tokens repeated "
            f"below {LINE})",
            "near linear (figure): 85 % at 0.68 bits, 59 % at 2.66, 41.5 % at 3.98, 30.5 % at 4.98",
            below(straight, f"{LINE}"),
        ),
        _one_curve(found),
        _vanishing(found, long),
    ]


def _one_curve(found: Findings) -> Claim:
    """Where Mirostat's targets reach; every setting of the others counts, not their mean."""
    claim = (
        f"whatever the sampler: repeated 6-grams of top-k and top-p are within {POINTS:g} points "
        "of Mirostat's at the same surprise"
    )
    paper = "one curve for all samplers (figure)"
    gaps = {family: gap for family in ("top-k", "top-p") if (gap := apart(found, family))}
    if not gaps:
        return Claim(claim, paper, "none of their texts is as surprising as Mirostat's", None)
    bars = [below(gap, f"{POINTS:g} points") for gap in gaps.values()]
    return Claim.tested(claim, paper, *bars, measured=f"at most, {' and '.join(gaps)}")


def _vanishing(found: Findings, long: list[tuple[str, float]]) -> Claim:
    """At every setting: the largest share of any."""
    claim = (
        f"from {LONG:g} bits on sentences are not repeated (6-grams in at most {VANISHED:g} % of "
        "places)"
    )
    paper = "0 to 1 % at 2.99 bits and more"
    if not long:
        return Claim(claim, paper, "no such text", None)
    family, setting = max(long, key=lambda where: found.mean(*where, LOOPS))
    most = bootstrap(lambda each: each.mean(axis=0).max(), found.stacked(LOOPS, long), unit="%")
    return Claim.tested(
        claim, paper, below(most, f"{VANISHED:g} %"), measured=f"most by {family} {setting:g}"
    )


def apart(found: Findings, family: str) -> Estimate | None:
    """Largest distance, in points, of a sampler's repeated 6-grams to Mirostat's curve; None
    where they share no surprise."""
    steered = [("mirostat", t) for t in found.rows["mirostat"]]
    reach = [found.mean(*setting) for setting in steered]
    fixed = [
        (family, x) for x in found.rows[family] if min(reach) <= found.mean(family, x) <= max(reach)
    ]
    if not fixed:
        return None

    def largest(bits: Floats, loops: Floats, own_bits: Floats, own_loops: Floats) -> float:
        order = np.argsort(own_bits.mean(axis=0))
        curve = own_bits.mean(axis=0)[order], own_loops.mean(axis=0)[order]
        return float(np.abs(loops.mean(axis=0) - np.interp(bits.mean(axis=0), *curve)).max())

    both = [found.stacked(name, some) for some in (fixed, steered) for name in ("bits", LOOPS)]
    return bootstrap(largest, *both, unit="points")
