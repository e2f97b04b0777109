"""What the experiment on EAD makes of its measurements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.harness.report import Claim
from experiments.harness.statistics import paired
from experiments.tokens.ead.setting import Config, Row

# Of the large model's score, and of its cost saved by the count of parameters, as published.
PUBLISHED = ((0.967, 0.415, "LLaMA 3B and 11B"), (0.929, 0.67, "Qwen2.5 1.5B and 14B"))
WORK = 0.05  # of the large model's FLOPs, that reading to catch up may take
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Findings:
    """Measurements on test questions.

    Attributes:
      ratio: parameters of the small model, of one of the large one's.
      large, small: the models alone.
      curves: (window, hold) -> a row for each threshold.
      chance: of the first curve the row's control, switched at random as much.
      routed: each threshold, by whole questions.
      chosen: index of the threshold chosen on validation questions.
      tried: each threshold of the first curve, on validation questions.
      anew: each threshold, uncertain tokens of the small model being written by the large one;
        ours, with a window of one, added after the published reading had been measured.
    """

    config: Config
    ratio: float
    large: Row
    small: Row
    curves: dict[tuple[int, int], list[Row]]
    chance: list[Row]
    routed: list[Row]
    chosen: int
    strip: dict[str, Any]
    tried: list[Row]
    anew: list[Row] = field(default_factory=list)

    @property
    def curve(self) -> list[Row]:
        return self.curves[self.config.windows[0]]

    def cost(self, row: Row) -> float:
        """By parameters: of one of the large model's tokens, on average."""
        return float(row["share"] + (1 - row["share"]) * self.ratio)

    def flops(self, row: Row) -> float:
        """Counted, caching up included, of the large model's on the same questions."""
        return float(np.sum(row["flops"]) / np.sum(self.large["flops"]))

    def over_chord(self, row: Row) -> Floats:
        """Of each question, how far it lies above the line between the two models."""
        small, large = np.asarray(self.small["right"]), np.asarray(self.large["right"])
        return np.asarray(row["right"]) - small - row["share"] * (large - small)

    def thrifty(self, saved: float) -> int | None:
        """Of the thresholds that save as much on validation questions, the one that keeps most of
        the score there."""
        cheap = [i for i, row in enumerate(self.tried) if 1 - self.cost(row) >= saved]
        return max(cheap, key=lambda i: float(np.mean(self.tried[i]["right"])), default=None)

    def table(self) -> list[Row]:
        """Every decoder, in percent and relative to the large model."""

        def line(method: str, row: Row, **more: Any) -> Row:
            return {
                "method": method,
                "right, %": 100 * float(np.mean(row["right"])),
                **more,
            }

        rows = [
            line("small model", self.small, **self._costs(self.small, 0.0)),
            line("large model", self.large, **self._costs(self.large, 1.0)),
        ]
        for (window, hold), curve in self.curves.items():
            for tau, row in zip(self.config.thresholds, curve, strict=True):
                name = f"EAD w={window} d={hold} tau={tau:g}"
                rows.append(line(name, row, **self._costs(row, row["share"])))
        others = (("by chance", self.chance), ("routed", self.routed), ("anew, w=1", self.anew))
        for name, several in others:
            for tau, row in zip(self.config.thresholds, several, strict=False):
                rows.append(line(f"{name}, tau={tau:g}", row, **self._costs(row, row["share"])))
        return rows

    def _costs(self, row: Row, share: float) -> Row:
        found = {
            "large, % of tokens": 100 * float(share),
            "cost by parameters": float(share + (1 - share) * self.ratio),
            "cost by FLOPs": self.flops(row),
        }
        if "changes" in row:
            found |= {
                "changes an answer": float(row["changes"]),
                "large reads, of a token": float(row["read"]),
                "small reads, of a token": float(row["small read"]),
            }
        return found


def choose(rows: list[Row], small: Row, large: Row) -> int:
    """The threshold whose validation score lies farthest above the line between the models."""
    s, b = float(np.mean(small["right"])), float(np.mean(large["right"]))
    return int(np.argmax([np.mean(row["right"]) - s - row["share"] * (b - s) for row in rows]))


