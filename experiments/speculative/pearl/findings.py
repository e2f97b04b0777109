"""What the experiment on PEARL makes of its measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from algorithms.speculative.pearl import Clock, best_in_turn, speed_up
from experiments.harness.judging.claim import Claim, above, below
from experiments.harness.statistics import Estimate, bootstrap
from experiments.speculative.pearl.setting import Config, rejections

FASTER, IN_A_ROW = 1.3, 3  # times, the least of the published
COUNTS = ("emitted", "passes", "draft_passes", "accepted", "drafted")
Totals = dict[tuple[str, int], Any]
"""(kind, setting) -> sums over prompts of `COUNTS`."""


def table(config: Config, drafts: list[str], found: dict[str, Any]) -> list[dict[str, Any]]:
    """A line for each draft and ratio: both methods at every setting, on the modelled clocks."""
    rows = []
    for name in drafts:
        one = found[f"{name}, K = {config.lengths[0]}"]
        alpha = one["accepted"] / one["drafted"]
        for ratio in config.ratios:
            clock, slow = Clock(ratio), Clock(ratio, config.exchange)
            turn, side, dear = {}, {}, {}
            for k in config.lengths:
                f = found[f"{name}, K = {k}"]
                turn[k] = f["tokens"] / clock.in_turn(f["passes"], k * f["passes"])
            for g in config.windows:
                f = found[f"{name}, window {g}"]
                side[g] = f["tokens"] / clock.parallel(g, f["passes"], f["drafts"])
                dear[g] = f["tokens"] / slow.parallel(g, f["passes"], f["drafts"])
            best, window = max(turn, key=lambda k: turn[k]), max(side, key=lambda g: side[g])
            f, own = found[f"{name}, K = {best}"], found[f"{name}, window {window}"]
            rows.append(
                {
                    "draft": name,
                    "c": ratio,
                    "acceptance": alpha,
                    "SD": turn[best],
                    "best K": best,
                    "PEARL": side.get(ratio, side[window]),
                    "best window": window,
                    "PEARL / SD": side.get(ratio, side[window]) / turn[best],
                    "with an exchange": dear.get(ratio, dear[window]) / turn[best],
                    "SD, closed form": best_in_turn(alpha, clock)[1],
                    "PEARL, closed form": speed_up(alpha, ratio, clock),
                    "accepted in a row, SD": f["accepted"] / f["passes"],
                    "accepted in a row, PEARL": (own["tokens"] - rejections(own, window))
                    / rejections(own, window),
                    "model runs, SD": (f["passes"] + best * f["passes"]) / f["tokens"],
                    "model runs, PEARL": (own["passes"] + own["drafts"]) / own["tokens"],
                    "windows": list(side.items()),
                }
            )
    return rows


@dataclass(frozen=True)
class Runs:
    """Runs of one draft, counted prompt by prompt.

    Attributes:
      found: (kind, setting) -> counts; kinds are "K" and "window".
    """

    found: dict[tuple[str, int], dict[str, Any]]

    @classmethod
    def of(cls, config: Config, name: str, runs: dict[str, Any]) -> Runs:
        found = {("K", k): runs[f"{name}, K = {k}"] for k in config.lengths}
        found |= {("window", g): runs[f"{name}, window {g}"] for g in config.windows}
        return cls(found)

    def over_prompts(self, statistic: Callable[[Totals], float], unit: str = "x") -> Estimate:
        """A statistic of the totals of every run."""
        keys = list(self.found)
        counts = [[run["by prompt"][name] for name in COUNTS] for run in self.found.values()]

        def drawn(units: np.ndarray) -> float:
            return statistic(dict(zip(keys, units.sum(axis=0), strict=True)))

        return bootstrap(drawn, np.array(counts, float).transpose(2, 0, 1), unit=unit)


def in_turn(found: Totals, clock: Clock) -> dict[int, float]:
    """K -> speed-up of speculative decoding."""
    return {
        k: tokens / clock.in_turn(passes, k * passes)
        for (kind, k), (tokens, passes, *_) in found.items()
        if kind == "K"
    }


def beside(found: Totals, clock: Clock) -> dict[int, float]:
    """Window -> speed-up of PEARL."""
    return {
        g: tokens / clock.parallel(g, passes, drafts)
        for (kind, g), (tokens, passes, drafts, *_) in found.items()
        if kind == "window"
    }


def at(speeds: dict[int, float], window: int) -> float:
    """Of the recommended window where it was run, else of the best."""
    return speeds.get(window, max(speeds.values()))


def in_a_row(found: Totals, clock: Clock) -> float:
    """Times as many accepted one after the other as in speculative decoding at its best."""
    turn, side = in_turn(found, clock), beside(found, clock)
    best, window = max(turn, key=lambda k: turn[k]), max(side, key=lambda g: side[g])
    _, passes, _, accepted, _ = found["K", best]
    tokens, steps, _, _, drafted = found["window", window]
    ends = rejections({"passes": steps, "drafted": drafted}, window)
    return float((tokens - ends) / ends / max(accepted / passes, 1e-9))


def claims(config: Config, evidence: dict[str, Any]) -> list[Claim]:
    """The paper's, by rules fixed before measuring; intervals over prompts."""
    drafts, found, same = (evidence[name] for name in ("drafts", "runs", "same text"))
    several = {name: Runs.of(config, name, found) for name in drafts}
    cases = [(runs, c) for runs in several.values() for c in config.ratios]
    asked = [(runs, c) for runs, c in cases if c in config.windows]
    rows = table(config, drafts, found)
    losing = [f"{row['draft']}, c = {row['c']}" for row in rows if row["PEARL / SD"] <= 1]

    def lead(runs: Runs, c: int) -> Estimate:
        clock = Clock(c)
        return runs.over_prompts(
            lambda now: at(beside(now, clock), c) / max(in_turn(now, clock).values())
        )

    def best(runs: Runs, c: int) -> Estimate:
        def of_others(now: Totals) -> float:
            speeds = beside(now, Clock(c))
            return speeds[c] / max(speed for g, speed in speeds.items() if g != c)

        return runs.over_prompts(of_others)

    def formula(runs: Runs, c: int) -> Estimate:
        clock, first = Clock(c), config.lengths[0]

        def share(now: Totals) -> float:
            accepted, drafted = now["K", first][3:]
            return at(beside(now, clock), c) / speed_up(accepted / drafted, c, clock)

        return runs.over_prompts(share)

    near = [formula(*case) for case in asked]
    stated = [
        Claim.tested(
            f"{FASTER} times as fast as speculative decoding at its best draft length, for every "
            "draft and c",
            "1.3x to 1.5x",
            *(above(lead(*case), f"{FASTER}x") for case in cases),
            measured=f"slower for {'; '.join(losing)}" if losing else "",
            headline=True,
        ),
        Claim.tested(
            f"more than {IN_A_ROW} times as many drafts are accepted in a row",
            "more than 3x those of speculative decoding",
            *(
                above(runs.over_prompts(partial(in_a_row, clock=Clock(c))), f"{IN_A_ROW}x")
                for runs, c in cases
            ),
        ),
    ]
    if len(config.windows) > 1 and asked:
        stated.append(
            Claim.tested(
                "the best window is c",
                "proved for independent acceptances",
                *(above(best(*case), "1x") for case in asked),
                measured="over the best of the others",
            )
        )
    if asked:
        stated.append(
            Claim.tested(
                "the measured speed-ups are those of the closed form, within 15 %",
                "(independent acceptances)",
                *(above(one, "0.85x") for one in near),
                *(below(one, "1.15x") for one in near),
            )
        )
    return stated if same is None else [*stated, *_ablated(config, drafts[0], found, same)]


def _ablated(config: Config, name: str, found: dict[str, Any], same: float) -> list[Claim]:
    g, clock = config.ablated, Clock(config.ablated)
    keys = (f"{name}, window {g}", "pre_verify", "post_verify")
    runs = Runs({("window", place): found[key] for place, key in enumerate(keys)})

    def without(now: Totals) -> float:
        full, *others = (t / clock.parallel(g, p, d) for t, p, d, *_ in now.values())
        return full / max(others)

    return [
        Claim.tested(
            "without pre-verification, or without post-verification, it is slower",
            "both slower",
            above(runs.over_prompts(without), "1x"),
            measured=f"c = {g}, over the better of the two",
        ),
        Claim(
            "greedy text is the target's",
            "lossless",
            f"{100 * same:.0f} % of texts are equal",
            same == 1.0,
        ),
    ]
