"""What the experiment on ICN makes of its measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.harness.report import Claim
from experiments.harness.statistics import paired
from experiments.tokens.icn.measures import Row, mean_precision, precisions, reranked
from experiments.tokens.icn.setting import Config

Floats = NDArray[np.float64]
Span = tuple[float, float, float]
WALK = "down the ranks"
DRAWS = 2000


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
        """With what reranking the one law explores; `measured` are the other fields."""
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

    def apart(self, what: str) -> tuple[float, float, Span]:
        """(inside, outside, outside less inside with its interval over categories) of a mean over
        middle ranks: "right" for accuracy, "ranks" for the rank."""
        (a, m), (b, n) = self.ratio("inside", what), self.ratio("outside", what)
        pick = np.random.default_rng(0).integers(len(a), size=(DRAWS, len(a)))

        def mean(total: Floats, count: Floats, rows: NDArray[np.integer]) -> Floats:
            return total[rows].sum(-1) / np.maximum(count[rows].sum(-1), 1)

        whole = np.arange(len(a))
        inside, outside = float(mean(a, m, whole)), float(mean(b, n, whole))
        low, high = np.percentile(mean(b, n, pick) - mean(a, m, pick), [2.5, 97.5])
        return inside, outside, (outside - inside, float(low), float(high))


def over(values: Floats) -> Span:
    """A mean and its 95 % bootstrap interval over independent units."""
    values = np.asarray(values, float)
    rows = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.percentile(values[rows].mean(axis=1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def told(span: Span, form: str = "+.2f") -> str:
    mean, low, high = (format(value, form) for value in span)
    return f"{mean} ({low}..{high})"


def claims(found: Findings) -> list[Claim]:
    """The paper's, by rules fixed before measuring; its numbers are not at hand."""
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
        span = over(own - other)
        stated.append(
            Claim(
                f"ICN finds more of the right answers in {count} items than {shown}",
                paper,
                f"{own.mean():.2f} against {other.mean():.2f}: {told(span)}",
                span[1] > 0,
                span[1:],
                0.0,
                headline=name == WALK,
            )
        )
    own, other = found.right(found.best), found.right(WALK)
    span = over((precisions(own) - precisions(other)).mean(axis=1))
    stated.append(
        Claim(
            f"its mean precision over the first 1 to {count} items is higher than down the ranks",
            "a higher precision as more is explored (tables not at hand)",
            told(span, "+.3f"),
            span[1] > 0,
            span[1:],
            0.0,
        )
    )
    return stated


def _keys(found: Findings) -> list[Claim]:
    inside, outside, span = found.apart("right")
    near, far, ranks = found.apart("ranks")
    c = found.config
    return [
        Claim(
            f"of ranks {c.top + 1} to {c.ranks} those outside of the first {c.top} tokens' "
            "clusters are right more often than those inside",
            "out of cluster above in cluster, on two models (tables not at hand)",
            f"{100 * outside:.1f} against {100 * inside:.1f} %: {told(span, '+.3f')}",
            span[1] > 0,
            span[1:],
            0.0,
        ),
        Claim(
            "though they are ranked no higher",
            "mean ranks equal or lower (control)",
            f"mean rank {far:.1f} against {near:.1f}: {told(ranks, '+.1f')}",
            ranks[1] >= 0,
            ranks[1:],
            0.0,
        ),
    ]


def _moves(found: Findings) -> list[Claim]:
    cosine, stands = (np.asarray(found.moved[name]) for name in ("cosine", "stands"))
    turned, fell = over(1 - cosine[:, -1]), over(stands[:, 0] - stands[:, 1:].mean(axis=1))
    return [
        Claim(
            "what was explored moves the query away from its key",
            "the context moves the query (figure)",
            f"the first token explored stands {stands[:, 0].mean():.1f} standard deviations above "
            f"the vocabulary before and {stands[:, 1:].mean():.1f} after: lower by "
            f"{told(fell)}; cosine of the last query with the first {cosine[:, -1].mean():.2f}",
            fell[1] > 0 and turned[1] > 0,
            fell[1:],
            0.0,
        )
    ]


def _votes(found: Findings) -> list[Claim]:
    stated = []
    for other, paper in (
        ("first tokens of one law", "ICN above them (tables not at hand)"),
        ("greedy", "ICN above it (tables not at hand)"),
        ("sampling", "not measured"),
    ):
        own, base = (np.asarray(found.votes[name]["vote"]) for name in ("ICN", other))
        mean, low, high = paired(own, base)
        shown = {"greedy": "the answer of greedy decoding", "sampling": "that of as many draws"}
        stated.append(
            Claim(
                "sums in ways (made for it): the vote of ICN's ways is right more often than "
                f"{shown.get(other, 'that of the first tokens of one law')}",
                paper,
                f"{100 * own.mean():.1f} against {100 * base.mean():.1f} %: {mean:+.1f} points "
                f"({low:+.1f}..{high:+.1f})",
                low > 0,
                (low, high),
                0.0,
            )
        )
    return stated


def _lessons(found: Findings) -> list[Claim]:
    taught = found.taught
    queries, gain = over(taught["queries"]), np.asarray(taught["inside"])
    span = over(gain - np.asarray(taught["outside"]))
    return [
        Claim(
            "fine-tuning changes queries far more than keys (ten times, relative to their norms)",
            "queries far more than keys (figure)",
            f"{told(queries, '.3f')} against {taught['keys']:.4f}",
            queries[1] > 10 * taught["keys"],
            queries[1:],
            10 * taught["keys"],
        ),
        Claim(
            "a new member raises wrong names of its cluster more than others",
            "wrong tokens of the cluster rise too (figure)",
            f"{gain.mean():+.2f} against {np.mean(taught['outside']):+.2f} nats: {told(span)}; the "
            f"member itself {np.mean(taught['member']):+.2f}",
            span[1] > 0,
            span[1:],
            0.0,
        ),
    ]
