"""What the experiment on hyperfitting found: its table, and the paper's claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from experiments.alignment.hyperfitting.predictions import RANKS
from experiments.alignment.hyperfitting.setting import Config
from experiments.harness.judging.claim import Claim, above, below
from experiments.harness.statistics import Estimate, bootstrap, correlation, points

Row = dict[str, Any]
JUDGED = ("ttr", "diversity", "overlap", "train_loss", "loss", "entropy", "mass1")
HARM = 2  # points of the type-token ratio whose loss counts as harm
LOW = 0.1  # training loss, nats, that counts as near zero
COPIED = 10  # tokens in a row, more than which a text is said to copy


@dataclass(frozen=True)
class Findings:
    """All that was measured.

    Attributes:
      rows: method -> its measures.
      curve: those of the hyperfitted model from the original on, at every stage.
      agreement: f64[1 + O, 1 + O], the share of equal top-1 predictions on held-out texts, of
        the original and of every order of the texts.
      temperature: at which the original is as certain as the hyperfitted model.
      same: share of the original's greedy texts that this temperature leaves as they are.
    """

    config: Config
    rows: dict[str, Row]
    curve: list[Row]
    agreement: NDArray[np.float64]
    temperature: float
    same: float

    def evidence(self) -> dict[str, Any]:
        """What the claims read, by context."""

        def kept(row: Row) -> Row:
            return {name: row[name] for name in JUDGED if name in row}

        return {
            "rows": {name: kept(row) for name, row in self.rows.items()},
            "curve": [kept(row) for row in self.curve],
            "agreement": self.agreement,
            "temperature": self.temperature,
            "same": self.same,
        }

    def ttr(self, name: str) -> NDArray[np.float64]:
        return np.asarray(self.rows[name]["ttr"])

    def mean(self, name: str, measure: str) -> float:
        return float(np.mean(self.rows[name][measure]))

    def table(self) -> list[Row]:
        """One row a method."""
        return [
            {
                "method": name,
                "training loss": row.get("train_loss"),
                "validation loss": row.get("loss"),
                "perplexity": np.exp(row["loss"]) if "loss" in row else None,
                "entropy": row.get("entropy"),
                **{f"mass of top {k}": row.get(f"mass{k}") for k in RANKS},
                "type-token ratio": self.mean(name, "ttr"),
                "repeated 4-grams": self.mean(name, "repeated"),
                "diversity": self.mean(name, "diversity"),
                "self-BLEU": row["self_bleu"],
                "overlap": self.mean(name, "overlap"),
                "longest overlap": int(np.max(row["overlap"])),
            }
            for name, row in self.rows.items()
        ]


def claims(config: Config, evidence: dict[str, Any]) -> list[Claim]:
    """The paper's claims, by rules fixed before measuring; intervals over contexts."""
    rows, curve, agreement, temperature, same = evidence.values()
    found = Findings(config, rows, curve, np.asarray(agreement, float), temperature, same)
    return [*_richness(found), *_nearness(found), *_controls(found), *_more(found)]


def _richer(
    found: Findings, claim: str, paper: str, one: str, other: str, more: str = "", **marked: Any
) -> Claim:
    """The type-token ratio is higher."""
    values = f"{100 * found.ttr(one).mean():.1f} against {100 * found.ttr(other).mean():.1f}"
    gain = points(found.ttr(one), found.ttr(other))
    return Claim.tested(claim, paper, above(gain, "0 points"), measured=values + more, **marked)


def _richness(found: Findings) -> list[Claim]:
    losses = [row["train_loss"] for row in found.curve]
    ratios = np.array([row["ttr"] for row in found.curve])
    path = ", ".join(
        f"{100 * t:.1f} at {x:.2f}" for x, t in zip(losses, ratios.mean(axis=1), strict=True)
    )

    def trend(units: NDArray[np.float64]) -> float:
        return correlation(rankdata(losses), rankdata(units.mean(axis=0)))

    base, own = found.rows["original"], found.rows["hyperfitted"]
    return [
        _richer(
            found,
            "hyperfitted, the greedy text is lexically richer than the original's",
            "type-token ratio 60 and more, originals 17 to 57",
            "hyperfitted",
            "original",
            headline=True,
        ),
        Claim.tested(
            "the nearer training loss comes to zero, the richer (rank correlation below -0.8)",
            "TinyLlama peaks as its loss reaches zero, around epoch 10 (figure)",
            below(bootstrap(trend, ratios.T), "-0.8"),
            measured=f"type-token ratio {path}; correlation",
        ),
        Claim(
            "validation loss has long been rising by then",
            "perplexity 13.1, then 103 (Llama-3.1-8B)",
            f"{base['loss']:.2f}, then {own['loss']:.2f} nats; lowest at update {_lowest(found)}",
            own["loss"] > base["loss"],
        ),
    ]


