"""What a canvas engine refuses on the host, before any compute."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxdecode.denoiser import Denoiser
from jaxdecode.ending import EndOfText

CACHES = ("none", "prefix", "dual")


def check_parts(un: Any) -> None:
    """Refuse parts that do not fit; what a tree transformation puts in their place is let be."""
    if isinstance(un.denoiser, jax.Array | np.ndarray | float) or type(un.denoiser) is object:
        return
    if un.denoiser is not None and not isinstance(un.denoiser, Denoiser):
        raise ValueError(
            f"denoiser: a {type(un.denoiser).__name__} sees the past alone, or says not what "
            "its mask is; wrap a model trained to fill masks in `Denoiser(model, mask_id)`"
        )
    for name in ("max_tokens", "block"):
        if getattr(un, name) < 1:
            raise ValueError(f"{name}={getattr(un, name)}: at least 1 is needed")
    grid = un.denoiser.causal_blocks if un.denoiser is not None else None
    if un.max_tokens % un.block and not un.infill and grid is None:
        raise ValueError(
            f"block={un.block} does not divide max_tokens={un.max_tokens}; choose a divisor"
        )
    if grid is not None and un.block % grid:
        raise ValueError(
            f"block={un.block}: the denoiser sees blocks of {grid}; choose a multiple of it"
        )
    if un.cache not in CACHES:
        raise ValueError(f"cache={un.cache!r} must be one of {', '.join(CACHES)}")
    if un.cache == "dual" and grid is not None:
        raise ValueError(
            "cache='dual': in a denoiser of causal blocks nothing sees what lies behind its "
            "block, so there is nothing to keep of it; use 'prefix', which is exact"
        )
    if un.refresh is not None and un.refresh < 1:
        raise ValueError(f"refresh={un.refresh}: after at least 1 pass, or None for never")
    if un.halvings < 0:
        raise ValueError(f"halvings={un.halvings}: 0 for one width, or how often it is halved")
    if isinstance(un.passes, int) and un.passes < 1:
        raise ValueError(f"passes={un.passes}: a row makes at least one")
    if un.infill and isinstance(un.ending, EndOfText):
        raise ValueError("ending=EndOfText: spans inside a text have no end to foresee")
    if isinstance(un.ending, EndOfText) and un.stop.eos.shape[0] == 0:
        raise ValueError("ending=EndOfText needs end tokens in stop.eos; none are given")
