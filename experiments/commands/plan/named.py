"""The shape of a model by its name: a published one, one of the zoo, or a checkpoint's.

Weights are not opened, so that a folder with nothing but its config.json will do.
"""

from __future__ import annotations

import dataclasses
import difflib
import re

from experiments import zoo
from experiments.inputs.sources import folder_of
from models import presets
from models.checkpoint_files import CONFIG, read_json
from models.checkpoints import Checkpoint
from models.config import TransformerConfig
from models.families import family_of
from models.families.fields import Fields


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


PRESETS: dict[str, TransformerConfig] = {
    _plain(name): value
    for name, value in vars(presets).items()
    if isinstance(value, TransformerConfig)
}


def config_of(option: str, name: str, dtype: str) -> TransformerConfig:
    """The config of a model whose weights, activations and cache are `dtype`.

    Args:
      option: that names it, for errors.
    Raises:
      ValueError: there is none of this name, or it is no transformer that writes from left to
        right.
    """
    config = PRESETS.get(_plain(name))
    if config is None:
        try:
            config = _stored(name)
        except (ValueError, OSError) as error:
            near = difflib.get_close_matches(_plain(name), [*PRESETS, *zoo.names()], n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise ValueError(
                f"--{option} {name!r:.80}: neither a published shape ({', '.join(PRESETS)}) nor a "
                f"model of the zoo, a folder or a .gguf file that can be read ({error}){hint}"
            ) from None
    return dataclasses.replace(config, dtype=dtype)


def _stored(name: str) -> TransformerConfig:
    """The config of a zoo model, a folder or a file."""
    path = folder_of(name)
    if not path.is_dir():
        return Checkpoint(path).config
    where = path / CONFIG
    stored = read_json(where)
    family = family_of(stored, str(where))
    if family.canvas is not None:
        raise ValueError(f"{name} is a denoiser, whose passes depend on what it fills")
    return family.read(Fields(stored, str(where)))


def within(config: TransformerConfig, longest: int) -> TransformerConfig:
    """The config for texts of at most so many tokens: see `Transformer.within`."""
    if not config.crossing or longest > config.crossing:
        return config
    return dataclasses.replace(config, longest=longest)
