"""python -m experiments.zoo [list] | train NAME [--folder DIR]."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import jax
from flax import nnx

from experiments.environment import keep_compiled
from experiments.report import stopping
from experiments.zoo import WEIGHTS, digest, load, names
from experiments.zoo.recipe import Recipe
from experiments.zoo.recipes import RECIPES
from jaxdecode.train.fit import Checkpoints, fit
from models import export
from models.reward_checkpoints import save_reward

Model = TypeVar("Model", bound=nnx.Module)


def train(name: str, runs: Path) -> None:
    """Make a model, or go on making it, and put it into the zoo."""
    recipe = RECIPES[name]()
    run = runs / name

    def watch(step: int, means) -> None:
        shown = "  ".join(f"{key} {value:.4g}" for key, value in means.items())
        print(f"{name} {step}/{recipe.steps}  {shown}", flush=True)

    model = fit(
        recipe.create(nnx.Rngs(recipe.seed)),
        recipe.loss,
        recipe.batches(),
        recipe.optimizer(),
        recipe.steps,
        Checkpoints(run),
        watch,
    )
    put(recipe, model, WEIGHTS / name)


def put(recipe: Recipe, model: Any, folder: Path) -> None:
    """Write a trained model and its card, with the scores of the weights as they are stored."""
    codec, model = recipe.tokenizer(), cast(model, recipe.stored)
    with tempfile.TemporaryDirectory() as companions:
        codec.save(Path(companions))
        common: dict = {"family": "llama", "tokenizer": companions, "overwrite": True}
        if recipe.kind == "reward":
            save_reward(model, folder, pad=codec.pad_id, **common)
        else:
            ends = {"bos_token_id": codec.bos_id, "eos_token_id": codec.eos_id}
            export.save(model, folder, config=ends, **common)
    card = {
        "kind": recipe.kind,
        "about": recipe.about,
        "recipe": f"python -m experiments.zoo train {recipe.name}",
        "steps": recipe.steps,
        "seed": recipe.seed,
        "tokenizer": codec.fingerprint(),
        "held_out": recipe.score(cast(model, "float32")),
        "stored": recipe.stored,
        "sha256": digest(folder),
    }
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(f"{folder}: {card['held_out']}")


def cast(model: Model, dtype: str) -> Model:
    """The model with its weights in another precision."""
    return jax.tree.map(lambda weight: weight.astype(dtype), model)


def show() -> None:
    """Every model, with its held-out scores."""
    for name in names():
        card = load(name).card
        scores = ", ".join(f"{key} {value}" for key, value in card["held_out"].items())
        print(f"{name:16} {card['kind']:10} {card['about']} ({scores})")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.zoo", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="what there is (the default)")
    training = commands.add_parser("train", help="make a model; goes on where it was stopped")
    training.add_argument("name", choices=sorted(RECIPES))
    training.add_argument(
        "--runs", type=Path, default=Path("out/zoo"), help="checkpoints of the runs"
    )
    options = parser.parse_args()
    if options.command != "train":
        show()
        return
    keep_compiled()
    with stopping("The run is kept; the same command goes on from its last checkpoint."):
        train(options.name, options.runs)


if __name__ == "__main__":
    main()
