"""A filter of guesses: which places of a block are right already, by all its confidences.

    z = W_2 relu(W_1 c + b_1) + b_2,   c in [0, 1]^B the confidences of a block of B places

Decided places are read like open ones, at the confidence the denoiser has in them now; there is no
mark of what is open, no step number and no token. What is right about one place is read from
its neighbours, so that the filter is a threshold that depends on context and position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdecode import struct
from jaxdecode.types import Array, Float, Key


@struct.dataclass
class Filter:
    """Layers of B to B units with rectifiers between them.

    Attributes:
      layers: pairs of weights f32[B, B] and biases f32[B]; the published filter has two.
      model: static; the fingerprint of the denoiser it was trained for, "" for any.
    """

    layers: tuple[tuple[Float[Array, "B B"], Float[Array, "B"]], ...]
    model: str = struct.field(pytree_node=False, default="")

    @classmethod
    def random(
        cls, key: Key[Array, ""] | int, block: int, depth: int = 2, model: str = ""
    ) -> Filter:
        """Uniform in +-1/sqrt(B), as a linear layer begins in the published training."""
        key = jax.random.key(key) if isinstance(key, int) else key
        bound = block**-0.5
        layers = []
        for k in jax.random.split(key, depth):
            w, b = (
                jax.random.uniform(part, shape, minval=-bound, maxval=bound)
                for part, shape in zip(jax.random.split(k), ((block, block), (block,)), strict=True)
            )
            layers.append((w, b))
        return cls(tuple(layers), model)

    @classmethod
    def threshold(cls, block: int, gamma: float, steepness: float = 1e3) -> Filter:
        """The filter that looks at a place alone: sigma(z) > 1/2 where c > gamma."""
        eye, zero = jnp.eye(block), jnp.zeros((block,))
        return cls(((eye, zero), (steepness * eye, zero - steepness * gamma)))

    @property
    def block(self) -> int:
        """B."""
        return self.layers[0][1].shape[0]

    @property
    def parameters(self) -> int:
        """Numbers that are trained: 2,112 for two layers at B = 32."""
        return sum(int(x.size) for x in jax.tree.leaves(self.layers))

    def __call__(self, confidence: Float[Array, "... B"]) -> Float[Array, "... B"]:
        """Logits of being right."""
        x = confidence
        for index, (weight, bias) in enumerate(self.layers):
            x = (jax.nn.relu(x) if index else x) @ weight.T + bias
        return x


class Lesson(NamedTuple):
    """N blocks as a decoder met them.

    Attributes:
      confidence: f32[N, B].
      label: bool[N, B], the guess was right.
      open: bool[N, B], the place was still to be decided.
      prompt: i32[N], which prompt the block is of, so that a split need not cut one in two.
    """

    confidence: Any
    label: Any
    open: Any
    prompt: Any

    def of_prompts(self, wanted: Sequence[int]) -> Lesson:
        """The blocks of some prompts."""
        chosen = np.isin(self.prompt, np.asarray(wanted))
        return Lesson(*(np.asarray(x)[chosen] for x in self))


def loss(filter: Filter, lesson: Lesson) -> Float[Array, ""]:
    """Binary cross-entropy, averaged over all places, decided ones included."""
    label = jnp.asarray(lesson.label, jnp.float32)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(filter(lesson.confidence), label))


def train(
    filter: Filter, lesson: Lesson, steps: int = 3000, rate: float = 3e-3
) -> tuple[Filter, Float[Array, "steps"]]:
    """Full-batch AdamW at a constant rate with weight decay 0.01: the filter, its losses.

    Among B units some may die, which this training does not revive. On confidences that tell
    nothing of each other every dead unit leaves a place unlearned: with labels c > 0.8, B = 8 and
    5,000 steps the loss comes to 0.03 where none dies and to 0.2 where three do, by the start.

    Raises:
      ValueError: for a lesson of another block, or without blocks.
    """
    count, block = np.shape(lesson.confidence)
    if block != filter.block or count == 0:
        raise ValueError(
            f"lesson: {count} blocks of {block} places; the filter learns from at least one "
            f"block of {filter.block}"
        )
    return _train(filter, Lesson(*map(jnp.asarray, lesson)), steps, rate)


def _fit(filter: Filter, lesson: Lesson, steps: int, rate: float) -> tuple[Filter, Array]:
    tx = optax.adamw(rate, weight_decay=0.01)

    def step(carry: tuple[Any, Any], _: Any) -> tuple[tuple[Any, Any], Array]:
        layers, state = carry
        value, gradient = jax.value_and_grad(lambda x: loss(Filter(x), lesson))(layers)
        updates, state = tx.update(gradient, state, layers)
        return (optax.apply_updates(layers, updates), state), value

    start: Any = (filter.layers, tx.init(filter.layers))
    (layers, _), losses = jax.lax.scan(step, start, length=steps)
    return Filter(layers, filter.model), losses


_train = jax.jit(_fit, static_argnums=2)


class Quality(NamedTuple):
    """How a filter judges places at a threshold on sigma(z).

    Attributes:
      precision: share of accepted places that are right; 1 where none is accepted.
      recall: share of right places that are accepted.
      false: share of accepted places that are wrong, which is what costs quality.
    """

    precision: float
    recall: float
    false: float


def quality(filter: Filter, lesson: Lesson, threshold: float, open_only: bool = True) -> Quality:
    """On open places, or on all of them: decided ones are nearly always right."""
    chance = np.asarray(jax.nn.sigmoid(filter(jnp.asarray(lesson.confidence))))
    counted = np.asarray(lesson.open) if open_only else np.ones(chance.shape, bool)
    accepted, right = (chance > threshold) & counted, np.asarray(lesson.label) & counted
    hit, taken = int((accepted & right).sum()), int(accepted.sum())
    precision = hit / taken if taken else 1.0
    return Quality(precision, hit / max(int(right.sum()), 1), 1.0 - precision)


def fingerprint(model: Any) -> str:
    """Of a model's weights: sizes, and numbers taken here and there."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(model):
        flat = np.asarray(leaf).reshape(-1)
        digest.update(f"{np.shape(leaf)}{flat.dtype}".encode())
        digest.update(np.ascontiguousarray(flat[:: max(flat.size // 64, 1)]).tobytes())
    return digest.hexdigest()[:16]
