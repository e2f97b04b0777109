"""The draft maker of adaptive draft-verification, with dictionaries and lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

Pair = tuple[int, int]
Map = dict[Pair, dict[int, float]]


@dataclass
class Node:
    """A pair, what the map holds of it, and the children once it was expanded."""

    tokens: tuple[int, ...]
    pair: Pair
    prior: float = 0.0
    visits: int = 0
    score: float = 0.0
    children: list[Node] | None = field(default=None)


def exploration(visits: float, c1: float = 32.0, c2: float = 8.0) -> float:
    return c1 + math.log((visits + c2 + 1) / c2)


def preference(child: Node, visits: int, c1: float, c2: float) -> float:
    if child.visits == 0:
        return math.inf
    reach = math.sqrt(visits) / (1 + child.visits)
    return child.score / child.visits + exploration(visits, c1, c2) * child.prior * reach


def adapt(held: Map, context: Sequence[int], step: float = 0.04, cap: float = 3.0) -> None:
    """Raise the triples of the newest 16 tokens."""
    newest = context[-16:]
    for a, b, c in zip(newest, newest[1:], newest[2:], strict=False):
        row = held.setdefault((a, b), {})
        row[c] = min(cap, row.get(c, 0.0) + step)


def ordered(held: Map, pair: Pair) -> list[tuple[int, float]]:
    return sorted(held.get(pair, {}).items(), key=lambda item: (-item[1], item[0]))


def search(
    held: Map,
    root: Pair,
    iterations: int,
    length: int = 4,
    c1: float = 32.0,
    c2: float = 8.0,
    path_value: bool = False,
) -> list[Node]:
    """All nodes but the root in the order of their creation. With `path_value` no path may have
    to be drawn below the tree."""
    top = Node((), root)
    made: list[Node] = []
    for _ in range(iterations):
        path = [top]
        while path[-1].children and len(path) < length:
            options = path[-1].children
            path.append(max(options, key=lambda c: preference(c, path[-1].visits, c1, c2)))
        here = path[-1]
        if here.children is None and len(path) < length:
            here.children = [
                Node((*here.tokens, token), (here.pair[1], token), prior)
                for token, prior in ordered(held, here.pair)
            ]
            made += here.children
            path += here.children[-1:]
        value = 1.0 + (sum(node.prior for node in path) if path_value else 0.0)
        for node in path:
            node.visits += 1
            node.score += value
    return made


def trie(held: Map, nodes: Sequence[Node], top: int = 24, budget: int = 64) -> set[tuple[int, ...]]:
    """The prefixes of the sentences of the most visited nodes."""
    chosen = sorted(nodes, key=lambda node: -node.visits)[: top - 1]
    said: list[tuple[int, ...]] = []
    for node in chosen:
        more = ordered(held, node.pair)[:1]
        sentence = (*node.tokens, *[token for token, _ in more])
        if sentence not in said:
            said.append(sentence)
    said.sort(key=lambda sentence: len(set(sentence)))
    while sum(len(set(sentence)) for sentence in said) > budget:
        said.pop()
    prefixes = {sentence[:n] for sentence in said for n in range(1, len(sentence) + 1)}
    return set(sorted(prefixes, key=len)[:budget])
