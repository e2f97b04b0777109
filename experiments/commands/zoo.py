"""The models that ship: what they are, and how to make one again.

python -m experiments zoo [list] | train NAME [--runs DIR] | score NAME
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.harness.environment import keep_compiled
from experiments.harness.running import stopping
from experiments.zoo import WEIGHTS, load, names, real
from experiments.zoo.making import make, rescore
from experiments.zoo.recipes import RECIPES
from experiments.zoo.skills.skill import Skills


def show() -> None:
    """Every model, with what it does best and worst."""
    for name in names():
        card = load(name).card
        print(f"{name:18}{card['kind']:11}{card['about']}")
        print(f"{'':29}{Skills.of_card(card).told()}")
    for name, wheel in real.REAL.items():
        state = "installed" if name in real.names() else wheel.recipe
        print(f"{name:18}{wheel.card['kind']:11}{wheel.card['about']} ({state})")


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
    scoring = commands.add_parser("score", help="say anew what a stored model can do")
    scoring.add_argument("name", choices=sorted(names()))
    options = parser.parse_args(arguments)
    if options.command not in ("train", "score"):
        show()
        return
    keep_compiled()
    if options.command == "score":
        print(Skills.of_card(rescore(RECIPES[options.name](), WEIGHTS)).told())
        return
    with stopping("The run is kept; the same command goes on from its last checkpoint."):
        make(RECIPES[options.name](), options.runs, WEIGHTS)
