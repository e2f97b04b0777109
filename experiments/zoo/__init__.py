"""The small models that ship: weights made by the recipes beside them.

    load(name)                          a model, its tokenizer and its card
    python -m experiments.zoo           what there is
    python -m experiments.zoo train NAME   make it again

A folder of `weights/` is an ordinary checkpoint in the published format, with one file more:
`card.json` says how it was made, what it scores on held-out data and what its weights hash to.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.tasks import tokenizer
from experiments.tasks.tokenizer import TaskTokenizer
from models import checkpoints
from models.reward_checkpoints import load_reward

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Shipped:
    """A model of the zoo.

    Attributes:
      model: a `Transformer` or a `RewardModel`, by the card's `kind`.
      tokenizer: its vocabulary.
      card: how it was made and what it scores.
      folder: the checkpoint.
    """

    model: Any
    tokenizer: TaskTokenizer
    card: dict[str, Any]
    folder: Path


def names(weights: Path = WEIGHTS) -> list[str]:
    """Every model that is there to load."""
    return sorted(card.parent.name for card in weights.glob("*/card.json"))


def load(name: str) -> Shipped:
    """Open a shipped model.

    Raises:
      ValueError: for a name that is not in the zoo, or weights that are not the card's.
    """
    if name not in names():
        raise ValueError(f"name={name!r}: the zoo has {', '.join(names()) or 'no models'}")
    return read(WEIGHTS / name)


def read(folder: Path) -> Shipped:
    """Open the model in a folder; ValueError if its weights are not its card's."""
    card = json.loads((folder / "card.json").read_text())
    if card["sha256"] != digest(folder):
        raise ValueError(
            f"{folder}: the weights are not those of its card; check the files out again or "
            f"run `{card['recipe']}`"
        )
    # Weights may be stored in half precision; every user computes in full.
    if card["kind"] == "reward":
        model = load_reward(folder, dtype="float32").model
    else:
        model = checkpoints.load(folder, dtype="float32")
    return Shipped(model, tokenizer.load(folder), card, folder)


def digest(folder: Path) -> str:
    """sha256 of the weights."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
