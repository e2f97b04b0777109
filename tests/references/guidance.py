"""Value guidance on tables, unbatched, in NumPy: laws, aligned laws, values, tilted policies.

A language model is a function from a tuple of tokens to the law of the next one; a response has
`steps` tokens. A trajectory law is a dictionary from responses to probabilities.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

Law = Callable[[tuple[int, ...]], np.ndarray]
Trajectories = dict[tuple[int, ...], float]
Reward = Callable[[tuple[int, ...]], float]


def trajectories(law: Law, vocab: int, steps: int) -> Trajectories:
    """The probability of every response."""
    found = {}
    for text in itertools.product(range(vocab), repeat=steps):
        found[text] = float(np.prod([law(text[:t])[text[t]] for t in range(steps)]))
    return found


def aligned(base: Trajectories, reward: Reward, beta: float) -> Trajectories:
    """The optimum of E r - beta KL(. || base)."""
    weight = {text: p * np.exp(reward(text) / beta) for text, p in base.items()}
    total = sum(weight.values())
    return {text: w / total for text, w in weight.items()}


def conditional(law: Trajectories, vocab: int) -> Law:
    """The law of the next token under a trajectory law."""

    def following(prefix: tuple[int, ...]) -> np.ndarray:
        mass = np.zeros(vocab)
        for text, p in law.items():
            if text[: len(prefix)] == prefix:
                mass[text[len(prefix)]] += p
        return mass / mass.sum()

    return following


def value(law: Trajectories, reward: Reward, prefix: tuple[int, ...]) -> float:
    """E r of the responses that begin so."""
    inside = {t: p for t, p in law.items() if t[: len(prefix)] == prefix}
    return sum(p * reward(t) for t, p in inside.items()) / sum(inside.values())


def tilted(law: Law, worth: Callable[[tuple[int, ...]], float], alpha: float) -> Law:
    """p(z | s) exp(Q(s, z) / alpha), normalised."""

    def following(prefix: tuple[int, ...]) -> np.ndarray:
        p = law(prefix)
        weight = p * np.exp([worth((*prefix, z)) / alpha for z in range(len(p))])
        return weight / weight.sum()

    return following


def expected(law: Trajectories, reward: Reward) -> float:
    return sum(p * reward(text) for text, p in law.items())


def divergence(law: Trajectories, other: Trajectories) -> float:
    """KL(law || other), in nats."""
    return sum(p * np.log(p / other[text]) for text, p in law.items() if p > 0)


def greedy_transfer(
    reference: Callable[[list[int]], np.ndarray],
    policy: Callable[[list[int]], np.ndarray],
    reward: Reward,
    prompt: list[int],
    eos: int,
    steps: int,
    candidates: int,
    weight: float,
    horizon: int | None = None,
) -> tuple[list[int], int]:
    """Decode by argmax of log p + weight r(greedy rollout); the tokens that rollouts ran."""
    output: list[int] = []
    ran = 0
    while len(output) < steps and eos not in output:
        logits = reference(prompt + output)
        best = np.argsort(-logits, kind="stable")[:candidates]
        scores = []
        for z in best:
            text = [*output, int(z)]
            end = steps if horizon is None else min(steps, len(text) + horizon)
            while text[-1] != eos and len(text) < end:
                text.append(int(np.argmax(policy(prompt + text))))
                ran += 1
            scores.append(logits[z] + weight * reward(tuple(text)))
        output.append(int(best[int(np.argmax(scores))]))
    return output, ran
