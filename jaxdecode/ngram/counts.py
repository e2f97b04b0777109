"""What follows n-grams in a corpus, counted on the host and read on the device.

For every n-gram of `order` tokens that something follows, the `keep` most frequent successors
and their shares. Built once and not changed; the table is sparse and as wide as it must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.ngram import storage
from jaxdecode.ngram.corpus import join
from jaxdecode.ngram.slots import fetch
from jaxdecode.ngram.table import FREE, Entry, scatter_keys
from jaxdecode.types import Array, Float, Int

LOAD = 4  # keys per bucket, on average


@struct.dataclass
class Counts:
    """A hash table of keys that points to rows of successors.

    Attributes:
      keys: i32[C, W, n], FREE where there is none.
      row: i32[C, W], where a key's successors stand.
      tokens: i32[U, K], by falling share, then by id; FREE where there are fewer.
      share: f32[U, K], of all that followed; not renormalised where successors were left out.
      count: i32[U], how often the key was followed by something.
      vocab: static, tokens lie in 0..vocab - 1.
    """

    keys: Int[Array, "C W n"]
    row: Int[Array, "C W"]
    tokens: Int[Array, "U K"]
    share: Float[Array, "U K"]
    count: Int[Array, "U"]
    vocab: int = struct.field(pytree_node=False)

    @classmethod
    def of(
        cls, documents: Sequence[Sequence[int]], vocab: int, order: int = 2, keep: int = 12
    ) -> Counts:
        """Count the (order + 1)-grams of the documents; shorter documents have none.

        Raises:
          ValueError: if there is nothing to count, or for a token outside the vocabulary.
        """
        if order < 1 or keep < 1:
            raise ValueError(f"order={order}, keep={keep}: at least 1 each")
        joined = join(documents, vocab)
        grams = np.stack([joined[i : len(joined) - order + i] for i in range(order + 1)], axis=1)
        grams = grams[(grams >= 0).all(axis=1)]
        if not len(grams):
            raise ValueError(f"documents: none has {order + 1} tokens, which order={order} needs")
        grams, times = np.unique(grams, axis=0, return_counts=True)
        fresh = np.diff(grams[:, :order], axis=0, prepend=-1).any(axis=1)
        owner = np.cumsum(fresh) - 1
        total = np.bincount(owner, times)
        ranked = np.lexsort((grams[:, order], -times, owner))
        place = np.arange(len(grams)) - np.flatnonzero(fresh)[owner]
        chosen = ranked[place < keep]
        at = (owner[chosen], place[place < keep])
        tokens = np.full((len(total), keep), FREE, np.int32)
        share = np.zeros((len(total), keep), np.float32)
        tokens[at] = grams[chosen, order]
        share[at] = times[chosen] / total[owner[chosen]]
        keys, row = _index(np.ascontiguousarray(grams[fresh, :order], np.int32))
        return cls(
            keys=jnp.asarray(keys),
            row=jnp.asarray(row),
            tokens=jnp.asarray(tokens),
            share=jnp.asarray(share),
            count=jnp.asarray(total, jnp.int32),
            vocab=vocab,
        )

    @property
    def order(self) -> int:
        """Tokens of a key."""
        return self.keys.shape[2]

    def read(self, keys: Int[Array, "... n"]) -> Entry:
        """The successors of the keys, any leading axes."""
        bucket = scatter_keys(keys, self.keys.shape[0])
        here = jnp.all(fetch(self.keys, bucket) == keys[..., None, :], axis=-1)
        there, way = jnp.any(here, axis=-1), jnp.argmax(here, axis=-1)
        row = fetch(self.row.reshape(-1), bucket * self.row.shape[1] + way)
        return Entry(
            tokens=jnp.where(there[..., None], fetch(self.tokens, row), FREE),
            values=jnp.where(there[..., None], fetch(self.share, row), 0.0),
            count=jnp.where(there, fetch(self.count, row), 0),
        )

    def save(self, path: Path | str, tokenizer: str) -> None:
        """Write the table; `tokenizer` is its fingerprint (see `storage`)."""
        names = ("keys", "row", "tokens", "share", "count")
        arrays = {name: np.asarray(getattr(self, name)) for name in names}
        storage.save(
            path, "counts", tokenizer, arrays | {"vocab": np.array([self.vocab], np.int32)}
        )

    @classmethod
    def load(cls, path: Path | str, tokenizer: str) -> Counts:
        """Read a table that was saved.

        Raises:
          ValueError: see `storage.load`.
        """
        found = storage.load(path, "counts", tokenizer)
        vocab = int(found.pop("vocab")[0])
        return cls(**{name: jnp.asarray(array) for name, array in found.items()}, vocab=vocab)


def _index(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Buckets of keys, as wide as the fullest, and the rows that they point to."""
    buckets = -(-len(keys) // LOAD)
    bucket = scatter_keys(keys, buckets)
    order = np.argsort(bucket, kind="stable")
    filled = np.bincount(bucket, minlength=buckets)
    way = np.arange(len(keys)) - np.repeat(np.cumsum(filled) - filled, filled)
    table = np.full((buckets, filled.max(), keys.shape[1]), FREE, np.int32)
    row = np.zeros(table.shape[:2], np.int32)
    table[bucket[order], way] = keys[order]
    row[bucket[order], way] = order
    return table, row
