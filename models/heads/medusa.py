"""Heads that guess several places ahead from one hidden state (Medusa, Cai et al. 2024, arXiv
2401.10774).

Head i = 1..n predicts the token i places beyond the target's own next token:

    p_i = softmax(W2_i (h + SiLU(W1_i h + b_i))),    h = the target's final hidden state.

W1 and b start at zero and W2 as the target's output matrix, so that every head first says what
the target says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdecode.lm import ModelCost, View
from jaxdecode.train.frozen import Exit, Reading
from jaxdecode.types import Array, Float, Int
from models.transformer import Transformer


class Medusa(nnx.Module):
    """Attributes: inner [n, D, D], inner_bias [n, D], outer [n, D, V]."""

    def __init__(self, inner: Array, inner_bias: Array, outer: Array) -> None:
        self.inner = nnx.Param(inner)
        self.inner_bias = nnx.Param(inner_bias)
        self.outer = nnx.Param(outer)

    @classmethod
    def of(cls, target: Transformer, *, count: int = 3, rngs: nnx.Rngs | None = None) -> Medusa:
        """Heads of a target as the paper begins them; nothing is random."""
        if count < 1:
            raise ValueError(f"count={count}: at least one head is needed")
        rows = target.output_rows(jnp.arange(target.vocab_size))
        width = rows.shape[1]
        return cls(
            jnp.zeros((count, width, width), rows.dtype),
            jnp.zeros((count, width), rows.dtype),
            jnp.tile(rows.T, (count, 1, 1)),
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"count": self.count}

    @property
    def count(self) -> int:
        """n, the depth of a draft."""
        return self.inner[...].shape[0]

    @property
    def vocab_size(self) -> int:
        return self.outer[...].shape[2]

    @property
    def guessing(self) -> ModelCost:
        """Of one guess."""
        return ModelCost((self.inner[...].size + self.outer[...].size) // self.count, 0, 0)

    @property
    def absorbing(self) -> ModelCost:
        """Of taking in one token of the text."""
        return ModelCost(0, 0, 0)

    def init_cache(self, batch: int, capacity: int) -> None:
        """There is nothing to remember."""

    def absorb(
        self, target: Any, hidden: Float[Array, "B T D"], cache: None, view: View
    ) -> tuple[Float[Array, "B T D"], None]:
        """What `guess` starts from, at every new token of the text."""
        return hidden, cache

    def guess(
        self, target: Any, index: int, hidden: Float[Array, "B N D"], token: Int[Array, "B N"]
    ) -> tuple[Float[Array, "B N V"], Float[Array, "B N D"]]:
        """Logits of head `index` (from 0) and what the next head starts from; `token`, the one
        before, is not looked at."""
        inner = hidden @ self.inner[index] + self.inner_bias[index]
        mixed = hidden + jax.nn.silu(inner)
        logits = jnp.matmul(mixed, self.outer[index], preferred_element_type=jnp.float32)
        return logits, hidden

    def teach(self, target: Any, reading: Reading) -> tuple[Exit, ...]:
        exits, hidden = [], reading.hidden
        for index in range(self.count):
            logits, _ = self.guess(target, index, hidden, reading.tokens)
            exits.append(Exit(logits, ahead=index + 2))
        return tuple(exits)
