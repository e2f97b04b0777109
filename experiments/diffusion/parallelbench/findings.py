"""The paper's claims about deciding in parallel, and how what was measured is held to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.diffusion.parallelbench.grid import ADAPTIVE, Grid
from experiments.diffusion.parallelbench.known import Row
from experiments.diffusion.parallelbench.setting import MEASURED, Config
from experiments.harness.report import Claim
from experiments.harness.statistics import Floats, paired
from experiments.tasks.canvas.lists import OPERATIONS

SURE = 0.01  # of a known law's rows together, that chance alone makes one of them stand out
EQUAL = 10.0  # points within which the interval of a gap must lie for two to be as good
NEAR = 0.1  # bits, and a tenth, by which a divergence may miss its bound
LEARNED = 0.5  # right answers one place at a time, without which there is nothing to lose


@dataclass(frozen=True)
class Findings:
    """Everything measured.

    Attributes:
      known: rows of the known laws.
      right: k -> operation -> which of its answers are right, at lists of one length.
      bits: rows of the divergences.
      grid: the policies.
      twin: which of the grid's questions the autoregressive twin answers rightly.
    """

    config: Config
    known: Sequence[Row]
    right: Mapping[int, Mapping[str, Sequence[bool]]]
    bits: Sequence[dict[str, Any]]
    grid: Grid
    twin: NDArray[np.bool_] | None

    def at(self, k: int, operation: str) -> Floats:
        return np.asarray(self.right[k][operation], float)


def claims(found: Findings) -> list[Claim]:
    """The paper's claims, by rules fixed before measuring."""
    stated = [_closed_forms(found)]
    if found.right:
        stated += [_bound(found), *_operations(found)]
    stated += [*_policies(found), _nobody_best(found)]
    return stated if found.twin is None else [*stated, _twin(found)]


def _closed_forms(found: Findings) -> Claim:
    drawn = [row for row in found.known if "p" in row]
    exact = [row for row in found.known if row["policy"] in ("threshold", "factor")]
    least = min(drawn, key=lambda row: row["p"])
    off = [
        row
        for row in exact
        if row["accuracy"] != row["closed form"]
        or row["passes"] != row.get("steps by formula", row["passes"])
    ]
    return Claim(
        "an ideal model decoded k places a step, by a threshold or by the factor rule is right as "
        "often as the closed forms say, and the factor rule in as many steps",
        "table of list operations; (1 - 1/n)^(n-1) and n!/n^n in one step",
        f"{len(drawn)} drawn cells, least p {least['p']:.3f} ({least['task']}, k={least['k']}); "
        f"{len(exact) - len(off)} of {len(exact)} greedy cells equal",
        least["p"] > SURE / len(drawn) and not off,
    )


def _bound(found: Findings) -> Claim:
    said, holds = [], True
    for row in found.bits:
        gap = np.asarray(row["at once"]) - np.asarray(row["one by one"])
        mean, low, high = (value / 100 for value in paired(gap, np.zeros_like(gap)))
        slack = NEAR + 0.1 * row["bound"]
        holds &= row["bound"] - slack <= low and high <= row["bound"] + slack
        holds &= min(row["at once"]) >= row["bound"] - 1e-3
        said.append(f"{row['task']} {mean:.2f} ({low:.2f}..{high:.2f}) of {row['bound']:.2f}")
    return Claim(
        "what deciding all at once costs beyond the model's own error is the total correlation",
        "KL >= C(Y|X), equal at the true marginals; 0 for copy and replace_index",
        "bits: " + ", ".join(said),
        bool(holds),
    )


def _operations(found: Findings) -> list[Claim]:
    last = found.config.steps[-1]

    one, all_ = (
        {name: found.at(k, name) for name in MEASURED} for k in (found.config.steps[0], last)
    )

    def learned(*names: str) -> bool:
        return all(one[name].mean() >= LEARNED for name in names)

    def more(claim: str, paper: str, ahead: Floats, behind: Floats, *names: str) -> Claim:
        mean, low, high = paired(ahead, behind)
        measured = f"{100 * ahead.mean():.1f} against {100 * behind.mean():.1f}: {mean:+.1f}"
        holds = low > 0 and learned(*names)
        return Claim(claim, paper, f"{measured} ({low:+.1f}..{high:+.1f})", holds)

    mean, low, high = paired(one["replace_index"], one["replace_random"])
    return [
        Claim(
            "one place at a time replace_random is as well answered as replace_index, both mostly "
            "rightly",
            "equal at one token per step (figure)",
            f"{100 * one['replace_random'].mean():.1f} against "
            f"{100 * one['replace_index'].mean():.1f}: {-mean:+.1f} ({-high:+.1f}..{-low:+.1f})",
            low >= -EQUAL and high <= EQUAL and learned("replace_index", "replace_random"),
        ),
        more(
            f"with {last} places at once replace_random falls behind replace_index",
            "Random collapses with parallelism, Index stays (figure)",
            all_["replace_index"],
            all_["replace_random"],
            "replace_index",
            "replace_random",
        ),
        more(
            f"with {last} places at once shuffle falls below replace_random",
            "shuffle steepest: near-perfect to 0 (figure)",
            all_["replace_random"],
            all_["shuffle"],
            "replace_random",
            "shuffle",
        ),
        more(
            "copying and replacing at an index lose less than a third of what shuffling loses",
            "tasks without correlation do not degrade",
            (one["shuffle"] - all_["shuffle"]) / 3,
            (one["copy"] - all_["copy"] + one["replace_index"] - all_["replace_index"]) / 2,
            "copy",
            "replace_index",
            "shuffle",
        ),
    ]