def claims(found: Findings) -> list[Claim]:
    """The paper's, by rules fixed before measuring, and ours on tokens written anew, which came
    after: intervals of 95 % over questions, thresholds chosen on validation questions."""
    row, tau = found.curve[found.chosen], found.config.thresholds[found.chosen]
    large = np.asarray(found.large["right"])
    stated = []
    for kept, saved, pair in PUBLISHED:
        place = found.thrifty(saved)
        if place is None:
            measured, holds, span = f"no threshold saves {100 * saved:g} %", False, None
        else:
            best, spared = found.curve[place], 1 - found.cost(found.curve[place])
            gap, low, high = paired(np.asarray(best["right"]), kept * large)
            share = float(np.mean(best["right"]) / max(large.mean(), 1e-9))
            measured = (
                f"{100 * share:.1f} % kept at {100 * spared:.1f} % saved by parameters "
                f"({100 * (1 - found.flops(best)):.0f} % of counted FLOPs), "
                f"tau={found.config.thresholds[place]:g}; {gap:+.1f} points over {100 * kept:g} % "
                f"of it ({low:+.1f}..{high:+.1f})"
            )
            holds, span = low >= 0 and spared >= saved, (low, high)
        stated.append(
            Claim(
                f"{100 * kept:g} % of the large model's score are kept while {100 * saved:g} % of "
                "its cost are saved",
                f"{100 * kept:g} % at {100 * saved:g} % ({pair}, MATH)",
                measured,
                bool(holds),
                span,
                0.0,
            )
        )
    gap, low, high = paired(found.over_chord(row), np.zeros(len(large)))
    stated.append(
        Claim(
            "at the threshold chosen on validation questions the score lies above the straight "
            "line between the two models",
            "score rises fastest at low shares (figure)",
            f"{gap:+.1f} points above it ({low:+.1f}..{high:+.1f}) at tau={tau:g}, "
            f"{100 * row['share']:.0f} % of tokens by the large model",
            low > 0,
            (low, high),
            0.0,
        )
    )
    # Heights above the line, since a coin gives a share only on average.
    other = found.chance[found.chosen]
    gap, low, high = paired(found.over_chord(row), found.over_chord(other))
    stated.append(
        Claim(
            "entropy switches better than chance in runs as long: its score lies higher above the "
            "line",
            "not measured",
            f"{100 * np.mean(row['right']):.1f} against {100 * np.mean(other['right']):.1f} % at "
            f"shares of {100 * row['share']:.0f} and {100 * other['share']:.0f} %: {gap:+.1f} "
            f"points higher ({low:+.1f}..{high:+.1f})",
            low > 0,
            (low, high),
            0.0,
        )
    )
    if found.anew:
        stated.append(_anew(found))
    stated.append(
        Claim(
            f"what is saved by parameters is saved in counted FLOPs too, to {100 * WORK:g} points, "
            "catching up included",
            "parameters alone are counted",
            f"{100 * (1 - found.flops(row)):.0f} % of FLOPs against "
            f"{100 * (1 - found.cost(row)):.0f} % by parameters",
            found.flops(row) <= found.cost(row) + WORK,
        )
    )
    return stated


def _anew(found: Findings) -> Claim:
    """Ours, an open point read otherwise, at the threshold chosen for the published reading."""
    row = found.anew[found.chosen]
    gap, low, high = paired(found.over_chord(row), np.zeros(len(row["right"])))
    tau, right = found.config.thresholds[found.chosen], 100 * float(np.mean(row["right"]))
    return Claim(
        "ours, not published: with a window of one, and the large model writing the small one's "
        "uncertain tokens anew, the score lies above the line",
        "not measured; whether a token is written anew is left open",
        f"{right:.1f} %, {gap:+.1f} points above it ({low:+.1f}..{high:+.1f}) at tau={tau:g}, "
        f"{100 * row['share']:.0f} % of tokens by the large model, "
        f"{100 * (1 - found.flops(row)):.0f} % of FLOPs saved",
        low > 0,
        (low, high),
        0.0,
    )
