"""Planning-guided decoding of one prompt in plain Python, written from the published rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Text = tuple[int, ...]
Law = Callable[[Text], np.ndarray]  # a text -> the probability of each next token
Reward = Callable[[Text], float]


@dataclass
class Node:
    """A text of the tree: its k tokens and priors, its visits, and the returns of every edge."""

    tokens: list[int]
    prior: list[float]
    visits: int = 1
    returns: dict[int, list[float]] = field(default_factory=dict)

    def __post_init__(self):
        self.returns = {token: [] for token in self.tokens}


@dataclass
class Writer:
    """A model of a horizon and end tokens, with the two caches and what they saved.

    Attributes:
      completions: state -> the greedy text behind it, as stored by the sequence cache.
      seen: states whose next tokens are known to the tree structure cache.
      generations, looked: completions written, and states whose priors took a call.
    """

    law: Law
    horizon: int
    ends: frozenset[int]
    branch: int
    reuse: bool = True
    remember: bool = True
    completions: dict[Text, Text] = field(default_factory=dict)
    seen: set[Text] = field(default_factory=set)
    generations: int = 0
    looked: int = 0

    def over(self, text: Text) -> bool:
        return len(text) >= self.horizon or bool(text and text[-1] in self.ends)

    def node(self, text: Text) -> Node:
        """A state's k most probable tokens, descending, with priors renormalised over them."""
        if self.over(text):
            return Node([], [])
        shared = any(stored[: len(text)] == text for stored in self.completions.values())
        if not (self.reuse and self.remember and shared and text in self.seen):
            self.looked += 1
        law = self.law(text)
        order = sorted(range(len(law)), key=lambda token: (-law[token], token))[: self.branch]
        total = sum(law[token] for token in order)
        return Node(order, [law[token] / total for token in order])

    def complete(self, text: Text) -> Text:
        """The greedy completion of a state; nothing is written where it is over or known."""
        if self.over(text):
            return text
        for stored in self.completions.values():
            if self.reuse and stored[: len(text)] == text:
                return stored
        self.generations += 1
        whole = text
        while not self.over(whole):
            self.seen.add(whole)
            whole = (*whole, int(np.argmax(self.law(whole))))
        self.completions[text] = whole
        return whole


@dataclass(frozen=True)
class Rollout:
    """The leaf of a rollout, its completed text and reward; completions written so far."""

    leaf: Text
    text: Text
    reward: float
    generations: int


def plan(
    writer: Writer,
    reward: Reward,
    rollouts: int,
    rule: str = "p-ucb",
    c: float = 4.0,
    c_base: float = 10.0,
    most: float = math.inf,
    goal: float = math.inf,
) -> tuple[list[Rollout], dict[Text, Node]]:
    """Every rollout, and the tree by text."""
    tree: dict[Text, Node] = {(): writer.node(())}
    done: list[Rollout] = []
    best = -math.inf
    while len(done) < rollouts and writer.generations < most and best < goal:
        path: list[tuple[Text, int]] = []
        text: Text = ()
        while text in tree and not writer.over(text):
            token = choose(tree[text], rule, c, c_base)
            path.append((text, token))
            text = (*text, token)
        if text not in tree:
            tree[text] = writer.node(text)
        whole = writer.complete(text)
        found = reward(whole)
        best = max(best, found)
        for parent, token in path:
            tree[parent].visits += 1
            tree[parent].returns[token].append(found)
        tree[text].visits += 1
        done.append(Rollout(text, whole, found, writer.generations))
    return done, tree


def choose(node: Node, rule: str, c: float, c_base: float) -> int:
    """The token of the highest score, the first of equals."""
    scores = []
    for token, prior in zip(node.tokens, node.prior, strict=True):
        returns = node.returns[token]
        beta = c
        if rule == "p-ucb":
            beta = math.log((node.visits + c_base + 1) / c_base) + c
        if rule != "uct":
            beta *= prior
        value = max(returns, default=0.0)
        scores.append(value + beta * math.sqrt(math.log(node.visits)) / (1 + len(returns)))
    return node.tokens[int(np.argmax(np.array(scores, np.float32)))]
