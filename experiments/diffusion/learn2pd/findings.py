"""Learn2PD's claims, and how what was measured is held to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.diffusion.canvas_ground import ratio
from experiments.diffusion.learn2pd.setting import LISTS, Config
from experiments.harness.report import Claim
from experiments.harness.statistics import paired

ENDS, DUAL, ALONE = 22.58, 57.51, 12.21
"""Speedups of the paper at 1,024 places: filter and ends, with a dual cache, the filter alone."""
LOST = 77.60 - 74.00
"""Points that the paper's dual cache costs."""
AS_GOOD = 1.0
"""Points by which two may differ and still count as equally good: those of the tuning."""


@dataclass(frozen=True)
class Findings:
    """Everything measured.

    Attributes:
      names: the task of every question, validation questions first.
      traces: what the oracle met.
      taught: filters and how they judge.
      found: what each way of decoding came to, on validation and test questions.
      tuned: the chosen threshold and filter.
      long: on canvases of several lengths.
      orders: of one question, by method, see `commit_order.seen`.
    """

    config: Config
    names: Sequence[str]
    traces: Mapping[str, Any]
    taught: Mapping[str, Mapping[str, Any]]
    found: Mapping[str, Mapping[str, Any]]
    tuned: Mapping[str, str]
    long: Mapping[str, Mapping[str, Any]]
    orders: Mapping[str, Mapping[str, Any]]

    def test(self, name: str) -> dict[str, Any]:
        """What a method came to on test questions."""
        first = self.config.tuning
        keys = ("right", "passes", "tokens")
        return {key: np.asarray(self.found[name][key][first:], float) for key in keys}

    def gain(self, name: str, places: int, what: str = "tokens") -> tuple[float, ...]:
        """How many times fewer than static decoding on a canvas of this length."""
        return ratio(
            self.long[f"static, {places} places"][what], self.long[f"{name}, {places} places"][what]
        )


def claims(found: Findings) -> list[Claim]:
    """The paper's claims, by rules fixed before measuring."""
    return [
        _speedup(found),
        _dual(found),
        _grows(found),
        _oracle(found),
        _threshold(found),
        *_depth(found),
        *_transfer(found),
    ]


def _points(found: Findings, name: str, places: int) -> tuple[float, float, float]:
    one, other = (
        np.asarray(found.long[f"{n}, {places} places"]["right"], float) for n in (name, "static")
    )
    return paired(one, other)


def _speedup(found: Findings) -> Claim:
    places = found.config.lengths[-1]
    gain, low, high = found.gain("ends", places)
    passes = found.gain("ends", places, "passes")[0]
    mean, worst, best = _points(found, "ends", places)
    return Claim(
        f"filter and predicted ends decode the longest canvas {ENDS} times faster without loss",
        f"{ENDS}x at 1,024 places, 77.60 to 79.83 (GSM8K)",
        f"{places} places: {gain:.1f} times fewer tokens run ({low:.1f}..{high:.1f}), "
        f"{passes:.1f} times fewer passes; {mean:+.1f} points ({worst:+.1f}..{best:+.1f})",
        gain >= ENDS and mean >= 0,
        interval=(low, high),
        mark=ENDS,
        headline=True,
    )


def _dual(found: Findings) -> Claim:
    places = found.config.lengths[-1]
    gain, low, high = found.gain("ends, dual", places)
    mean, worst, best = _points(found, "ends, dual", places)
    return Claim(
        f"with a dual cache {DUAL} times, at a loss of no more than {LOST:.1f} points",
        f"{DUAL}x at 1,024 places, 77.60 to 74.00",
        f"{places} places: {gain:.1f} times fewer tokens run ({low:.1f}..{high:.1f}); "
        f"{mean:+.1f} points ({worst:+.1f}..{best:+.1f})",
        gain >= DUAL and mean >= -LOST,
        interval=(low, high),
        mark=DUAL,
    )


