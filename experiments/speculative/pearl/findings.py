"""What the experiment on PEARL makes of its measurements."""

from __future__ import annotations

from typing import Any

from algorithms.speculative.pearl import Clock, best_in_turn, speed_up
from experiments.harness.report import Claim
from experiments.speculative.pearl.setting import Config, rejections


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


def claims(config: Config, rows, found: dict[str, Any], same: float | None) -> list[Claim]:
    """The paper's, by rules fixed before measuring."""
    gains = [row["PEARL / SD"] for row in rows]
    losing = [f"{row['draft']}, c = {row['c']}" for row in rows if row["PEARL / SD"] <= 1]
    asked = [row for row in rows if row["c"] in config.windows]
    longer = [row["accepted in a row, PEARL"] / row["accepted in a row, SD"] for row in rows]
    stated = [
        Claim(
            "faster than speculative decoding at its best draft length, for every draft and c",
            "1.3x to 1.5x",
            f"{min(gains):.2f}x to {max(gains):.2f}x"
            + (f"; not for {'; '.join(losing)}" if losing else ""),
            not losing,
        ),
        Claim(
            "the best window is c",
            "proved",
            ", ".join(f"{row['best window']} at c = {row['c']}" for row in asked),
            all(row["best window"] == row["c"] for row in asked),
        ),
        Claim(
            "more drafts are accepted in a row",
            "more than 3x those of speculative decoding",
            f"{min(longer):.2f}x to {max(longer):.2f}x",
            min(longer) > 1,
        ),
        Claim(
            "the measured speed-ups are those of the closed form",
            "(independent acceptances)",
            ", ".join(f"{row['PEARL']:.2f} : {row['PEARL, closed form']:.2f}" for row in asked),
            all(abs(row["PEARL"] / row["PEARL, closed form"] - 1) < 0.15 for row in asked),
        ),
    ]
    if same is not None:
        g, clock = config.ablated, Clock(config.ablated)
        name = rows[0]["draft"]
        speed = {
            key: found[key]["tokens"]
            / clock.parallel(g, found[key]["passes"], found[key]["drafts"])
            for key in (f"{name}, window {g}", "pre_verify", "post_verify")
        }
        full, pre, post = speed.values()
        stated += [
            Claim(
                "without pre-verification, or without post-verification, it is slower",
                "both slower",
                f"{full:.2f}x against {pre:.2f}x and {post:.2f}x (c = {g})",
                full > max(pre, post),
            ),
            Claim(
                "greedy text is the target's",
                "lossless",
                f"{100 * same:.0f} % of texts are equal",
                same == 1.0,
            ),
        ]
    return stated
