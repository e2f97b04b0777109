"""Writing a model beside its base's tokenizer, as a folder that others open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.inputs.sources import folder_of
from models import checkpoints, export
from models.text import Tokenizer
from models.tokenizer_files import load_tokenizer


def publish(model: Any, name: str, folder: Path, overwrite: bool = True) -> str:
    """Write a model in the family of its base, with the base's tokenizer and token ids.

    Args:
      name: the base: a zoo name, a folder or a .gguf file.
    Returns:
      the family.
    Raises:
      ValueError: the folder is there, and is not to be overwritten.
    """
    path = folder_of(name)
    family, tokenizer = checkpoints.Checkpoint(path).family.model_type, load_tokenizer(path)
    export.save(
        model,
        folder,
        family=family,
        tokenizer=tokenizer,
        config=token_ids(tokenizer),
        overwrite=overwrite,
    )
    return family


def token_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a published config says of special tokens."""
    ends = list(tokenizer.eos)
    return {
        "bos_token_id": tokenizer.bos,
        "pad_token_id": tokenizer.pad,
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
    }
