"""Lexical units: runs of tokens that a model is sure of, and learning to say them at once.

A unit is a maximal run s..e of a response whose tokens the fine-tuned model gives more than alpha,
each after all before it; one longer than k is cut into parts of k from the left. Behind the last
token before a unit stand e - s placeholders in the places of x_s .. x_{e-1}; read there, and at
that last token, the model is to say x_s .. x_e. A placeholder knows the text before its unit, the
placeholders of its unit before it, and its position.

All units of a text are learned in one pass: the text stands once, the placeholders of all units
behind it, each with the position of the token whose place it takes. Real tokens see no
placeholder, so that the loss of the text is what it was:

    L = mean over the text of -log p(x_t | x_<t)  +  rate * mean over placeholders of -log p(label)

Sun et al. 2024, arXiv 2405.15208. Left open there, and fields here: how units longer than k are
cut (from the left), the mixture of the two losses (`rate`), and what placeholders behind a
unit's end learn: nothing as published, or with `tails` the true tokens too, for units of any
length, so that what stands behind an end when decoding has been seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxdecode.train.packing import Packable
from jaxdecode.types import Array, Bool, Float, Int


def units(
    p: Sequence[float] | NDArray[np.floating],
    said: Sequence[bool] | NDArray[np.bool_],
    alpha: float,
    longest: int,
) -> list[tuple[int, int]]:
    """(first, last) of every unit of one text, in order; those of one token too.

    Args:
      p: of each token, after those before it.
      said: which tokens are the response's; no unit has others.
    """
    found: list[tuple[int, int]] = []
    for place, sure in enumerate(np.asarray(p) > alpha):
        if not (sure and said[place]):
            continue
        if found and found[-1][1] == place - 1 and place - found[-1][0] < longest:
            found[-1] = (found[-1][0], place)
        else:
            found.append((place, place))
    return found


@dataclass(frozen=True)
class Placing:
    """Where placeholders are put.

    Attributes:
      pad: id of the placeholder's row of the embedding table; no token of the vocabulary.
      alpha: what a token of a unit must be given.
      longest: k, the most tokens said at once.
      room: placeholders of a text; units beyond are left out at random.
      tails: see the module.
    """

    pad: int
    alpha: float = 0.9
    longest: int = 4
    room: int = 32
    tails: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha={self.alpha} is a probability, from 0 to 1")
        if self.longest < 2 or self.room < 1:
            raise ValueError(
                f"longest={self.longest}, room={self.room}: units of two or more tokens, and room "
                "for a placeholder"
            )

    def spans(self, found: Sequence[tuple[int, int]], length: int) -> list[tuple[int, int]]:
        """(first, count) of the placeholders of each unit that has some."""
        spans = []
        for first, last in found:
            count = last - first
            if self.tails:
                count = min(self.longest - 1, length - 1 - first)
            if count > 0 and first > 0:
                spans.append((first, count))
        return spans

    def place(
        self,
        tokens: NDArray[np.integer],
        length: NDArray[np.integer],
        found: Sequence[Sequence[tuple[int, int]]],
        rng: np.random.Generator,
    ) -> tuple[dict[str, Any], int]:
        """Arguments of `loss` for texts i32[B, T], and how many units were left out."""
        shape, lost = (len(tokens), self.room), 0
        placed = {name: np.zeros(shape, np.int32) for name in ("place", "start", "label")}
        group = np.full(shape, -1, np.int32)
        for row, own in enumerate(found):
            spans, at = self.spans(own, int(length[row])), 0
            for index in rng.permutation(len(spans)):
                first, count = spans[index]
                if at + count > self.room:
                    lost += 1
                    continue
                part = slice(at, at + count)
                placed["place"][row, part] = np.arange(first, first + count)
                placed["start"][row, part] = first
                placed["label"][row, part] = tokens[row, first + 1 : first + count + 1]
                group[row, part], at = index, at + count
        return placed | {"group": group, "pad": np.int32(self.pad)}, lost


@dataclass(frozen=True)
class Loss:
    """For `jaxdecode.train.fit`; metrics: `accuracy` of the text's tokens, `pad_accuracy` and
    `pad_loss` of the placeholders', `weight` the text's tokens.

    Attributes:
      rate: of the placeholders' loss.
      text: of the text's; 0 trains on reconstructed data alone.
    """

    rate: float = 1.0
    text: float = 1.0

    def __call__(
        self,
        model: Packable,
        tokens: Int[Array, "B T"],
        loss_mask: Bool[Array, "B T"],
        length: Int[Array, "B"],
        place: Int[Array, "B P"],
        start: Int[Array, "B P"],
        label: Int[Array, "B P"],
        group: Int[Array, "B P"],
        pad: Int[Array, ""] | int,
    ) -> tuple[Float[Array, ""], Mapping[str, Array]]:
        width = tokens.shape[1]
        logits = packed(model, tokens, length, place, start, group, pad)
        text, said = mean_loss(logits[:, : width - 1], tokens[:, 1:], loss_mask[:, 1:])
        rest, right = mean_loss(logits[:, width:], label, group >= 0)
        metrics = {"accuracy": said, "pad_loss": rest, "pad_accuracy": right}
        return self.text * text + self.rate * rest, metrics | {
            "weight": jnp.sum(loss_mask[:, 1:].astype(jnp.float32))
        }


def mean_loss(
    logits: Float[Array, "B N V"], label: Int[Array, "B N"], mask: Bool[Array, "B N"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean cross-entropy in nats and share of first choices, over a mask; 0 over none."""
    weight = mask.astype(jnp.float32)
    total = jnp.maximum(weight.sum(), 1.0)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), label[..., None], axis=2)[..., 0]
    right = (jnp.argmax(logits, axis=2) == label).astype(jnp.float32)
    return -jnp.sum(chosen * weight) / total, jnp.sum(right * weight) / total


def packed(
    model: Packable,
    tokens: Int[Array, "B T"],
    length: Int[Array, "B"],
    place: Int[Array, "B P"],
    start: Int[Array, "B P"],
    group: Int[Array, "B P"],
    pad: Int[Array, ""] | int,
) -> Float[Array, "B T+P V"]:
    """Logits at the tokens of the texts and at the placeholders behind them.

    Args:
      place: the position of each placeholder.
      start: that of its unit's first token; it sees the text before.
      group: the unit; -1 where there is no placeholder.
    """
    (batch, width), room = tokens.shape, place.shape[1]
    both, index = width + room, jnp.arange(width)
    causal = jnp.broadcast_to(index[:, None] >= index, (batch, width, width))
    before = index < start[..., None]
    order = jnp.arange(room)
    own = (group[..., None] == group[:, None]) & (order[:, None] >= order)
    block = jnp.zeros((batch, both, both), bool)
    block = block.at[:, :width, :width].set(causal).at[:, width:, :width].set(before)
    block = block.at[:, width:, width:].set(own)
    text = jnp.concatenate([tokens, jnp.full(place.shape, pad, tokens.dtype)], axis=1)
    position = jnp.concatenate([jnp.broadcast_to(index, tokens.shape), place], axis=1)
    valid = jnp.concatenate([index < length[:, None], group >= 0], axis=1)
    logits, _ = model.forward(text, valid, position=position, block=block)
    return logits
