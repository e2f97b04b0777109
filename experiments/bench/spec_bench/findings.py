"""What a race is to show: goals of this project, over prompts, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.bench.spec_bench.speculators import PLAIN
from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import Estimate, bootstrap

TRAINED, FREE, FLOOR = 1.8, 1.5, 0.95
COPYING, COPIED = ("rewriting", "code"), 2.2
Rows = Sequence[dict[str, Any]]


def claims(rows: Rows, grouped: bool) -> list[Claim]:
    """The goals at batch 1: of groups over all of them and over those that copy; of the project's
    own tasks on the first, and on its widened target, where passes are bound by memory."""
    alone = [row for row in rows if row["batch"] == 1]
    tasks = tuple(dict.fromkeys(row["task"] for row in rows))
    copying = tuple(task for task in tasks if task in COPYING)
    if grouped:
        found = best(alone, "all groups", tasks, ("training-free",), FREE)
        found += best(alone, "rewriting and code", copying, ("training-free",), COPIED)
        found += best(alone, "all groups", tasks, ("trained", "draft model"), TRAINED)
    else:
        found = []
        for task in (tasks[0], *[task for task in tasks[1:] if "widened" in task]):
            found += best(alone, task, (task,), ("trained", "draft model"), TRAINED)
            found += best(alone, task, (task,), ("training-free",), FREE)
    found += careful(rows) + peers(alone, tasks if grouped else tasks[:1])
    exact = [row["equal_rows"] for row in rows if row["kind"] not in ("", "peer")]
    share = float(np.mean(exact))
    return [
        *found,
        Claim(
            "every exact method writes what plain decoding writes",
            "token for token",
            f"{share:.1%} of rows equal",
            share == 1.0,
        ),
    ]


def best(
    rows: Rows, where: str, tasks: Sequence[str], kinds: Sequence[str], goal: float
) -> list[Claim]:
    """That the fastest method of some kinds is as fast as hoped."""
    methods = dict.fromkeys(row["method"] for row in rows if row["kind"] in kinds)
    found = {name: gain(rows, tasks, name) for name in methods}
    if not found or not tasks:
        return []
    name = max(found, key=lambda name: found[name].value)
    kind = "without training" if kinds == ("training-free",) else "trained"
    return [
        Claim.tested(
            f"{where}: the best {kind}, times plain decoding at batch 1",
            f"goal {goal:g}",
            above(found[name], f"{goal}x"),
            measured=name,
        )
    ]


def careful(rows: Rows) -> list[Claim]:
    """That a policy that knows what a pass costs never loses."""
    names = dict.fromkeys(row["method"] for row in rows if "cost-aware" in row["method"])
    bars = []
    for batch in dict.fromkeys(row["batch"] for row in rows):
        some = [row for row in rows if row["batch"] == batch]
        for task in dict.fromkeys(row["task"] for row in some):
            bars += [above(gain(some, (task,), name), f"{FLOOR}x") for name in names]
    if not bars:
        return []
    claim = "with a policy that knows the cost of a pass, no task slower than plain decoding"
    return [Claim.tested(claim, f"goal {FLOOR:g}", *bars)]


def peers(rows: Rows, tasks: Sequence[str]) -> list[Claim]:
    """That our methods write more tokens a second than transformers' of the same kind."""
    found = []
    names = {row["method"] for row in rows}
    for peer, mine in (
        ("transformers, assisted", "draft model"),
        ("transformers, prompt lookup", "prompt lookup"),
    ):
        if {peer, mine} <= names:
            ratio = gain(rows, tasks, mine, peer)
            claim = f"{mine}: times the tokens/s of {peer}"
            found.append(Claim.tested(claim, "above 1", above(ratio, "1x")))
    return found


def gain(rows: Rows, tasks: Sequence[str], method: str, other: str = PLAIN) -> Estimate:
    """How many times faster a method is over the prompts of some tasks, batch by batch."""

    def seconds(name: str) -> list[float]:
        chosen = [row for row in rows if row["method"] == name and row["task"] in tasks]
        return [value for row in chosen for value in row["seconds"]]

    return bootstrap(
        lambda one, two: one.sum() / two.sum(), seconds(other), seconds(method), unit="x"
    )
