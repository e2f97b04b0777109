"""The two walks, on laws whose answers are known.

Acceptance probabilities are computed by hand: for a target p and a draft q, one child is
accepted with probability sum(min(p, q)); the others follow from the residuals.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.draft import Draft, Guess, Shape, Spent
from jaxdecode.judge import Judge
from jaxdecode.logits import Identity
from jaxdecode.sampling import Categorical, draw_many, gumbel_top_k
from jaxdecode.testing.statistics import assert_distribution, rejects
from jaxdecode.verify import leap, match, recurse, walk

ROWS = 40000
SHARP = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
MILD = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.5, 0.3, 0.15, 0.05])


def judge(p: np.ndarray, nodes: int) -> Judge:
    """A target that says p wherever it is asked."""
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(p, jnp.float32)), (ROWS, nodes + 1, len(p)))
    keys = jax.random.split(jax.random.key(1), ROWS)
    zero = jnp.zeros((ROWS,), jnp.int32)
    return Judge(logits, Identity(), Categorical(), (), keys, zero, jnp.ones((ROWS,), bool))


def siblings(q: np.ndarray, count: int, replacement: bool) -> Draft:
    """`count` children of the root, drawn from q."""
    keys = jax.random.split(jax.random.key(2), ROWS)
    logq = jnp.broadcast_to(jnp.log(jnp.asarray(q, jnp.float32)), (ROWS, len(q)))
    drawn = draw_many(keys, logq, count) if replacement else gumbel_top_k(keys, logq, count).index
    return of(drawn, np.full(count, -1), logq[:, None], jnp.zeros_like(drawn))


def of(tokens, parent, logq=None, source=None, guess=None) -> Draft:
    shape = Shape.fixed(parent, ROWS)
    valid = jnp.ones(tokens.shape, bool)
    return Draft(tokens, shape, valid, Spent.nothing(ROWS), logq, source, guess=guess)


def emitted(verdict, draft: Draft) -> np.ndarray:
    """The first token that a round emits."""
    first = jnp.take_along_axis(draft.tokens, verdict.path[:, :1], axis=1)[:, 0]
    return np.asarray(jnp.where(verdict.count > 0, first, verdict.next))


KEYS = jax.random.split(jax.random.key(3), ROWS)


@pytest.mark.parametrize(
    ("laws", "count", "replacement", "accepted"),
    [
        (SHARP, 1, True, 0.6),
        (SHARP, 2, True, 0.64),
        (SHARP, 3, True, 0.676),
        (SHARP, 2, False, 0.7),
        (SHARP, 3, False, 1.0),
        (MILD, 1, False, 0.9),
        (MILD, 2, False, 0.94),
        (MILD, 3, False, 0.975),
    ],
)
def test_siblings_are_accepted_as_often_as_they_should_be(laws, count, replacement, accepted):
    p, q = laws
    draft = siblings(q, count, replacement)
    verdict = recurse(KEYS, judge(p, count), draft, 1, replacement)
    np.testing.assert_allclose(np.mean(verdict.count), accepted, atol=0.01)
    assert_distribution(emitted(verdict, draft), p)


def test_wrong_rules_are_refuted() -> None:
    """Siblings put in order of probability, or drawn one way and judged the other."""
    p, q = SHARP
    fair = siblings(q, 2, replacement=False)
    likely = jnp.asarray(q)[fair.tokens]
    order = jnp.argsort(-likely, axis=1)
    ordered = of(
        jnp.take_along_axis(fair.tokens, order, axis=1), np.full(2, -1), fair.logq, fair.source
    )
    verdict = recurse(KEYS, judge(p, 2), ordered, 1, False)
    assert rejects(emitted(verdict, ordered), p)
    p, q = np.full(4, 0.25), np.array([0.7, 0.2, 0.07, 0.03])
    fair = siblings(q, 2, replacement=False)
    assert_distribution(emitted(recurse(KEYS, judge(p, 2), fair, 1, False), fair), p)
    assert rejects(emitted(recurse(KEYS, judge(p, 2), fair, 1, True), fair), p)


@pytest.mark.parametrize(("length", "tokens"), [(2, 1.96), (4, 2.3056)])
def test_a_chain_emits_as_many_tokens_as_it_should(length, tokens) -> None:
    """(1 - a^(L+1)) / (1 - a) with a = .6."""
    p, q = SHARP
    keys = jax.random.split(jax.random.key(2), ROWS)
    logq = jnp.broadcast_to(jnp.log(jnp.asarray(q, jnp.float32)), (ROWS, length, len(q)))
    drawn = draw_many(keys, logq[:, 0], length)
    source = jnp.broadcast_to(jnp.arange(length), drawn.shape)
    draft = of(drawn, np.arange(length) - 1, logq, source)
    verdict = recurse(KEYS, judge(p, length), draft, length, False)
    np.testing.assert_allclose(np.mean(verdict.count + 1), tokens, atol=0.02)


@pytest.mark.parametrize(("count", "accepted"), [(1, 0.325), (2, 0.619615), (3, 0.857553)])
def test_matching_is_exact_and_accepts_less(count, accepted) -> None:
    p, q = MILD
    draft = siblings(q, count, replacement=False)
    verdict = match(judge(p, count), draft, 1)
    np.testing.assert_allclose(np.mean(verdict.count), accepted, atol=0.01)
    assert_distribution(emitted(verdict, draft), p)


def test_matching_follows_a_path_and_draws_what_plain_decoding_draws() -> None:
    """With the most probable token drafted at each node, the path is as long as luck has it."""
    p, _ = MILD
    tokens = jnp.zeros((ROWS, 3), jnp.int32)
    verdict = match(judge(p, 3), of(tokens, np.array([-1, 0, 1])), 3)
    expected = [0.6, 0.24, 0.096, 0.064]
    assert_distribution(np.asarray(verdict.count), np.array(expected))
    assert ((verdict.count == 3) | (verdict.next != 0)).all()


@pytest.mark.parametrize("chain", [False, True])
def test_leaping_ends_where_walking_does(chain) -> None:
    """On random trees with repeated siblings, missing nodes and rows that take no part."""
    rows, nodes, vocab, depth = 400, 9, 3, 9
    rng = np.random.default_rng(5)
    parent = np.arange(nodes) - 1
    shape = Shape.line(rows, nodes)
    valid = np.arange(nodes) < rng.integers(0, nodes + 1, (rows, 1))
    if not chain:
        parent = np.stack(
            [rng.integers(-1, n, rows) if n else [-1] * rows for n in range(nodes)], 1
        )
        shape = Shape.grown(jnp.asarray(parent), nodes)
        valid = rng.random((rows, nodes)) < 0.9
        for node in range(nodes):
            above = parent[:, node]
            valid[:, node] &= (above < 0) | valid[np.arange(rows), above]
    tokens = jnp.asarray(rng.integers(0, vocab, (rows, nodes)))
    draft = Draft(tokens, shape, jnp.asarray(valid), Spent.nothing(rows))
    asked = replace(
        judge(np.ones(vocab), 0),
        logits=jnp.asarray(rng.normal(size=(rows, nodes + 1, vocab)), jnp.float32),
        key=jax.random.split(jax.random.key(4), rows),
        step=jnp.asarray(rng.integers(0, 9, rows)),
        active=jnp.asarray(rng.random(rows) < 0.9),
    )
    path, count, cursor, token = (np.asarray(x) for x in leap(asked, draft, depth))
    other, *ends = (np.asarray(x) for x in walk(asked, draft, depth))
    for mine, theirs in zip((count, cursor, token), ends, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    inside = np.arange(depth) < count[:, None]
    np.testing.assert_array_equal(path[inside], other[inside])
    assert count.max() > 2


def test_a_guess_is_tried_only_after_a_whole_path() -> None:
    """It is the next token with probability sum(min(p, q)), and never after a rejection."""
    p, q = SHARP
    drawn = siblings(q, 1, replacement=True)
    keys = jax.random.split(jax.random.key(9), ROWS)
    logq = jnp.broadcast_to(jnp.log(jnp.asarray(q, jnp.float32)), (ROWS, 3))
    zero = jnp.zeros((ROWS,), jnp.int32)
    guess = Guess(draw_many(keys, logq, 1)[:, 0], logq, zero, jnp.ones((ROWS,), bool))
    draft = of(drawn.tokens, np.array([-1]), drawn.logq, drawn.source, guess)
    verdict = recurse(KEYS, judge(p, 1), draft, 1, False)
    whole = np.asarray(verdict.count) == 1
    np.testing.assert_allclose(whole.mean(), 0.6, atol=0.01)
    np.testing.assert_allclose(np.asarray(verdict.guessed)[whole].mean(), 0.6, atol=0.01)
    assert not np.asarray(verdict.guessed)[~whole].any()
    assert_distribution(np.asarray(verdict.next)[whole], p)


def test_a_row_without_a_usable_token_has_no_next() -> None:
    p, q = SHARP
    draft = siblings(q, 1, replacement=True)
    lost = judge(p, 1)
    lost = replace(lost, logits=lost.logits.at[0].set(jnp.nan))
    for verdict in (match(lost, draft, 1), recurse(KEYS, lost, draft, 1, False)):
        assert verdict.next[0] == -1 and verdict.count[0] == 0 and (verdict.next[1:] >= 0).all()
