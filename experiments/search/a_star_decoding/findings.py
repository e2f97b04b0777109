"""What the A* experiment makes of its measurements: curves of the baselines, claims and a table."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from jax.tree_util import Partial

from experiments.harness.judging.claim import Claim, above
from experiments.harness.judging.equal_compute import Baseline, Run
from experiments.harness.response_pool import ResponsePool
from experiments.harness.statistics import Estimate, bootstrap, separation
from experiments.search.a_star_decoding.setting import Measured
from jaxdecode import voting

RULES = {
    "best-of-N": Partial(voting.best_of),
    "weighted best-of-N": Partial(voting.weighted_sum),
    "self-consistency": Partial(voting.majority),
}
FILTER = "particle filtering"
EXACT = ", exact reward"
SAVED, FEWER = 3, 1.43  # times less of tokens, and of passes: 1 / 0.7
Curves = dict[str, tuple[Baseline, Baseline]]
"""Baseline -> its curve against tokens, and against passes."""


class Sizes(Protocol):
    """What of the settings the findings depend on; see `a_star_decoding.Config`."""

    @property
    def questions(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def repetitions(self) -> int: ...
    @property
    def particles(self) -> tuple[int, ...]: ...
    @property
    def children(self) -> tuple[int, ...]: ...
    @property
    def sizes(self) -> list[int]: ...
    @property
    def main(self) -> int: ...


def star(children: int, judge: str = "") -> str:
    """The name of A* with so many children."""
    return f"A*, k={children}{judge}"


def baselines(
    config: Sizes, drawn: dict[str, Any], found: dict[str, Measured], judge: str
) -> Curves:
    """Every baseline's curve over N: accuracy against tokens, and against passes."""
    pool, sizes = ResponsePool.of(drawn["questions"]), config.sizes
    mean = pool.length.mean(axis=1, keepdims=True).astype(float)
    tokens, passes = mean * sizes, np.ones_like(mean) * sizes
    seconds = drawn["seconds"] / config.questions * np.array(sizes) / config.samples
    scores = pool.scores["exact" if judge else "reward"]
    curves: Curves = {}
    for name, rule in RULES.items():
        right = [pool.accuracy(rule, scores, pool.subsets(n, _times(config, n), 0)) for n in sizes]
        score, scored = np.stack(right, axis=1), name != "self-consistency"
        curves[name] = (
            Baseline(np.array(sizes), score, tokens, seconds),
            Baseline(np.array(sizes), score, passes if scored else 0 * passes, seconds),
        )
    runs = [found[f"{FILTER}, N={count}{judge}"] for count in config.particles]
    numbers, score = np.array(config.particles), np.stack([run.right for run in runs], axis=1)
    seconds = np.array([run.seconds / config.questions for run in runs])
    tokens, passes = (
        Baseline(numbers, score, np.stack([getattr(run, name) for run in runs], axis=1), seconds)
        for name in ("tokens", "passes")
    )
    return curves | {FILTER: (tokens, passes)}


def _times(config: Sizes, size: int) -> int:
    return 1 if size == config.samples else config.repetitions


def kept(curves: dict[str, Curves], found: dict[str, Measured]) -> dict[str, Any]:
    """What the claims read, by question."""
    return {
        "curves": {
            judge: {
                name: {
                    "sizes": tokens.sizes,
                    "score": tokens.score,
                    "tokens": tokens.tokens,
                    "passes": passes.tokens,
                    "seconds": tokens.seconds,
                }
                for name, (tokens, passes) in several.items()
            }
            for judge, several in curves.items()
        },
        "found": {name: vars(one) for name, one in found.items() if name.startswith("A*, k=")},
    }


def claims(config: Sizes, evidence: dict[str, Any]) -> list[Claim]:
    """The paper's claims under every judge; intervals over questions."""
    found = {
        name: Measured(
            *(np.array(one[column], float) for column in ("right", "tokens", "passes")),
            seconds=one["seconds"],
        )
        for name, one in evidence["found"].items()
    }
    stated = []
    for judge, several in evidence["curves"].items():
        curves = {name: _curve(one) for name, one in several.items()}
        stated += _under(config, curves, found, judge)
    return stated


