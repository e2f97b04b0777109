"""The devices of a command line."""

from __future__ import annotations

import jax
from jax.sharding import Mesh

from jaxdecode.sharding import make_mesh


def local_mesh(shape: tuple[int, int] | None) -> Mesh | None:
    """DATA groups of MODEL devices, of this process: processes share prompts, and no arrays.

    Raises:
      ValueError: they are fewer, or more.
    """
    if shape is None:
        return None
    try:
        return make_mesh(*shape, jax.local_devices())
    except ValueError as error:
        raise ValueError(f"--mesh {shape[0]} {shape[1]}: {error}") from error
