"""Nodes of a search, and the slots of the one cache that holds them.

A node is a piece of a response, a step or a token; its response is what its path spells. The
cache of a row holds the prompt, then the tokens of every node in the order of their making. A
node sees what its parent sees and itself: nothing is ever copied, moved or run again, however
often a search turns back.

Draws belong to strands. The first child of a node goes on with its parent's strand, any other
child begins a new one: a strand is one path, so that no (strand, token) draws twice, a search
that never branches is ancestral sampling, and one that only branches at the prompt best-of-N.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import Cache, put, spread
from jaxdecode.lm import LanguageModel, prefill
from jaxdecode.logits import LogitsTransform
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status, Usage
from jaxdecode.shared import Shared
from jaxdecode.types import Array, Bool, Float, Int

NONE = -1  # no node


@struct.dataclass
class Arena:
    """B rows of N nodes, of which the first `nodes` are made. Node 0 is the prompt.

    Attributes:
      prompt, root: the prompts, and their last tokens, which are run with the first children.
      cache: P slots for the prompt and X for nodes; `length` is the prompt's and stays.
      owner: i32[B, X], the node of each slot behind the prompt's; NONE if it is nobody's.
      path: i32[B, N, E], a node's ancestor at each depth, itself the last; NONE beyond.
      depth: i32[B, N], of the prompt 0.
      tokens, length, logprob: the response up to the node, i32[B, N, L], i32[B, N], f32[B, N].
      status: i8[B, N]; RUNNING where a node can be gone on from.
      strand: i32[B, N], whose draws a first child goes on with.
      grown: bool[B, N], it has children.
      reward: f32[B, N], as evaluated.
      transform: state of the logits transform, leaves lead with B * N.
      nodes, used: i32[B], nodes made and slots taken.
      rounds: i32[B], times that the row grew children.
      capped: i32[B], pieces that were cut for length.
      full: bool[B], nodes or slots ran out.
      usage: what was spent.
    """

    prompt: Prompt
    root: Int[Array, "B"]
    cache: Cache
    owner: Int[Array, "B X"]
    path: Int[Array, "B N E"]
    depth: Int[Array, "B N"]
    tokens: Int[Array, "B N L"]
    length: Int[Array, "B N"]
    logprob: Float[Array, "B N"]
    status: Int[Array, "B N"]
    strand: Int[Array, "B N"]
    grown: Bool[Array, "B N"]
    reward: Float[Array, "B N"]
    transform: Any
    nodes: Int[Array, "B"]
    used: Int[Array, "B"]
    rounds: Int[Array, "B"]
    capped: Int[Array, "B"]
    full: Bool[Array, "B"]
    usage: Usage

    @property
    def made(self) -> Bool[Array, "B N"]:
        """bool[B, N], the nodes that are there."""
        return jnp.arange(self.depth.shape[1]) < self.nodes[:, None]

    def sees(self, node: Int[Array, "B K"]) -> Bool[Array, "B K X"]:
        """Which slots behind the prompt the nodes see: their ancestors' and their own."""
        depth = look(self.depth, self.owner)
        path = look(self.path, node)
        at = jnp.broadcast_to(depth[:, None], (*node.shape, depth.shape[1]))
        return jnp.take_along_axis(path, at, axis=2) == self.owner[:, None]


@struct.dataclass
class Fresh:
    """K pieces as they come from an expander, before they are nodes.

    Attributes:
      parent: i32[B, K], NONE where the lane idles.
      alive: bool[B, K]; the others become no nodes.
      size: i32[B, K], tokens of the piece. Token t of lane k is run in slot used + t * K + k.
      tokens, length, logprob, status: of the responses, as in `Arena`.
      sees: bool[B, K, X], the slots that the parents see.
      transform: leaves lead with B * K.
      outlook: tokens and length of what is to be evaluated in place of the response itself.
      note: what else an expander tells its strategy, leaves lead with B.
    """

    parent: Int[Array, "B K"]
    alive: Bool[Array, "B K"]
    size: Int[Array, "B K"]
    tokens: Int[Array, "B K L"]
    length: Int[Array, "B K"]
    logprob: Float[Array, "B K"]
    status: Int[Array, "B K"]
    sees: Bool[Array, "B K X"]
    transform: Any
    outlook: tuple[Int[Array, "B K L"], Int[Array, "B K"]] | None = None
    note: Any = ()


def look(array: Array, node: Int[Array, "B K"]) -> Array:
    """array[b, node[b, k]]; what NONE finds is to be ignored."""
    return jax.vmap(lambda one, at: one[at])(array, jnp.maximum(node, 0))


