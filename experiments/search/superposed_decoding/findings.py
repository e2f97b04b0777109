"""What the experiment on superposed decoding makes of its measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.harness.figures import figure
from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import difference
from experiments.search.superposed_decoding import facts
from experiments.search.superposed_decoding.setting import Config

BUSY = 1.5  # processes for each core, above which times say nothing
FEWER = "superposed, n-grams up to 4"
SPEED = {3: 2.44, 8: 3.54}  # times nucleus sampling of as many
LINEAR = 0.6  # the mean cosine of the first ten steps on Llama-2-7B


def ratio(row: dict[str, Any], k: int) -> float:
    """Times nucleus sampling of k."""
    return row[f"nucleus {k}"] / row[f"superposed {k}"]


def table(
    test: dict[str, NDArray[np.float64]], times: list[dict[str, Any]], config: Config
) -> list[dict[str, Any]]:
    """Perplexities of each place of a list and of the best, then times."""
    rows: list[dict[str, Any]] = []
    for name, nll in test.items():
        row: dict[str, Any] = {"method": name}
        row |= {f"perplexity {i + 1}": float(np.exp(x)) for i, x in enumerate(nll.mean(axis=0))}
        rows.append(row | {"best of them": float(np.exp(nll.min(axis=1).mean()))})
    for row in times:
        for k in config.drafts:
            rows.append(
                {
                    "method": f"{k} drafts, batch {row['batch']}",
                    "superposed, ms": 1e3 * row[f"superposed {k}"],
                    "nucleus, ms": 1e3 * row[f"nucleus {k}"],
                    "times nucleus": ratio(row, k),
                }
            )
    return rows


def claims(config: Config, evidence: dict[str, Any]) -> list[Claim]:
    """The paper's, by rules fixed before measuring; intervals over passages and facts."""
    test = {name: np.array(nll, float) for name, nll in evidence["test"].items()}
    own, sample = test["superposed"], test["nucleus"][:, 0]

    def lower(claim: str, paper: str, one: NDArray, other: NDArray, **marked: Any) -> Claim:
        values = " against ".join(f"{float(np.exp(x.mean())):.2f}" for x in (one, other))
        gain = difference(other, one, "nats")
        return Claim.tested(claim, paper, above(gain, "0 nats"), measured=values, **marked)

    k = own.shape[1]
    found = [
        lower(
            f"the best of {k} drafts is less perplexing than a nucleus sample",
            "4.63 against 5.17 (Llama-2-7B, judged by 70B)",
            own.min(axis=1),
            sample,
            headline=True,
        ),
        lower("the first draft alone is, too", "5.03 against 5.17", own[:, 0], sample),
        lower(
            "5- and 6-grams help the best draft",
            "4.63 against 5.18 with n-grams up to 4",
            own.min(axis=1),
            test[FEWER].min(axis=1),
        ),
    ]
    times = evidence["times"]
    last = times[-1]
    for drafts, least in SPEED.items():
        if drafts in config.drafts:
            every = ", ".join(f"{ratio(row, drafts):.2f}x at {row['batch']}" for row in times)
            alone = last.get("load") is not None and last["load"] <= BUSY
            found.append(
                Claim(
                    f"{drafts} drafts are {least}x as fast as {drafts} nucleus samples "
                    f"(batch {last['batch']})",
                    f"{least}x",
                    every if alone else f"{every}; not judged, other work took the cores",
                    bool(ratio(last, drafts) >= least) if alone else None,
                )
            )
    inside = np.array(evidence["inside"], float)
    early = float(inside[:, :10].mean())
    found.append(
        Claim(
            "the model is nearly linear in superpositions of beams",
            f"mean cosine of {LINEAR} or more in the first 10 steps (Llama-2-7B)",
            f"{early:.2f} over {len(inside)} layers, least {inside[:, :10].min():.2f}",
            early >= LINEAR,
        )
    )
    return found if evidence["known"] is None else [*found, *facts.claims(evidence["known"])]


def draw(
    path: Path,
    test: dict[str, NDArray[np.float64]],
    times: list[dict[str, Any]],
    inside: NDArray[np.float64],
    config: Config,
) -> None:
    """Perplexity by method, speed by number of drafts, cosine by step."""
    with figure(path, columns=3) as (left, middle, right):
        names = list(test)
        spots = np.arange(len(names))
        first = [float(np.exp(test[name][:, 0].mean())) for name in names]
        best = [float(np.exp(test[name].min(axis=1).mean())) for name in names]
        left.barh(spots - 0.2, first, 0.38, label="the first")
        left.barh(spots + 0.2, best, 0.38, label=f"the best of {config.drafts[0]}")
        left.set_yticks(spots, names)
        left.invert_yaxis()
        left.set(xlabel="perplexity under the judge", xlim=(1, max(first) * 1.3))
        sizes = sorted(config.drafts)
        for row in times:
            ratios = [ratio(row, k) for k in sizes]
            middle.plot(sizes, ratios, label=f"batch {row['batch']}")
        middle.axhline(1.0, color="black", linewidth=0.8)
        middle.set(xlabel="drafts", ylabel="times as fast as nucleus", ylim=(0, None))
        steps = np.arange(1, inside.shape[1] + 1)
        for layer in sorted({0, len(inside) // 2, len(inside) - 1}):
            right.plot(steps, inside[layer], marker="", label=f"layer {layer + 1}")
        right.set(xlabel="token", ylabel="cosine", ylim=(0, 1.02))
