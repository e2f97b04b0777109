"""Parts for tests of canvases."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.guess import Choice, Sight


@struct.dataclass
class OneOf:
    """One of several choosers by its number, which is a leaf: all of them in one program."""

    which: int | jax.Array
    choosers: tuple[Any, ...]

    def init(self, rows: int, block: int) -> tuple:
        return tuple(chooser.init(rows, block) for chooser in self.choosers)

    def __call__(self, state: tuple, sight: Sight) -> tuple[Choice, tuple]:
        made = [c(s, sight) for c, s in zip(self.choosers, state, strict=True)]
        choices = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[choice for choice, _ in made])
        chosen = jax.tree.map(lambda leaf: leaf[self.which], choices)
        return chosen, tuple(after for _, after in made)
