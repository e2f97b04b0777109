"""What the experiment on LUD makes of its measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.harness.judging.claim import Claim, above, below
from experiments.harness.statistics import Estimate, bootstrap, difference, points
from experiments.tokens.lud.measures import overlap, rate
from experiments.tokens.lud.setting import Config, Row

NO_LOSS = 0.02  # nats a token, under the fine-tuned model, that count as no loss of quality
LIKE = 1.05  # times the speed, that count as the same
KEPT = 0.97  # of the score of queries
FASTER = {"text": 1.33, "code": 1.30}  # as published
IDLE = "1.05x"  # a token a pass, or hardly more
SINGLE = ("67 %", "75 %")  # of the spans, as reviewed


@dataclass(frozen=True)
class Findings:
    """One kind of writing.

    Attributes:
      base: plain decoding of the fine-tuned model.
      own: plain decoding of the trained model.
      curve: LUD by beta, of the model trained as published; `tails` of that trained with tails.
      validation, validation_base: what beta is chosen on.
      others: named controls and ablations at the chosen beta.
      shares: tokens in units of two and more, by alpha.
    """

    config: Config
    name: str
    base: Row
    own: Row
    curve: list[Row]
    tails: list[Row]
    validation: list[Row]
    validation_base: Row
    others: dict[str, Row]
    shares: Row

    @property
    def chosen(self) -> int:
        """The fastest beta that loses nothing on validation prompts; the slowest if none."""
        return choose(self.validation, self.validation_base)

    @property
    def best(self) -> Row:
        return self.curve[self.chosen]

    @property
    def evidence(self) -> Row:
        """What the claims are judged by."""
        exact = self.others["exact form"]
        pairs = zip(exact["tokens"], self.own["tokens"], strict=True)
        names = ("untrained placeholder", "accepted at random", "exact form")
        return {
            "base": kept(self.base),
            "curve": [kept(row) | {"spans": row["spans"]} for row in self.curve],
            "chosen": self.chosen,
            **{name: kept(self.others[name]) for name in names},
            "equal": [int(list(a) == list(b)) for a, b in pairs],
        }

    def table(self) -> list[Row]:
        found: list[Row] = []

        def line(name: str, row: Row) -> None:
            made: Row = {
                "writing": self.name,
                "decoder": name,
                "tokens a pass": rate(row),
                "nats a token": float(np.mean(row["nll"])),
                "ROUGE-L to plain, %": 100 * float(overlap(row, self.base).mean()),
            }
            if "score" in row:
                made["score, %"] = 100 * float(np.mean(row["score"]))
            spans = np.sum(row["spans"], axis=0)
            if len(spans) > 1:
                shares = 100 * spans / spans.sum()
                made |= {f"spans of {i + 1}, %": float(s) for i, s in enumerate(shares)}
            found.append(made)

        line("plain, fine-tuned", self.base)
        line("plain, trained", self.own)
        for title, rows in (("LUD", self.curve), ("LUD, tails trained", self.tails)):
            for beta, row in zip(self.config.betas, rows, strict=True):
                line(f"{title}, beta={beta:g}", row)
        for name, row in self.others.items():
            line(name, row)
        for alpha, share in self.shares.items():
            found[0][f"in units at {alpha}, %"] = 100 * share
        return found


def choose(rows: list[Row], base: Row) -> int:
    """See `Findings.chosen`; rows are in the order of falling betas."""
    fit = 0
    for index, row in enumerate(rows):
        worse = np.mean(row["nll"]) - np.mean(base["nll"]) > NO_LOSS
        if "score" in row:
            worse = np.mean(row["score"]) < KEPT * np.mean(base["score"])
        if worse:
            break
        fit = index
    return fit


def kept(row: Row) -> Row:
    """What is told of each prompt."""
    return {name: row[name] for name in ("length", "passes", "nll", "score") if name in row}


def speed(row: Row) -> Estimate:
    """Tokens of a pass, which plain decoding has one of."""
    return bootstrap(lambda n, passes: n.sum() / passes.sum(), row["length"], row["passes"],
                     unit="x")  # fmt: skip


def faster(row: Row, other: Row) -> Estimate:
    """Times the tokens of a pass of another."""
    parts = (row["length"], row["passes"], other["length"], other["passes"])
    return bootstrap(lambda n, p, m, q: (n.sum() / p.sum()) / (m.sum() / q.sum()), *parts, unit="x")


def claims(config: Config, evidence: dict[str, Row]) -> list[Claim]:
    """The paper's, by rules fixed before measuring; intervals of 95 % over prompts."""
    stated: list[Claim] = []
    for name, one in evidence.items():
        stated += [_faster(config, name, one), _learned(name, one), _chance(name, one)]
        stated += _exact(name, one)
    return [*stated, _parallel(config, evidence), _singles(evidence)]


