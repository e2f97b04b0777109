"""Draws follow their laws, and depend on nothing but their keys."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.sampling import (
    Categorical,
    Greedy,
    draw,
    draw_many,
    gumbel_argmax,
    gumbel_top_k,
    residual,
    row_keys,
    sample_residual,
    step_keys,
)
from jaxdecode.testing.statistics import assert_distribution, power, rejects

N = 20_000
INF = np.inf
P = np.array([0.4, 0.0, 0.3, 0.2, 0.07, 0.03])
WRONG = np.array([0.37, 0.0, 0.33, 0.2, 0.07, 0.03])


@pytest.fixture(scope="module")
def keys():
    index = jnp.arange(N)
    return row_keys(jax.random.key(5), index // 4, index % 4)


@pytest.fixture(scope="module")
def logits():
    return jnp.broadcast_to(jnp.log(jnp.asarray(P)), (N, len(P)))


def test_the_tests_below_have_power() -> None:
    assert power(N, P, WRONG) > 0.999
    assert power(N, P, P) == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize(
    "draws",
    [Categorical(), gumbel_argmax, lambda keys, logits: draw_many(keys, logits, 3)[:, 2]],
    ids=["inverse", "gumbel", "many"],
)
def test_draws_follow_the_law(draws, keys, logits) -> None:
    tokens = jax.jit(draws)(keys, logits)
    assert_distribution(tokens, P, family=3)
    assert rejects(tokens, WRONG)


@pytest.mark.parametrize("vocab", [1, 2, 3, 63, 64, 65, 1000])
def test_draws_follow_the_law_at_any_width(vocab, keys) -> None:
    """Widths that fill their blocks and widths that do not; a third of the tokens impossible."""
    weight = np.random.default_rng(vocab).exponential(size=vocab)
    weight[1::3] = 0.0
    tokens = jax.jit(draw)(keys, jnp.broadcast_to(jnp.asarray(weight, jnp.float32), (N, vocab)))
    assert_distribution(tokens, weight / weight.sum(), family=7)


def test_rare_tokens_keep_their_share(keys) -> None:
    """Weights beyond the resolution of a float32 uniform next to the total."""
    weight = jnp.concatenate([jnp.ones(1), jnp.full(8, 1e-9)])
    tail = jnp.broadcast_to(weight.at[0].set(0.0), (N, 9))
    assert_distribution(jax.jit(draw)(keys, tail), np.r_[0.0, np.full(8, 1 / 8)])


@pytest.mark.parametrize("top", [0.0, 1 - 2**-24, 1 - 2**-23])
def test_extreme_uniforms_never_draw_an_impossible_token(top, monkeypatch) -> None:
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, top))
    rng = np.random.default_rng(0)
    weight = rng.exponential(size=(64, 300)) * (rng.uniform(size=(64, 300)) < 0.2)
    weight[:, -40:] = 0.0
    weight[0] = 0.0
    weight[0, 7] = 1e-30
    keys = jax.random.split(jax.random.key(0), 64)
    tokens = np.asarray(draw(keys, jnp.asarray(weight, jnp.float32)))
    assert (np.take_along_axis(weight, tokens[:, None], 1) > 0).all()
    if top == 0:
        np.testing.assert_array_equal(tokens, np.argmax(weight > 0, axis=1))


def test_greedy_takes_the_first_of_a_tie() -> None:
    rows = jnp.array([[0.0, 2, 2, 1], [-INF, -INF, -3, -3]])
    keys = jax.random.split(jax.random.key(0), 2)
    np.testing.assert_array_equal(Greedy()(keys, rows), [1, 2])
    np.testing.assert_array_equal(Greedy().distribution(rows), [[0, 1, 0, 0], [0, 0, 1, 0]])


@pytest.mark.parametrize(
    "row", [[-INF] * 3, [0.0, np.nan, 1.0], [np.inf, 0.0, 0.0], [-INF, np.nan, -INF]]
)
def test_unusable_rows_draw_no_token(row) -> None:
    rows = jnp.array([[0.0, 1.0, -INF], row])
    keys = jax.random.split(jax.random.key(0), 2)
    for sampler in (Greedy(), Categorical()):
        tokens = sampler(keys, rows)
        assert tokens[0] in (0, 1) and tokens[1] == -1
        probs = sampler.distribution(rows)
        np.testing.assert_allclose(probs.sum(1), [1.0, 0.0], 1e-6)
    assert gumbel_argmax(keys, rows)[1] == -1
    assert np.isneginf(gumbel_top_k(keys, rows, 2).perturbed[1]).all()
    assert (draw_many(keys, rows, 3)[1] == -1).all()


def test_distribution_is_the_softmax(logits) -> None:
    np.testing.assert_allclose(Categorical().distribution(logits[:1] + 50)[0], P, 1e-5)


def test_a_row_draws_the_same_whatever_the_batch(keys, logits) -> None:
    order = np.random.default_rng(0).permutation(64)
    many = Categorical()(keys[:64], logits[:64])
    np.testing.assert_array_equal(Categorical()(keys[:64][order], logits[:64]), many[order])
    np.testing.assert_array_equal(Categorical()(keys[3:4], logits[:1]), many[3:4])


def test_the_first_of_many_do_not_depend_on_how_many(keys, logits) -> None:
    few, more = (draw_many(keys[:50], logits[:50], count) for count in (2, 5))
    np.testing.assert_array_equal(few, more[:, :2])


def test_no_key_is_used_twice() -> None:
    """Distinct (stream, example, sample, step) have distinct keys; equal ones have equal keys."""
    seen = set()
    for stream in (0, 1):
        index = jnp.arange(60)
        rows = row_keys(jax.random.key(1), index // 6, index % 6, stream)
        for step in range(4):
            data = jax.random.key_data(step_keys(rows, jnp.full(60, step)))
            seen |= set(map(tuple, np.asarray(data).tolist()))
    assert len(seen) == 2 * 60 * 4
    again = row_keys(jax.random.key(1), jnp.array([3]), jnp.array([2]))
    assert jnp.array_equal(
        jax.random.key_data(again[0]),
        jax.random.key_data(row_keys(jax.random.key(1), jnp.arange(9), jnp.full(9, 2))[3]),
    )


def test_streams_and_steps_are_independent() -> None:
    index = jnp.arange(N)
    uniform = jnp.zeros((N, 4))
    pairs = []
    for stream, step in ((0, 0), (1, 0), (0, 1)):
        rows = row_keys(jax.random.key(2), index, jnp.zeros_like(index), stream)
        pairs.append(Categorical()(step_keys(rows, jnp.full(N, step)), uniform))
    for a, b in itertools.combinations(pairs, 2):
        assert_distribution(jnp.stack([a, b], 1), np.full((4, 4), 1 / 16), family=3)


def ordered_draws(p: np.ndarray, k: int) -> dict[tuple[int, ...], float]:
    """The law of k tokens drawn one after the other without replacement."""
    law = {}
    for order in itertools.permutations(range(len(p)), k):
        probability, left = 1.0, 1.0
        for token in order:
            probability *= p[token] / left if left > 0 else 0.0
            left -= p[token]
        law[order] = probability
    return law


def test_gumbel_top_k_draws_without_replacement(keys, logits) -> None:
    ranked = jax.jit(gumbel_top_k, static_argnums=2)(keys, logits, 3)
    law = ordered_draws(P, 3)
    assert sum(law.values()) == pytest.approx(1)
    assert_distribution(np.asarray(ranked.index), law)
    sorted_by_probability = np.sort(np.asarray(ranked.index), axis=1)
    assert rejects(sorted_by_probability, law)
    np.testing.assert_allclose(np.exp(ranked.logprob), P[ranked.index], 1e-5)
    assert (np.diff(ranked.perturbed, axis=1) <= 0).all()


def test_gumbel_top_k_marks_places_without_a_token(keys, logits) -> None:
    ranked = gumbel_top_k(keys[:20], logits[:20], 6)
    assert np.isfinite(ranked.perturbed[:, :5]).all()
    assert np.isneginf(ranked.perturbed[:, 5]).all()
    assert (ranked.index[:, 5] == 1).all()
    with pytest.raises(ValueError, match=r"k=7 must lie in 1\.\.6"):
        gumbel_top_k(keys[:20], logits[:20], 7)


def test_draws_of_two_models_are_coupled(keys, logits) -> None:
    """With shared noise two models agree far more often than with noise of their own."""
    other = jnp.broadcast_to(jnp.log(jnp.asarray(WRONG)), logits.shape)
    mine, theirs = gumbel_argmax(keys, logits), gumbel_argmax(keys, other)
    assert_distribution(theirs, WRONG)
    apart = gumbel_argmax(step_keys(keys, jnp.arange(N)), other)
    assert np.mean(mine == theirs) > 0.93
    assert np.mean(mine == apart) < 0.5


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        ([0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0, 0, 1]),
        ([0.1, 0.2, 0.3, 0.4], [0.5, 0.3, 0.15, 0.05], [0, 0, 0.3, 0.7]),
        ([1.0, 0.0], [0.5, 0.5], [1, 0]),
        ([0.25, 0.75], [0.25, 0.75], [0.25, 0.75]),
        ([0.0, 1.0], [1.0, 0.0], [0, 1]),
    ],
)
def test_residual(p, q, expected) -> None:
    np.testing.assert_allclose(residual(jnp.array([p]), jnp.array([q]))[0], expected, 1e-6)


@pytest.mark.parametrize("fallback", [False, True])
def test_accept_or_draw_the_residual_gives_the_target(fallback, keys) -> None:
    """min(1, p/q) and the residual together are p; without the residual they are not."""
    p, q = jnp.array([0.1, 0.2, 0.3, 0.4]), jnp.array([0.5, 0.3, 0.15, 0.05])
    rows = jnp.broadcast_to(p, (N, 4)), jnp.broadcast_to(q, (N, 4))
    drafted = draw(step_keys(keys, jnp.zeros(N, int)), rows[1])
    uniform = jax.vmap(jax.random.uniform)(step_keys(keys, jnp.ones(N, int)))
    accepted = uniform <= p[drafted] / q[drafted]
    third = step_keys(keys, jnp.full(N, 2))
    instead = draw(third, rows[0]) if fallback else sample_residual(third, *rows)
    tokens = jnp.where(accepted, drafted, instead)
    assert rejects(tokens, np.asarray(p, np.float64)) == fallback
