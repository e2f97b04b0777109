"""SpecDec++ on one row under greedy decoding, in plain loops that run the models from scratch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from jaxdecode.testing.enumerable import EnumerableLM, next_logits


def hidden(model: EnumerableLM, tokens: Sequence[int]) -> np.ndarray:
    """The final hidden state of the last of `tokens`."""
    keys, values = np.asarray(model.keys, np.float64), np.asarray(model.values, np.float64)
    places = [(index % len(keys), token) for index, token in enumerate(tokens)]
    return np.tanh(sum(keys[place] + values[place] for place in places))


def greedy(
    target: EnumerableLM,
    draft: EnumerableLM,
    head: Callable[[np.ndarray], float],
    prompt: Sequence[int],
    length: int,
    threshold: float,
    least: int,
    most: int,
) -> tuple[list[int], list[int], list[int]]:
    """The text, and for every round how many tokens were drafted and how many accepted."""
    text, drafted, accepted = list(prompt), [], []
    while len(text) < len(prompt) + length:
        candidates, held = [], 1.0
        while True:
            before = [*text, *candidates]
            candidates.append(int(np.argmax(next_logits(draft, before))))
            if len(candidates) > 1:
                held *= head(hidden(draft, before))  # the model has just read the last candidate
            enough = len(candidates) >= least and 1 - held > threshold
            if len(candidates) == most or enough:
                break
        count = 0
        for candidate in [*candidates, -1]:
            token = int(np.argmax(next_logits(target, text)))
            text.append(token)
            if token != candidate:
                break
            count += 1
        drafted.append(len(candidates))
        accepted.append(count)
    return text[len(prompt) : len(prompt) + length], drafted, accepted
