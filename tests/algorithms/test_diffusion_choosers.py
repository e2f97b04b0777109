"""How many places each rule decides: the known answers of Fast-dLLM, EB-Sampler and LLaDA."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.diffusion.choosers import (
    EndsLast,
    EntropyBounded,
    Factor,
    InTurn,
    Steady,
    Threshold,
)
from jaxdecode.choose import Even, Grid, Top
from jaxdecode.guess import Guess, Sight


def sight(law: Any, step: int = 0, entered: int | None = None, open: Any = None) -> Sight:
    """One row whose places have these log-probabilities [T, V]."""
    law = jnp.asarray(law, jnp.float32)[None]
    open = jnp.ones(law.shape[:2], bool) if open is None else jnp.asarray([open])
    key = jax.random.split(jax.random.key(0), 1)
    at = jnp.array([step])
    count = jnp.sum(open, 1) if entered is None else jnp.array([entered])
    guess = Guess(jnp.argmax(law, axis=2), law)
    return Sight(guess, open, ~open, jnp.array([0]), at, count, key, key)


def confident(*values: float) -> Any:
    """Places whose first of many tokens has this probability, the rest being even."""
    others = 40
    law = [[c, *[(1 - c) / others] * others] for c in values]
    return np.log(np.maximum(law, 1e-30))


def decided(chooser: Any, seen: Sight) -> list[int]:
    choice, _ = chooser(chooser.init(1, seen.open.shape[1]), seen)
    return np.flatnonzero(np.asarray(choice.accept & seen.open)[0]).tolist()


FACTORS = [
    ((0.99, 0.95, 0.9, 0.7, 0.5), 3, 3),
    ((0.85, 0.6, 0.3), 1, 1),
    ((0.99, 0.98, 0.97, 0.96), 4, 4),
    ((0.99, 0.98, 0.97, 0.5), 3, 4),
    ((0.9,) * 10, 9, 10),
]


@pytest.mark.parametrize(("values", "count", "quirk"), FACTORS)
def test_factor(values, count, quirk) -> None:
    seen = sight(confident(*values))
    assert len(decided(Factor(1.0), seen)) == count
    assert len(decided(Factor(1.0, quirk=True), seen)) == quirk
    assert len(decided(Factor(0.0), seen)) == 1


def test_threshold_takes_what_reaches_it_and_the_best_in_any_case() -> None:
    seen = sight(confident(0.5, 0.95, 0.8, 0.9))
    assert decided(Threshold(0.8), seen) == [1, 2, 3]
    assert decided(Threshold(1.0), seen) == [1]
    assert decided(Threshold(0.0), seen) == [0, 1, 2, 3]
    closed = sight(confident(0.5, 0.95, 0.8, 0.9), open=[True, False, True, False])
    assert decided(Threshold(0.9), closed) == [2]
    with pytest.raises(ValueError, match="must lie in"):
        Threshold(1.5)


def test_entropy_bounded() -> None:
    """Entropies 0, .05, .1, .3, .4 nats give the bounds 0, 0, .05, .15, .45."""

    def law(entropy: float) -> list[float]:
        low, high = 1e-12, 0.5  # of the rarer of two tokens
        for _ in range(80):
            p = (low + high) / 2
            at = -p * np.log(p) - (1 - p) * np.log(1 - p)
            low, high = (p, high) if at < entropy else (low, p)
        return [np.log(1 - low), np.log(low)]

    seen = sight([law(h) for h in (0.4, 0.0, 0.1, 0.05, 0.3)])
    assert decided(EntropyBounded(0.1), seen) == [1, 2, 3]
    assert decided(EntropyBounded(0.01), seen) == [1, 3]
    assert decided(EntropyBounded(0.0), seen) == [1, 3]
    assert decided(EntropyBounded(0.5), seen) == [0, 1, 2, 3, 4]
    for order in ("confidence", "margin"):  # two tokens: one order
        assert decided(EntropyBounded(0.1, order), seen) == [1, 2, 3]


def counts(schedule: Any, open: int, steps: int) -> list[int]:
    """What a schedule decides step by step of a block of `open` places."""
    found, left = [], open
    for step in range(steps):
        places = [i < left for i in range(open)]
        seen = sight(confident(*[0.5] * open), step=step, entered=open, open=places)
        found.append(int(schedule(seen)[0]))
        left -= found[-1]
    return found


def test_schedules() -> None:
    assert counts(Even(4), 10, 4) == [3, 3, 2, 2]
    assert counts(Even(12), 32, 12) == [3] * 8 + [2] * 4
    assert counts(Even(5), 3, 5) == [1, 1, 1, 0, 0]
    assert counts(Grid(4), 10, 4) == [2, 2, 2, 4]
    assert counts(Grid(8), 8, 8) == [0, 1, 1, 1, 1, 1, 1, 2]


def test_ends_come_last() -> None:
    """Token 0 ends: its places rank below all others, in their own order."""
    law = confident(0.9, 0.99, 0.5, 0.6)
    law[2:] = law[2:, ::-1]  # the last two guess another token
    ends = jnp.array([0])
    assert decided(EndsLast(Top(), ends), sight(law)) == [3]
    assert decided(EndsLast(Threshold(0.8), ends), sight(law)) == [3]
    only = sight(law, open=[True, True, False, False])
    assert decided(EndsLast(Top(), ends), only) == [1]
    with pytest.raises(ValueError, match="goes by entropy"):
        EndsLast(Top(order="entropy"), ends)
    # Ends of no entropy would all be within the bound; a random order ranks them as any other.
    for blind in (
        EntropyBounded(proxy="confidence"),
        Top(order="random"),
        InTurn(Top(order="left"), 2),
    ):
        with pytest.raises(ValueError, match="does not see what is guessed"):
            EndsLast(blind, ends)


def test_in_turn() -> None:
    law = confident(0.5, 0.6, 0.9, 0.99)
    assert decided(InTurn(Top(), 2), sight(law)) == [1]
    assert decided(InTurn(Threshold(0.4), 2), sight(law)) == [0, 1]
    assert decided(InTurn(Top(), 2), sight(law, open=[False, False, True, True])) == [3]


def test_steady() -> None:
    """Confident places are decided once their law has not moved for two steps."""
    law = confident(0.95, 0.95, 0.5)
    chooser = Steady(vocab=law.shape[1])
    state, found = chooser.init(1, 3), []
    moving = law.copy()
    for step in range(4):
        moving[1] = confident(0.95 - 0.2 * (step % 2))[0]
        seen = sight(moving, step=step)
        choice, state = chooser(state, seen)
        found.append(np.asarray(choice.sure)[0].tolist())
    assert found == [[False] * 3] * 2 + [[True, False, False]] * 2
    assert decided(chooser, sight(law)) == [0]
