"""What the experiment on value guidance makes of its measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import Estimate, bootstrap
from experiments.search.transfer_q_star.measures import Frontier
from experiments.search.transfer_q_star.setting import Config

GAINED = 1.45  # times CD's reward, as published
NEAR = 0.9  # of a KL, below which another method has not come to it
SIX = "best average reward in all six setups"
RIVALS = {
    "CD--": f"{SIX}, up to {GAINED}x CD's",
    "CD, FUDGE": f"{SIX}, up to {GAINED}x CD's",
    "CD, CD-Q": f"{SIX}, up to {GAINED}x CD's",
    "ARGS": SIX,
    "ARGS, aligned": SIX,
    "best-of-N": "not compared",
}


def claims(config: Config, evidence: dict[str, Any]) -> list[Claim]:
    """The paper's claims, by rules fixed before measuring; intervals over prompts."""
    found = {
        name: Frontier({column: np.array(values, float) for column, values in columns.items()})
        for name, columns in evidence.items()
    }
    own, middle = found["TQ*"], len(config.weights) // 2
    at = own.level(middle)
    stated = [
        _lead("Transfer Q*", own, name, found[name], at, paper, name == "CD--")
        for name, paper in RIVALS.items()
        if name in found
    ]
    stated.append(_highest(found))
    near = found["CD--"].nearest(at)
    stated.append(
        Claim.tested(
            "Transfer Q* wins or ties against CD-- by the judge, at the settings of like KL",
            "up to 67.34 % by GPT-4",
            above(_estimate(own.wins(middle, found["CD--"], near), 100, "%"), "50 %"),
        )
    )
    for other in ("direct TQ*, wrong policy", "CD--"):
        if "indirect TQ*" in found and other in found:
            mine = found["indirect TQ*"]
            paper = "indirect > direct from the wrong policy > CD"
            level = mine.level(len(mine.levels) // 2)
            stated.append(_lead("indirect TQ*", mine, other, found[other], level, paper))
    return stated


def _estimate(found: tuple[float, float, float], times: float, unit: str) -> Estimate:
    value, low, high = (times * x for x in found)
    return Estimate(value, low, high, unit)


def _lead(
    mine: str,
    own: Frontier,
    name: str,
    other: Frontier,
    at: float,
    paper: str,
    headline: bool = False,
) -> Claim:
    """The reward at equal KL; not measurable where the other does not come to that KL."""
    title = f"{mine} has a higher reward than {name} at equal KL"
    lead = _estimate(own.lead(other, at), 1, "reward")
    top = float(other.levels.max())
    if top < NEAR * at:
        told = f"{lead} at {at:.2f} nats, of which it reaches {top:.2f} only"
        return Claim(title, paper, told, None, headline=headline)
    return Claim.tested(
        title, paper, above(lead, "0 reward"), measured=f"at {at:.2f} nats", headline=headline
    )


def _highest(found: dict[str, Frontier]) -> Claim:
    """Gains over the base of the best settings."""
    rewards = [found[name].columns["reward"] for name in ("base", "TQ*", "CD--")]

    def ratio(*units: np.ndarray) -> float:
        base, own, other = (several.mean(axis=0) for several in units)
        return float((own.max() - base[0]) / max(other.max() - base[0], 1e-9))

    return Claim.tested(
        f"the highest reward of Transfer Q* is {GAINED} times as far above the base as CD--'s",
        f"up to {GAINED}x CD's reward",
        above(bootstrap(ratio, *(each.T for each in rewards), unit="x"), f"{GAINED}x"),
        measured=f"{rewards[1].mean(axis=1).max():.2f} against "
        f"{rewards[2].mean(axis=1).max():.2f}, base {rewards[0].mean():.2f}",
    )
