"""Learn2PD's claims, and how what was measured is held to them; intervals are over questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from experiments.diffusion.canvas_ground import times
from experiments.diffusion.learn2pd.setting import Config
from experiments.harness.judging.claim import Bar, Claim, above, below
from experiments.harness.statistics import Estimate, Floats, bootstrap, difference, points

ENDS, DUAL = 22.58, 57.51
"""Speedups of the paper at 1,024 places: filter and ends, and with a dual cache."""
LOST = 77.60 - 74.00
"""Points that the paper's dual cache costs."""
AS_GOOD = 1
"""Points by which two may differ and still count as equally good: those of the tuning."""
TWO = 2.001
"""Passes that are no more than two: those of a question, over its blocks."""


@dataclass(frozen=True)
class Kept:
    """What a record keeps, see `findings.Findings.evidence`."""

    config: Config
    passes: list[float]
    tuned: Mapping[str, str]
    test: Mapping[str, Mapping[str, Any]]
    long: Mapping[str, Mapping[str, Any]]
    lists: list[int]

    def gain(self, name: str, places: int, what: str = "tokens") -> Estimate:
        """How many times fewer than static decoding on a canvas of this length."""
        one, other = (self.long[f"{n}, {places} places"][what] for n in ("static", name))
        return times(one, other)

    def right(self, name: str, places: int) -> Estimate:
        """Points above static decoding on that canvas."""
        one, other = (self.long[f"{n}, {places} places"]["right"] for n in (name, "static"))
        return points(one, other)


def claims(config: Config, evidence: Mapping[str, Any]) -> list[Claim]:
    """The paper's claims, by rules fixed before measuring, from what a record keeps."""
    kept = Kept(config, **evidence)
    return [
        _speedup(kept),
        _dual(kept),
        _grows(kept),
        _oracle(kept),
        _threshold(kept),
        *_depth(kept),
        *_transfer(kept),
    ]


def _no_less(gained: Estimate) -> Bar:
    """Answers as much: no fewer here, and at most so many points fewer beyond what was asked."""
    return above(gained, "0 points" if gained.value < 0 else f"-{AS_GOOD} points")


def _speedup(kept: Kept) -> Claim:
    places = kept.config.lengths[-1]
    passes = kept.gain("ends", places, "passes").value
    return Claim.tested(
        f"filter and predicted ends decode the longest canvas {ENDS} times faster without loss",
        f"{ENDS}x at 1,024 places, 77.60 to 79.83 (GSM8K)",
        above(kept.gain("ends", places), f"{ENDS}x"),
        _no_less(kept.right("ends", places)),
        measured=f"{places} places, {passes:.1f} times fewer passes; fewer tokens run, and points",
        headline=True,
    )


def _dual(kept: Kept) -> Claim:
    places = kept.config.lengths[-1]
    return Claim.tested(
        f"with a dual cache {DUAL} times, at a loss of no more than {LOST:.1f} points",
        f"{DUAL}x at 1,024 places, 77.60 to 74.00",
        above(kept.gain("ends, dual", places), f"{DUAL}x"),
        above(kept.right("ends, dual", places), f"-{LOST:.1f} points"),
        measured=f"{places} places: fewer tokens run, and points",
    )


def _grows(kept: Kept) -> Claim:
    """The gain of ends over the filter alone, from every canvas to the next, by questions."""
    gains: dict[int, Floats] = {}
    for places in kept.config.lengths:
        one, other = (
            np.asarray(kept.long[f"{name}, {places} places"]["tokens"], float)
            for name in ("filter", "ends")
        )
        gains[places] = np.log(one) - np.log(other)
    each = [f"{places}: {np.exp(gain.mean()):.2f}" for places, gain in gains.items()]
    steps = [difference(longer, shorter, "") for shorter, longer in pairwise(gains.values())]
    return Claim.tested(
        "what predicted ends gain over the filter alone grows with the canvas",
        "speedup 3.36x at 128 places to 22.58x at 1,024",
        *(above(step, "0") for step in steps),
        measured=f"times fewer tokens run by places {', '.join(each)}; log-ratio from each to the "
        "next",
    )


def _oracle(kept: Kept) -> Claim:
    blocks = kept.config.places // kept.config.block
    each = np.asarray(kept.passes, float) / blocks
    return Claim.tested(
        "an oracle that decides what equals the model's own decoding needs two passes a block",
        "median 2 of 32",
        below(bootstrap(lambda some: float(np.median(some)), each, unit="passes"), f"{TWO} passes"),
        measured=f"median over questions, of {kept.config.block}",
    )


def _threshold(kept: Kept) -> Claim:
    names = [kept.tuned[kind] for kind in ("threshold", "filter")]
    base, learned = (kept.test[name] for name in names)
    return Claim.tested(
        "the filter needs fewer passes than the best tuned threshold, and answers as much",
        "not compared in the paper, whose baseline is one place a pass",
        above(times(base["passes"], learned["passes"]), "1x"),
        _no_less(points(learned["right"], base["right"])),
        measured=f"{names[1]} against {names[0]}, times fewer, and points",
    )


def _depth(kept: Kept) -> list[Claim]:
    others = [name for kind, name in kept.tuned.items() if kind not in ("threshold", "filter")]
    if not others:
        return []
    two = kept.test[kept.tuned["filter"]]
    fewer = [times(kept.test[name]["passes"], two["passes"]) for name in others]
    lost = [points(two["right"], kept.test[name]["right"]) for name in others]
    return [
        Claim.tested(
            "two layers are faster than one and than four, each tuned, and answer as much",
            "2.57x / 4.13x / 3.35x for 1 / 2 / 4 layers at equal accuracy",
            *(above(ratio, "1x") for ratio in fewer),
            *(above(gained, f"-{AS_GOOD} points") for gained in lost),
            measured=f"over {', '.join(others)}: passes, then points",
        )
    ]


def _transfer(kept: Kept) -> list[Claim]:
    elsewhere = np.asarray(kept.lists) == 0
    if "by of lists" not in kept.test or not elsewhere.any():
        return []

    def of(name: str, what: str) -> Floats:
        return np.asarray(kept.test[name][what], float)[elsewhere]

    own, other = kept.tuned["filter"], "by of lists"
    more = times(of(other, "passes"), of(own, "passes"))
    return [
        Claim.tested(
            "a filter taught on one task decodes the others faster than one place a pass and as "
            "well as one taught on all, within 2 points",
            "one filter, taught on 66 task categories, serves all benchmarks",
            above(points(of(other, "right"), of(own, "right")), "-2 points"),
            # One that accepts nothing answers as static decoding does, and saves nothing.
            above(times(of("static", "passes"), of(other, "passes")), "1x"),
            measured=f"taught on lists, asked elsewhere: {more.value:.2f} times the passes; points "
            "beyond the other's, and times fewer passes than static",
        )
    ]
