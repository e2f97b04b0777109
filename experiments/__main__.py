"""python -m experiments list|report: what there is, and what it found."""

from __future__ import annotations

import sys

from experiments import list as listing
from experiments import summary

COMMANDS = {"list": listing.main, "report": summary.main}
USAGE = """usage: python -m experiments list [--out DIR]
       python -m experiments report [FOLDER] [--html FILE] [--store] [--check]
       python -m experiments.NAME [--preset smoke|cpu|paper] [--out DIR] [--seed N] [--strict]

list names every experiment; report gathers results on one page. Each has --help."""


def main() -> None:
    """Hand over to the command named first."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(USAGE)
    elif name in COMMANDS:
        COMMANDS[name](rest)
    else:
        sys.exit(f"error: {name!r} is neither of {', '.join(COMMANDS)}\n{USAGE}")


if __name__ == "__main__":
    main()
