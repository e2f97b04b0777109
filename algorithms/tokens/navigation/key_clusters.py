"""Which ranks of a next-token law are owed to keys alone (Peng et al. 2024, arXiv 2410.02284).

A token's logit is k . h, its key k being a row of the output table and h the query of the context.
Keys do not move with the context, so that no context can set two near ones far apart:

    |logit_a - logit_b|  <=  |k_a - k_b| |h|                                            (`bound`)

Tokens whose keys lie by those of the likeliest ones are therefore ranked high whether or not
they lead to something right. To see it, keys are clustered (`cluster`), and the middle ranks
of a law are parted into those that share a cluster with one of its first ranks and the rest
(`split`): of the two, the latter are the more often right though they are ranked no higher.

Keys are taken as they are, not normalised and without a bias, and clustered by Lloyd's rule in
the Euclidean distance. Open in the published text and chosen here: centres begin at different
random keys, an empty cluster begins anew at the key that is farthest from its centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from jaxdecode.types import Array, Float, Int

Floats = NDArray[np.float64]


@runtime_checkable
class Keyed(Protocol):
    """A model whose logits are products with rows of a table."""

    @property
    def vocab_size(self) -> int: ...

    def output_rows(self, tokens: Int[Array, "..."]) -> Float[Array, "... D"]:
        """The keys of tokens."""
        ...


def keys_of(model: Keyed) -> Float[Array, "V D"]:
    """The key of every token, float32; those of the output table, tied to the input's or not."""
    return model.output_rows(jnp.arange(model.vocab_size)).astype(jnp.float32)


class Clusters(NamedTuple):
    """What Lloyd's rule came to.

    Attributes:
      of: i32[V], the cluster of every key, which is that of the nearest centre.
      centre: f32[C, D].
      inertia: of every iteration, the sum of squared distances to the nearest centres; it never
        rises.
    """

    of: NDArray[np.int32]
    centre: NDArray[np.float32]
    inertia: list[float]


