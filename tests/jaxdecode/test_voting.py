"""Votes: worked examples, limits of the power, ties, and a naive reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.tree_util import Partial

from jaxdecode import voting
from jaxdecode.voting import average, best_of, borda, first_answer, majority, weighted_sum

A, B, C, NONE = 0, 1, 2, -1
ANSWERS, CONFIDENCE = [A, B, B, C], [0.9, 0.5, 0.8, 0.7]
RULES = {
    "majority": Partial(majority),
    "weighted_sum": Partial(weighted_sum),
    "average": Partial(average),
    "borda": Partial(borda, power=0.7),
    "best_of": Partial(best_of),
    "first_answer": Partial(first_answer),
    "normalised": Partial(voting.normalised_weighted_sum),
}

ballots = st.sampled_from([1, 4, 9]).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(-1, 3), min_size=n, max_size=n),
        st.lists(st.integers(-6, 6).map(lambda x: x / 2), min_size=n, max_size=n),
    )
)


borda, majority, average, weighted_sum, best_of, first_answer = map(
    jax.jit, (borda, majority, average, weighted_sum, best_of, first_answer)
)


def arrays(answers, confidence):
    return jnp.array(answers, jnp.int32), jnp.array(confidence, jnp.float32)


def naive_ranks(confidence) -> list[int]:
    order = sorted(range(len(confidence)), key=lambda i: -confidence[i])
    return [order.index(i) + 1 for i in range(len(confidence))]


def naive_vote(answers, votes, mean=False) -> int:
    """Add up votes in a dictionary, which remembers who came first."""
    box: dict[int, list[float]] = {}
    for answer, vote in zip(answers, votes, strict=True):
        if answer >= 0:
            box.setdefault(answer, []).append(vote)
    if not box:
        return 0
    count = {answer: sum(cast) / (len(cast) if mean else 1) for answer, cast in box.items()}
    return answers.index(max(count, key=lambda answer: count[answer]))


def naive_borda(answers, confidence, power) -> int:
    n = len(answers)
    return naive_vote(answers, [(n - r + 1) ** power for r in naive_ranks(confidence)])


@pytest.mark.parametrize(
    ("power", "a", "b", "c", "winner"),
    [
        (0.0, 1, 2, 1, 1),
        (0.5, 2, 2.7321, 1.4142, 1),
        (1.0, 4, 4, 2, 0),
        (1.2, 5.2780, 4.7372, 2.2974, 0),
        (2.0, 16, 10, 4, 0),
    ],
)
def test_borda_by_hand(power, a, b, c, winner) -> None:
    answers, confidence = arrays(ANSWERS, CONFIDENCE)
    weights = voting.borda_weights(answers, confidence, power)
    totals = voting.totals(answers, weights)
    np.testing.assert_allclose(totals, [a, b, b, c], rtol=1e-4)
    if float(power).is_integer():
        np.testing.assert_array_equal(totals, [a, b, b, c])
    assert borda(answers, confidence, power) == winner


def test_a_sample_without_an_answer_occupies_a_rank() -> None:
    answers, confidence = arrays([*ANSWERS, NONE], [*CONFIDENCE, 0.95])
    np.testing.assert_array_equal(voting.ranks(confidence), [2, 5, 3, 4, 1])
    totals = voting.totals(answers, voting.borda_weights(answers, confidence, 1.0))
    np.testing.assert_array_equal(totals, [4, 4, 4, 2, 0])
    assert borda(answers, confidence, 1.0) == 0
    # Ranking only those that answer would elect A here, by 3 to 2 + 1 and a tie.
    answers, confidence = arrays([A, B, B, NONE], [0.9, 0.8, 0.7, 0.1])
    assert borda(answers, confidence, 1.0) == 1
    assert borda(answers[:3], confidence[:3], 1.0) == 0


def test_first_of_equal_confidences_ranks_first() -> None:
    np.testing.assert_array_equal(voting.ranks(jnp.array([1.0, 2, 2, 1, 2])), [4, 1, 2, 5, 3])


@given(ballots)
def test_power_zero_is_the_majority_and_a_large_one_the_best(ballot) -> None:
    answers, confidence = arrays(*ballot)
    assert borda(answers, confidence, 0.0) == majority(answers, confidence)
    for power in (200.0, 5000.0):
        best = int(best_of(answers, confidence))
        assert borda(answers, confidence, power) == ballot[0].index(int(answers[best]))


@given(ballots, st.sampled_from([0.0, 1.0, 2.0, 3.0]))
def test_rules_are_the_naive_ones(ballot, power) -> None:
    """Halves and integer powers are exact in float32, so that ties are ties."""
    answers, confidence = ballot
    given_ = arrays(*ballot)
    ones = [1.0] * len(answers)
    assert majority(*given_) == naive_vote(answers, ones)
    assert weighted_sum(*given_) == naive_vote(answers, confidence)
    assert borda(*given_, power) == naive_borda(answers, confidence, power)
    sums = {a: sum(1 for b in answers if b == a) for a in answers}
    if all(count in (1, 2, 4) for count in sums.values()):  # exact means
        assert average(*given_) == naive_vote(answers, confidence, mean=True)
    able = [i for i, answer in enumerate(answers) if answer >= 0]
    assert first_answer(*given_) == min(able, default=0)
    assert best_of(*given_) == max(able, key=lambda i: confidence[i], default=0)


@given(ballots, st.sampled_from([0.3, 1.0, 1.2]))
def test_votes_depend_on_ranks_alone(ballot, power) -> None:
    answers, confidence = arrays(*ballot)
    for raise_ in (jnp.exp, lambda x: x**3 + x, lambda x: 5 * x - 100):
        mapped = raise_(confidence)
        assert borda(answers, confidence, power) == borda(answers, mapped, power)
        assert best_of(answers, confidence) == best_of(answers, mapped)


def test_a_sum_depends_on_more_than_ranks() -> None:
    answers, confidence = arrays([A, B, B], [0.9, 0.5, 0.3])
    assert weighted_sum(answers, confidence) == 0
    assert weighted_sum(answers, jnp.sqrt(confidence)) == 1


def test_an_average_rewards_a_single_sample() -> None:
    answers, confidence = arrays([A, A, A, B], [0.8, 0.7, 0.8, 0.9])
    assert average(answers, confidence) == 3
    assert weighted_sum(answers, confidence) == 0


def test_normalised_weights_are_probabilities() -> None:
    answers, logprob = arrays([A, B, B], [-0.1, -1.0, -0.9])
    totals = np.exp(-0.1), np.exp(-1.0) + np.exp(-0.9)
    assert totals[0] > totals[1]
    assert voting.normalised_weighted_sum(answers, logprob) == 0
    assert weighted_sum(answers, logprob) == 0
    assert majority(answers, logprob) == 1


@pytest.mark.parametrize("name", RULES)
def test_one_sample_and_none_valid(name) -> None:
    rule = RULES[name]
    for answers in ([A], [NONE]):
        assert rule(*arrays(answers, [0.3])) == 0
    answers, confidence = arrays([NONE] * 4, [-3.0, 2.0, 1.0, 5.0])
    assert rule(answers, confidence) == 0
    np.testing.assert_array_equal(voting.totals(answers, confidence), 0)


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", RULES)
def test_a_confidence_that_is_not_finite_has_no_vote(name, fault) -> None:
    rule = RULES[name]
    answers, confidence = arrays([B, A, A, C], [fault, 1.0, 0.5, 2.0])
    without = rule(answers.at[0].set(NONE), confidence.at[0].set(-9.0))
    assert rule(answers, confidence) == without != 0
    assert rule(answers, jnp.full((4,), fault)) == 0


@pytest.mark.parametrize("name", RULES)
def test_rules_vmap_over_prompts(name) -> None:
    rng = np.random.default_rng(0)
    answers = jnp.asarray(rng.integers(-1, 3, (6, 9)), jnp.int32)
    confidence = jnp.asarray(rng.normal(size=(6, 9)), jnp.float32)
    together = jax.jit(jax.vmap(RULES[name]))(answers, confidence)
    alone = [RULES[name](a, c) for a, c in zip(answers, confidence, strict=True)]
    np.testing.assert_array_equal(together, alone)


def test_the_power_is_a_leaf() -> None:
    traces = []

    @jax.jit
    def vote(rule, answers, confidence):
        traces.append(1)
        return rule(answers, confidence)

    given_ = arrays(ANSWERS, CONFIDENCE)
    assert [int(vote(Partial(borda, power=p), *given_)) for p in (0.5, 2.0)] == [1, 0]
    assert len(traces) == 1


def test_oracle() -> None:
    answers = jnp.array([NONE, 4, 7, 4])
    found = [int(voting.oracle(answers, jnp.array(reference))) for reference in (4, 7, 5, NONE)]
    assert found == [1, 2, 0, 0]
