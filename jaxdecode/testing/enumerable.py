"""A causal model whose every completion can be enumerated, and its NumPy double.

    hidden = tanh( sum over the visible (position, token) pairs of K[position, token]
                                                                + V[position, token] )
    logits = hidden @ head + bias

What the pairs add is what the cache holds, the even dimensions as keys and the odd ones as
values: a token that is seen or missed by mistake, a wrong position, a slot moved wrongly or a
garbage slot read all change the logits. It is a `LayeredModel` of one layer. Nothing is
approximated, so the laws of a decoder can be written down and tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.cache import Cache, allocate, place, places, read, write
from jaxdecode.lm import ModelCost, ModelOutput, View
from jaxdecode.types import Array, Float, Int, Key


@struct.dataclass
class EnumerableLM:
    """A language model over a handful of tokens. Positions are taken modulo M.

    Attributes:
      keys, values: f32[M, V, D], what a token at a position adds to those who see it.
      head: f32[D, V].
      bias: f32[V].
    """

    keys: Float[Array, "M V D"]
    values: Float[Array, "M V D"]
    head: Float[Array, "D V"]
    bias: Float[Array, "V"]

    @classmethod
    def random(
        cls,
        key: Key[Array, ""] | int,
        vocab: int,
        width: int = 8,
        max_positions: int = 32,
        sharpness: float = 1.0,
    ) -> EnumerableLM:
        """`sharpness` scales the logits: 0 is uniform, above 3 nearly deterministic."""
        key = jax.random.key(key) if isinstance(key, int) else key
        k, v, h, b = jax.random.split(key, 4)
        table = (max_positions, vocab, width)
        return cls(
            keys=0.4 * jax.random.normal(k, table),
            values=0.4 * jax.random.normal(v, table),
            head=sharpness * jax.random.normal(h, (width, vocab)),
            bias=0.3 * sharpness * jax.random.normal(b, (vocab,)),
        )

    def perturbed(self, key: Key[Array, ""] | int, amount: float) -> EnumerableLM:
        """A model near this one, as a draft is near its target."""
        key = jax.random.key(key) if isinstance(key, int) else key
        h, b = jax.random.split(key)
        return replace(
            self,
            head=self.head + amount * jax.random.normal(h, self.head.shape),
            bias=self.bias + amount * jax.random.normal(b, self.bias.shape),
        )

    @property
    def vocab_size(self) -> int:
        return self.bias.shape[0]

    @property
    def max_positions(self) -> None:
        return None

    @property
    def width(self) -> int:
        return self.head.shape[0]

    @property
    def cost(self) -> ModelCost:
        return ModelCost(
            parameters=self.head.size + self.bias.size,
            attention=2 * self.width,
            cache_bytes=2 * self.width * 4,
        )

    def init_cache(self, batch: int, capacity: int) -> Cache:
        return allocate(1, batch, 1, self.width, capacity)

    def embed(
        self, tokens: Int[Array, "B T"], position: Int[Array, "B T"] | None = None
    ) -> Float[Array, "B T D"]:
        """What a token adds to those who see it; at position 0 where none is given."""
        position = jnp.zeros_like(tokens) if position is None else position
        at = position % self.keys.shape[0], tokens
        return self.keys[at] + self.values[at]

    def output_rows(self, tokens: Int[Array, "..."]) -> Float[Array, "... D"]:
        return self.head.T[tokens]

    def unembed(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        return hidden @ self.head + self.bias

    def __call__(self, tokens: Int[Array, "B T"], cache: Cache, view: View) -> ModelOutput:
        hidden, filled = self.run_layers(self.embed(tokens, view.position), cache, view)
        assert filled is not None
        return ModelOutput(logits=self.unembed(hidden), hidden=hidden, cache=filled)

    def run_layers(
        self,
        hidden: Float[Array, "B T D"],
        cache: Cache | None,
        view: View,
        first: int = 0,
        last: int | None = None,
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """The one layer, or none: what is added to the visible, summed up and squashed."""
        if first == 1 or last == 0:
            return hidden, cache
        cache = self.init_cache(*hidden.shape[:2]) if cache is None else cache
        slot = view.slot(cache.capacity)
        cache = place(cache, view.position, slot)
        slot = places(cache, slot)
        even = jnp.arange(self.width) % 2 == 0  # both halves of the cache are put to use
        k, v = jnp.where(even, hidden, 0.0), jnp.where(even, 0.0, hidden)
        cache = write(cache, 0, k[:, :, None], v[:, :, None], slot)
        k, v = read(cache, 0)
        held = jnp.swapaxes(k[:, 0], 1, 2) + v[:, 0]  # [B, S, D]
        seen = view.mask(cache.capacity)[..., None]
        # `where`, not a product: garbage slots may hold NaN and must still not be read.
        return jnp.tanh(jnp.sum(jnp.where(seen, held[:, None], 0.0), axis=2)), cache

    def final(self, hidden: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """There is no last norm."""
        return hidden


def visible_logits(model: EnumerableLM, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Logits f64[V] of a query that sees these (position, token) pairs and no others."""
    keys, values = np.asarray(model.keys, np.float64), np.asarray(model.values, np.float64)
    total = np.zeros(keys.shape[2])
    for position, token in pairs:
        total += keys[position % len(keys), token] + values[position % len(keys), token]
    return np.tanh(total) @ np.asarray(model.head, np.float64) + np.asarray(model.bias, np.float64)


def next_logits(model: EnumerableLM, tokens: Sequence[int]) -> np.ndarray:
    """Logits f64[V] after a sequence, prompt first."""
    return visible_logits(model, enumerate(tokens))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities f64[V] of one row of logits."""
    weight = np.exp(logits - logits.max())
    return weight / weight.sum()


def next_probs(model: EnumerableLM, tokens: Sequence[int]) -> np.ndarray:
    """The law f64[V] of the token after a sequence."""
    return softmax(next_logits(model, tokens))


Transform = Callable[[np.ndarray, Sequence[int], Sequence[int]], np.ndarray]
"""(logits f64[V], prompt, output so far) -> logits f64[V]."""


def sequence_probs(
    model: EnumerableLM,
    prompt: Sequence[int],
    length: int,
    transform: Transform | None = None,
    eos: Sequence[int] = (),
) -> dict[tuple[int, ...], float]:
    """Every completion of at most `length` tokens, and its probability.

    A completion ends with a token of `eos`, which it contains, or at `length`. Completions of
    probability zero are listed too where a transform excludes a token. Probabilities sum to 1.
    """
    done: dict[tuple[int, ...], float] = {}
    open_ends = {(): 1.0}
    for step in range(length):
        longer: dict[tuple[int, ...], float] = {}
        for output, probability in open_ends.items():
            logits = next_logits(model, [*prompt, *output])
            if transform is not None:
                logits = transform(logits, prompt, output)
            for token, p in enumerate(softmax(logits)):
                ends = token in eos or step == length - 1
                (done if ends else longer)[(*output, token)] = probability * float(p)
        open_ends = longer
    return done


def sequence_logprob(model: EnumerableLM, prompt: Sequence[int], output: Sequence[int]) -> float:
    """log p(output | prompt) under the raw distribution."""
    total = 0.0
    for index, token in enumerate(output):
        total += float(np.log(next_probs(model, [*prompt, *output[:index]])[token]))
    return total