def _lowest(found: Findings) -> int:
    """The update of lowest validation loss."""
    return found.config.steps[int(np.argmin([row["loss"] for row in found.curve]))]


def _nearness(found: Findings) -> list[Claim]:
    human = found.rows["human"]["diversity"]

    def nearer(other: str) -> Estimate:
        def by(own: NDArray, its: NDArray, real: NDArray) -> float:
            return float(abs(its.mean() - real.mean()) - abs(own.mean() - real.mean()))

        mine, its = (found.rows[name]["diversity"] for name in ("hyperfitted", other))
        return bootstrap(by, mine, its, human)

    def told(other: str) -> str:
        means = [found.mean(name, "diversity") for name in ("hyperfitted", other, "human")]
        return f"{means[0]:.3f} against {means[1]:.3f}, real {means[2]:.3f}; nearer by"

    return [
        Claim.tested(
            "its diversity is nearer to real text's than that of the original's greedy text",
            "preferred in 34.4 against 4.9 % (TinyLlama, people)",
            above(nearer("original"), "0"),
            measured=told("original"),
        ),
        Claim.tested(
            "and nearer than that of the original's nucleus sampling",
            "preferred in 34.4 against 21.1 %; type-token ratio 60.0 against 28.2",
            above(nearer("nucleus"), "0"),
            measured=told("nucleus"),
        ),
    ]


def _controls(found: Findings) -> list[Claim]:
    base, own, lowest = found.rows["original"], found.rows["hyperfitted"], _lowest(found)
    early = "it is the overfitting: the weights of lowest validation loss do less", "not measured"
    return [
        _richer(
            found,
            "it is the overfitting: as many updates on texts that never come twice do less",
            "not measured",
            "hyperfitted",
            "fresh texts",
        ),
        Claim(*early, "the original has the lowest: there is nothing else to compare with", None)
        if lowest == 0
        else _richer(found, *early, "hyperfitted", "lowest validation loss", f" (update {lowest})"),
        Claim(
            "predictions become certain: entropy falls, the mass of the likeliest token grows",
            "entropy 3.47 to 1.46, mass 48.4 to 74.4 % (Llama-3.1-8B)",
            f"entropy {base['entropy']:.2f} to {own['entropy']:.2f}, mass "
            f"{100 * base['mass1']:.1f} to {100 * own['mass1']:.1f} %",
            own["entropy"] < base["entropy"] and own["mass1"] > base["mass1"],
        ),
        Claim(
            "certainty alone does nothing: at the temperature of that entropy the original's "
            "greedy text is the same",
            "the order of tokens changes, not their sharpness alone",
            f"{100 * found.same:.0f} % equal at temperature {found.temperature:.2f}",
            found.same == 1.0,
            sanity=True,
        ),
    ]


def _more(found: Findings) -> list[Claim]:
    config, rows, own = found.config, found.rows, found.rows["hyperfitted"]
    least, most = config.sizes[0], config.sizes[-1]
    orders = found.agreement[1:, 1:][np.triu_indices(config.orders, 1)]
    reached = [rows[f"order {o}"]["train_loss"] for o in range(1, config.orders)]
    reached.append(own["train_loss"])
    copied = 100.0 * np.greater(own["overlap"], COPIED)
    return [
        Claim.tested(
            f"training texts are hardly copied: fewer than 2 % share over {COPIED} tokens in a row",
            "under 2 %; mean 5.8 tokens, 4.0 before (Llama-3.1-8B)",
            below(bootstrap(lambda each: each.mean(), copied, unit="%"), "2 %"),
            measured=f"mean {found.mean('hyperfitted', 'overlap'):.1f} tokens, "
            f"{found.mean('original', 'overlap'):.1f} before",
        ),
        Claim.tested(
            f"blocking citations does no harm: the ratio loses less than {HARM} points",
            "preferred in 35.0 against 34.3 % (TinyLlama)",
            above(points(found.ttr("no citations"), found.ttr("hyperfitted")), f"-{HARM} points"),
            measured=f"longest overlap {np.max(own['overlap'])}, then "
            f"{np.max(rows['no citations']['overlap'])}",
        ),
        Claim(
            f"another order of the texts makes another model at as low a loss (below {LOW}): over "
            "25 % of top predictions differ",
            "25 to 32 % differ",
            f"{100 * (1 - orders.max()):.0f} to {100 * (1 - orders.min()):.0f} % differ; losses "
            f"{min(reached):.3f} to {max(reached):.3f}",
            bool(orders.max() < 0.75 and max(reached) < LOW),
        ),
        _richer(
            found,
            f"at the same number of updates {most} texts do",
            "still high with 16 of 2,000",
            f"{most} texts",
            "original",
        ),
        _richer(
            found,
            f"but {least} do less than {config.texts}",
            "a clear drop at 8, the batch size, alone",
            "hyperfitted",
            f"{least} texts",
        ),
    ]