def _curve(one: dict[str, Any]) -> tuple[Baseline, Baseline]:
    sizes, score, tokens, passes, seconds = (np.array(value) for value in one.values())
    return Baseline(sizes, score, tokens, seconds), Baseline(sizes, score, passes, seconds)


def saving(curve: Baseline, mine: Measured, name: str, share: float = 95.0) -> Estimate:
    """Times that A* needs less of tokens or passes, with an interval of a share of draws."""
    spent = np.full(len(mine.right), mine.seconds / len(mine.right))
    one = Run(mine.right, getattr(mine, name), spent)
    return bootstrap(
        lambda questions: curve.speed_up(one, questions.astype(int))[0],
        np.arange(len(mine.right)),
        unit="x",
        draws=1000,
        share=share,
    )


def _under(config: Sizes, curves: Curves, found: dict[str, Measured], judge: str) -> list[Claim]:
    """The paper's claims under one judge."""
    mine = found[star(config.main, judge)]
    stated = []
    for name, (tokens, _) in curves.items():
        top = 100 * tokens.score.mean(0).max()
        stated.append(
            Claim.tested(
                f"A* with k={config.main} needs fewer tokens than {name} for its accuracy{judge}",
                "up to 3x fewer than best-of-N and particle filtering (MATH500, AIME 2024)",
                above(saving(tokens, mine, "tokens"), "1x"),
                measured=f"at {100 * mine.right.mean():.1f} %, where {name} comes to "
                f"{top:.1f} % at most",
            )
        )
    count = 2 * len(config.children)
    savings = {
        f"{name}, k={k}": saving(curves[name][0], found[star(k, judge)], "tokens", 100 - 5 / count)
        for name in ("best-of-N", FILTER)
        for k in config.children
    }
    best = max(savings.values(), key=lambda one: one.value if one.low is None else one.low)
    times = saving(curves[FILTER][1], mine, "passes")
    return [
        *stated,
        Claim.tested(
            f"the saving of tokens goes up to {SAVED}x{judge}",
            "up to 3x",
            above(best, f"{SAVED}x"),
            measured=", ".join(f"{one.value:.2f}x on {name}" for name, one in savings.items())
            + f"; of {count} the one that is surest to be large",
        ),
        Claim.tested(
            f"A* with k={config.main} needs 30 % fewer passes than particle filtering{judge}",
            "30 % fewer",
            above(times, f"{FEWER}x"),
            measured=f"{100 / times.value:.0f} % of its passes at equal accuracy, times fewer",
        ),
    ]


def judging(drawn: dict[str, Any]) -> list[dict[str, Any]]:
    """How well each reward tells right from wrong: over all samples, and within a question."""
    pool = ResponsePool.of(drawn["questions"])
    rows = []
    for name, scores in pool.scores.items():
        within = [separation(*pair) for pair in zip(scores, pool.right, strict=True)]
        mixed = np.isfinite(within)
        rows.append(
            {
                "method": f"{'process' if name == 'reward' else name} reward",
                "right above wrong, %": 100 * separation(scores.ravel(), pool.right.ravel()),
                "within a question, %": 100 * np.array(within)[mixed].mean() if mixed.any() else 0,
            }
        )
    return rows


def table(
    config: Sizes,
    curves: dict[str, Curves],
    found: dict[str, Measured],
    speed: dict[str, float],
) -> list[dict[str, Any]]:
    """A row for every method and size; means a question."""
    rows = []
    for judge, several in curves.items():
        for name in RULES:
            if judge and name == "self-consistency":
                continue  # it asks no judge
            tokens, passes = several[name]
            for at, size in enumerate(config.sizes):
                rows.append(
                    {
                        "method": f"{name}, N={size}{judge}",
                        "accuracy, %": 100 * tokens.score[:, at].mean(),
                        "tokens": tokens.tokens[:, at].mean(),
                        "passes": passes.tokens[:, at].mean(),
                        "seconds": tokens.seconds[at],
                    }
                )
    for name, one in found.items():
        row = {
            "method": name,
            "accuracy, %": 100 * one.right.mean(),
            "tokens": one.tokens.mean(),
            "passes": one.passes.mean(),
            "seconds": one.seconds / config.questions,
        }
        rows.append(row | (speed if name == star(config.main) else {}))
    return rows