@partial(jax.jit, static_argnames="chunk")
def nearest(
    keys: Float[Array, "V D"], centre: Float[Array, "C D"], chunk: int
) -> tuple[Int[Array, "V"], Float[Array, "V"]]:
    """The nearest centre of every key and its squared distance, `chunk` keys at a time."""
    size = -(-len(keys) // chunk) * chunk
    parts = jnp.pad(keys, ((0, size - len(keys)), (0, 0))).reshape(-1, chunk, keys.shape[1])
    far = jnp.sum(centre * centre, axis=1)

    def one(part: Float[Array, "N D"]) -> tuple[Array, Array]:
        # The keys' own lengths do not change which centre is nearest.
        product = jnp.matmul(part, centre.T, precision="highest")
        of = jnp.argmin(far - 2 * product, axis=1).astype(jnp.int32)
        return of, jnp.sum((part - centre[of]) ** 2, axis=1)

    of, distance = jax.lax.map(one, parts)
    return of.reshape(-1)[: len(keys)], distance.reshape(-1)[: len(keys)]


def cluster(
    keys: ArrayLike, count: int, seed: int = 0, iterations: int = 100, chunk: int = 8192
) -> Clusters:
    """Keys [V, D] in `count` clusters; published are 1024 of 128,256 tokens and 512 of 50,304.

    Raises:
      ValueError: for no cluster, more of them than keys, or no iteration.
    """
    rows = jnp.asarray(keys, jnp.float32)
    if not 1 <= count <= len(rows):
        raise ValueError(f"count={count}: from 1 cluster to one for each of the {len(rows)} keys")
    if iterations < 1 or chunk < 1:
        raise ValueError(f"iterations={iterations}, chunk={chunk}: at least 1 of each is needed")
    table, chunk = np.asarray(rows, np.float64), min(chunk, len(rows))
    start = np.random.default_rng(seed).choice(len(rows), count, replace=False)
    centre, before, inertia = table[start], None, []
    of = np.zeros(len(rows), np.int32)
    for _ in range(iterations):
        found, distance = nearest(rows, jnp.asarray(centre, jnp.float32), chunk)
        of, apart = np.asarray(found), np.asarray(distance, np.float64)
        inertia.append(float(apart.sum()))
        if before is not None and (of == before).all():
            break
        before, centre = of, _means(table, of, apart, centre)
    else:
        # The centres moved once more than the keys.
        of = np.asarray(nearest(rows, jnp.asarray(centre, jnp.float32), chunk)[0])
    return Clusters(of, centre.astype(np.float32), inertia)


def _means(
    keys: Floats, of: NDArray[np.integer], apart: Floats, centre: Floats
) -> NDArray[np.float64]:
    """Of each cluster the mean; of empty ones the keys that are farthest from their centres."""
    size = np.bincount(of, minlength=len(centre))
    total = np.zeros_like(centre)
    np.add.at(total, of, keys)
    moved = total / np.maximum(size, 1)[:, None]
    empty = np.flatnonzero(size == 0)
    moved[empty] = keys[np.argsort(-apart, kind="stable")[: len(empty)]]
    return moved


class Group(NamedTuple):
    """Some of the middle ranks: them, the share that is right, their mean, their share of all
    middle ranks. Of no ranks the share that is right and the mean are NaN."""

    ranks: tuple[int, ...]
    accuracy: float
    rank: float
    share: float


class Split(NamedTuple):
    """The share of the first ranks that is right, and the middle ranks inside and outside of
    their clusters."""

    top: float
    inside: Group
    outside: Group


def split(clusters: Sequence[int], right: Sequence[bool | int], top: int) -> Split:
    """Part the ranks behind the first `top`; both sequences are in the order of the ranks.

    Raises:
      ValueError: for sequences of different lengths, or no rank on either side of `top`.
    """
    if len(clusters) != len(right) or not 0 < top < len(right):
        raise ValueError(
            f"top={top} of {len(clusters)} ranks, {len(right)} judged: give each rank a cluster "
            "and a judgement, and leave some behind the first"
        )
    of, true = np.asarray(clusters), np.asarray(right, float)
    ranks = np.arange(1, len(of) + 1)
    middle, near = ranks > top, np.isin(of, of[:top])

    def group(which: NDArray[np.bool_]) -> Group:
        if not which.any():
            return Group((), float("nan"), float("nan"), 0.0)
        share = float(which.sum() / middle.sum())
        mean = float(ranks[which].mean())
        return Group(tuple(ranks[which].tolist()), float(true[which].mean()), mean, share)

    return Split(float(true[:top].mean()), group(middle & near), group(middle & ~near))


def bound(
    keys: Float[Array, "V D"],
    one: Int[Array, "..."],
    other: Int[Array, "..."],
    query: Float[Array, "... D"],
) -> Float[Array, "..."]:
    """The most that the logits of two tokens differ by under a query."""
    apart = jnp.linalg.norm(keys[one] - keys[other], axis=-1)
    return apart * jnp.linalg.norm(query, axis=-1)


def movement(query: Float[Array, "... R D"]) -> Float[Array, "... R"]:
    """The cosine of each run's query with the first run's."""
    length = jnp.linalg.norm(query, axis=-1)
    product = jnp.sum(query * query[..., :1, :], axis=-1)
    return product / jnp.maximum(length * length[..., :1], 1e-30)


def attraction(
    keys: Float[Array, "V D"], query: Float[Array, "R D"], first: Int[Array, "R m"]
) -> Float[Array, "R"]:
    """How many standard deviations above the mean logit of the vocabulary those tokens stand, on
    average, that began the items of the first run, under each run's query.

    Args:
      first: of each run; -1 for none.
    """
    logits = query @ keys.T
    scaled = (logits - logits.mean(1, keepdims=True)) / logits.std(1, keepdims=True)
    begun = first[0] >= 0
    chosen = jnp.where(begun, scaled[:, jnp.maximum(first[0], 0)], 0.0)
    return chosen.sum(1) / jnp.maximum(begun.sum(), 1)
