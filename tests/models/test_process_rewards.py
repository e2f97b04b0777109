"""Process rewards: as many scores as steps, each from the right place."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdecode.types import Array
from models.process_rewards import ProcessReward, step_ends, step_index
from models.rewards import RewardModel

WIDTH, STEPS = 14, 4


class Positions:
    """Stands in for a reward model: the reward at a token is that token's index."""

    vocab_size = 9

    def forward(self, tokens: Array, valid: Array) -> tuple[Array, Array]:
        index = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        index = jnp.where(valid, index, -100)[..., None].astype(jnp.float32)
        return index, index

    def reward(self, outputs: Array) -> Array:
        return outputs[..., 0]


jax.tree_util.register_static(Positions)
MODEL: RewardModel = Positions()  # pyright: ignore[reportAssignmentType]


def naive(row, length, separator, first):
    """Indices at which the separator is complete, within first..length."""
    width = len(separator)
    ends = range(first + width - 1, length)
    return [i for i in ends if list(row[i - width + 1 : i + 1]) == list(separator)]


tokens = st.lists(
    st.lists(st.integers(0, 2), min_size=WIDTH, max_size=WIDTH), min_size=3, max_size=3
)
limits = st.lists(st.integers(0, WIDTH), min_size=3, max_size=3)
FIND = {
    width: jax.jit(lambda *given: (step_ends(*given), step_index(step_ends(*given), STEPS)))
    for width in (1, 2)
}


@given(tokens, limits, limits, st.lists(st.integers(0, 2), min_size=1, max_size=2))
def test_steps_end_where_a_naive_search_says(rows, length, first, separator):
    given = [jnp.asarray(x, jnp.int32) for x in (rows, length, separator, first)]
    ends, index = FIND[len(separator)](*given)
    for row in range(3):
        expected = naive(rows[row], length[row], separator, first[row])
        assert np.flatnonzero(ends[row]).tolist() == expected
        padded = (expected + [0] * STEPS)[:STEPS]
        assert index[row].tolist() == padded


ROWS = jnp.asarray([[1, 5, 2, 5, 3, 5, 5, 0], [5, 1, 1, 1, 5, 1, 1, 1], [1, 2, 3, 4, 1, 2, 3, 4]])
LENGTH = jnp.asarray([6, 5, 8])


def test_scores_and_counts():
    scores, count = ProcessReward.of(MODEL, 5)(ROWS, LENGTH, STEPS)
    assert count.tolist() == [3, 2, 0]
    assert scores.tolist() == [[1, 3, 5, 0], [0, 4, 0, 0], [0, 0, 0, 0]]


def test_read_before_the_separator():
    scores, count = ProcessReward.of(MODEL, 5, "before")(ROWS, LENGTH, STEPS)
    assert count.tolist() == [3, 2, 0]
    assert scores.tolist()[0] == [0, 2, 4, 0]


def test_separators_of_several_tokens_and_of_the_question():
    several = ProcessReward.of(MODEL, [3, 4])
    scores, count = several(ROWS, LENGTH, STEPS)
    assert (scores[2].tolist(), count.tolist()) == ([3, 7, 0, 0], [0, 0, 2])
    scores, count = several(ROWS, LENGTH, STEPS, first=jnp.asarray([0, 0, 3]))
    assert (scores[2].tolist(), count.tolist()) == ([7, 0, 0, 0], [0, 0, 1])


def test_the_count_goes_on_where_the_scores_end():
    judge = ProcessReward.of(MODEL, 5)
    with pytest.raises(ValueError, match="steps=2: row 0 has 3 steps"):
        judge(ROWS, LENGTH, 2)
    scores, count = jax.jit(lambda judge: judge(ROWS, LENGTH, 2))(judge)
    assert (scores.tolist()[0], count.tolist()[0]) == ([1, 3], 3)


def test_refusals():
    for separator in ([], [1, 9], -1):
        with pytest.raises(ValueError, match=r"0\.\.8 are needed"):
            ProcessReward.of(MODEL, separator)
    with pytest.raises(ValueError, match="at='after'"):
        ProcessReward.of(MODEL, 1, "after")  # pyright: ignore[reportArgumentType]
