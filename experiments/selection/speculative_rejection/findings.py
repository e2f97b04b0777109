"""What the experiment on speculative rejection makes of its measurements."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from experiments.harness.judging.claim import Claim, above
from experiments.harness.judging.equal_compute import Baseline, Run
from experiments.harness.statistics import Estimate, bootstrap, difference
from experiments.selection.speculative_rejection.setting import Config

MARK = 8  # times the compute that best-of-N needs for the same score
LIKELIER = 2.31  # 76.9x over 33.3x


def claims(config: Config, evidence: dict[str, Any]) -> list[Claim]:
    """The paper's claims, by rules fixed before measuring; intervals over prompts."""
    baseline = _baseline(evidence, "score")
    runs = {name: _run(found, 1.0) for name, found in evidence["runs"].items()}
    likely = _run(evidence["by likelihood"], -1.0)
    others = _baseline(evidence, "likelihood")
    correlation = np.array(evidence["correlation"], float)
    means = correlation.mean(axis=0)

    steps = [difference(b, a, "") for a, b in pairwise(correlation.T)]

    def best(place: int) -> tuple[Estimate, str]:
        """The largest speed-up over the rejection rates, and where it is."""
        at = max(runs, key=lambda name: baseline.speed_up(runs[name])[place])
        found = _over_prompts(
            lambda some: max(baseline.speed_up(run, some)[place] for run in runs.values()),
            len(baseline.score),
        )
        return found, at

    (tokens, where), (wall, when) = best(0), best(1)
    return [
        Claim.tested(
            f"the score of best-of-N at {MARK}x its compute, in decoded tokens",
            "16-32x (accelerators)",
            above(tokens, f"{MARK}x"),
            measured=where,
            headline=True,
        ),
        Claim.tested(
            f"the score of best-of-N at {MARK}x its compute, in wall time, against waves that run "
            "until their longest response ends",
            "16-32x (accelerators)",
            above(wall, f"{MARK}x"),
            measured=when,
        ),
        Claim.tested(
            "partial and final rewards correlate, the more so the longer the prefix",
            "clear at 256 tokens, rising with length",
            *(above(step, "0") for step in steps),
            measured=", ".join(
                f"{c:.2f} at {int(n)}" for n, c in zip(evidence["lengths"], means, strict=True)
            )
            + "; steps",
        ),
        Claim(
            "the cache never holds more tokens than the budget",
            "by construction",
            f"peak {100 * evidence['peak']:.0f} % of it",
            bool(evidence["peak"] <= 1.0),
            sanity=True,
        ),
        Claim.tested(
            f"it also maximises likelihood with {LIKELIER}x less compute than best-of-N",
            "76.9x against 33.3x for Bo120 (Mistral-7B, relative to Bo3840)",
            above(
                _over_prompts(lambda some: others.speed_up(likely, some)[0], len(others.score)),
                f"{LIKELIER}x",
            ),
            measured=f"fewer tokens than best-of-N of the same perplexity (N up to "
            f"{config.sizes[-1]})",
        ),
    ]


def _baseline(evidence: dict[str, Any], score: str) -> Baseline:
    arrays = (np.array(evidence[name], float) for name in (score, "tokens", "seconds"))
    return Baseline(np.array(evidence["sizes"]), *arrays)


def _run(found: dict[str, Any], sign: float) -> Run:
    score, tokens, seconds = (
        np.array(found[name], float) for name in ("score", "tokens", "seconds")
    )
    return Run(sign * score, tokens, seconds)


def _over_prompts(statistic: Callable[[np.ndarray], float], count: int) -> Estimate:
    """Of a statistic of the prompts that are named."""
    return bootstrap(lambda some: statistic(some.astype(int)), np.arange(count), unit="x")
