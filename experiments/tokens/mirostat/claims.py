"""The claims of the experiment on Mirostat, by rules fixed before measuring."""

from __future__ import annotations

import numpy as np

from experiments.harness.report import Claim
from experiments.harness.statistics import correlation
from experiments.tokens.mirostat.findings import Findings
from experiments.tokens.mirostat.repetition import repetition
from experiments.tokens.mirostat.spans import largest, outermost, smallest, told
from experiments.tokens.open_texts import interval, shown

TIMES = 10.0  # less spread than top-p's
DRAWS = 1000


def on_target(found: Findings, family: str, claim: str, paper: str, headline: bool) -> Claim:
    """The interval of the mean lies within `near` of every target in reach."""
    near = found.config.near
    spans = {f"{t:g}": interval(found.bits(family, t) - t) for t in found.within}
    out = [t for t in found.config.targets if t not in found.within]
    measured = told(spans)
    measured += f"; greedy {found.floor:.2f}, sampling {found.ceiling:.2f}, out of reach {out}"
    if not spans:
        return Claim(claim, paper, measured, None, headline=headline)
    worst = outermost(spans.values())
    return Claim(claim, paper, measured, worst[1] <= near, worst, near, headline=headline)


def spread_ratio(found: Findings) -> Claim:
    """How much less texts differ, at a setting of top-p with the same mean."""
    claim = (
        "texts of one target differ at least ten times less in surprise than those of top-p with "
        "the same mean"
    )
    paper = "runs of top-k and top-p spread by 0.3 to 0.7 bits, Mirostat's by 0.03"
    rng, ratios = np.random.default_rng(0), {}
    for target in found.within:
        own = found.bits("mirostat", target)
        other = found.bits("top-p", found.alike("top-p", target))
        rows = rng.integers(len(own), size=(DRAWS, len(own)))
        drawn = other[rows].std(axis=1) / np.maximum(own[rows].std(axis=1), 1e-9)
        ratios[f"{target:g}"] = (other.std() / own.std(), *np.percentile(drawn, [2.5, 97.5]))
    if not ratios:
        return Claim(claim, paper, "no target is in reach", None)
    least = smallest(ratios.values())
    measured = f"times less: {told(ratios, '.1f')}"
    return Claim(claim, paper, measured, least[0] >= TIMES, least, TIMES)


def traps(found: Findings) -> list[Claim]:
    """Surprise against length."""
    low_p, high_p = found.config.ps[0], found.config.ps[-1]
    low_k = next(k for k in found.config.ks if k > 1)
    bored = {f"p {low_p:g}": found.drift("top-p", low_p)}
    bored |= {f"k {low_k}": found.drift("top-k", low_k)}
    high_k = found.config.ks[-1]
    confused = {f"p {high_p:g}": found.drift("top-p", high_p)}
    confused |= {f"k {high_k}": found.drift("top-k", high_k)}
    flat = {f"{t:g}": found.drift("mirostat", t) for t in found.within}
    down, up = largest(bored.values()), smallest(confused.values())
    still = outermost(flat.values()) if flat else None
    near, parts = found.config.near, "bits, last quarter less second: "
    return [
        Claim(
            "boredom trap: under small k and p the surprise falls with length, and with it text "
            "repeats",
            "cross-entropy falls with length at small k and p (figure)",
            parts + told(bored),
            down[1] < 0,
            down,
            0.0,
        ),
        Claim(
            "confusion trap: under large k and p it rises with length",
            "cross-entropy rises with length at large k and p (figure)",
            parts + told(confused),
            up[0] > 0,
            up,
            0.0,
        ),
        Claim(
            f"under Mirostat it stays, within {near} bits at every target in reach",
            "constant at any length (figure)",
            parts + told(flat),
            None if still is None else still[1] <= near,
            still,
            near,
        ),
    ]


def shape(found: Findings) -> list[Claim]:
    """How surprise grows with p and with log k."""
    result = []
    for family, settings, name in (
        ("top-p", np.array(found.config.ps), "p"),
        ("top-k", np.log(np.array(found.config.ks)), "log k"),
    ):
        bits = np.array([found.bits(family, x) for x in found.rows[family]])
        rng = np.random.default_rng(0)
        picks = rng.integers(bits.shape[1], size=(DRAWS, bits.shape[1]))
        fits = [correlation(settings, bits[:, pick].mean(axis=1)) ** 2 for pick in picks]
        own = correlation(settings, bits.mean(axis=1)) ** 2
        low, high = np.percentile(fits, [2.5, 97.5])
        result.append(
            Claim(
                f"in {family} surprise grows as {name} does (straight line, R^2 of 0.95 and more)",
                "near linear in p, like log k in k (theorems and figure)",
                f"R^2 {shown((own, low, high))}",
                bool(low >= 0.95),
                (float(low), float(high)),
                0.95,
            )
        )
    return result


def biased(found: Findings) -> Claim:
    """The libraries' rule."""
    near = found.config.near
    off = {f"{t:g}": interval(found.bits("llama.cpp", t) - t) for t in found.within}
    least = smallest(off.values()) if off else None
    return Claim(
        "measured by the renormalised law instead, as llama.cpp does, texts miss every target, "
        f"more surprising by {near} bits and more",
        "not measured",
        told(off),
        None if least is None else least[0] >= near,
        least,
        near,
    )


def claims(found: Findings) -> list[Claim]:
    """By rules fixed before measuring."""
    near, tokens = found.config.near, found.config.tokens
    return [
        on_target(
            found,
            "mirostat",
            f"after {tokens} tokens the surprise is within {near} bits of every target from "
            f"{found.config.above} above greedy text to {found.config.below} below sampled text "
            "(version 2)",
            "1.97 for 2, 2.99 for 3, 3.98 for 4 (GPT-2, floor 0.68, ceiling 5.3 to 6.0)",
            True,
        ),
        on_target(
            found,
            "mirostat 1",
            f"and within {near} bits by version 1, which cuts at a rank",
            "1.81 for 2, 3.00 for 3, 4.00 for 4",
            False,
        ),
        spread_ratio(found),
        *traps(found),
        *repetition(found),
        *shape(found),
        biased(found),
    ]
