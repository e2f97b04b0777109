"""What the experiment on Mirostat says of repetition: a function of surprise alone?"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.harness.report import Claim
from experiments.harness.statistics import correlation
from experiments.tokens.mirostat.findings import Findings, Floats
from experiments.tokens.mirostat.spans import largest, told
from experiments.tokens.open_texts import interval, shown

SENTENCE = 6  # tokens in a row that make a repeated sentence
VANISHED = 1.0  # percent of repeated 6-grams that count as none
LONG = 3.0  # bits from which they are said to vanish
POINTS, LINE = 5.0, -0.95  # marks of the rules below
CURVES = ("top-k", "top-p", "mirostat", "mirostat 1")
DRAWS = 1000


def curves(found: Findings) -> dict[str, tuple[Floats, Floats]]:
    """Family -> bits rising and repeated 6-grams in percent."""
    result = {}
    for family in CURVES:
        points = sorted(
            (found.mean(family, x), found.mean(family, x, f"rep-{SENTENCE}"))
            for x in found.rows[family]
        )
        result[family] = tuple(np.array(points).T)
    return result


def repetition(found: Findings) -> list[Claim]:
    """Repetition as a function of surprise alone, its intervals over contexts."""
    config = found.config
    settings = [(family, x) for family in CURVES for x in found.rows[family]]
    bits = np.array([found.rows[f][x]["bits"] for f, x in settings], np.float64)
    once = np.array([found.rows[f][x]["rep-1"] for f, x in settings], np.float64)
    rng = np.random.default_rng(0)
    picks = rng.integers(config.contexts, size=(DRAWS, config.contexts))
    whole = np.arange(config.contexts)

    def line(pick: Any) -> float:
        return correlation(bits[:, pick].mean(axis=1), once[:, pick].mean(axis=1))

    straight = (line(whole), *np.percentile([line(pick) for pick in picks], [2.5, 97.5]))
    gaps = {}
    for family in ("top-k", "top-p"):
        drawn = [apart(found, family, pick) for pick in picks]
        gaps[family] = (apart(found, family, whole), *np.percentile(drawn, [2.5, 97.5]))
    late = {
        f"{family} {x:g}": interval(found.rows[family][x][f"rep-{SENTENCE}"])
        for family, x in settings
        if found.mean(family, x) >= LONG
    }
    share, gap = largest(late.values()) if late else None, largest(gaps.values())
    most = max(late, key=lambda name: late[name][2], default="none")
    return [
        Claim(
            "repetition falls near linearly with surprise (correlation of single tokens repeated "
            f"below {LINE})",
            "near linear (figure): 85 % at 0.68 bits, 59 % at 2.66, 41.5 % at 3.98, 30.5 % at 4.98",
            shown(straight),
            bool(straight[2] < LINE),
            straight[1:],
            LINE,
        ),
        Claim(
            f"whatever the sampler: repeated 6-grams of top-k and top-p are within {POINTS:g} "
            "points of Mirostat's at the same surprise",
            "one curve for all samplers (figure)",
            f"points: {told(gaps, '.1f')}",
            gap[1] <= POINTS,
            gap,
            POINTS,
        ),
        Claim(
            f"from {LONG:g} bits on sentences are not repeated (6-grams in at most {VANISHED:g} % "
            "of places)",
            "0 to 1 % at 2.99 bits and more",
            f"most by {most}, {shown(late[most], '.1f')} %" if late else "no such text",
            None if share is None else share[1] <= VANISHED,
            share,
            VANISHED,
        ),
    ]


def apart(found: Findings, family: str, pick: Any) -> float:
    """Mean distance, in points, of a sampler's repeated 6-grams to Mirostat's curve."""

    def curve(name: str) -> Floats:
        rows = found.rows[name].values()
        points = [
            (np.asarray(r["bits"])[pick].mean(), np.asarray(r[f"rep-{SENTENCE}"])[pick].mean())
            for r in rows
        ]
        return np.array(sorted(points))

    own, other = curve("mirostat"), curve(family)
    inside = other[(other[:, 0] >= own[0, 0]) & (other[:, 0] <= own[-1, 0])]
    return float(np.abs(inside[:, 1] - np.interp(inside[:, 0], own[:, 0], own[:, 1])).mean())