def _policies(found: Findings) -> list[Claim]:
    grid, whole = found.grid, max(found.config.blocks)
    static = grid.of_policy(f"top k, {found.config.orders[0]}", whole)
    speed = grid.speed[static].mean(axis=1)
    at = static[int(np.argmin(np.abs(speed - 4)))]
    given = float(grid.speed[at].mean())
    rival = mixed(grid, grid.of_policy("threshold", whole), given)
    mean, low, high = paired(rival, grid.right[at].astype(float))
    policies = [
        chosen
        for name in (*ADAPTIVE, *(f"top k, {order}" for order in found.config.orders))
        for block in found.config.blocks
        if (chosen := grid.of_policy(name, block))
    ]

    def both(grid: Grid) -> tuple[float, float]:
        mean_speed, accuracy = grid.oracle()
        ideal = float(accuracy[np.flatnonzero(mean_speed >= given - 1e-9)[:1]].sum())
        return ideal, max(float(mixed(grid, chosen, given).mean()) for chosen in policies)

    ideal, best = both(grid)
    count = grid.right.shape[1]
    drawn = np.random.default_rng(0).integers(count, size=(500, count))
    gaps = [np.subtract(*both(grid.of_questions(rows))) for rows in drawn]
    least, most = (float(x) for x in np.percentile(gaps, [2.5, 97.5]))
    return [
        Claim(
            f"at {given:.1f} tokens a step a threshold answers more than a fixed number does",
            "threshold above static top-k at equal parallelism (figure)",
            f"{100 * rival.mean():.1f} against {100 * grid.right[at].mean():.1f}: "
            f"{mean:+.1f} ({low:+.1f}..{high:+.1f})",
            low > 0,
        ),
        Claim(
            f"at {given:.1f} tokens a step every policy is far below the oracle",
            "all policies far below the per-sample oracle (figure)",
            f"oracle {100 * ideal:.1f}, best policy {100 * best:.1f}: {100 * (ideal - best):+.1f} "
            f"({100 * least:+.1f}..{100 * most:+.1f})",
            ideal - best > EQUAL / 100,
            interval=(least, most),
            mark=EQUAL / 100,
        ),
    ]


def mixed(grid: Grid, chosen: Sequence[int], speed: float) -> Floats:
    """Accuracy of every question under a policy at a mean speed between those of its cells.

    Of the two cells around it in such shares that the mean speed is that; at the ends of the
    policy's range, its end: a policy that cannot be as fast is not given credit for being slow.
    """
    means = grid.speed[chosen].mean(axis=1)
    order = np.argsort(means)
    rows, means = grid.right[np.asarray(chosen)[order]].astype(float), means[order]
    if speed > means[-1] + 1e-9:
        return np.zeros(rows.shape[1])
    at = int(np.searchsorted(means, speed))
    if at == 0 or means[at] == means[at - 1]:
        return rows[at]
    share = (speed - means[at - 1]) / (means[at] - means[at - 1])
    return (1 - share) * rows[at - 1] + share * rows[at]


def _nobody_best(found: Findings) -> Claim:
    """A cell counts as best on a task within EQUAL points of the best cell there."""
    grid = found.grid
    fast = [i for i in range(len(grid.cells)) if grid.speed[i].mean() >= 2]
    accuracy = np.array(
        [grid.right[fast][:, grid.names == name].mean(axis=1) for name in OPERATIONS]
    )
    behind = accuracy.max(axis=1, keepdims=True) - accuracy  # [operations, cells]
    worst = behind.max(axis=0)
    at = int(worst.argmin())
    where = OPERATIONS[int(behind[:, at].argmax())]
    return Claim(
        "from two tokens a step on, no policy with one parameter is near the best on all tasks",
        "no policy or parameter is best on all tasks",
        f"{grid.cells[fast[at]].key} comes nearest, and is {100 * worst[at]:.1f} points behind "
        f"the best on {where}",
        float(worst[at]) > EQUAL / 100,
    )


def _twin(found: Findings) -> Claim:
    grid = found.grid
    assert found.twin is not None
    many = np.isin(grid.names, ("shuffle", "replace_random"))
    fastest = int(np.argmax(grid.speed.mean(axis=1)))
    mean, low, high = paired(
        found.twin[many].astype(float), grid.right[fastest][many].astype(float)
    )
    return Claim(
        "an autoregressive model of the same size keeps what parallel decoding loses",
        "AR models keep shuffle accuracy",
        f"{100 * found.twin[many].mean():.1f} against {100 * grid.right[fastest][many].mean():.1f} "
        f"all at once: {mean:+.1f} ({low:+.1f}..{high:+.1f})",
        low > 0,
    )
