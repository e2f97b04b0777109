"""Nats a token by kind of token, beside the frequencies of the training text."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.tasks.tokenizer import TaskTokenizer
from experiments.zoo.recipe import HELD_OUT_STEPS, Batches
from experiments.zoo.skills.skill import Skill, Skills
from jaxdecode.train.frozen import Exit, Reading
from jaxdecode.types import Array, Bool, Float, Int

Kinds = Callable[[Mapping[str, Any]], np.ndarray]  # a batch -> the kind of every token, str[B, T]
COUNTED = 16  # batches of the training text
FREQUENT = "how often each token stands in the training text"


class Frequencies(nnx.Module):
    """What knows nothing: one law for every place.

    Attributes:
      law: f32[V], its logits.
      exits: static, predictions of the tokens 1, 2, ... `exits` ahead that it gives as a pupil.
    """

    def __init__(self, law: Float[Array, "V"], exits: int = 1) -> None:
        self.law = nnx.Param(law)
        self.exits = exits

    @classmethod
    def counted(cls, batches: Batches, size: int, exits: int = 1) -> Frequencies:
        """Of the tokens that training predicts, each counted once more than it was seen."""
        stream, counts = batches(), np.ones(size)
        for step in range(COUNTED):
            batch = stream(step)
            np.add.at(counts, np.asarray(batch["tokens"])[np.asarray(batch["loss_mask"])], 1)
        return cls(jnp.asarray(np.log(counts / counts.sum()), jnp.float32), exits)

    def forward(
        self, tokens: Int[Array, "B T"], valid: Bool[Array, "B T"] | None = None
    ) -> tuple[Float[Array, "B T V"], None]:
        """The same logits everywhere; no hidden states."""
        return jnp.broadcast_to(self.law[...], (*tokens.shape, self.law[...].shape[0])), None

    def teach(self, target: Any, reading: Reading) -> tuple[Exit, ...]:
        """As `jaxdecode.train.frozen.Pupil`, of whatever target."""
        logits, _ = self.forward(reading.tokens)
        return tuple(Exit(logits, ahead) for ahead in range(1, self.exits + 1))


@dataclass(frozen=True)
class Nats:
    """The loss on held-out text by kind of token.

    Attributes:
      text: validation batches of `next_token`.
      training: training batches, for the baseline.
      kinds: of a batch's tokens.
      size: V.
    """

    text: Batches
    training: Batches
    kinds: Kinds
    size: int

    @cached_property
    def blind(self) -> Frequencies:
        return Frequencies.counted(self.training, self.size)

    def __call__(self, model: Any) -> Skills:
        stream, run = self.text(), jax.jit(losses)
        seen: dict[str, list[np.ndarray]] = {}
        for step in range(HELD_OUT_STEPS):
            batch = stream(step)
            own, blind = (
                np.asarray(run(m, batch["tokens"], batch["length"])) for m in (model, self.blind)
            )
            kinds, asked = self.kinds(batch)[:, 1:], np.asarray(batch["loss_mask"])[:, 1:]
            for kind in np.unique(kinds[asked]):
                here = asked & (kinds == kind)
                seen.setdefault(str(kind), []).append(np.stack([own[here], blind[here]]))
        of = {}
        for kind, parts in sorted(seen.items()):
            own, blind = np.concatenate(parts, axis=1)
            of[kind] = Skill(float(own.mean()), float(blind.mean()), len(own))
        return Skills("nats a token", FREQUENT, of, less=True)


def losses(model: Any, tokens: Int[Array, "B T"], length: Int[Array, "B"]) -> Float[Array, "B S"]:
    """-log p of every token but the first, given those before it."""
    valid = jnp.arange(tokens.shape[1]) < length[:, None]
    logits, _ = model.forward(tokens[:, :-1], valid[:, :-1])
    law = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(law, tokens[:, 1:, None], axis=2)[..., 0]


def by_place(*bounds: int) -> Kinds:
    """Kinds by how many of the predicted tokens stand before: below each bound, and the rest."""

    def kinds(batch: Mapping[str, Any]) -> np.ndarray:
        mask = np.asarray(batch["loss_mask"])
        place = np.cumsum(mask, axis=1) - 1
        names = [f"tokens {a} to {b - 1}" for a, b in zip((0, *bounds), bounds, strict=False)]
        names.append(f"tokens from {bounds[-1]}")
        return np.array(names)[np.searchsorted(bounds, place, side="right")]

    return kinds


def by_word(codec: TaskTokenizer) -> Kinds:
    """Kinds of the tokens of Python source, by what is written with each."""
    names = np.array([_word(codec.decode([token])) for token in range(codec.vocab_size)])
    return lambda batch: names[np.asarray(batch["tokens"])]


def _word(text: str) -> str:
    bare = text.strip()
    if not bare:
        return "space"
    if keyword.iskeyword(bare):
        return "keywords"
    if bare.isidentifier():
        return "names and words"
    return "numbers" if bare.isdigit() else "marks"
