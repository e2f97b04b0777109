"""What the experiment on ICN makes of its measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import Estimate, bootstrap, difference, points
from experiments.tokens.icn.measures import Row, mean_precision, precisions, reranked
from experiments.tokens.icn.setting import Config

Floats = NDArray[np.float64]
WALK = "down the ranks"
LEARNED = 0.15  # a model below it has learned none: the commonest sum alone is right in .07
UNLEARNED = "the model answers no better than by chance, whatever it writes before"
FAR = 10  # times what keys change that queries change, which is far more


@dataclass(frozen=True)
class Findings:
    """All that was measured; units are categories and questions.

    Attributes:
      ranks: the first ranks of one law.
      methods: of each, what was explored.
      moved: queries, run by run.
      votes: of the task made for them.
      taught: what lessons moved.
    """

    config: Config
    ranks: Row
    methods: dict[str, Row]
    moved: Row
    votes: Row
    taught: Row

    @classmethod
    def of(cls, config: Config, ranks: Row, methods: dict[str, Row], **measured: Row) -> Findings:
        """With what reranking the one law explores; `measured` are the other fields. All of it is
        the evidence of a record."""
        every = {WALK: reranked(ranks, 0.0, config.items)} | methods
        for penalty in config.penalties:
            every[f"down the ranks, {penalty:g} a cluster"] = reranked(ranks, penalty, config.items)
        return cls(config, ranks, every, **measured)

    @property
    def best(self) -> str:
        """The published setting: most runs, items from the instruction."""
        most = max(self.config.runs)
        return f"ICN, {most} x {self.config.items // most}"

    def right(self, name: str) -> Floats:
        """bool[C, N] as numbers, in the order of exploration."""
        return np.asarray(self.methods[name]["right"], float)

    def distinct(self, name: str) -> Floats:
        """Different right items of each category, f64[C]."""
        row = self.methods[name]
        return np.array(
            [
                len({item for item, good in zip(items, right, strict=True) if good})
                for items, right in zip(row["items"], row["right"], strict=True)
            ],
            float,
        )

    def table(self) -> list[Row]:
        found: list[Row] = []
        count = self.config.items
        for name, row in self.methods.items():
            shown = self.right(name)
            found.append(
                {
                    "explored": name,
                    f"different right ones of {count}": float(self.distinct(name).mean()),
                    f"precision at {count}": float(precisions(shown)[:, -1].mean()),
                    f"mean precision to {count}": float(
                        np.mean([mean_precision(one) for one in shown])
                    ),
                    "different": float(np.mean([len(set(items)) for items in row["items"]])),
                    "tokens run": float(np.mean(row["tokens"])) if "tokens" in row else None,
                }
            )
        for name, row in self.votes.items():
            found.append(
                {
                    "explored": f"ways: {name}",
                    "votes right, %": 100 * float(np.mean(row["vote"])),
                    "paths right, %": 100 * float(np.mean(row["path"])),
                }
            )
        return found

    def ratio(self, name: str, numerator: str) -> tuple[Floats, Floats]:
        """Of each category a group's sum, and how many ranks it has."""
        groups = [one[name] for one in self.ranks["groups"]]
        return (
            np.array([group[numerator] for group in groups], float),
            np.array([group["count"] for group in groups], float),
        )

    def apart(self, what: str, unit: str, scale: float = 1.0) -> tuple[float, float, Estimate]:
        """(inside, outside, outside less inside over categories) of a mean over middle ranks:
        "right" for accuracy, "ranks" for the rank."""
        (a, m), (b, n) = self.ratio("inside", what), self.ratio("outside", what)

        def mean(total: Floats, count: Floats) -> float:
            return scale * float(total.sum()) / max(float(count.sum()), 1.0)

        def gap(a: Floats, m: Floats, b: Floats, n: Floats) -> float:
            return mean(b, n) - mean(a, m)

        return mean(a, m), mean(b, n), bootstrap(gap, a, m, b, n, unit=unit)


def claims(config: Config, evidence: dict[str, Row]) -> list[Claim]:
    """The paper's, by rules fixed before measuring: 95 % intervals over categories or questions.
    Its numbers are not at hand."""
    found = Findings.of(config, **evidence)
    return [*_explores(found), *_keys(found), *_moves(found), *_votes(found), *_lessons(found)]


