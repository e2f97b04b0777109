"""Superposed decoding of one prompt in plain Python, and n-gram laws by counting."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxdecode.testing.enumerable import EnumerableLM

Share = Callable[[Sequence[int], int], float]
"""(text, token) -> interpolated n-gram probability."""


def interpolated(documents: Sequence[Sequence[int]], weights: Sequence[float]) -> Share:
    def share(text: Sequence[int], token: int) -> float:
        total = 0.0
        for order, weight in enumerate(weights, 1):
            if len(text) < order:
                continue
            context = list(text[-order:])
            followers = [
                document[i + order]
                for document in documents
                for i in range(len(document) - order)
                if list(document[i : i + order]) == context
            ]
            if followers:
                total += weight * followers.count(token) / len(followers)
        return total

    return share


def decode(
    model: EnumerableLM,
    prompt: Sequence[int],
    length: int,
    eos: Sequence[int],
    *,
    drafts: int,
    kept: int,
    alpha: float,
    temperature: float,
    share: Share | None,
    floor: float = -200.0,
    kept_by_length: bool = False,
) -> list[tuple[tuple[int, ...], float]]:
    """(draft, score), the best score per token first.

    Finished drafts are kept by score; `kept_by_length` is another rule, to be told apart.
    """
    pairs = np.asarray(model.keys, np.float64) + np.asarray(model.values, np.float64)
    head, bias = np.asarray(model.head, np.float64), np.asarray(model.bias, np.float64)
    total = sum((pairs[i, token] for i, token in enumerate(prompt[:-1])), np.zeros(head.shape[0]))
    alive: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    done: list[tuple[tuple[int, ...], float]] = []
    for step in range(length):
        weight = np.exp([score - max(s for _, s in alive) for _, score in alive])
        weight /= weight.sum()
        position = len(prompt) - 1 + step
        newest = [(*prompt, *draft)[-1] for draft, _ in alive]
        total = total + sum(w * pairs[position, t] for w, t in zip(weight, newest, strict=True))
        logits = (np.tanh(total) @ head + bias) / temperature
        tokens = np.argsort(-logits, kind="stable")[:kept]
        logp = logits[tokens] - np.log(np.sum(np.exp(logits[tokens])))
        found = []
        for draft, score in alive:
            known = [share((*prompt, *draft), int(t)) if share else 1.0 for t in tokens]
            for token, lp, p in zip(tokens, logp, known, strict=True):
                if share is None or step == 0:
                    fused = lp
                elif not any(known):
                    fused = (1 - alpha) * lp + floor
                elif p > 0:
                    fused = (1 - alpha) * lp + alpha * math.log(p)
                else:
                    continue
                found.append(((*draft, int(token)), score + fused))
        found.sort(key=lambda one: -one[1])
        found = found[: drafts * (1 + len(eos))]
        done += [one for one in found if one[0][-1] in eos]
        done.sort(key=lambda one: -one[1] / (len(one[0]) if kept_by_length else 1))
        done = done[:drafts]
        alive = [one for one in found if one[0][-1] not in eos][:drafts]
        if not alive:
            break
    done += [one for one in alive if len(one[0]) == length]
    return sorted(done, key=lambda one: -one[1] / len(one[0]))[:drafts]
