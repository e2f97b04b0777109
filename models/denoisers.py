"""Opening and writing published masked diffusion models: LLaDA, Dream, SDAR, Fast-dLLM v2.

    denoiser = load_denoiser(folder)        a `jaxdecode.denoiser.Denoiser` over a `Transformer`
    save_denoiser(denoiser, folder, family="llada")

The folder is an ordinary checkpoint; what makes it a denoiser is its config's `model_type`, and
the config says which token is the mask and how long a block is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jax

from jaxdecode.denoiser import Denoiser
from models import export
from models.checkpoint_files import CONFIG, read_json
from models.checkpoints import load
from models.families import family_of
from models.families.diffusion import BLOCKS
from models.families.family import Canvas
from models.families.fields import Fields
from models.transformer import Transformer


def load_denoiser(
    folder: str | os.PathLike,
    *,
    dtype: str | None = None,
    vocab_size: int | None = None,
    shardings: Mapping[str, jax.sharding.Sharding] | None = None,
    check_finite: bool = False,
) -> Denoiser:
    """Open a published denoiser; the arguments are those of `models.checkpoints.load`.

    Raises:
      ValueError: for what `load` refuses, a causal model, a mixture of experts, a config that
        names no mask, or a mask outside the vocabulary.
    """
    folder = Path(folder)
    model = load(
        folder,
        dtype=dtype,
        vocab_size=vocab_size,
        shardings=shardings,
        check_finite=check_finite,
        denoiser=True,
    )
    return Denoiser(model, *canvas_of(folder))


def canvas_of(folder: str | os.PathLike) -> Canvas:
    """How the canvas of a denoiser's folder is read.

    Raises:
      ValueError: where the folder's config is no denoiser's.
    """
    path = Path(folder) / CONFIG
    config = read_json(path)
    family = family_of(config, str(path))
    if family.canvas is None:
        raise ValueError(
            f"{folder}: a {family.model_type} model is causal, and a canvas needs one that sees "
            "what follows; the engines of causal models take it"
        )
    return family.canvas(Fields(config, str(path)))


def is_denoiser(folder: str | os.PathLike) -> bool:
    """Whether a folder's config names a family of denoisers; False where it names none."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        return False
    return family_of(read_json(path), str(path)).canvas is not None


def save_denoiser(
    denoiser: Denoiser,
    folder: str | os.PathLike,
    *,
    family: str,
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Write a denoiser as a published checkpoint of `family`, a `model_type`.

    Args:
      config: further fields of config.json, such as token ids.
      options: those of `models.export.save`.
    Raises:
      ValueError: for what `save` refuses, or a canvas that the family cannot express.
    """
    kind = family_of({"model_type": family})
    wanted = Canvas(
        denoiser.mask_id, denoiser.shift, denoiser.causal_blocks, denoiser.max_positions
    )
    fields: dict[str, Any] = {"mask_token_id": denoiser.mask_id}
    if denoiser.causal_blocks is not None and family in BLOCKS:
        fields[BLOCKS[family]] = denoiser.causal_blocks
    if kind.canvas is None:
        known = ", ".join(("llada", "Dream", *BLOCKS))
        raise ValueError(f"family={family!r} is causal; a denoiser is one of {known}")
    written = kind.canvas(Fields(fields))
    for name in ("mask_id", "shift", "causal_blocks"):
        if getattr(wanted, name) != getattr(written, name):
            raise ValueError(
                f"family={family!r} reads {name}={getattr(written, name)}, the denoiser has "
                f"{getattr(wanted, name)}; choose the family that reads a canvas as it does"
            )
    model = cast(Transformer, denoiser.model)
    export.save(model, folder, family=family, config=fields | dict(config or {}), **options)