def _explores(found: Findings) -> list[Claim]:
    count = found.config.items
    stated = []
    others = {
        WALK: ("walking down the ranks of one law", "a higher precision (tables not at hand)"),
        "sampling": ("as many draws at temperature 1", "a higher precision (tables not at hand)"),
        f"down the ranks, {max(found.config.penalties, default=0):g} a cluster": (
            "a law whose explored clusters are penalised",
            "not measured",
        ),
        "diverse beams": ("diverse beams", "not measured"),
    }
    for name, (shown, paper) in others.items():
        if name not in found.methods:
            continue
        own, other = found.distinct(found.best), found.distinct(name)
        stated.append(
            Claim.tested(
                f"ICN finds more of the right answers in {count} items than {shown}",
                paper,
                above(difference(own, other, "items"), "0 items"),
                measured=f"{own.mean():.2f} against {other.mean():.2f}",
                headline=name == WALK,
            )
        )
    own, other = (precisions(found.right(name)).mean(axis=1) for name in (found.best, WALK))
    stated.append(
        Claim.tested(
            f"its mean precision over the first 1 to {count} items is higher than down the ranks",
            "a higher precision as more is explored (tables not at hand)",
            above(points(own, other), "0 points"),
            measured=f"{100 * own.mean():.1f} against {100 * other.mean():.1f} %",
        )
    )
    return stated


def _keys(found: Findings) -> list[Claim]:
    inside, outside, gap = found.apart("right", "points", 100.0)
    near, far, ranks = found.apart("ranks", "ranks")
    c = found.config
    return [
        Claim.tested(
            f"of ranks {c.top + 1} to {c.ranks} those outside of the first {c.top} tokens' "
            "clusters are right more often than those inside",
            "out of cluster above in cluster, on two models (tables not at hand)",
            above(gap, "0 points"),
            measured=f"{outside:.1f} against {inside:.1f} %",
        ),
        Claim.tested(
            "though they are ranked no higher",
            "mean ranks equal or lower (control)",
            above(ranks, "0 ranks"),
            measured=f"mean rank {far:.1f} against {near:.1f}",
        ),
    ]


def _moves(found: Findings) -> list[Claim]:
    """The first token that is explored, by how far it stands above the vocabulary."""
    cosine, stands = (np.asarray(found.moved[name], float) for name in ("cosine", "stands"))
    first, after = stands[:, 0], stands[:, 1:].mean(axis=1)
    return [
        Claim.tested(
            "what was explored moves the query away from its key",
            "the context moves the query (figure)",
            above(difference(first, after, "deviations"), "0 deviations"),
            measured=f"the first token explored stands {first.mean():.1f} standard deviations "
            f"above the vocabulary before and {after.mean():.1f} after; cosine of the last query "
            f"with the first {cosine[:, -1].mean():.2f}",
        )
    ]


def _votes(found: Findings) -> list[Claim]:
    stated = []
    for other, shown, paper in (
        ("first tokens of one law", "that of the first tokens of one law",
         "ICN above them (tables not at hand)"),
        ("greedy", "the answer of greedy decoding", "ICN above it (tables not at hand)"),
        ("sampling", "that of as many draws", "not measured"),
    ):  # fmt: skip
        own, base = (np.asarray(found.votes[name]["vote"], float) for name in ("ICN", other))
        stated.append(
            Claim.tested(
                "sums in ways (made for it): the vote of ICN's ways is right more often than "
                + shown,
                paper,
                above(points(own, base), "0 points"),
                measured=f"{100 * own.mean():.1f} against {100 * base.mean():.1f} %",
            )
        )
    best = max(float(np.mean(row[name])) for row in found.votes.values() for name in row
               if name in ("vote", "path"))  # fmt: skip
    return [claim.unless(best < LEARNED, UNLEARNED) for claim in stated]


def _lessons(found: Findings) -> list[Claim]:
    taught = found.taught
    times = bootstrap(
        lambda queries: float(queries.mean()) / taught["keys"], taught["queries"], unit="x"
    )
    inside, outside = (np.asarray(taught[name], float) for name in ("inside", "outside"))
    return [
        Claim.tested(
            f"fine-tuning changes queries far more than keys ({FAR} times, relative to their "
            "norms)",
            "queries far more than keys (figure)",
            above(times, f"{FAR}x"),
            measured=f"{np.mean(taught['queries']):.3f} against {taught['keys']:.4f}",
        ),
        Claim.tested(
            "a new member raises wrong names of its cluster more than others",
            "wrong tokens of the cluster rise too (figure)",
            above(difference(inside, outside, "nats"), "0 nats"),
            measured=f"{inside.mean():+.2f} against {outside.mean():+.2f}; the member itself "
            f"{np.mean(taught['member']):+.2f}",
        ),
    ]
