"""Decoding of one canvas by loops, written from the papers' rules in float64.

A model here is a function from a list of tokens to the logits [C, V] of its places. A rule is a
function from the block's open places, best score first, to how many of them are decided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

Model = Callable[[Sequence[int]], np.ndarray]
Rule = Callable[["Step"], int]


def probabilities(logits: np.ndarray, mask: int) -> np.ndarray:
    logits = np.array(logits, np.float64)
    logits[:, mask] = -np.inf
    weight = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)


@dataclass
class Step:
    """The block before a step: scores of its open places, best first, and where it stands."""

    confidence: list[float]
    entropy: list[float]
    step: int
    entered: int


@dataclass
class Run:
    """What became of a canvas: tokens, the pass of every place, log-probs, passes."""

    tokens: list[int]
    decided: dict[int, int] = field(default_factory=dict)
    logprob: dict[int, float] = field(default_factory=dict)
    passes: int = 0
    states: list[list[int]] = field(default_factory=list)


def scores(p: np.ndarray, order: str, index: int) -> float:
    top = np.sort(p)[::-1]
    return {
        "confidence": top[0],
        "margin": top[0] - top[1],
        "entropy": sum(x * np.log(x) for x in p if x > 0),
        "left": -float(index),
    }[order]


def fill(
    model: Model,
    tokens: Sequence[int],
    mask: int,
    origin: int,
    block: int,
    rule: Rule,
    order: str = "confidence",
    eos: Sequence[int] = (),
    prompt: int | None = None,
) -> Run:
    """Fill every mask, block by block; with `prompt`, up to the first end behind it."""
    run = Run(list(tokens))
    last, step, entered = None, 0, 0
    while mask in run.tokens:
        if prompt is not None:
            text = run.tokens[prompt : run.tokens.index(mask)]
            if any(token in eos for token in text):
                break
        number = (run.tokens.index(mask) - origin) // block
        places = range(origin + number * block, origin + (number + 1) * block)
        open_ = [i for i in places if i < len(run.tokens) and run.tokens[i] == mask]
        if number != last:
            last, step, entered = number, 0, len(open_)
        run.states.append(list(run.tokens))
        p = probabilities(model(run.tokens), mask)
        ranked = sorted(open_, key=lambda i: (-scores(p[i], order, i), i))
        now = Step(
            [float(p[i].max()) for i in ranked],
            [-scores(p[i], "entropy", i) for i in ranked],
            step,
            entered,
        )
        for i in ranked[: max(rule(now), 1)]:
            run.tokens[i] = int(p[i].argmax())
            run.decided[i], run.logprob[i] = run.passes, float(np.log(p[i].max()))
        run.passes, step = run.passes + 1, step + 1
    return run


def fixed(count: int) -> Rule:
    return lambda now: count


def even(steps: int) -> Rule:
    def rule(now: Step) -> int:
        whole, rest = divmod(now.entered, steps)
        return whole + (now.step < rest)

    return rule


def threshold(gamma: float) -> Rule:
    return lambda now: sum(c >= gamma for c in now.confidence)


def factor(f: float, quirk: bool = False) -> Rule:
    """Fast-dLLM's loop, with what it does where the last candidate is the first to fail."""

    def rule(now: Step) -> int:
        for n, c in enumerate(now.confidence, 1):
            if (n + 1) * (1 - c) > f + 1e-6:
                return n if quirk and n == len(now.confidence) else n - 1
        return len(now.confidence)

    return rule


def entropy_bounded(gamma: float) -> Rule:
    """With places in the order of their entropies, least first."""

    def rule(now: Step) -> int:
        count = 0
        for k in range(1, len(now.entropy) + 1):
            first = now.entropy[:k]
            if sum(first) - max(first) <= gamma + 1e-6:
                count = k
        return count

    return rule


def left_to_right(model: Model, prompt: Sequence[int], output: Sequence[int], mask: int, new: int):
    """log p(output) of a canvas with `new` places that is filled from the left, one by one."""
    total = 0.0
    for index, token in enumerate(output):
        canvas = [*prompt, *output[:index], *[mask] * (new - index)]
        total += float(np.log(probabilities(model(canvas), mask)[len(prompt) + index, token]))
    return total


@dataclass
class Cut:
    """What learned decoding came to: tokens behind the prompt, the end of the canvas after each
    pass, and how many tokens were run in all."""

    tokens: list[int]
    limits: list[int]
    run: int
    logprob: dict[int, float]


def learned(
    model: Model,
    prompt: Sequence[int],
    mask: int,
    new: int,
    block: int,
    accepts: Callable[[np.ndarray], np.ndarray],
    eos: Sequence[int] = (),
    by_acceptance: bool = True,
    by_foresight: bool = True,
    closes: bool = True,
) -> Cut:
    """Decoding by a filter of the block's confidences, with end-of-text prediction.

    `accepts` maps B confidences to which places the filter takes for right. `model` is given the
    canvas up to its end.
    """
    tokens, start = [*prompt, *[mask] * new], len(prompt)
    end, cut = start + new, Cut([], [], 0, {})
    while mask in tokens[:end]:
        first_open = tokens.index(mask)
        if closes and any(token in eos for token in tokens[start:first_open]):
            break
        first = start + (first_open - start) // block * block
        p = probabilities(model(tokens[:end]), mask)
        cut.run += end
        best, guess = p.max(axis=1), p.argmax(axis=1)
        inside = [i for i in range(first, min(first + block, end))]
        confidence = np.zeros(block)
        confidence[: len(inside)] = best[inside]
        taken = accepts(confidence)
        open_ = [i for i in inside if tokens[i] == mask]
        sure = [i for i in open_ if taken[i - first]]
        forced = max(open_, key=lambda i: (best[i], -i))
        foreseen = [i for i in range(end) if tokens[i] == mask and guess[i] in eos]
        for i in {*sure, forced}:
            tokens[i], cut.logprob[i] = int(guess[i]), float(np.log(best[i]))
        ended = [i for i in sure if guess[i] in eos]
        if by_acceptance and ended:
            end = min(end, ended[0] + 1)
        elif by_foresight and foreseen:
            end = min(end, max(foreseen, key=lambda i: (best[i], -i)) + 1)
        cut.limits.append(end)
    tokens[end:] = [eos[0] if eos else mask] * (len(tokens) - end)
    cut.tokens = tokens[start:]
    return cut
