"""Momentum decoding and contrastive search one row at a time, from the definitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from jaxdecode.testing.enumerable import softmax


def depth(history: Sequence[int], candidate: int, most: int = 5) -> int:
    """The longest n-gram ending in the candidate that the history has, by looking for it."""
    history, found = list(history), 0
    for n in range(1, most + 1):
        gram = [*history[len(history) - n + 1 :], candidate]
        if len(gram) != n:
            break
        if any(history[i : i + n] == gram for i in range(len(history) - n + 1)):
            found = n
    return found


def momentum_step(
    p: np.ndarray, history: Sequence[int], resistance: Sequence[float], alpha: float, k: int
) -> int:
    order = np.argsort(-p, kind="stable")[:k]
    most = len(resistance) - 1
    scores = [p[v] - (alpha and alpha * resistance[depth(history, v, most)]) for v in order]
    return int(order[int(np.argmax(scores))])


def momentum(
    next_logits: Callable[[Sequence[int]], np.ndarray],
    prompt: Sequence[int],
    length: int,
    resistance: Sequence[float],
    alpha: float,
    k: int,
) -> list[int]:
    output: list[int] = []
    for _ in range(length):
        text = [*prompt, *output]
        output.append(momentum_step(softmax(next_logits(text)), text, resistance, alpha, k))
    return output


def contrastive(
    next_logits: Callable[[Sequence[int]], np.ndarray],
    hidden: Callable[[Sequence[int]], np.ndarray],
    prompt: Sequence[int],
    length: int,
    alpha: float,
    k: int,
) -> list[int]:
    """`hidden` gives the final hidden state of a text's last token."""
    output: list[int] = []
    for _ in range(length):
        text = [*prompt, *output]
        p = softmax(next_logits(text))
        past = [hidden(text[: i + 1]) for i in range(len(text))]
        best, chosen = -np.inf, -1
        for v in np.argsort(-p, kind="stable")[:k]:
            own = hidden([*text, int(v)])
            near = max(own @ h / np.linalg.norm(own) / np.linalg.norm(h) for h in past)
            score = (1 - alpha) * p[v] - alpha * near
            if score > best:
                best, chosen = score, int(v)
        output.append(chosen)
    return output
