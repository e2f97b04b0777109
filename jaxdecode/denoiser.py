"""A denoiser: a language model that fills masked places of a canvas, seeing both sides of them.

It is a `LanguageModel` as the token engines know it, run with a view that is not causal, and
three facts that the weights do not tell: which token stands for "not decided yet", where the
logits of a place stand, and whether its blocks see only those before them.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdecode import struct
from jaxdecode.lm import LanguageModel, ModelCost
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class Denoiser:
    """A model and how its canvas is read.

    Attributes:
      model: run through views whose tokens see what this class says, not the past alone.
      mask_id: static; the token of an undecided place. It is never an output.
      shift: static; the logits of place i stand at i - 1, as in a model that once predicted
        the next token (Dream). Those of place 0 then stand at 0.
      causal_blocks: static; tokens see their own block of so many places, counted from place
        0, and the blocks before it. None: every token sees the whole canvas.
      longest: static; the longest canvas the model was trained for, None where unknown.
    Raises:
      ValueError: for a mask id that is not in the vocabulary, or sizes below 1.
    """

    model: LanguageModel
    mask_id: int = struct.field(pytree_node=False)
    shift: bool = struct.field(pytree_node=False, default=False)
    causal_blocks: int | None = struct.field(pytree_node=False, default=None)
    longest: int | None = struct.field(pytree_node=False, default=None)

    def __post_init__(self) -> None:
        for name in ("causal_blocks", "longest"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: at least 1 is needed, or None")
        vocab = getattr(self.model, "vocab_size", None)  # absent on a tree's stand-in
        if isinstance(vocab, int) and not 0 <= self.mask_id < vocab:
            raise ValueError(
                f"mask_id={self.mask_id} is outside the vocabulary 0..{vocab - 1}; a denoiser "
                "needs the token that its training masked with"
            )

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    @property
    def max_positions(self) -> int | None:
        known = [n for n in (self.longest, self.model.max_positions) if n is not None]
        return min(known, default=None)

    @property
    def cost(self) -> ModelCost:
        return self.model.cost

    def visible(self, query: Int[Array, "R T"], key: Int[Array, "R S"]) -> Bool[Array, "R T S"]:
        """Which places see which, by their positions."""
        if self.causal_blocks is None:
            return jnp.ones((*query.shape, key.shape[1]), bool)
        block = query[:, :, None] // self.causal_blocks
        return key[:, None, :] // self.causal_blocks <= block

    def logits(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Logits of final hidden states; the mask itself can never be drawn."""
        return self.model.unembed(hidden).at[..., self.mask_id].set(-jnp.inf)

    def sound(
        self, law: Float[Array, "... V"], token: Int[Array, "..."]
    ) -> tuple[Float[Array, "... U"], Int[Array, "..."]]:
        """The law over what can be drawn, without the mask, and tokens counted without it."""
        parts = law[..., : self.mask_id], law[..., self.mask_id + 1 :]
        return jnp.concatenate(parts, axis=-1), token - (token > self.mask_id)


def refuse_denoiser(model: Any) -> None:
    """Raises ValueError where a model that reads from left to right is wanted and this is none."""
    if isinstance(model, Denoiser):
        raise ValueError(
            "model: a Denoiser fills masks and does not continue a text; give it to an "
            "`Unmasker`, or pass a causal model"
        )


def check_masks(denoiser: Denoiser, prompt: Prompt, most: int | None) -> None:
    """Refuse prompts whose masks are not what the engine is to fill.

    Args:
      most: places that may be masked inside a prompt; None where none may.
    Raises:
      ValueError: naming the row, the value and the fix.
    """
    if isinstance(prompt.tokens, Tracer):
        return
    tokens, lengths = np.asarray(prompt.tokens), np.asarray(prompt.length)
    masked = (tokens == denoiser.mask_id) & (np.arange(tokens.shape[1]) < lengths[:, None])
    for row, count in enumerate(masked.sum(axis=1)):
        if most is None and count:
            raise ValueError(
                f"prompt.tokens[{row}, {masked[row].argmax()}]={denoiser.mask_id} is the mask: a "
                "prompt is read, not filled; pass infill=True to fill spans inside it"
            )
        if most is not None and not 1 <= count <= most:
            raise ValueError(
                f"prompt.tokens[{row}] has {count} masks, and 1 to max_tokens={most} can be "
                "filled; mask what is to be filled, or raise max_tokens"
            )