def _grows(found: Findings) -> Claim:
    """The gain of ends over the filter alone, longest canvas against shortest, by questions."""
    gains = []
    for places in found.config.lengths:
        one, other = (
            np.asarray(found.long[f"{name}, {places} places"]["tokens"], float)
            for name in ("filter", "ends")
        )
        gains.append(np.log(one) - np.log(other))
    mean, low, high = (value / 100 for value in paired(gains[-1], gains[0]))
    each = [
        f"{places}: {np.exp(gain.mean()):.2f}"
        for places, gain in zip(found.config.lengths, gains, strict=True)
    ]
    return Claim(
        "what predicted ends gain over the filter alone grows with the canvas",
        "speedup 3.36x at 128 places to 22.58x at 1,024",
        f"times fewer tokens run by places {', '.join(each)}; log-ratio {mean:+.2f} "
        f"({low:+.2f}..{high:+.2f})",
        low > 0,
        interval=(low, high),
        mark=0.0,
    )


def _oracle(found: Findings) -> Claim:
    blocks = found.config.places // found.config.block
    each = np.asarray(found.traces["passes"], float) / blocks
    rows = np.random.default_rng(0).integers(len(each), size=(2000, len(each)))
    low, high = np.percentile(np.median(each[rows], axis=1), [2.5, 97.5])
    return Claim(
        "an oracle that decides what equals the model's own decoding needs two passes a block",
        "median 2 of 32",
        f"median over questions {np.median(each):.2f} ({low:.2f}..{high:.2f}) of "
        f"{found.config.block}",
        bool(np.median(each) <= 2),
    )


def _threshold(found: Findings) -> Claim:
    names = [found.tuned[kind] for kind in ("threshold", "filter")]
    base, filter = (found.test(name) for name in names)
    fewer, low, high = ratio(base["passes"], filter["passes"])
    mean, worst, best = paired(filter["right"], base["right"])
    return Claim(
        "the filter needs fewer passes than the best tuned threshold, and answers as much",
        "not compared in the paper, whose baseline is one place a pass",
        f"{names[1]} against {names[0]}: {fewer:.2f} times fewer ({low:.2f}..{high:.2f}); "
        f"{mean:+.1f} points ({worst:+.1f}..{best:+.1f})",
        low > 1 and mean >= 0,
        interval=(low, high),
        mark=1.0,
    )


def _depth(found: Findings) -> list[Claim]:
    others = [kind for kind in found.tuned if kind not in ("threshold", "filter")]
    if not others:
        return []
    two = found.test(found.tuned["filter"])
    said, lows, lost = [], [], []
    for kind in others:
        other = found.test(found.tuned[kind])
        fewer, low, high = ratio(other["passes"], two["passes"])
        lows.append(low)
        lost.append(100 * (other["right"].mean() - two["right"].mean()))
        said.append(
            f"{found.tuned[kind]} {fewer:.2f} ({low:.2f}..{high:.2f}) at {lost[-1]:+.1f} points"
        )
    return [
        Claim(
            "two layers are faster than one and than four, each tuned, and answer as much",
            "2.57x / 4.13x / 3.35x for 1 / 2 / 4 layers at equal accuracy",
            "passes over those of two layers: " + "; ".join(said),
            min(lows) > 1 and max(lost) <= AS_GOOD,
        )
    ]


def _transfer(found: Findings) -> list[Claim]:
    if "by of lists" not in found.found:
        return []
    elsewhere = np.asarray(found.names[found.config.tuning :]) != LISTS
    if not elsewhere.any():
        return []
    own, other = found.test(found.tuned["filter"]), found.test("by of lists")
    mean, worst, best = paired(other["right"][elsewhere], own["right"][elsewhere])
    more, low, high = ratio(other["passes"][elsewhere], own["passes"][elsewhere])
    # One that accepts nothing answers as static decoding does, and saves nothing.
    static = found.test("static")["passes"][elsewhere]
    saved = ratio(static, other["passes"][elsewhere])
    return [
        Claim(
            "a filter taught on one task decodes the others faster than one place a pass and as "
            "well as one taught on all, within 2 points",
            "one filter, taught on 66 task categories, serves all benchmarks",
            f"taught on lists, asked elsewhere: {mean:+.1f} points ({worst:+.1f}..{best:+.1f}), "
            f"{more:.2f} times the passes ({low:.2f}..{high:.2f}), {saved[0]:.2f} times fewer than "
            f"static ({saved[1]:.2f}..{saved[2]:.2f})",
            worst >= -2 and saved[1] > 1,
            interval=(worst, best),
            mark=-2.0,
        )
    ]
