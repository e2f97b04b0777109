"""Training what drafts for a frozen target: heads, adapters, early exits.

The target reads each batch under a stopped gradient; what is trained turns its hidden states
into `Exit`s, each of which predicts the token `ahead` places further. An exit that predicts
token t + ahead from what is known at t is held to three things:

    hard     -log q_t(x_{t+ahead})                     the text itself
    soft     -sum_v p_{t+ahead-1}(v) log q_t(v)        the target's law of that token
    feature  SmoothL1(g_t, h_{t+ahead-1})              the target's final hidden state behind it

Medusa's heads take the first (Cai et al. 2024, arXiv 2401.10774), Kangaroo's adapter the second
(Liu et al. 2024, arXiv 2404.18911), EAGLE the third and a tenth of the second (Li et al. 2024,
arXiv 2401.15077).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.lm import View
from jaxdecode.types import Array, Bool, Float, Int, Key

Metrics = dict[str, Array]


@runtime_checkable
class Target(Protocol):
    """A layered model (`jaxdecode.lm.LayeredModel`) as training sees it."""

    def embed(
        self, tokens: Int[Array, "B T"], position: Int[Array, "B T"] | None = None
    ) -> Float[Array, "B T D"]: ...

    def run_layers(
        self, hidden: Float[Array, "B T D"], cache: None, view: View, first: int, last: int | None
    ) -> tuple[Float[Array, "B T D"], Any]: ...

    def final(self, hidden: Float[Array, "... D"]) -> Float[Array, "... D"]: ...

    def unembed(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]: ...

    def output_rows(self, tokens: Int[Array, "..."]) -> Float[Array, "... D"]:
        """What `unembed` multiplies hidden states by to get the logits of these tokens."""
        ...


@struct.dataclass
class Reading:
    """What a frozen target made of whole sequences.

    Attributes:
      tokens: i32[B, T].
      valid: bool[B, T]; valid tokens come first.
      streams: after how many layers -> residual stream, f32[B, T, D].
      hidden: f32[B, T, D], final hidden states, which `unembed` reads.
      logits: f32[B, T, V].
    """

    tokens: Int[Array, "B T"]
    valid: Bool[Array, "B T"]
    streams: dict[int, Float[Array, "B T D"]]
    hidden: Float[Array, "B T D"]
    logits: Float[Array, "B T V"]

    @property
    def view(self) -> View:
        """The sequences as new tokens of rows without a prefix."""
        return whole(self.valid)


@struct.dataclass
class Exit:
    """A prediction of the token `ahead` places further, at every token.

    Attributes:
      logits: f32[B, T, V].
      ahead: static; 1 is what the target itself predicts.
      feature: f32[B, T, D], the final hidden state expected behind it, or None.
    """

    logits: Float[Array, "B T V"]
    ahead: int = struct.field(pytree_node=False)
    feature: Float[Array, "B T D"] | None = None


@runtime_checkable
class Pupil(Protocol):
    """What is trained: a module of `nnx.Param`s."""

    def teach(self, target: Any, reading: Reading) -> tuple[Exit, ...]:
        """Predictions for whole sequences. The gradient does not enter the target."""
        ...


def whole(valid: Bool[Array, "B T"]) -> View:
    """Whole sequences, from position 0 on."""
    zero = jnp.zeros((valid.shape[0],), jnp.int32)
    position = jnp.broadcast_to(jnp.arange(valid.shape[1]), valid.shape)
    return View(position=position, start=zero, prefix=zero, valid=valid, fresh=True)


def read(
    target: Target,
    tokens: Int[Array, "B T"],
    valid: Bool[Array, "B T"],
    layers: tuple[int, ...] = (),
) -> Reading:
    """Run a target on whole sequences, noting the residual stream after each of `layers`."""
    view, streams, done = whole(valid), {}, 0
    hidden = target.embed(tokens, view.position)
    for layer in sorted(set(layers)):
        hidden, _ = target.run_layers(hidden, None, view, done, layer)
        streams[layer], done = hidden, layer
    hidden, _ = target.run_layers(hidden, None, view, done, None)
    hidden = target.final(hidden)
    reading = Reading(tokens, valid, streams, hidden, target.unembed(hidden))
    return jax.lax.stop_gradient(reading)


@dataclass(frozen=True)
class Lesson:
    """A loss for `jaxdecode.train.fit`, of batches from `taught`.

    The loss of exit i, counted from 0, weighs decay ** i. Means are over the tokens that the
    loss mask names, at the place of the predicted token. Metrics of exit i: `accuracy_i` and
    `top5_i`, how often the token of the text is its first choice and among its first five;
    `agreement_i`, how often its first choice is the target's; `acceptance_i`, the mean of
    sum_v min(p(v), q(v)). `weight` counts the tokens predicted one ahead; exits further ahead
    miss the first ones of each text, so that a batch in parts is theirs to that extent only.

    Attributes:
      hard, soft, feature: weights of the three parts.
      decay: see above.
      layers: after which of the target's layers the pupil reads the residual stream.
      noise: hidden states are disturbed by uniform noise of at most noise / T (EAGLE: 51.2)
        where the batch has a key.
    """

    hard: float = 0.0
    soft: float = 0.0
    feature: float = 0.0
    decay: float = 1.0
    layers: tuple[int, ...] = ()
    noise: float = 0.0

    def __post_init__(self) -> None:
        weights = (self.hard, self.soft, self.feature)
        if min(weights) < 0 or not any(weights):
            raise ValueError(
                f"hard={self.hard}, soft={self.soft}, feature={self.feature}: weights are not "
                "negative, and at least one is positive"
            )

    def __call__(
        self,
        pupil: Pupil,
        target: Target,
        tokens: Int[Array, "B T"],
        loss_mask: Bool[Array, "B T"],
        length: Int[Array, "B"],
        key: Key[Array, ""] | None = None,
    ) -> tuple[Float[Array, ""], Metrics]:
        valid = jnp.arange(tokens.shape[1]) < length[:, None]
        target = jax.lax.stop_gradient(target)
        reading = read(target, tokens, valid, self.layers)
        seen = reading
        if self.noise and key is not None:
            bound = self.noise / tokens.shape[1]
            shape = reading.hidden.shape
            noise = jax.random.uniform(key, shape, reading.hidden.dtype, -bound, bound)
            seen = Reading(tokens, valid, reading.streams, reading.hidden + noise, reading.logits)
        return self.grade(pupil.teach(target, seen), reading, loss_mask & valid)

    def grade(
        self, exits: Sequence[Exit], reading: Reading, mask: Bool[Array, "B T"]
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss of one pupil's exits, and their metrics."""
        total, metrics = jnp.zeros(()), {}
        for index, exit in enumerate(exits):
            loss, own = self.judge(exit, reading, mask)
            total = total + self.decay**index * loss
            metrics |= {f"{name}_{index}": value for name, value in own.items()}
        return total, metrics | {"weight": jnp.sum(mask[:, 1:].astype(jnp.float32))}

    def judge(
        self, exit: Exit, reading: Reading, mask: Bool[Array, "B T"]
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss of one exit, and what its predictions are worth."""
        ahead = exit.ahead
        if not 1 <= ahead < mask.shape[1]:
            raise ValueError(f"ahead={ahead}: sequences of {mask.shape[1]} tokens are too short")
        count = mask.shape[1] - ahead
        label, weight = reading.tokens[:, ahead:], mask[:, ahead:].astype(jnp.float32)
        behind = slice(ahead - 1, ahead - 1 + count)
        logp = jax.nn.log_softmax(reading.logits[:, behind])
        logq = jax.nn.log_softmax(exit.logits[:, :count])
        p, q = jnp.exp(logp), jnp.exp(logq)

        def mean(values: Array) -> Array:
            return jnp.sum(values * weight) / jnp.maximum(weight.sum(), 1.0)

        chosen = jnp.take_along_axis(logq, label[..., None], axis=2)
        loss = self.hard * mean(-chosen[..., 0]) + self.soft * mean(-jnp.sum(p * logq, axis=2))
        if self.feature:
            if exit.feature is None:
                raise ValueError(f"feature={self.feature}: this pupil predicts no hidden states")
            error = smooth_l1(exit.feature[:, :count] - reading.hidden[:, behind])
            loss += self.feature * mean(jnp.mean(error, axis=2))
        above = jnp.sum(logq > chosen, axis=2)
        return loss, {
            "accuracy": mean(above < 1),
            "top5": mean(above < 5),
            "agreement": mean(jnp.argmax(logq, axis=2) == jnp.argmax(logp, axis=2)),
            "acceptance": mean(jnp.sum(jnp.minimum(p, q), axis=2)),
        }


def smooth_l1(error: Float[Array, "..."]) -> Float[Array, "..."]:
    """error^2 / 2 up to an error of 1, |error| - 1/2 beyond."""
    size = jnp.abs(error)
    return jnp.where(size < 1, 0.5 * size * size, size - 0.5)


def taught(
    batches: Callable[[int], Mapping[str, Any]],
    target: Callable[[], Any],
    seed: int | None = None,
) -> Callable[[int], dict[str, Any]]:
    """Batches of `next_token` with the target, which is opened at the first.

    `seed` adds a key for every step, for lessons with noise.
    """
    opened = cache(target)

    def batch(step: int) -> dict[str, Any]:
        arguments = dict(batches(step)) | {"target": opened()}
        if seed is not None:
            arguments["key"] = jax.random.fold_in(jax.random.key(seed), step)
        return arguments

    return batch
