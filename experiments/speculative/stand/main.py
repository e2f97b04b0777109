"""STAND: drafts sampled from averaged n-gram laws that all samples of a problem share.

Claim (Song et al. 2025, arXiv 2506.04708): samples of one problem repeat each other, so a table
of their next-token laws drafts better the more of them there are, where token recycling, which
forgets, stays flat; drawing the drafts beats taking the likeliest tokens under sampling; a tree
fitted to counts beats a guessed one. Lossless: best-of-N is as accurate as with plain sampling.

    python -m experiments stand --preset cpu

Multi-step arithmetic by the zoo's model at temperature 0.8, 16 solutions a problem, one after the
other, tables emptied between problems; the tree is fitted on validation problems. Best-of-N
draws all solutions at once, sharing one table. About 3 minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from algorithms.speculative.stand import DEPTH, NODES, first_tree, stand
from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.speculative.carried_learning import field_of
from experiments.speculative.speculation import Counts
from experiments.speculative.stand.figure import draw
from experiments.speculative.stand.findings import claims
from experiments.speculative.stand.measures import (
    CHAIN,
    averaging,
    best_of,
    fitted,
    recycling,
    summary,
)
from experiments.speculative.stand.setting import Config, sampled

PRESETS = {
    "smoke": Config(
        problems=3,
        tuning=3,
        samples=3,
        max_tokens=40,
        temperatures=(),
        explored=NODES,
        depth=DEPTH,
        chain=False,
    ),
    "cpu": Config(),
    "paper": Config(
        problems=30,
        tuning=30,
        max_tokens=32768,
        temperature=0.6,
        capacity=1 << 18,
        explored=625,
    ),
}


def run(config: Config) -> Report:
    """All methods on the same problems, the ablations, and best-of-N."""
    field = field_of("arithmetic", config.problems, config.max_tokens)
    tuning = field_of("arithmetic", config.tuning, config.max_tokens, "validation")
    guessed = first_tree(NODES, DEPTH)
    few = min(4, config.samples)
    with (
        Resumption(config) as finished,
        Progress("stand", 8 + 2 * len(config.temperatures)) as progress,
    ):

        def row(key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            found = finished.row(key, measure)
            progress.advance(note=key)
            return found

        tree = row("fit the tree", partial(fitted, config, tuning))["tree"]
        plain = row(
            "best-of-N, plain", lambda: best_of(config, field, sampled(field, config.temperature))
        )
        shared = row(
            "best-of-N, shared table",
            lambda: best_of(
                config,
                field,
                stand(sampled(field, config.temperature), tuple(tree), capacity=config.capacity),
            ),
        )

        @cache  # a tree whose nodes are all kept is the guessed one
        def drawing(nodes: tuple[int, ...]) -> list[Counts]:
            return averaging(config, field, nodes)[0]

        methods: dict[str, Callable[[], list[Counts]]] = {
            "token recycling": lambda: recycling(config, field),
            "STAND, likeliest tokens": lambda: averaging(config, field, guessed, False)[0],
            "STAND, drawn tokens": lambda: drawing(guessed),
            "STAND, drawn tokens, fitted tree": lambda: drawing(tuple(tree)),
        }
        if config.chain:
            name = "STAND, chain of likeliest tokens"
            methods[name] = lambda: averaging(config, field, CHAIN, False)[0]
        found = {
            name: row(name, lambda measure=measure: summary(measure()))
            for name, measure in methods.items()
        }
        acceptance = [
            {
                "temperature": temperature,
                "method": name,
                **row(
                    f"{name} at {temperature}",
                    lambda temperature=temperature, drawn=drawn: summary(
                        averaging(config, field, guessed, drawn, temperature, few)[0]
                    ),
                ),
            }
            for temperature in config.temperatures
            for name, drawn in (("likeliest tokens", False), ("drawn tokens", True))
        ]
    for name in ("likeliest tokens", "drawn tokens"):
        own = found[f"STAND, {name}"]["by_sample"][:few]  # as few samples as at the others
        acceptance.append(
            {
                "temperature": config.temperature,
                "method": name,
                "tokens_per_call": float(np.mean(own)),
            }
        )
    rows: list[dict[str, Any]] = [
        {"method": name} | {k: v for k, v in row.items() if not k.startswith("by")}
        for name, row in found.items()
    ]
    for name, own in (("plain sampling", plain), ("STAND, shared by parallel samples", shared)):
        share = float(np.mean(own["right"])) / own["samples"]
        rows.append(
            {
                "method": f"best-of-N, {name}",
                "tokens_per_call": own["tokens_per_call"],
                "right": share,
            }
        )
    rows += [
        {
            "method": f"STAND, {row['method']}",
            "temperature": row["temperature"],
            "tokens_per_call": row["tokens_per_call"],
            "acceptance": row["acceptance"],
        }
        for row in acceptance[:-2]
    ]
    if config.out is not None:
        draw(Path(config.out) / "figure.png", found, plain["overlap"], acceptance)
    kept = {name: {k: v for k, v in row.items() if k != "by_sample"} for name, row in found.items()}
    right = [{k: own[k] for k in ("right", "samples")} for own in (plain, shared)]
    evidence = {"methods": kept, "plain": right[0], "shared": right[1]}
    return Report.of(claims, config, evidence, rows, finished.seconds)
