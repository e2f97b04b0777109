"""What one chip of a mesh holds of a model, and what a pass of the model costs it at least.

Weights go where the sharding table of `jaxdecode.sharding` puts them and the cache where
`jaxdecode.cache` does: both are asked, of shapes alone. A pass cannot cost less than

    max(bytes read / bandwidth, operations / arithmetic, bytes sent / links)

with every weight read once (of an embedding table that is no output head only the rows), the keys
and values that queries see read once, two operations for each weight and token, and four for each
query, key and number of a query. An all-reduce of n bytes over m chips sends 2 n (m - 1) / m.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, NamedSharding

from experiments.commands.plan.chips import Chip
from jaxdecode.sharding import named_shardings
from jaxdecode.target import PARTS, ROWS, Target, aimed
from models.config import TransformerConfig
from models.transformer import Transformer, abstract

TABLES = ("embedding", "position")  # of which a pass takes rows


@dataclass(frozen=True)
class Split:
    """A mesh: `data` groups of `model` chips."""

    data: int
    model: int

    @property
    def chips(self) -> int:
        return self.data * self.model

    @property
    def name(self) -> str:
        """As it is given."""
        return f"{self.data}x{self.model}"

    def rows(self, batch: int) -> int:
        """Of a batch, on one chip."""
        return -(-batch // self.data)


@dataclass(frozen=True)
class Cost:
    """What a chip does: bytes read and written, operations, bytes sent, and in how many
    collectives."""

    bytes: float = 0.0
    flops: float = 0.0
    sent: float = 0.0
    collectives: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, times: float) -> Cost:
        return Cost(*(getattr(self, f.name) * times for f in fields(self)))

    def limits(self, chip: Chip) -> dict[str, float]:
        """Seconds that each of the three takes at least."""
        return {
            "bandwidth": self.bytes / chip.bandwidth,
            "arithmetic": self.flops / chip.flops,
            "links": self.sent / chip.link,
        }

    def seconds(self, chip: Chip) -> float:
        """At least, all three at once."""
        return max(self.limits(chip).values())


@functools.lru_cache(maxsize=16)
def shapes(config: TransformerConfig) -> Transformer:
    """`abstract`, once for each config."""
    return abstract(config)


@functools.lru_cache(maxsize=64)
def _row(config: TransformerConfig, platform: str, capacity: int) -> int:
    """Bytes of the cache of one row, all heads together."""
    with aimed(Target(platform)):
        cache = jax.eval_shape(lambda model: model.init_cache(1, capacity), shapes(config))
    return cache.nbytes


@dataclass(frozen=True)
class Share:
    """One chip's part of a model.

    Attributes:
      platform: of the chip, which decides how a cache lies.
    """

    config: TransformerConfig
    split: Split
    platform: str

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """Path of a weight -> numbers of it on the chip."""
        model = shapes(self.config)
        leaves = jax.tree.leaves(model)
        where = self._where.items()
        return {
            path: math.prod(sharding.shard_shape(leaf.shape))
            for (path, sharding), leaf in zip(where, leaves, strict=True)
        }

    @functools.cached_property
    def _where(self) -> dict[str, NamedSharding]:
        mesh = AbstractMesh((self.split.data, self.split.model), (ROWS, PARTS))
        return named_shardings(shapes(self.config), mesh)  # pyright: ignore[reportArgumentType]

    def divided(self, path: str) -> bool:
        """Whether a weight is split over the chips of a model."""
        return self.split.model > 1 and PARTS in self._where[path].spec

    @property
    def numbers(self) -> int:
        """Weights on the chip."""
        return sum(self.sizes.values())

    @property
    def width(self) -> int:
        """Bytes of a number."""
        return jnp.dtype(self.config.dtype).itemsize

    @property
    def held(self) -> int:
        """Bytes of the weights."""
        return self.numbers * self.width

    @property
    def tables(self) -> int:
        """Numbers of the tables of which a pass takes rows alone."""
        names = TABLES[1:] if self.config.tied else TABLES
        return sum(self.sizes.get(name, 0) for name in names)

    @property
    def multiplied(self) -> int:
        """Weights on the chip that multiply every token."""
        names = set(self.sizes) - {"position"} - (set() if self.config.tied else {"embedding"})
        matrices = [name for name in names if "norm" not in name and not name.endswith("_bias")]
        return sum(self.sizes[name] for name in matrices)

    @property
    def heads(self) -> int:
        """Key and value heads on the chip: all where they do not divide."""
        count, parts = self.config.kv_heads, self.split.model
        return count // parts if count % parts == 0 else count

    @property
    def twice(self) -> int:
        """2 for a model whose rotation changes at a length that texts may cross."""
        return 2 if self.config.crossing else 1

    def row(self, capacity: int) -> int:
        """Bytes of the cache of one row with so many slots."""
        return _row(self.config, self.platform, capacity) * self.heads // self.config.kv_heads

    def seen(self, context: float) -> float:
        """Keys that the last token of `context` sees, over all layers."""
        c = self.config
        sliding = sum(c.sliding)
        near = min(context, c.window) if c.window else context
        return self.twice * ((c.layers - sliding) * context + sliding * near)

    def once(self, rows: int, tokens: int, context: float, logits: int | None = None) -> Cost:
        """One pass over `tokens` new tokens of each row of the chip.

        Args:
          context: tokens that the first of them sees, itself included.
          logits: tokens of a row whose logits are wanted; all by default.
        """
        c, m = self.config, self.split.model
        logits = tokens if logits is None else logits
        last = context + tokens - 1
        pair = 2 * self.heads * c.head_dim * self.width
        kept = self.seen(last) * pair + tokens * self.twice * c.layers * pair
        read = (self.numbers - self.tables) * self.width * self.twice
        output = self.sizes["embedding" if c.tied else "head"]
        queries = c.q_width / (m if c.heads % m == 0 else 1)
        # The sum of what tokens see is linear but for windows, which makes it less at most.
        mean = (self.seen(context) + self.seen(last)) / 2
        flops = 2 * (tokens * (self.multiplied - output) + logits * output) * self.twice
        flops += tokens * 4 * queries * mean
        told = self.exchanged(rows, tokens, logits)
        rows_of_table = tokens * c.embed_width * self.width
        return Cost(read + rows * (kept + rows_of_table), rows * flops) + told

    def exchanged(self, rows: int, tokens: int, logits: int) -> Cost:
        """What a pass sends between the chips of a model."""
        c, m = self.config, self.split.model
        if m == 1:
            return Cost()
        sums = self.twice * c.layers * (self.divided("layers/o") + self.divided("layers/down"))
        sums += self.divided("embedding")
        part = rows * tokens * c.hidden * self.width * 2 * (m - 1) / m
        sent, count = sums * part, float(sums)
        if logits and self.divided("embedding" if c.tied else "head"):
            sent += rows * logits * c.rows / m * 4 * (m - 1) / m  # each chip gets rows whole
            count += 2  # and what was drawn of them is gathered
        return Cost(sent=sent, collectives=count)

    def passing(self, rows: int, tokens: int, target: int) -> float:
        """Bytes of the largest half layer's values for `tokens` tokens of each row, of the
        residual stream, and of a chunk of scores: what a pass holds beside weights and cache."""
        c, m = self.config, self.split.model
        wide = c.mlp // (m if self.divided("layers/down") else 1) * (2 if c.gated else 1)
        heads = c.heads // (m if c.heads % m == 0 else 1)
        attention = (2 * heads + 2 * self.heads) * c.head_dim
        scores = min(target, rows * heads * tokens * tokens) * 4 if tokens > 1 else 0
        return rows * tokens * (2 * c.hidden + max(wide, attention)) * self.width + scores

    def logits(self, rows: int, tokens: int) -> float:
        """Bytes of float32 logits."""
        head = "embedding" if self.config.tied else "head"
        return rows * tokens * self.config.rows * 4 / (self.split.model if self.divided(head) else 1)