def start(
    model: LanguageModel,
    transform: LogitsTransform,
    prompt: Prompt,
    max_tokens: int,
    depth: int,
    nodes: int,
    slots: int,
) -> Arena:
    """The prompts, with room for `nodes` nodes, themselves included, in `slots` slots.

    A response has at most `max_tokens` tokens in `depth` pieces.
    """
    batch, width = prompt.tokens.shape
    read = prefill(model, prompt, width + slots)
    seen = prompt.length - 1
    zero = jnp.zeros((batch, nodes), jnp.int32)
    path = jnp.full((batch, nodes, depth + 1), NONE, jnp.int32)
    status = jnp.full((batch, nodes), Status.INVALID, jnp.int8)
    return Arena(
        prompt=prompt,
        root=read.root,
        cache=read.cache,
        owner=jnp.full((batch, slots), NONE, jnp.int32),
        path=path.at[:, 0, 0].set(0),
        depth=zero,
        tokens=jnp.zeros((batch, nodes, max_tokens), jnp.int32),
        length=zero,
        logprob=jnp.zeros((batch, nodes), jnp.float32),
        status=status.at[:, 0].set(Status.RUNNING),
        strand=zero,
        grown=zero > 0,
        reward=jnp.zeros((batch, nodes), jnp.float32),
        transform=transform.init(spread(prompt, nodes)),
        nodes=zero[:, 0] + 1,
        used=zero[:, 0],
        rounds=zero[:, 0],
        capped=zero[:, 0],
        full=zero[:, 0] > 0,
        usage=Usage.zeros(batch)
        .add(
            prompt_tokens=prompt.length,
            target_tokens=seen,
            target_passes=(seen > 0).astype(jnp.int32),
            attended=seen * (seen + 1) / 2.0,
        )
        .peak(seen),
    )


def strands(arena: Arena, parents: Int[Array, "B K"]) -> Int[Array, "B K"]:
    """The strand of the child that each lane is about to grow."""
    lanes = parents.shape[1]
    same = (parents[:, :, None] == parents[:, None, :]) & jnp.tri(lanes, k=-1, dtype=bool)
    first = ~jnp.any(same, axis=2) & ~look(arena.grown, parents)
    fresh = lanes * (1 + arena.rounds[:, None]) + jnp.arange(lanes)
    opening = (parents == 0) & ~arena.grown[:, :1]
    kept = jnp.where(first, look(arena.strand, parents), fresh)
    return jnp.where(opening, jnp.arange(lanes), kept)


def insert(arena: Arena, fresh: Fresh) -> tuple[Arena, Int[Array, "B K"]]:
    """Make nodes of the living pieces; their ids, NONE for the others."""
    count, lanes = arena.depth.shape[1], fresh.parent.shape[1]
    rank = jnp.cumsum(fresh.alive, axis=1, dtype=jnp.int32) - 1
    child = jnp.where(fresh.alive, arena.nodes[:, None] + rank, NONE)
    at = jnp.where(fresh.alive, child, count)
    depth = look(arena.depth, fresh.parent) + 1
    place = jnp.arange(arena.path.shape[2]) == depth[..., None]
    path = jnp.where(place, child[..., None], look(arena.path, fresh.parent))
    slot = jnp.arange(arena.owner.shape[1]) - arena.used[:, None]
    lane = jnp.broadcast_to(slot % lanes, slot.shape)
    taken = (slot >= 0) & (slot // lanes < look(fresh.size * fresh.alive, lane))
    longest = jnp.max(fresh.size, axis=1, initial=0)

    def kept(leaf: Any, new: Any) -> Any:
        """A leaf of the transforms' states; what prompts share stays."""
        if isinstance(leaf, Shared):
            return leaf
        rows = leaf.reshape(-1, count, *leaf.shape[1:])
        return put(rows, at, new.reshape(*at.shape, *new.shape[1:])).reshape(leaf.shape)

    grown = jnp.where(fresh.parent >= 0, fresh.parent, count)
    arena = replace(
        arena,
        owner=jnp.where(taken, look(child, lane), arena.owner),
        path=put(arena.path, at, path),
        depth=put(arena.depth, at, depth),
        tokens=put(arena.tokens, at, fresh.tokens),
        length=put(arena.length, at, fresh.length),
        logprob=put(arena.logprob, at, fresh.logprob),
        status=put(arena.status, at, fresh.status),
        strand=put(arena.strand, at, strands(arena, fresh.parent)),
        transform=jax.tree.map(
            kept, arena.transform, fresh.transform, is_leaf=lambda leaf: isinstance(leaf, Shared)
        ),
        nodes=arena.nodes + jnp.sum(fresh.alive, axis=1),
        used=arena.used + lanes * longest,
        rounds=arena.rounds + jnp.any(fresh.parent >= 0, axis=1),
        usage=arena.usage.peak(arena.cache.length + arena.used + lanes * longest),
    )
    return replace(arena, grown=put(arena.grown, grown, jnp.ones_like(fresh.alive))), child
