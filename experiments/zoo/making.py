"""Making a model of the zoo: train it by its recipe, store it, say what the stored one can do."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
from flax import nnx

from experiments.zoo import digest, opened, read
from experiments.zoo.recipe import Recipe
from jaxdecode.denoiser import Denoiser
from jaxdecode.train.fit import Checkpoints, fit
from models import export
from models.denoisers import save_denoiser
from models.heads import files
from models.reward_checkpoints import save_reward

Model = TypeVar("Model", bound=nnx.Module)


def make(recipe: Recipe, runs: Path, weights: Path) -> None:
    """Train, or go on where a run was stopped, and write `weights / recipe.name`."""

    model, done, total = recipe.create(nnx.Rngs(recipe.seed)), 0, recipe.total
    for number, part in enumerate(recipe.rounds):

        def watch(step: int, means: Mapping[str, float], before: int = done) -> None:
            shown = "  ".join(f"{key} {value:.4g}" for key, value in means.items())
            print(f"{recipe.name} {before + step}/{total}  {shown}", flush=True)

        folder = runs / recipe.name / f"again-{number}" if number else runs / recipe.name
        stream, optimizer = part.batches(), part.optimizer()
        kept = Checkpoints(folder)
        model = fit(model, recipe.loss, stream, optimizer, part.steps, kept, watch)
        done += part.steps
    card = put(recipe, model, weights / recipe.name)
    print(f"{weights / recipe.name}: {card['held_out']}")


def put(recipe: Recipe, model: Any, folder: Path) -> dict[str, Any]:
    """Write a trained model and its card, with the scores of the weights as they are stored.

    Returns the card.
    """
    codec, model = recipe.tokenizer(), cast(model, recipe.stored)
    card: dict[str, Any] = {
        "kind": recipe.kind,
        "about": recipe.about,
        "recipe": f"python -m experiments zoo train {recipe.name}",
        "steps": recipe.total,
        "seed": recipe.seed,
        "tokenizer": codec.fingerprint(),
        **judged(recipe, cast(model, "float32")),
        "stored": recipe.stored,
    }
    if recipe.target is not None:
        target = folder.parent / recipe.target
        card["target"] = {"name": recipe.target, "sha256": digest(target)}
        if recipe.kind == "head":
            card["head"] = type(model).__name__
            files.save(model, folder, read(target).model, recipe.stored)
    if recipe.kind != "head":
        _write(recipe, model, folder)
    card["sha256"] = digest(folder)
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    return card


def rescore(recipe: Recipe, weights: Path) -> dict[str, Any]:
    """Say anew what the stored `weights / recipe.name` can do; the weights stay.

    Returns the card.
    """
    file = weights / recipe.name / "card.json"
    card = json.loads(file.read_text())
    model = opened(file.parent, card).model
    anew = judged(recipe, model)
    # A card from before there were skills has them beside its scores.
    fields = [name for old in card for name in ((*anew,) if old == "held_out" else (old,))]
    card = {name: (card | anew)[name] for name in dict.fromkeys(fields)}
    file.write_text(json.dumps(card, indent=2) + "\n")
    return card


def judged(recipe: Recipe, model: Any) -> dict[str, Any]:
    """Held-out scores, and what the model can do kind by kind."""
    return {"held_out": recipe.score(model), "skills": recipe.skills(model).card()}


def _write(recipe: Recipe, model: Any, folder: Path) -> None:
    """Weights, config and tokenizer in the published format."""
    codec = recipe.tokenizer()
    with tempfile.TemporaryDirectory() as companions:
        codec.save(Path(companions))
        common: dict = {"family": "llama", "tokenizer": companions, "overwrite": True}
        ends = {"bos_token_id": codec.bos_id, "eos_token_id": codec.eos_id}
        if recipe.kind == "reward":
            save_reward(model, folder, pad=codec.pad_id, **common)
        elif recipe.mask_id is not None:
            common |= {"family": "llada", "config": ends | {"pad_token_id": codec.pad_id}}
            save_denoiser(Denoiser(model, recipe.mask_id), folder, **common)
        else:
            export.save(model, folder, config=ends, **common)


def cast(model: Model, dtype: str) -> Model:
    """The model with its weights in another precision."""
    return jax.tree.map(lambda weight: weight.astype(dtype), model)
