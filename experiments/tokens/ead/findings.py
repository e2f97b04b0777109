"""What the experiment on EAD makes of its measurements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import Estimate, bootstrap, points
from experiments.tokens.ead.setting import Config, Row

# Of the large model's score, and of its cost saved by the count of parameters, as published.
PUBLISHED = ((0.967, 41.5, "LLaMA 3B and 11B"), (0.929, 67.0, "Qwen2.5 1.5B and 14B"))
WORK = 5  # points of the large model's FLOPs, that reading to catch up may take
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

    @property
    def evidence(self) -> Row:
        """What the claims are judged by."""

        def kept(row: Row, *more: str) -> Row:
            return {name: row[name] for name in ("right", "written", "length", *more)}

        return {
            "ratio": self.ratio,
            "chosen": self.chosen,
            "large": {name: self.large[name] for name in ("right", "flops")},
            "small": {"right": self.small["right"]},
            "tried": [kept(row) for row in self.tried],
            "curve": [kept(row, "flops") for row in self.curve],
            "chance": kept(self.chance[self.chosen]),
            "anew": kept(self.anew[self.chosen], "flops"),
        }

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


def of_tokens(row: Row) -> float:
    """The large model's share."""
    return float(np.sum(row["written"]) / np.sum(row["length"]))


def thrifty(evidence: Row, saved: float) -> int | None:
    """Of the thresholds that save so many percent on validation questions, the one that keeps
    most of the score there."""
    rows, ratio = evidence["tried"], evidence["ratio"]
    cheap = [i for i, row in enumerate(rows) if 100 * _spared(of_tokens(row), ratio) >= saved]
    return max(cheap, key=lambda i: float(np.mean(rows[i]["right"])), default=None)


def _spared(share: float, ratio: float) -> float:
    """Of the large model's cost, by parameters."""
    return (1 - share) * (1 - ratio)


def claims(config: Config, evidence: Row) -> list[Claim]:
    """The paper's, by rules fixed before measuring, and ours on tokens written anew, which came
    after: intervals of 95 % over questions, thresholds chosen on validation questions."""
    e, tau = evidence, config.thresholds[evidence["chosen"]]
    row, chance, anew = e["curve"][e["chosen"]], e["chance"], e["anew"]

    def told(row: Row) -> str:
        return f"{100 * np.mean(row['right']):.1f} % at a share of {100 * of_tokens(row):.0f} %"

    return [
        *(_kept(config, e, *published) for published in PUBLISHED),
        Claim.tested(
            "at the threshold chosen on validation questions the score lies above the straight "
            "line between the two models",
            "score rises fastest at low shares (figure)",
            above(_height(e, row), "0 points"),
            measured=f"{told(row)}, tau={tau:g}",
        ),
        Claim.tested(
            "entropy switches better than chance in runs as long: its score lies higher above the "
            "line",
            "not measured",
            above(_height(e, row, chance), "0 points"),
            measured=f"{told(row)} against {told(chance)}",
        ),
        Claim.tested(
            "ours, not published: with a window of one, and the large model writing the small "
            "one's uncertain tokens anew, the score lies above the line",
            "not measured; whether a token is written anew is left open",
            above(_height(e, anew), "0 points"),
            measured=f"{told(anew)}, tau={tau:g}",
        ),
        Claim.tested(
            f"what is saved by parameters is saved in counted FLOPs too, to {WORK} points, "
            "catching up included",
            "parameters alone are counted",
            above(_honest(e, row), f"-{WORK} points"),
            measured="FLOPs saved less parameters saved",
        ),
    ]


def _kept(config: Config, e: Row, kept: float, saved: float, pair: str) -> Claim:
    claim = (
        f"{100 * kept:g} % of the large model's score are kept while {saved:g} % of its cost are "
        "saved"
    )
    paper = f"{100 * kept:g} % at {saved:g} % ({pair}, MATH)"
    place = thrifty(e, saved)
    if place is None:
        return Claim(claim, paper, f"no threshold saves {saved:g} %", False)
    best, large = e["curve"][place], np.asarray(e["large"]["right"], float)
    spared = bootstrap(
        lambda w, n: 100 * _spared(w.sum() / n.sum(), e["ratio"]),
        best["written"], best["length"], unit="%",
    )  # fmt: skip
    share = 100 * float(np.mean(best["right"])) / max(100 * float(large.mean()), 1e-9)
    return Claim.tested(
        claim,
        paper,
        above(points(best["right"], kept * large), "0 points"),
        above(spared, f"{saved:g} %"),
        measured=f"{100 * share:.1f} % kept, tau={config.thresholds[place]:g}; points over "
        f"{100 * kept:g} % of the score, and cost saved",
    )


def _height(e: Row, row: Row, other: Row | None = None) -> Estimate:
    """Points above the line between the two models, more than another's if it is given: heights,
    since a coin gives a share only on average."""
    rows = [row] if other is None else [row, other]

    def height(small: Floats, large: Floats, right: Floats, wrote: Floats, n: Floats) -> float:
        share = wrote.sum() / n.sum()
        return 100 * float(np.mean(right - small - share * (large - small)))

    def above_line(small: Floats, large: Floats, *parts: Floats) -> float:
        heights = [height(small, large, *parts[i : i + 3]) for i in range(0, len(parts), 3)]
        return heights[0] - sum(heights[1:])

    parts = [r[name] for r in rows for name in ("right", "written", "length")]
    models = (e["small"]["right"], e["large"]["right"])
    return bootstrap(above_line, *models, *parts, unit="points")


def _honest(e: Row, row: Row) -> Estimate:
    """Points of FLOPs saved, less those that parameters say."""

    def gap(flops: Floats, all_flops: Floats, wrote: Floats, n: Floats) -> float:
        spared = _spared(wrote.sum() / n.sum(), e["ratio"])
        return 100 * float(1 - flops.sum() / all_flops.sum() - spared)

    parts = (row["flops"], e["large"]["flops"], row["written"], row["length"])
    return bootstrap(gap, *parts, unit="points")
