"""What the experiment on LUD makes of its measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.harness.report import Claim
from experiments.harness.statistics import paired
from experiments.tokens.lud.measures import overlap, rate
from experiments.tokens.lud.setting import Config, Row

NO_LOSS = 0.02  # nats a token, under the fine-tuned model, that count as no loss of quality
LIKE = 1.05  # times the speed, that count as the same
KEPT = 0.97  # of the score of queries
FASTER = {"text": 1.33, "code": 1.30}  # as published
SINGLE = (0.67, 0.75)  # of the spans, as reviewed
Floats = NDArray[np.float64]


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
            spans = np.asarray(row["spans"], float)
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


def rates(row: Row, draws: int = 2000) -> tuple[float, float, float]:
    """Tokens of a pass and its 95 % bootstrap interval over prompts."""
    length, passes = np.asarray(row["length"], float), np.asarray(row["passes"], float)
    some = np.random.default_rng(0).integers(len(length), size=(draws, len(length)))
    found = length[some].sum(axis=1) / passes[some].sum(axis=1)
    low, high = np.percentile(found, [2.5, 97.5])
    return rate(row), float(low), float(high)


def loss(row: Row, base: Row) -> tuple[float, float, float]:
    """Nats a token more than another's text, under the fine-tuned model, with its interval."""
    mean, low, high = paired(np.asarray(row["nll"]), np.asarray(base["nll"]))
    return mean / 100, low / 100, high / 100


def claims(found: list[Findings]) -> list[Claim]:
    """The paper's, by rules fixed before measuring; intervals of 95 % over prompts."""
    stated: list[Claim] = []
    for one in found:
        stated += [_faster(one), _learned(one), _chance(one), _exact(one)]
    return [*stated, _parallel(found), _singles(found)]


def _faster(one: Findings) -> Claim:
    """At the beta chosen on validation prompts."""
    best, wanted = one.best, FASTER[one.name]
    mean, low, high = rates(best)
    speed = (
        f"{mean:.2f} tokens a pass ({low:.2f}..{high:.2f}) at beta={one.config.betas[one.chosen]}"
    )
    if "score" in best:
        base = np.asarray(one.base["score"])
        gap, least, most = paired(np.asarray(best["score"]), KEPT * base)
        kept = 100 * np.mean(best["score"]) / np.mean(base)
        measured = f"{speed}; {kept:.1f} % of the score, {gap:+.1f} points over {100 * KEPT:g} % "
        return Claim(
            f"{one.name}: {100 * (wanted - 1):.0f} % faster with {100 * KEPT:g} % of the score",
            "30 % faster, about 3 % lost",
            f"{measured}of it ({least:+.1f}..{most:+.1f})",
            low >= wanted and least >= 0,
            (low, high),
            wanted,
        )
    gap, least, most = loss(best, one.base)
    return Claim(
        f"{one.name}: {100 * (wanted - 1):.0f} % faster without loss (at most {NO_LOSS} nats a "
        "token)",
        "33 % faster, no loss",
        f"{speed}; {gap:+.3f} nats a token ({least:+.3f}..{most:+.3f})",
        low >= wanted and most <= NO_LOSS,
        (low, high),
        wanted,
    )


def _learned(one: Findings) -> Claim:
    """Without training the placeholder says nothing."""
    raw, best = one.others["untrained placeholder"], one.best
    return Claim(
        f"{one.name}: the fine-tuned model without training on units says a token a pass",
        "training is what makes units parallel",
        f"{rate(raw):.2f} tokens a pass against {rate(best):.2f}",
        rate(raw) <= 1.05 and rates(best)[1] > rate(raw),
    )


def _chance(one: Findings) -> Claim:
    other, best = one.others["accepted at random"], one.best
    mean, low, high = loss(other, best)
    fair = rate(other) <= LIKE * rate(best)
    return Claim(
        f"{one.name}: confidence chooses better than chance at the same speed (which is no more "
        f"than {100 * (LIKE - 1):.0f} % faster)",
        "not measured",
        f"{rate(other):.2f} and {rate(best):.2f} tokens a pass; text by chance costs {mean:+.3f} "
        f"nats a token more ({low:+.3f}..{high:+.3f})",
        low > 0 if fair else None,
        (low, high),
        0.0,
    )


def _exact(one: Findings) -> Claim:
    exact = one.others["exact form"]
    pairs = zip(exact["tokens"], one.own["tokens"], strict=True)
    same = float(np.mean([a == b for a, b in pairs]))
    mean, low, high = rates(exact)
    return Claim(
        f"{one.name}: verified by the model's own pass the text is plain decoding's, and still "
        "more than a token a pass",
        "not published",
        f"{100 * same:.1f} % of the texts are equal; {mean:.2f} tokens a pass "
        f"({low:.2f}..{high:.2f})",
        same == 1.0 and low > 1.0,
    )


def _parallel(found: list[Findings]) -> Claim:
    """At one beta, whatever was chosen."""
    by = {one.name: one for one in found}
    at = by["text"].config.betas.index(0.9) if 0.9 in by["text"].config.betas else 0
    text, code = (rates(by[name].curve[at]) for name in ("text", "code"))
    return Claim(
        "code is written more in parallel than text",
        "by the curves",
        f"{code[0]:.2f} ({code[1]:.2f}..{code[2]:.2f}) against {text[0]:.2f} "
        f"({text[1]:.2f}..{text[2]:.2f}) tokens a pass at beta={by['text'].config.betas[at]}",
        code[1] > text[2],
    )


def _singles(found: list[Findings]) -> Claim:
    shares = {one.name: np.asarray(one.best["spans"], float) for one in found}
    single = {name: float(s[0] / s.sum()) for name, s in shares.items()}
    shown = ", ".join(f"{name} {100 * share:.0f} %" for name, share in single.items())
    return Claim(
        f"{100 * SINGLE[0]:g} to {100 * SINGLE[1]:g} % of the spans are single tokens",
        "67 to 75 %, the rest mostly 2 and 3",
        shown,
        all(SINGLE[0] <= share <= SINGLE[1] for share in single.values()),
    )
