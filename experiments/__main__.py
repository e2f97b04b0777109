"""python -m experiments NAME ...: every experiment and every command, by its name."""

from __future__ import annotations

import difflib
import importlib
import itertools
import sys

from experiments.commands.terminal import plainly, visible
from experiments.harness.entries import Entry, entries

USAGE = """usage: python -m experiments EXPERIMENT [--preset smoke|cpu|paper] [--out DIR] [--seed N]
       python -m experiments COMMAND ...

Each has --help."""


def overview(found: dict[str, Entry]) -> str:
    """The usage, and every name under the folder it lies in."""
    lines = [USAGE]
    width = max(map(len, found))
    for family, members in itertools.groupby(found.values(), lambda entry: entry.family):
        lines += ["", f"{family}:"]
        lines += [f"  {entry.name:{width}}  {entry.about}" for entry in members]
    return "\n".join(lines)


def run(entry: Entry, arguments: list[str]) -> None:
    """Hand over to an entry."""
    module = importlib.import_module(entry.module)
    if not entry.presets:
        module.main(arguments)
        return
    # Deferred: listing names should not wait for JAX.
    from experiments.harness.running import run_main

    run_main(module.run, module.PRESETS, arguments)


def main() -> None:
    """Hand over to what is named first."""
    with plainly():
        hand_over()


def hand_over() -> None:
    name, *rest = sys.argv[1:] or ["--help"]
    found = entries()
    if name in ("-h", "--help"):
        print(overview(found))
    elif name in found:
        run(found[name], rest)
    else:
        near = difflib.get_close_matches(name, found, n=3) or sorted(found)
        sys.exit(
            f"error: {visible(repr(name[:80]))} is no experiment and no command; did you mean "
            f"{', '.join(near)}? "
            "`python -m experiments --help` lists all"
        )


if __name__ == "__main__":
    main()
