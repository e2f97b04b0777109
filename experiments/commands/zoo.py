"""The models that ship: what they are, and how to make one again.

python -m experiments zoo [list] | train NAME [--runs DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.harness.environment import keep_compiled
from experiments.harness.running import stopping
from experiments.zoo import WEIGHTS, load, names, real
from experiments.zoo.making import make
from experiments.zoo.recipes import RECIPES


def show() -> None:
    """Every model, with its held-out scores."""
    for name in names():
        card = load(name).card
        scores = ", ".join(f"{key} {value}" for key, value in card["held_out"].items())
        print(f"{name:16} {card['kind']:10} {card['about']} ({scores})")
    for name, wheel in real.REAL.items():
        state = "installed" if name in real.names() else wheel.recipe
        print(f"{name:16} {wheel.card['kind']:10} {wheel.card['about']} ({state})")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments zoo", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="what there is (the default)")
    training = commands.add_parser("train", help="make a model; goes on where it was stopped")
    training.add_argument("name", choices=sorted(RECIPES))
    training.add_argument(
        "--runs", type=Path, default=Path("out/zoo"), help="checkpoints of the runs"
    )
    options = parser.parse_args(arguments)
    if options.command != "train":
        show()
        return
    keep_compiled()
    with stopping("The run is kept; the same command goes on from its last checkpoint."):
        make(RECIPES[options.name](), options.runs, WEIGHTS)
