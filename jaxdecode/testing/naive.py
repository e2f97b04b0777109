"""Slow references for logits transforms and token-by-token decoding, one row at a time.

Written from the definitions with sorts and loops in float64, and never from the code they
judge. Where several tokens tie at a cut all of them are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from jaxdecode.testing.enumerable import Transform, softmax


def _cut(logits: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return np.where(kept, logits, -np.inf)


def _smallest(logits: np.ndarray, badness: np.ndarray, mass: float) -> np.ndarray:
    """Walk from the least bad token on until the mass is reached; then finish the tie."""
    p = softmax(logits)
    total, worst = 0.0, -np.inf
    for token in np.argsort(badness, kind="stable"):
        if total >= mass and badness[token] > worst and worst > -np.inf:
            break
        total, worst = total + p[token], badness[token]
    return _cut(logits, badness <= worst)


def _entropy(p: np.ndarray) -> float:
    return -sum(x * np.log(x) for x in p if x > 0)


def temperature(logits: np.ndarray, value: float) -> np.ndarray:
    """Logits over a temperature."""
    return logits / value


def top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """All but the k best are gone."""
    return _cut(logits, logits >= np.sort(logits)[::-1][min(k, len(logits)) - 1])


def top_p(logits: np.ndarray, p: float) -> np.ndarray:
    """The smallest set of this mass stays."""
    return logits if p >= 1 else _smallest(logits, -logits, p)


def min_p(logits: np.ndarray, p: float) -> np.ndarray:
    """What is this many times less likely than the best is gone."""
    probs = softmax(logits)
    return _cut(logits, probs >= p * probs.max())


def typical(logits: np.ndarray, mass: float) -> np.ndarray:
    """The tokens nearest to the entropy, of this mass, stay."""
    p = softmax(logits)
    with np.errstate(divide="ignore"):
        surprise = -np.log(p)
    return logits if mass >= 1 else _smallest(logits, np.abs(surprise - _entropy(p)), mass)


def epsilon(logits: np.ndarray, cut: float) -> np.ndarray:
    """What is less likely than this is gone."""
    p = softmax(logits)
    return _cut(logits, p >= cut if (p >= cut).any() else p == p.max())


def eta(logits: np.ndarray, cut: float) -> np.ndarray:
    """What is less likely than a bound that falls with the entropy is gone."""
    return epsilon(logits, min(cut, np.sqrt(cut) * np.exp(-_entropy(softmax(logits)))))


def top_n_sigma(logits: np.ndarray, n: float) -> np.ndarray:
    """Within n deviations of the largest."""
    there = logits[np.isfinite(logits)]
    return _cut(logits, logits >= logits.max() - n * there.std())


def exclude_top(logits: np.ndarray, threshold: float) -> np.ndarray:
    """The branch of XTC in which the coin falls so."""
    p = softmax(logits)
    top = [token for token in range(len(p)) if p[token] >= threshold]
    if len(top) < 2:
        return logits
    least = min(p[token] for token in top)
    return np.array([-np.inf if t in top and p[t] > least else x for t, x in enumerate(logits)])


def dynamic_temperature(
    logits: np.ndarray, low: float, high: float, exponent: float = 1.0
) -> np.ndarray:
    """A temperature between `low` and `high`, by the entropy."""
    count = np.isfinite(logits).sum()
    if count < 2:
        return logits
    share = _entropy(softmax(logits)) / np.log(count)
    return logits / (low + (high - low) * share**exponent)


def quadratic_smoothing(logits: np.ndarray, factor: float, curve: float = 1.0) -> np.ndarray:
    """A parabola through the largest logit."""
    top = logits.max()
    bent = logits.copy()
    for token, x in enumerate(logits):
        if x > -np.inf:
            d = x - top
            bent[token] = top - factor * (3 - curve) / 2 * d**2 + factor * (curve - 1) / 2 * d**3
    return bent


def dry(
    logits: np.ndarray,
    seen: Sequence[int],
    multiplier: float,
    base: float = 1.75,
    allowed: int = 2,
    breakers: Sequence[int] = (),
) -> np.ndarray:
    """`seen` is prompt and output; from every earlier place the match is followed back."""
    logits, longest = logits.copy(), {}
    for place in range(len(seen)):
        length = 0
        while length < place and seen[place - 1 - length] == seen[-1 - length]:
            if seen[-1 - length] in breakers:
                break
            length += 1
        if seen[place] not in breakers:
            longest[seen[place]] = max(length, longest.get(seen[place], 0))
    for token, length in longest.items():
        if length >= allowed:
            logits[token] -= multiplier * base ** (length - allowed)
    return logits


def repetition_penalty(logits: np.ndarray, seen: Sequence[int], penalty: float) -> np.ndarray:
    """`seen` is prompt and output."""
    logits = logits.copy()
    for token in set(seen):
        logits[token] *= penalty if logits[token] < 0 else 1 / penalty
    return logits


def presence_penalty(logits: np.ndarray, output: Sequence[int], penalty: float) -> np.ndarray:
    """Subtracted once from all that was said."""
    logits = logits.copy()
    for token in set(output):
        logits[token] -= penalty
    return logits


def frequency_penalty(logits: np.ndarray, output: Sequence[int], penalty: float) -> np.ndarray:
    """Subtracted for each time it was said."""
    logits = logits.copy()
    for token in output:
        logits[token] -= penalty
    return logits


def ban(logits: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """These are gone."""
    return np.array([-np.inf if token in ids else x for token, x in enumerate(logits)])


def allow(logits: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """All but these are gone."""
    return np.array([x if token in ids else -np.inf for token, x in enumerate(logits)])


def forced(logits: np.ndarray, output: Sequence[int], tokens: Sequence[int]) -> np.ndarray:
    """One token alone stays, while there are any to force."""
    step = len(output)
    if step >= len(tokens) or tokens[step] < 0:
        return logits
    return np.array([0.0 if token == tokens[step] else -np.inf for token in range(len(logits))])


def minimum_length(
    logits: np.ndarray, output: Sequence[int], tokens: int, eos: Sequence[int]
) -> np.ndarray:
    """No end token before its time."""
    return ban(logits, eos) if len(output) < tokens else logits


def no_repeat_ngram(logits: np.ndarray, seen: Sequence[int], n: int) -> np.ndarray:
    """`seen` is prompt and output."""
    seen = list(seen)
    grams = {tuple(seen[i : i + n]) for i in range(len(seen) - n + 1)}
    tail = seen[len(seen) - n + 1 :] if n > 1 else []
    if len(seen) < n - 1:
        return logits
    return np.array([-np.inf if (*tail, t) in grams else x for t, x in enumerate(logits)])


def ban_sequences(
    logits: np.ndarray, seen: Sequence[int], sequences: Sequence[Sequence[int]]
) -> np.ndarray:
    """`seen` is prompt and output."""
    grown = [[*seen, token] for token in range(len(logits))]
    spelled = [any(text[-len(s) :] == list(s) for s in sequences) for text in grown]
    return np.where(spelled, -np.inf, logits)


def one_of(
    logits: np.ndarray,
    output: Sequence[int],
    choices: Sequence[Sequence[int]],
    eos: Sequence[int],
) -> np.ndarray:
    """Only what continues one of the choices stays."""
    whole = [[*choice, end] for choice in choices for end in eos]
    begun = [text[len(output)] for text in whole if text[: len(output)] == list(output)]
    return allow(logits, begun)


def greedy(
    next_logits: Callable[[Sequence[int]], np.ndarray],
    prompt: Sequence[int],
    length: int,
    transform: Transform | None = None,
    eos: Sequence[int] = (),
) -> list[int]:
    """The most probable token each time, the first of a tie; ends with a token of `eos`."""
    return autoregress(next_logits, prompt, length, lambda x: int(np.argmax(x)), transform, eos)


def autoregress(
    next_logits: Callable[[Sequence[int]], np.ndarray],
    prompt: Sequence[int],
    length: int,
    choose: Callable[[np.ndarray], int],
    transform: Transform | None = None,
    eos: Sequence[int] = (),
) -> list[int]:
    """Token by token, running the model over everything each time; `choose` reads logits."""
    output: list[int] = []
    while len(output) < length and not (output and output[-1] in eos):
        logits = next_logits([*prompt, *output])
        if transform is not None:
            logits = transform(logits, prompt, output)
        output.append(choose(logits))
    return output
