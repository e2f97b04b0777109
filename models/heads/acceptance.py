"""A head that foresees whether a draft token will be accepted (SpecDec++, Huang et al. 2024,
arXiv 2405.19715).

On the draft model's final hidden state x behind the token, D residual blocks

    x <- x + SiLU(W x + b)

and a linear map to two logits, the softmax of which is P(rejected), P(accepted). The published
head repeats one block D times (`tied`), where the text reads as if there were D of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdecode.types import Array, Float
from models.transformer import Transformer


class AcceptanceHead(nnx.Module):
    """See the module; all of it is in float32.

    Attributes:
      kernel, bias: [E, D, D] and [E, D] of E different blocks; None without blocks.
      out, out_bias: [D, 2] and [2].
      depth, tied: static; `depth` blocks are run, all the same one if `tied`.
    """

    def __init__(self, width: int, depth: int = 3, *, tied: bool = True, rngs: nnx.Rngs) -> None:
        if width < 1 or depth < 0:
            raise ValueError(f"width={width}, depth={depth}: need width >= 1 and depth >= 0")
        self.depth, self.tied = depth, tied
        blocks = min(depth, 1) if tied else depth
        kernel, bias = (blocks, width, width), (blocks, width)
        self.kernel = nnx.Param(_uniform(rngs, kernel, width)) if blocks else None
        self.bias = nnx.Param(_uniform(rngs, bias, width)) if blocks else None
        self.out = nnx.Param(_uniform(rngs, (width, 2), width))
        self.out_bias = nnx.Param(_uniform(rngs, (2,), width))

    @classmethod
    def of(
        cls, draft: Transformer, *, depth: int = 3, tied: bool = True, rngs: nnx.Rngs
    ) -> AcceptanceHead:
        """A head on the final hidden states of a draft model."""
        return cls(draft.config.hidden, depth, tied=tied, rngs=rngs)

    @property
    def width(self) -> int:
        """D of the hidden states it reads."""
        return self.out[...].shape[0]

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"depth": self.depth, "tied": self.tied}

    def logits(self, hidden: Float[Array, "... D"]) -> Float[Array, "... 2"]:
        """f32[..., 2], rejected and accepted, from the draft model's hidden states."""
        x = hidden.astype(jnp.float32)
        if self.kernel is not None and self.bias is not None:
            kernel, bias = self.kernel[...], self.bias[...]

            def block(index, x):
                index = 0 if self.tied else index
                return x + jax.nn.silu(x @ kernel[index] + bias[index])

            x = jax.lax.fori_loop(0, self.depth, block, x)
        return x @ self.out[...] + self.out_bias[...]

    def __call__(self, hidden: Float[Array, "... D"]) -> Float[Array, "..."]:
        """P(accepted | those before it were) of the token that was just read."""
        return jax.nn.softmax(self.logits(hidden), axis=-1)[..., 1]


def _uniform(rngs: nnx.Rngs, shape: tuple[int, ...], width: int) -> Array:
    """The common default of linear layers: uniform within 1 / sqrt(inputs)."""
    bound = width**-0.5
    return jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound)