def _best(one: Row) -> Row:
    return one["curve"][one["chosen"]]


def _faster(config: Config, name: str, one: Row) -> Claim:
    """At the beta chosen on validation prompts."""
    best, base, wanted = _best(one), one["base"], FASTER[name]
    told = f"beta={config.betas[one['chosen']]:g}; tokens a pass, "
    quick = above(speed(best), f"{wanted:g}x")
    if "score" in best:
        scores = np.asarray(best["score"], float), np.asarray(base["score"], float)
        share = 100 * scores[0].mean() / max(scores[1].mean(), 1e-9)
        return Claim.tested(
            f"{name}: {100 * (wanted - 1):.0f} % faster with {100 * KEPT:g} % of the score",
            "30 % faster, about 3 % lost",
            quick,
            above(points(scores[0], KEPT * scores[1]), "0 points"),
            measured=f"{told}and points over {100 * KEPT:g} % of the score ({share:.1f} % kept)",
        )
    return Claim.tested(
        f"{name}: {100 * (wanted - 1):.0f} % faster without loss (at most {NO_LOSS} nats a token)",
        "33 % faster, no loss",
        quick,
        below(difference(best["nll"], base["nll"], "nats"), f"{NO_LOSS} nats"),
        measured=f"{told}and what a token costs more",
    )


def _learned(name: str, one: Row) -> Claim:
    """Without training the placeholder says nothing."""
    raw = one["untrained placeholder"]
    return Claim.tested(
        f"{name}: the fine-tuned model without training on units says a token a pass, and less "
        "than the trained one",
        "training is what makes units parallel",
        below(speed(raw), IDLE),
        above(faster(_best(one), raw), "1x"),
        measured="tokens a pass, and times as many with training",
    )


def _chance(name: str, one: Row) -> Claim:
    """A faster control is none of the same speed, and shows nothing."""
    other, best = one["accepted at random"], _best(one)
    claim = (
        f"{name}: confidence chooses better than chance at the same speed (which is no more than "
        f"{100 * (LIKE - 1):.0f} % faster)"
    )
    told = f"{rate(other):.2f} and {rate(best):.2f} tokens a pass"
    if rate(other) > LIKE * rate(best):
        return Claim(claim, "not measured", told, None)
    gap = difference(other["nll"], best["nll"], "nats")
    return Claim.tested(
        claim,
        "not measured",
        above(gap, "0 nats"),
        measured=f"{told}; what a token costs more by chance",
    )


def _exact(name: str, one: Row) -> list[Claim]:
    same = float(np.mean(one["equal"]))
    return [
        Claim(
            f"{name}: verified by the model's own pass the text is plain decoding's",
            "by construction",
            f"{100 * same:.1f} % of the texts are equal",
            same == 1.0,
            sanity=True,
        ),
        Claim.tested(
            f"{name}: and still has more than a token a pass",
            "not published",
            above(speed(one["exact form"]), "1x"),
        ),
    ]


def _parallel(config: Config, evidence: dict[str, Row]) -> Claim:
    """At one beta, whatever was chosen; there are as many prompts of both."""
    at = config.betas.index(0.9) if 0.9 in config.betas else 0
    text, code = (evidence[name]["curve"][at] for name in ("text", "code"))
    return Claim.tested(
        "code is written more in parallel than text",
        "by the curves",
        above(faster(code, text), "1x"),
        measured=f"{rate(code):.2f} against {rate(text):.2f} tokens a pass at "
        f"beta={config.betas[at]:g}",
    )


def _singles(evidence: dict[str, Row]) -> Claim:
    def share(one: Row) -> Estimate:
        spans = np.asarray(_best(one)["spans"], float)
        return bootstrap(lambda s: 100 * s[:, 0].sum() / s.sum(), spans, unit="%")

    shares = [share(one) for one in evidence.values()]
    bars: list[Any] = [above(x, SINGLE[0]) for x in shares] + [below(x, SINGLE[1]) for x in shares]
    return Claim.tested(
        f"{SINGLE[0]} to {SINGLE[1]} of the spans are single tokens",
        "67 to 75 %, the rest mostly 2 and 3",
        *bars,
        measured=" and ".join(f"{name} {x}" for name, x in zip(evidence, shares, strict=True)),
    )
