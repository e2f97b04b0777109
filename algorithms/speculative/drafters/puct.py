"""A tree of likely continuations, grown by visits: selection by PUCT, expansion, rollout.

The draft maker of Liu et al. 2024, arXiv:2407.12021. A node is a pair of tokens; its children
are the successors of the pair. The child a of s with the largest

    S(a) / n(a) + E P(a) sqrt(N(s)) / (1 + n(a)),    E = c1 + ln((N(s) + c2 + 1) / c2)

is visited next, an unvisited one before any other. P is what the table holds, N and n are
visits of parent and child, S the sum of the values of the visits. A node that is reached
without children gets all of them, and the last one is visited. The value of a visit is 1 plus
what the table holds of the transitions down to the search's depth, those below the tree drawn
in proportion; in the published program it comes to 1 for every visit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.ngram.table import FREE
from jaxdecode.ngram.trie import Continuations
from jaxdecode.types import Array, Float, Int, Key

Successors = Callable[[Int[Array, "B Q 2"]], tuple[Int[Array, "B Q K"], Float[Array, "B Q K"]]]
"""pairs -> tokens by falling value, FREE where there are fewer, and their values."""


@struct.dataclass
class Search:
    """B trees of at most E nodes that have children; the root is the first of them.

    Attributes:
      pair: i32[B, E, 2], the tokens of the node.
      above: i32[B, E], its own place among the children of all, e * K + k; -1 for the root.
      tokens, prior: i32, f32[B, E, K], its children and what the table holds of them.
      visits, score: f32[B, E, K].
      child: i32[B, E, K], the node that a child is; 0 before it is expanded, -1 if it has no
        successors.
      used: i32[B], nodes so far.
      total: f32[B], visits of the root.
    """

    pair: Int[Array, "B E 2"]
    above: Int[Array, "B E"]
    tokens: Int[Array, "B E K"]
    prior: Float[Array, "B E K"]
    visits: Float[Array, "B E K"]
    score: Float[Array, "B E K"]
    child: Int[Array, "B E K"]
    used: Int[Array, "B"]
    total: Float[Array, "B"]


def explore(
    visits: Float[Array, "B"],
    prior: Float[Array, "B K"],
    own: Float[Array, "B K"],
    score: Float[Array, "B K"],
    c1: Float[Array, ""] | float,
    c2: Float[Array, ""] | float,
) -> Float[Array, "B K"]:
    """The preference for each child; `visits` are the parent's, `own` the children's."""
    rate = c1 + jnp.log((visits + c2 + 1) / c2)
    mean = score / jnp.maximum(own, 1)
    value = mean + (rate * jnp.sqrt(visits))[:, None] * prior / (1 + own)
    return jnp.where(own > 0, value, jnp.inf)


def search(
    keys: Key[Array, "B"],
    root: Int[Array, "B 2"],
    successors: Successors,
    iterations: int,
    length: int,
    c1: Float[Array, ""] | float,
    c2: Float[Array, ""] | float,
    rollout: bool,
) -> Search:
    """Visit `iterations` times.

    Args:
      length: pairs of a path, the root among them.
      rollout: whether the value is that of the path; False is the published program's.
    """
    batch, rows = root.shape[0], jnp.arange(root.shape[0])
    tokens, prior = successors(root[:, None])
    width = tokens.shape[2]
    places = (batch, iterations + 1, width)
    zero = jnp.zeros(places)
    tree = Search(
        pair=jnp.zeros((*places[:2], 2), jnp.int32).at[:, 0].set(root),
        above=jnp.full(places[:2], -1, jnp.int32),
        tokens=jnp.full(places, FREE, jnp.int32).at[:, 0].set(tokens[:, 0]),
        prior=zero.at[:, 0].set(prior[:, 0]),
        visits=zero,
        score=zero,
        child=zero.astype(jnp.int32),
        used=jnp.ones((batch,), jnp.int32),
        total=jnp.zeros((batch,)),
    )

    def last(tokens: Int[Array, "B K"]) -> Int[Array, "B"]:
        return jnp.maximum(jnp.sum(tokens != FREE, axis=1) - 1, 0).astype(jnp.int32)

    def visit(number: Int[Array, ""], tree: Search) -> Search:
        node, parent = jnp.zeros((batch,), jnp.int32), tree.total
        going = tree.tokens[:, 0, 0] != FREE
        path, value = [], jnp.ones((batch,))
        open_ = jnp.zeros((batch,), bool)  # stands at a child that may be expanded
        edge = jnp.zeros((batch,), jnp.int32)
        pair = root
        for depth in range(1, length):
            held = tree.tokens[rows, node]
            liking = explore(
                parent, tree.prior[rows, node], tree.visits[rows, node],
                tree.score[rows, node], c1, c2,
            )  # fmt: skip
            best = jnp.argmax(jnp.where(held != FREE, liking, -jnp.inf), axis=1).astype(jnp.int32)
            best = jnp.where(number == 0, last(held), best)
            path.append((jnp.where(going, node, iterations + 1), best))
            value += jnp.where(going, tree.prior[rows, node, best], 0.0)
            reached = jnp.stack([pair[:, 1], held[rows, best]], axis=1)
            pair = jnp.where(going[:, None], reached, pair)
            edge = jnp.where(going, node * width + best, edge)
            below = tree.child[rows, node, best]
            open_ |= going & (below == 0) & (number > 0) & (depth + 1 < length)
            parent = tree.visits[rows, node, best]
            going &= (below > 0) & (number > 0)
            node = jnp.where(going, below, node)
        steps = sum(jnp.where(at < iterations + 1, 1, 0) for at, _ in path)

        # Expansion: all successors at once; the last of them is visited too.
        tokens, prior = (x[:, 0] for x in successors(pair[:, None]))
        grows = open_ & (tokens[:, 0] != FREE)
        fresh = jnp.where(grows, tree.used, iterations + 1)
        at = (rows, jnp.where(open_, edge // width, iterations + 1), edge % width)
        tree = replace(
            tree,
            pair=tree.pair.at[rows, fresh].set(pair, mode="drop"),
            above=tree.above.at[rows, fresh].set(edge, mode="drop"),
            tokens=tree.tokens.at[rows, fresh].set(tokens, mode="drop"),
            prior=tree.prior.at[rows, fresh].set(prior, mode="drop"),
            child=tree.child.at[at].set(jnp.where(grows, tree.used, -1), mode="drop"),
            used=tree.used + grows,
            total=tree.total + 1,
        )
        chosen = last(tokens)
        path.append((fresh, chosen))
        value += jnp.where(grows, prior[rows, chosen], 0.0)
        pair = jnp.where(grows[:, None], jnp.stack([pair[:, 1], tokens[rows, chosen]], 1), pair)
        steps += grows
        if rollout:
            draws = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
            value += roll(draws, pair, steps)
        else:
            value = jnp.ones((batch,))
        for node, best in path:
            tree = replace(
                tree,
                visits=tree.visits.at[rows, node, best].add(1.0, mode="drop"),
                score=tree.score.at[rows, node, best].add(value, mode="drop"),
            )
        return tree

    def roll(draws: Key[Array, "B"], pair: Int[Array, "B 2"], steps: Array) -> Float[Array, "B"]:
        """What the table holds of the transitions that are drawn to the end of the path."""
        value, going = jnp.zeros((batch,)), jnp.ones((batch,), bool)
        for step in range(1, length - 1):
            tokens, prior = (x[:, 0] for x in successors(pair[:, None]))
            going &= (steps + step < length) & (tokens[:, 0] != FREE)
            noise = jax.vmap(
                lambda key, step=step: jax.random.gumbel(jax.random.fold_in(key, step), (width,))
            )(draws)
            best = jnp.argmax(jnp.log(prior) + noise, axis=1)
            value += jnp.where(going, prior[rows, best], 0.0)
            reached = jnp.stack([pair[:, 1], tokens[rows, best]], axis=1)
            pair = jnp.where(going[:, None], reached, pair)
        return value

    return jax.lax.fori_loop(0, iterations, visit, tree)


def sentences(
    tree: Search, successors: Successors, count: int, length: int, budget: int
) -> Continuations:
    """The `count` most visited nodes as the tokens from the root to them and one more.

    The one more is the likeliest successor, where there is one. A sentence that is there already
    is left out, and then those with the most distinct tokens until these come to `budget`.
    """
    batch, _, width = tree.visits.shape
    rows = jnp.arange(batch)[:, None]
    there = (tree.tokens != FREE).reshape(batch, -1)
    visits, edge = jax.lax.top_k(jnp.where(there, tree.visits.reshape(batch, -1), -1.0), count)
    flat = tree.tokens.reshape(batch, -1)
    reverse, climb = [], edge
    for _ in range(length - 1):  # from the node upwards
        reverse.append(jnp.where(climb >= 0, flat[rows, jnp.maximum(climb, 0)], FREE))
        climb = jnp.where(climb >= 0, tree.above[rows, jnp.maximum(climb, 0) // width], -1)
    tail = tree.pair[rows, edge // width, 1]
    more, _ = successors(jnp.stack([tail, reverse[0]], axis=2))
    tokens = jnp.stack([*reversed(reverse), more[..., 0]], axis=2)  # FREE above the root
    blank = jnp.sum(tokens[..., :-1] == FREE, axis=2, keepdims=True)
    place = (jnp.arange(length) + blank) % length
    tokens = jnp.take_along_axis(tokens, place, axis=2)

    kept = visits >= 0
    order = jnp.arange(count)
    same = jnp.all(tokens[:, :, None] == tokens[:, None], axis=3) & kept[:, None]
    kept &= ~jnp.any(same & (order < order[:, None]), axis=2)
    equal = tokens[..., None] == tokens[..., None, :]
    earlier = jnp.tril(jnp.ones((length, length), bool), -1)
    distinct = jnp.sum((tokens != FREE) & ~jnp.any(equal & earlier, axis=3), axis=2)
    ranked = jnp.argsort(jnp.where(kept, distinct, length + 1), axis=1, stable=True)
    spent = jnp.cumsum(jnp.take_along_axis(jnp.where(kept, distinct, 0), ranked, axis=1), axis=1)
    fits = jnp.zeros_like(kept).at[rows, ranked].set(spent <= budget)
    return Continuations(tokens, (kept & fits).astype(jnp.float32))
