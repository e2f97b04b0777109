"""The paper's claims on planning, by rules fixed before measuring; intervals are over problems,
on which all methods are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import Floats, bootstrap, difference, points
from experiments.search.pg_td.setting import Config

OWN, SHORT, SAMPLING = "PG-TD", "PG-TD, shorter", "sampling"
WITHOUT_AND_WITH = ("none", "both")
SAVED = 40  # percent of what the model runs, as published


def swarms(config: Config) -> list[str]:
    return [f"SMCG-TD, n={count}" for count in config.particles]


def kept(config: Config, found: Mapping[str, Any]) -> dict[str, Any]:
    """What the claims are judged by, problem by problem: shares of hidden tests passed, at every
    budget where a curve is judged and else at the largest; sizes, and what the caches save."""
    narrow = f"beam search, b={config.beams[0]}"
    finals = {name: found[name].hidden[:, -1] for name in [*swarms(config), SHORT]}
    evidence = {
        "curves": {name: found[name].hidden for name in (OWN, SAMPLING)},
        "finals": finals | {"beam search": found[narrow].first},
        "sizes": {name: found[name].size for name in (OWN, SHORT)},
    }
    if config.ablations:
        runs = {name: found[f"PG-TD, caches: {name}"] for name in WITHOUT_AND_WITH}
        evidence |= {
            "tokens": {name: run.tokens for name, run in runs.items()},
            "seconds": {name: run.seconds for name, run in runs.items()},
        }
    return evidence


def claims(config: Config, evidence: Mapping[str, Any]) -> list[Claim]:
    """By rules fixed before measuring, from what a record keeps."""
    curve, sampling = (np.asarray(evidence["curves"][name], float) for name in (OWN, SAMPLING))
    finals, most = evidence["finals"], config.generations
    mine = curve[:, -1]

    def told(theirs: Any) -> str:
        return f"{100 * mine.mean():.1f} against {100 * np.mean(theirs):.1f} %"

    def beats(other: str, paper: str, theirs: Any) -> Claim:
        return Claim.tested(
            f"PG-TD passes more hidden tests than {other}, {most} completions at most",
            paper,
            above(points(mine, theirs), "0 points"),
            measured=told(theirs),
        )

    budgets = config.budgets
    stated = [
        beats(
            "beam search", "26.7 against 12.0 % (GPT-2, APPS introductory)", finals["beam search"]
        ),
        beats(
            "sampling with filtering",
            "26.7 against 25.2 % (GPT-2, APPS introductory), 24.1 against 20.4 % (CodeContests)",
            sampling[:, -1],
        ),
        Claim.tested(
            f"PG-TD's curve lies above that of sampling with filtering, 1 to {most} completions",
            "above it at every number of completions",
            *(
                above(points(curve[:, place], sampling[:, place]), "0 points")
                for place in range(len(budgets))
            ),
            measured=f"at {', '.join(map(str, budgets))}",
        ),
        _beats_swarms(config, mine, np.stack([finals[name] for name in swarms(config)], axis=1)),
    ]
    if config.ablations:
        stated.append(_caches(config, evidence))
    long, short = (np.asarray(evidence["sizes"][name], float) for name in (OWN, SHORT))
    stated.append(
        Claim.tested(
            "a bonus for short programs makes them shorter, without training",
            "programs become shorter",
            above(difference(long, short, ""), "0"),
            measured=f"hidden tests {100 * np.mean(finals[SHORT]):.1f} against "
            f"{100 * mine.mean():.1f} %; size {long.mean():.2f}, less by",
        )
    )
    return stated


def _beats_swarms(config: Config, mine: Floats, swarm: Floats) -> Claim:
    """Above whichever population is best."""

    def lead(own: Floats, others: Floats) -> float:
        return 100 * float(own.mean() - others.mean(axis=0).max())

    best = 100 * swarm.mean(axis=0).max()
    return Claim.tested(
        "PG-TD passes more hidden tests than SMCG-TD, the best of its population sizes, "
        f"{config.generations} completions at most",
        "above it at every number of completions",
        above(bootstrap(lead, mine, swarm, unit="points"), "0 points"),
        measured=f"{100 * mine.mean():.1f} against {best:.1f} %",
    )


def _caches(config: Config, evidence: Mapping[str, Any]) -> Claim:
    tokens, seconds = evidence["tokens"], evidence["seconds"]
    saved = bootstrap(
        lambda none, both: 100 * float(1 - both.sum() / none.sum()),
        *(tokens[name] for name in WITHOUT_AND_WITH),
        unit="%",
    )
    return Claim.tested(
        f"the caches save {SAVED} % of what the model runs",
        "2206 to 1312 seconds for 100 problems",
        above(saved, f"{SAVED} %"),
        measured=f"{seconds['both'] / config.questions:.3f} against "
        f"{seconds['none'] / config.questions:.3f} s a problem; of the tokens",
    )
