"""What the experiment on S2D makes of its measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import Estimate, keyed
from experiments.speculative.s2d.setting import Config
from experiments.speculative.trees import over_prompts

LOSS = "held-out loss, "
FASTER, AS_FAST = 1.27, 0.98  # 1.55x over 1.22x; near the best fixed depth


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Way -> speed-up, over targets and temperatures."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if "speed-up" in row:
            found.setdefault(row["way"], []).append(row["speed-up"])
    return {way: float(np.mean(values)) for way, values in found.items()}


def ahead(rows: list[dict[str, Any]], mine: str, others: list[str]) -> Estimate:
    """The mean speed-up of a way over targets and temperatures, over that of the best other."""
    order = [mine, *others]
    chosen = [row for way in order for row in rows if row["way"] == way]

    def ratio(*speeds: float) -> float:
        own, *its = np.array(speeds).reshape(len(order), -1).mean(axis=1)
        return float(own / max(its))

    return over_prompts(ratio, *chosen, cost=1.0, of="drafting")


def claims(config: Config, rows: list[dict[str, Any]]) -> list[Claim]:
    """The paper's, by rules fixed before measuring; intervals over prompts."""
    c, average = config, means(rows)
    held = {kind: next(r for r in rows if r["way"] == f"{LOSS}{kind}") for kind in ("SoFT", "SFT")}
    fixed = {way: v for way, v in average.items() if way.startswith("SoFT")}
    plain = {way: v for way, v in average.items() if way.startswith("SFT")}
    nested = {way: v for way, v in average.items() if way.startswith("S2D")}
    best = {}
    for row in rows:
        if "speed-up" in row and row["way"].startswith("SoFT") and row["T"] == c.temperatures[0]:
            top = best.get(row["target"])
            best[row["target"]] = row if top is None or row["speed-up"] > top["speed-up"] else top
    shallow = [f"loss_{n}" for n in c.exits[:-1]]
    deep = f"loss_{c.exits[-1]}"
    gap = held["SoFT"][deep] - held["SFT"][deep]
    mine = next(iter(nested))
    same = [row["same text"] for row in rows if "same text" in row]
    found = [
        Claim(
            "sorted fine-tuning makes shallow sub-models that plain fine-tuning does not, at "
            "little cost to the whole",
            "accepted tokens 1.51 and 1.99 early, 2.86 sorted (7B)",
            "; ".join(
                f"{n[5:]} layers {held['SoFT'][n]:.2f} against {held['SFT'][n]:.2f} nats"
                for n in (*shallow, deep)
            ),
            all(held["SoFT"][n] < held["SFT"][n] - 0.2 for n in shallow) and gap < 0.1,
        ),
        Claim.tested(
            f"S2D ({mine[5:]}) is {FASTER} times as fast on average as any plainly tuned draft",
            "1.55x against 1.22x and 1.11x",
            above(ahead(rows, mine, list(plain)), f"{FASTER}x"),
            measured=f"{nested[mine]:.2f}x against "
            + ", ".join(f"{v:.2f}x ({way[5:]})" for way, v in plain.items()),
            headline=True,
        ),
        Claim.tested(
            f"and at least {AS_FAST} times as fast as any fixed sub-model, on average over targets",
            "at or near the best fixed depth for each",
            above(ahead(rows, mine, list(fixed)), f"{AS_FAST}x"),
            measured=f"{nested[mine]:.2f}x against "
            + ", ".join(f"{v:.2f}x ({way[6:]})" for way, v in fixed.items()),
        ),
        Claim(
            "greedy text is the target's",
            "lossless",
            f"{100 * min(same):.0f} % of texts are equal",
            min(same) == 1.0,
        ),
    ]
    if len(best) > 1:
        depths = {name: row["way"][6:] for name, row in best.items()}
        found.append(
            Claim(
                "the best fixed depth is another for another target",
                "6, 6 or 9, 12 of 12 layers for 7B, 13B, 70B",
                ", ".join(f"{depth} for {name}" for name, depth in depths.items()),
                len(set(depths.values())) > 1,
            )
        )
    if len(nested) > 1 and len(best) > 1:
        low, high = mine, list(nested)[-1]
        change = {}
        for name in best:
            asked = [r for r in rows if r.get("target") == name and r["T"] == c.temperatures[0]]
            pick = keyed(asked, "way", value="speed-up")
            change[name] = pick[high] / pick[low]
        values = list(change.values())
        found.append(
            Claim(
                f"the larger the target, the less high thresholds cost (T = {c.temperatures[0]:g})",
                "-10 %, -4 %, +1 % for 7B, 13B, 70B",
                ", ".join(f"{100 * (v - 1):+.1f} % for {name}" for name, v in change.items()),
                values[-1] > values[0],
            )
        )
    return found
