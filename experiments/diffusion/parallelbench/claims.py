"""The paper's claims about deciding in parallel, and how what was measured is held to them.

Intervals are over questions, of which all that is compared was asked the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.diffusion.parallelbench.findings import Findings
from experiments.diffusion.parallelbench.grid import ADAPTIVE, Grid
from experiments.diffusion.parallelbench.setting import MEASURED, Config
from experiments.harness.judging.claim import Claim, above, below
from experiments.harness.statistics import Estimate, Floats, bootstrap, difference, points
from experiments.tasks.canvas.lists import OPERATIONS

SURE = 0.01  # of a known law's rows together, that chance alone makes one of them stand out
EQUAL = 10  # points within which the interval of a gap must lie for two to be as good
NEAR = 0.1  # bits, and a tenth, by which a divergence may miss its bound
LEARNED = 50  # % right one place at a time, without which there is nothing to lose
DRAWS = 500  # of what is tedious to compute


def claims(config: Config, evidence: Mapping[str, Any]) -> list[Claim]:
    """The paper's claims, by rules fixed before measuring, from what a record keeps."""
    found = Findings.of(config, evidence)
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
        sanity=True,
    )


def _bound(found: Findings) -> Claim:
    """By the theorem no question lies below the bound; that all are near it is measured."""
    claim = "what deciding all at once costs beyond the model's own error is the total correlation"
    paper = "KL >= C(Y|X), equal at the true marginals; 0 for copy and replace_index"
    bars, told = [], []
    for row in found.bits:
        gap = difference(row["at once"], row["one by one"], "bits")
        slack = NEAR + 0.1 * row["bound"]
        bars += [
            above(gap, f"{row['bound'] - slack:.6f} bits"),
            below(gap, f"{row['bound'] + slack:.6f} bits"),
        ]
        told.append(f"{row['task']} {gap.value:.2f} of {row['bound']:.2f}")
        if min(row["at once"]) < row["bound"] - 1e-3:
            measured = f"{row['task']}: {min(row['at once']):.3f} of {row['bound']:.3f} bits"
            return Claim(claim, paper, f"below the bound, {measured}", False)
    return Claim.tested(claim, paper, *bars, measured=f"{', '.join(told)}; from either side")


def _operations(found: Findings) -> list[Claim]:
    last = found.config.steps[-1]

    one, all_ = (
        {name: found.at(k, name) for name in MEASURED} for k in (found.config.steps[0], last)
    )

    def share(name: str) -> Estimate:
        return bootstrap(lambda right: 100 * float(right.mean()), one[name], unit="%")

    def more(claim: str, paper: str, ahead: Floats, behind: Floats, *names: str) -> Claim:
        """What was not learned has nothing to lose."""
        measured = f"{100 * ahead.mean():.1f} against {100 * behind.mean():.1f}"
        if missed := [name for name in names if share(name).value < LEARNED]:
            return Claim(claim, paper, f"{measured}; not learned: {', '.join(missed)}", False)
        return Claim.tested(
            claim, paper, above(points(ahead, behind), "0 points"), measured=measured
        )

    gap = points(one["replace_random"], one["replace_index"])
    pair = ("replace_random", "replace_index")
    return [
        Claim.tested(
            "one place at a time replace_random is as well answered as replace_index, both mostly "
            "rightly",
            "equal at one token per step (figure)",
            above(gap, f"-{EQUAL} points"),
            below(gap, f"{EQUAL} points"),
            *(above(share(name), f"{LEARNED} %") for name in pair),
            measured="a gap to either side, and right answers",
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

    def gap(questions: Floats) -> float:
        return 100 * float(np.subtract(*both(grid.of_questions(questions.astype(int)))))

    ideal, best = both(grid)
    far = bootstrap(gap, np.arange(grid.right.shape[1]), unit="points", draws=DRAWS)
    return [
        Claim.tested(
            f"at {given:.1f} tokens a step a threshold answers more than a fixed number does",
            "threshold above static top-k at equal parallelism (figure)",
            above(points(rival, grid.right[at]), "0 points"),
            measured=f"{100 * rival.mean():.1f} against {100 * grid.right[at].mean():.1f}",
        ),
        Claim.tested(
            f"at {given:.1f} tokens a step every policy is far below the oracle",
            "all policies far below the per-sample oracle (figure)",
            above(far, f"{EQUAL} points"),
            measured=f"oracle {100 * ideal:.1f}, best policy {100 * best:.1f}",
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
    # [questions of an operation, operations, cells]
    right = np.stack([grid.right[fast][:, grid.names == name].T for name in OPERATIONS], axis=1)

    def behind(right: Floats) -> Floats:
        accuracy = right.mean(axis=0)
        return 100 * (accuracy.max(axis=1, keepdims=True) - accuracy)

    gaps = behind(right.astype(float))
    at = int(gaps.max(axis=0).argmin())
    where = OPERATIONS[int(gaps[:, at].argmax())]
    nearest = bootstrap(
        lambda right: float(behind(right).max(axis=0).min()), right, unit="points", draws=DRAWS
    )
    return Claim.tested(
        "from two tokens a step on, no policy with one parameter is near the best on all tasks",
        "no policy or parameter is best on all tasks",
        above(reflected(nearest), f"{EQUAL} points"),
        measured=f"{grid.cells[fast[at]].key} comes nearest, behind the best on {where}",
    )


def reflected(estimate: Estimate) -> Estimate:
    """An interval about as far on the other side: to be behind the best of many is more likely the
    noisier they are, in the sample as in its resamples, which counts against it here."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if low is None or high is None:
        return estimate
    return Estimate(value, 2 * value - high, 2 * value - low, estimate.unit)


def _twin(found: Findings) -> Claim:
    grid = found.grid
    assert found.twin is not None
    many = np.isin(grid.names, ("shuffle", "replace_random"))
    fastest = int(np.argmax(grid.speed.mean(axis=1)))
    own, other = found.twin[many], grid.right[fastest][many]
    return Claim.tested(
        "an autoregressive model of the same size keeps what parallel decoding loses",
        "AR models keep shuffle accuracy",
        above(points(own, other), "0 points"),
        measured=f"{100 * own.mean():.1f} against {100 * other.mean():.1f} all at once",
    )
