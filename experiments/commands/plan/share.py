"""What one chip of a mesh holds of a model, and what a pass of the model costs it at least.

Weights go where the sharding table of `jaxdecode.sharding` puts them and the cache where
`jaxdecode.cache` does: both are asked, of shapes alone. A pass cannot cost less than

    max(bytes read / bandwidth, operations / arithmetic, bytes sent / links)

with every weight read once (of an embedding table that is no output head only the rows, of experts
as many as tokens reach that pick them evenly and apart from each other), the keys
and values that queries see read once, two operations for each weight and token, and four for each
query, key and number of a query. An all-reduce of n bytes over m chips sends 2 n (m - 1) / m.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from experiments.commands.plan.chips import Chip
from jaxdecode.sharding import FSDP, RULES, named_shardings
from jaxdecode.target import PARTS, ROWS, Target, aimed
from models.attention import budget
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


@functools.lru_cache(maxsize=128)
def _placed(
    config: TransformerConfig, split: Split, fsdp: bool = False
) -> dict[str, tuple[int, bool]]:
    """Path of a weight -> numbers of it on a chip, and whether the chips of a model share it."""
    model: Any = shapes(config)
    mesh = AbstractMesh((split.data, split.model), (ROWS, PARTS))
    where = named_shardings(model, mesh, FSDP if fsdp else RULES)
    return {
        path: (
            math.prod(sharding.shard_shape(leaf.shape)),
            split.model > 1 and PARTS in sharding.spec,
        )
        for (path, sharding), leaf in zip(where.items(), jax.tree.leaves(model), strict=True)
    }


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

    @property
    def sizes(self) -> dict[str, int]:
        """Path of a weight -> numbers of it on the chip."""
        return {path: size for path, (size, _) in _placed(self.config, self.split).items()}

    def divided(self, path: str) -> bool:
        """Whether a weight is split over the chips of a model."""
        return _placed(self.config, self.split)[path][1]

    @property
    def numbers(self) -> int:
        """Weights on the chip."""
        return sum(self.sizes.values())

    @property
    def spread(self) -> int:
        """Weights on the chip where training splits them over all of them."""
        return sum(size for size, _ in _placed(self.config, self.split, fsdp=True).values())

    @property
    def turn(self) -> int:
        """Of the weights on the chip those of one layer, and those outside the layers."""
        each = self.config.layers
        inner = sum(size for path, size in self.sizes.items() if path.startswith("layers/"))
        return inner // each + self.numbers - inner

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
        whole = sum(self.sizes[name] for name in matrices)
        return whole - round(self.routed * (1 - self.picked))

    @property
    def routed(self) -> int:
        """Weights of experts on the chip."""
        names = ("layers/gate", "layers/up", "layers/down") if self.config.experts else ()
        return sum(self.sizes[name] for name in names)

    @property
    def picked(self) -> float:
        """The share of the experts that a token picks; 1 without experts."""
        c = self.config
        return c.experts_per_token / c.experts if c.experts else 1.0

    @property
    def heads(self) -> int:
        """Key and value heads on the chip: all where they do not divide."""
        count, parts = self.config.kv_heads, self.split.model
        return count // parts if count % parts == 0 else count

    @property
    def pair(self) -> int:
        """Bytes of the key and the value of a token in one layer."""
        return 2 * self.heads * self.config.head_dim * self.width

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

    @property
    def output(self) -> str:
        """Path of the weight that makes logits."""
        return "embedding" if self.config.tied else "head"

    def once(
        self, rows: int, tokens: int, context: float, logits: int | None = None, drawn: bool = True
    ) -> Cost:
        """One pass over `tokens` new tokens of each row of the chip.

        Args:
          context: tokens that the first of them sees, itself included.
          logits: tokens of a row whose logits are wanted; all by default.
          drawn: whether tokens are drawn of the logits, or they are only summed.
        """
        c, m = self.config, self.split.model
        logits = tokens if logits is None else logits
        last = context + tokens - 1
        kept = (self.seen(last) + tokens * self.twice * c.layers) * self.pair
        output = self.sizes[self.output]
        missed = self.routed * (1 - self.picked) ** (rows * tokens)  # experts that none picks
        weights = self.numbers - self.tables - missed - (0 if logits else output)
        read = weights * self.width * self.twice
        queries = c.q_width / (m if c.heads % m == 0 else 1)
        # What a token sees grows evenly up to a window: the mean of the ends is exact, or too low.
        mean = (self.seen(context) + self.seen(last)) / 2
        flops = 2 * (tokens * (self.multiplied - output) + logits * output) * self.twice
        flops += tokens * 4 * queries * mean
        taken = tokens * c.embed_width * self.width  # rows of the embedding table
        return Cost(read + rows * (kept + taken), rows * flops) + self.exchanged(
            rows, tokens, logits, drawn
        )

    def exchanged(self, rows: int, tokens: int, logits: int, drawn: bool) -> Cost:
        """What a pass sends to the other chips.

        Over `data` that is one bit, whether any row runs on; over `model` the sums of both halves
        of every layer and of embeddings whose table is split, and of split logits either whole
        rows (see `jaxdecode.whole`) or a maximum, a sum and what the chosen token has.
        """
        c, m = self.config, self.split.model
        sent, count = 0.0, float(drawn and self.split.data > 1)
        if m == 1:
            return Cost(collectives=count)
        again = 2 * (m - 1) / m  # an all-reduce, for each byte of it
        sums = self.twice * c.layers * (self.divided("layers/o") + self.divided("layers/down"))
        sums += self.divided("embedding")
        sent, count = sums * rows * tokens * c.hidden * self.width * again, count + sums
        if logits and self.divided(self.output):
            part = rows * logits * c.vocab_size / m * 4
            if not drawn:
                sent, count = sent + 3 * rows * logits * 4 * again, count + 3
            elif rows * logits % m == 0 and c.vocab_size % m == 0:
                sent, count = sent + part * (m - 1) / m, count + 2  # and what is drawn is gathered
            else:
                sent, count = sent + part * (m - 1), count + 1
        return Cost(sent=sent, collectives=count)

    def passing(self, rows: int, tokens: int) -> float:
        """Bytes that a pass over `tokens` tokens of each row holds beside weights, cache and
        logits: the widest values of a layer, the residual stream, and a chunk of scores."""
        c, m = self.config, self.split.model
        wide = (
            max(1, c.experts_per_token)
            * c.mlp
            // (m if self.divided("layers/down") else 1)
            * (2 if c.gated else 1)
        )
        heads = c.heads // (m if c.heads % m == 0 else 1)
        attention = (2 * heads + 2 * self.heads) * c.head_dim
        chunk = budget(Target(self.platform))
        scores = 2 * 4 * min(chunk, rows * heads * tokens * tokens)  # and their softmax
        return rows * tokens * (2 * c.hidden + max(wide, attention)) * self.width + scores

    def logits(self, rows: int, tokens: int) -> float:
        """Bytes of float32 logits."""
        parts = self.split.model if self.divided(self.output) else 1
        return rows * tokens * self.config.rows * 4 / parts
