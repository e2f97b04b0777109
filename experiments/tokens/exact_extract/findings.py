"""What the experiment on exact extraction makes of its measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.harness.judging.claim import Claim, above, below
from experiments.harness.statistics import Estimate, bootstrap, points
from experiments.tokens.exact_extract.measures import SLACK, Row
from experiments.tokens.exact_extract.setting import Config

METHODS = ("greedy", "beams", "constrained", "exact")
NO_WORSE = "-1 points"  # that greedy decoding may be behind and count as no worse
CLOSED = "1 points"  # that are left of a gap that is closed
OPTIMAL = "90 %"  # of the greedy answers after many labels
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Findings:
    """Measurements.

    Attributes:
      rows: (with recurring spans, labels) -> a row for each sample of labelled questions.
      costs: of the search and of naive scoring.
      unaligned: questions that no part of the passage's tokens answers.
    """

    config: Config
    rows: dict[tuple[bool, int], list[Row]]
    costs: Row
    unaligned: tuple[str, ...] = ()

    def of(self, recurring: bool, labels: int, method: str, name: str = "f1") -> Floats:
        """Of each question the mean over samples."""
        several = [row[method][name] for row in self.rows[recurring, labels]]
        return np.mean(several, axis=0)

    def optimal(self, recurring: bool, labels: int) -> Floats:
        """Whether greedy decoding said what the exact search said, question by question."""
        return np.mean([row["same"] for row in self.rows[recurring, labels]], axis=0)

    @property
    def evidence(self) -> Row:
        """What the claims are judged by."""
        worst, count = self.bound
        return {
            "rows": [
                {
                    "recurring": recurring,
                    "labels": labels,
                    **{m: self.of(recurring, labels, m) for m in ("greedy", "exact")},
                    "same": self.optimal(recurring, labels),
                }
                for recurring, labels in self.rows
            ],
            "bound": {"worst": worst, "count": count},
            "costs": self.costs,
        }

    @property
    def bound(self) -> tuple[float, int]:
        """By how many nats a part that another method said is above the exact one, at most, and
        how many such parts there are."""
        worst, count = 0.0, 0
        for row in (row for several in self.rows.values() for row in several):
            best = np.asarray(row["exact"]["score"])
            for method in METHODS[:-1]:
                parts = np.asarray(row[method]["whole"]) > 0
                over = np.asarray(row[method]["score"])[parts] - best[parts]
                worst, count = max(worst, float(over.max(initial=0.0))), count + int(parts.sum())
        return worst, count

    def table(self) -> list[Row]:
        found: list[Row] = []
        for recurring, labels in self.rows:
            line: Row = {
                "training": "recurring spans" if recurring else "hidden runs",
                "labels": labels,
            }
            for method in METHODS:
                line[f"F1 {method}"] = 100 * float(self.of(recurring, labels, method).mean())
            for method in ("greedy", "exact"):
                values = self.of(recurring, labels, method, "em")
                line[f"EM {method}"] = 100 * float(values.mean())
            parts = self.of(recurring, labels, "greedy", "part")
            line["greedy extractive, %"] = 100 * float(parts.mean())
            line["greedy optimal, %"] = 100 * float(self.optimal(recurring, labels).mean())
            found.append(line)
        if self.config.generator:
            for line in found:
                line["training"] = "as published"
        found.append({"training": "cost", **self.costs})
        if self.unaligned:
            found.append(
                {
                    "training": f"{len(self.unaligned)} questions have no answer among the "
                    f"tokens' parts: {', '.join(self.unaligned[:20])}"
                }
            )
        return found


class Told:
    """The evidence of a record, by training and labels."""

    def __init__(self, evidence: Row):
        self.rows = {(row["recurring"], row["labels"]): row for row in evidence["rows"]}
        self.most = max(labels for _, labels in self.rows)

    def of(self, recurring: bool, labels: int, name: str) -> Floats:
        """F1 of a method, or "same": whether greedy decoding said the most probable part."""
        return np.asarray(self.rows[recurring, labels][name], np.float64)


def claims(config: Config, evidence: Row) -> list[Claim]:
    """The paper's, by rules fixed before measuring; intervals of 95 % over questions."""
    told = Told(evidence)
    stated = [
        _above(
            "without labels the most probable part answers better than greedy decoding",
            "60.0 against 50.4 F1 (SQuAD, T5)",
            told.of(False, 0, "exact"),
            told.of(False, 0, "greedy"),
        )
    ]
    if (True, 0) in told.rows:
        stated += [*_recurring(told), *_labelled(told)]
    return [*stated, _bound(evidence["bound"]), *_costs(evidence["costs"])]


def _above(claim: str, paper: str, one: Floats, other: Floats, mark: str = "0 points") -> Claim:
    measured = f"{100 * one.mean():.1f} against {100 * other.mean():.1f} F1"
    return Claim.tested(claim, paper, above(points(one, other), mark), measured=measured)


def _recurring(told: Told) -> list[Claim]:
    trained = told.of(True, 0, "greedy")
    return [
        _above(
            "training on recurring spans makes greedy decoding answer without labels",
            "71.4 against 50.4 F1",
            trained,
            told.of(False, 0, "greedy"),
        ),
        _above(
            f"it then is no worse than the exact search (above {NO_WORSE})",
            "71.4 against 69.4 F1",
            trained,
            told.of(True, 0, "exact"),
            NO_WORSE,
        ),
    ]


def _labelled(told: Told) -> list[Claim]:
    most = told.most
    exact, greedy = ({n: told.of(False, n, m) for n in (0, most)} for m in ("exact", "greedy"))
    before, after = (exact[n] - greedy[n] for n in (0, most))

    def optimal(recurring: bool) -> Estimate:
        same = told.of(recurring, most, "same")
        return bootstrap(lambda share: 100 * share.mean(), same, unit="%")

    return [
        Claim.tested(
            f"labels close the gap between greedy decoding and the exact search, to {CLOSED}",
            "from 10 points to 0-1 within a few hundred labels",
            above(points(before, after), "0 points"),
            below(points(exact[most], greedy[most]), CLOSED),
            measured=f"{100 * before.mean():+.1f} points without, {100 * after.mean():+.1f} with "
            f"{most} labels; what is closed, and what is left",
        ),
        Claim.tested(
            f"with {most} labels greedy decoding finds the most probable part in {OPTIMAL} of the "
            "questions",
            "above 90 %",
            above(optimal(False), OPTIMAL),
            above(optimal(True), OPTIMAL),
            measured="without and with recurring spans",
        ),
    ]


def _bound(bound: Row) -> Claim:
    return Claim(
        "no part that another method says is more probable than the exact one",
        "by construction",
        f"of {bound['count']} parts none by more than {bound['worst']:.1e} nats",
        bound["worst"] <= SLACK,
        sanity=True,
    )


def _costs(c: Row) -> list[Claim]:
    times = c["seconds"]
    faster = bootstrap(lambda ratio: ratio.mean(), np.divide(times["naive"], times["exact"]),
                       unit="x")  # fmt: skip
    return [
        Claim(
            "a pass for each beginning replaces a pass for each part, and comes to its scores",
            "O(n) passes for O(n^2)",
            f"{c['rows, exact']} for {c['rows, naive']} passes, {c['tokens, exact']} for "
            f"{c['tokens, naive']} tokens; best scores at most {c['apart']:.0e} apart",
            c["rows, exact"] < c["rows, naive"] and c["apart"] < SLACK,
            sanity=True,
        ),
        Claim.tested(
            "and is faster", "not measured", above(faster, "1x"), measured="rounds that take turns"
        ),
    ]
