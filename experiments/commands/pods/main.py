"""Compile programs for TPUs that are not there, and hold them to a budget.

    make pods                                      # installs libtpu in an environment of its own
    python -m experiments pods                     # where jax[tpu] is installed
    python -m experiments pods --only greedy --write

For each program of `programs.py`: the compiler's cycles of a decoding step and of one layer in
it, the collectives of both, kernels, loops that the compiler made of a scatter (rows one after
the other), and temporary memory. Cycles and memory may exceed the budget by a fiftieth, counts
not at all. About 5 minutes on two cores.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.commands.ahead.compiled import facts
from experiments.commands.ahead.libtpu import available, setting
from experiments.commands.pods import programs

BUDGET = Path(__file__).with_name("budget.json")
SLACK = 1.02
AMOUNTS = ("step_cycles", "layer_cycles", "temporary_mb")
COUNTS = ("loops_made",)
KINDS = ("step_collectives", "layer_collectives")


def excess(name: str, found: dict[str, Any], budget: dict[str, Any]) -> list[str]:
    """What of a program is over its budget, a line each."""
    lines = []
    for key in (*AMOUNTS, *COUNTS):
        most = budget[key] * (SLACK if key in AMOUNTS else 1)
        if found[key] > most:
            lines.append(f"{name}: {key} is {found[key]:,}, over {budget[key]:,}")
    for key in KINDS:
        for kind, count in found[key].items():
            if count > budget[key].get(kind, 0):
                lines.append(f"{name}: {count} x {kind} in {key}, over {budget[key].get(kind, 0)}")
    if found["kernels"] < budget["kernels"]:
        lines.append(f"{name}: {found['kernels']} kernels, and {budget['kernels']} are expected")
    return lines


def check(
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = (),
    write: tyro.conf.FlagCreatePairsOff[bool] = False,
    budget: Annotated[Path, tyro.conf.arg(metavar="FILE")] = BUDGET,
) -> None:
    """Compile a fixed list of programs for TPUs and hold them to a budget.

    Args:
      only: names of programs; all if not given.
      write: store what was found as the budget.
      budget: a JSON file.
    """
    unknown = set(only) - set(programs.PROGRAMS)
    if unknown:
        raise ValueError(f"--only {sorted(unknown)[0]!r}: choose of {', '.join(programs.PROGRAMS)}")
    if not available():
        print("pods: nothing is compiled: libtpu is a wheel for 64-bit x86 Linux and not installed")
        return
    held = json.loads(budget.read_text()) if budget.exists() else {}
    over = []
    for name in only or programs.PROGRAMS:
        begun = time.monotonic()
        found = facts(programs.PROGRAMS[name].compile())
        seconds = time.monotonic() - begun
        print(f"{name} ({seconds:.0f} s): {json.dumps(found)}", flush=True)
        if write:
            held[name] = found
        elif name not in held:
            over.append(f"{name}: has no budget; --write stores one")
        else:
            over += excess(name, found, held[name])
    if write:
        budget.write_text(json.dumps(held, indent=1) + "\n")
    if over:
        raise ValueError("\n  ".join(["over budget", *over]))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    setting()
    try:
        tyro.cli(check, prog="python -m experiments pods", args=arguments)
    except ValueError as error:
        sys.exit(f"error: {error}")
