"""What the experiment on momentum decoding found: its table, and the paper's claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.harness.report import Claim
from experiments.tokens.momentum_decoding.measures import Config, Row
from experiments.tokens.open_texts import interval, shown

Floats = NDArray[np.float64]
PEOPLE = "people"
AS_COHERENT = 0.1  # nats a token that count as no loss
COST = 1.1  # times greedy decoding


@dataclass(frozen=True)
class Findings:
    """All that was measured.

    Attributes:
      rows: method -> its measures, people's text among them.
      ratios: method -> seconds over greedy decoding's, round by round.
    """

    config: Config
    rows: dict[str, Row]
    ratios: dict[str, Floats]

    def values(self, method: str, name: str) -> Floats:
        return np.asarray(self.rows[method][name], np.float64)

    def mean(self, method: str, name: str) -> float:
        return float(np.mean(self.values(method, name)))

    def gap(self, one: str, other: str, name: str) -> tuple[float, float, float]:
        """Of two methods on the same contexts, with the interval over contexts."""
        return interval(self.values(one, name) - self.values(other, name))

    @property
    def nucleus(self) -> str:
        return f"nucleus {self.config.top_p:g}"

    def table(self) -> list[dict[str, Any]]:
        """One row a method."""
        return [
            {
                "method": name,
                "diversity": interval(row["diversity"])[0],
                "low": interval(row["diversity"])[1],
                "high": interval(row["diversity"])[2],
                "pooled diversity": row["pooled"],
                **{f"rep-{n}": self.mean(name, f"rep-{n}") for n in (2, 3, 4)},
                "different tokens": self.mean(name, "different"),
                "coherence": self.mean(name, "coherence"),
                "likeliest tokens": self.mean(name, "likeliest") if "likeliest" in row else None,
                "passes a token": row.get("passes"),
                "tokens read a token": row.get("read"),
                "FLOPs a token": row.get("flops"),
                "seconds over greedy": (
                    float(np.median(self.ratios[name])) if name in self.ratios else None
                ),
                "sample": row.get("sample"),
            }
            for name, row in self.rows.items()
        ]


def claims(found: Findings) -> list[Claim]:
    """The paper's claims, by rules fixed before measuring."""
    own, other, config = "momentum", "contrastive search", found.config

    def compared(
        claim: str,
        paper: str,
        one: str,
        two: str,
        name: str,
        least: float,
        headline: bool = False,
    ) -> Claim:
        """The interval of a difference over contexts lies above `least`."""
        gap = found.gap(one, two, name)
        values = f"{found.mean(one, name):.3f} against {found.mean(two, name):.3f}"
        measured = f"{values}: {shown(gap, '+.3f')}"
        return Claim(claim, paper, measured, gap[1] > least, gap[1:], least, headline=headline)

    twice = interval(found.values(own, "rep-4"))
    passes = {name: found.rows[name]["passes"] for name in ("greedy", own, other)}
    read = {name: found.rows[name]["read"] for name in passes}
    wall = {name: interval(found.ratios[name]) for name in (own, other)}
    return [
        compared(
            "its text is out of greedy decoding's loops: at least as diverse as people's",
            "diversity 96.6 to 98.1 % (GPT2-XL); people 93.6, greedy 5.4 % (GPT2-large)",
            own,
            PEOPLE,
            "diversity",
            0.0,
        ),
        compared(
            "which greedy text is not",
            "diversity 5.4 % against 93.6",
            PEOPLE,
            "greedy",
            "diversity",
            0.0,
        ),
        compared(
            "more diverse than contrastive search",
            "diversity .981 / .933, .966 / .941, .973 / .935 in three domains",
            own,
            other,
            "diversity",
            0.0,
            headline=True,
        ),
        Claim(
            "hardly a 4-gram is repeated (at most 0.02 %)",
            "0.02 % and less; contrastive search 0.3 to 1.1 %",
            f"{shown(twice, '.2f')} %; contrastive search {found.mean(other, 'rep-4'):.2f} %, "
            f"people {found.mean(PEOPLE, 'rep-4'):.2f} %",
            twice[2] <= 0.02,
            twice[1:],
            0.02,
        ),
        compared(
            f"as coherent as contrastive search (at most {AS_COHERENT} nats a token less)",
            "people prefer 40.7 / 51.3, 50.0 / 42.7, 46.7 / 46.7 % of the texts",
            own,
            other,
            "coherence",
            -AS_COHERENT,
        ),
        compared(
            "and more coherent than nucleus sampling",
            "contrastive search -1.52, nucleus sampling -2.88 nats; momentum on par with the first",
            own,
            found.nucleus,
            "coherence",
            0.0,
        ),
        Claim(
            "it reads what greedy decoding reads: one token in one pass, for each token written",
            "greedy decoding's cost; contrastive search reads k candidates a token",
            ", ".join(f"{n}: {passes[n]:.2f} passes, {read[n]:.2f} tokens" for n in passes),
            passes[own] == passes["greedy"] and read[own] == read["greedy"],
            sanity=True,
        ),
        Claim(
            f"at no more than {COST} times greedy decoding's time",
            "as fast as greedy decoding",
            ", ".join(f"{name}: {shown(span, '.2f')} times" for name, span in wall.items()),
            wall[own][2] <= COST,
            wall[own][1:],
            COST,
        ),
        compared(
            "depth is what leaves loops: a constant resistance leaves text less diverse",
            "an ablation of its program; not measured",
            own,
            "momentum, constant",
            "diversity",
            0.0,
        ),
        _nearer(found, own, other),
        Claim(
            "most tokens are still the likeliest",
            "greedy ratio in a table of the paper; not at hand",
            f"{100 * found.mean(own, 'likeliest'):.0f} % of tokens, contrastive search "
            f"{100 * found.mean(other, 'likeliest'):.0f} %; alpha {config.alpha:g}",
            interval(found.values(own, "likeliest"))[1] > 0.5,
            interval(found.values(own, "likeliest"))[1:],
            0.5,
        ),
    ]


def _nearer(found: Findings, own: str, other: str) -> Claim:
    """Distance of each text's diversity to the mean of people's."""
    human = found.mean(PEOPLE, "diversity")
    rng = np.random.default_rng(0)
    rows = rng.integers(found.config.contexts, size=(2000, found.config.contexts))
    people = found.values(PEOPLE, "diversity")[rows].mean(axis=1)
    far = {
        name: np.abs(found.values(name, "diversity")[rows].mean(axis=1) - people)
        for name in (own, other, "greedy")
    }
    gain = far[other] - far[own]
    low, high = np.percentile(gain, [2.5, 97.5])
    own_gap = {name: abs(found.mean(name, "diversity") - human) for name in far}
    told = ", ".join(f"{name} {gap:.3f}" for name, gap in own_gap.items())
    return Claim(
        "its diversity is nearer to people's than contrastive search's",
        "people .936; momentum .966 to .981, contrastive search .933 to .941: not claimed",
        f"from {human:.3f}: {told}; gain {shown((own_gap[other] - own_gap[own], low, high))}",
        bool(low > 0),
        (float(low), float(high)),
        0.0,
    )
