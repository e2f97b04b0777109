"""Likelihood of a denoiser: known answers on two bits, unbiasedness by enumeration, guidance."""

from __future__ import annotations

import itertools
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.denoiser import Denoiser
from jaxdecode.finite_law import FiniteLaw
from jaxdecode.likelihood import Texts, continuous, counts, in_order, log_predictions
from jaxdecode.lm import extend
from jaxdecode.testing.enumerable import EnumerableLM
from jaxdecode.testing.law_model import LawModel

BITS = FiniteLaw(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0.4, 0.1, 0.2, 0.3]))
TRUE = Denoiser(LawModel.of(BITS, 3, 2), 2)
MASK, SAMPLES = 4, 3000


class Forwarding(EnumerableLM):
    """The enumerable model for whole sequences; its conditionals agree with no one law."""

    def forward(self, tokens, valid=None, *, position=None, block=None):
        cache = self.init_cache(*tokens.shape)
        output = extend(self, tokens, cache, block=block, valid=valid, fresh=True)
        return output.logits, output.hidden


def odd() -> Denoiser:
    model = EnumerableLM.random(3, vocab=5, width=6, sharpness=2.0)
    return Denoiser(Forwarding(model.keys, model.values, model.head, model.bias), MASK)


jax.tree_util.register_pytree_node(
    Forwarding,
    lambda m: ((m.keys, m.values, m.head, m.bias), None),
    lambda _, leaves: Forwarding(*leaves),
)

# A prompt of two tokens, an answer of three, padding that must not be seen.
TEXTS = Texts(
    jnp.array([[1, 3, 0, 2, 1, 3], [2, 0, 1, 3, 3, 0]]),
    jnp.array([[0, 0, 1, 1, 1, 0]] * 2, bool),
    jnp.array([5, 5]),
)


def surprises(denoiser: Denoiser, row: int, hidden: tuple[int, ...], guidance=0.0) -> np.ndarray:
    """-log p of each hidden token, in float64 from the logits."""
    mask = np.zeros((2, 6), bool)
    mask[row, list(hidden)] = True
    found = np.asarray(log_predictions(denoiser, TEXTS, jnp.asarray(mask), guidance), np.float64)
    return np.array([-found[row, i, int(TEXTS.tokens[row, i])] for i in hidden])


def bound(denoiser: Denoiser, row: int) -> float:
    """Over every set of hidden tokens: E over l of E over sets of (A / l) ce."""
    total = 0.0
    for size in range(1, 4):
        for hidden in itertools.combinations((2, 3, 4), size):
            total += surprises(denoiser, row, hidden).sum() / size / comb(3, size)
    return total


def test_two_bits_by_hand() -> None:
    """x = 00: draws 0.81093 or 0.44629 of one token and 1.20397 of two; the mean is -ln 0.4."""
    texts = Texts(jnp.array(BITS.support), jnp.ones((4, 2), bool), jnp.full(4, 2))
    keys = jax.random.split(jax.random.key(0), 4)
    draws = np.asarray(counts(TRUE, keys, texts, SAMPLES))
    values = np.unique(np.round(draws[0], 4))
    np.testing.assert_allclose(values, [0.4463, 0.8109, 1.2040], atol=2e-4)
    exact = -np.log(BITS.probability)
    error = draws.std(axis=1) / np.sqrt(SAMPLES)
    assert (np.abs(draws.mean(axis=1) - exact) < 4 * error).all()
    for rank in (None, jnp.array([[1, 0]] * 4)):
        np.testing.assert_allclose(in_order(TRUE, texts, rank), exact, rtol=1e-5)


def test_both_estimators_have_the_bound_for_mean() -> None:
    """A denoiser that agrees with no law; the mean over all hidden sets is the same for both."""
    denoiser = odd()
    keys = jax.random.split(jax.random.key(1), 2)
    exact = np.array([bound(denoiser, row) for row in range(2)])
    spread = {}
    for name, draw in (("counts", counts), ("continuous", continuous)):
        draws = np.asarray(draw(denoiser, keys, TEXTS, SAMPLES))
        error = draws.std(axis=1) / np.sqrt(SAMPLES)
        assert (np.abs(draws.mean(axis=1) - exact) < 4 * error).all(), name
        spread[name] = draws.std(axis=1)
    assert (spread["counts"] < spread["continuous"]).all()


def test_the_loss_without_its_weight_is_no_bound() -> None:
    """What BERT's loss would say; the estimators' test must reject it."""
    denoiser = odd()
    exact = bound(denoiser, 0)
    flat = np.mean(
        [
            surprises(denoiser, 0, hidden).sum()
            for size in range(1, 4)
            for hidden in itertools.combinations((2, 3, 4), size)
        ]
    )
    draws = np.asarray(counts(denoiser, jax.random.split(jax.random.key(1), 2), TEXTS, SAMPLES))[0]
    assert abs(draws.mean() - flat) > 20 * draws.std() / np.sqrt(SAMPLES)
    assert abs(flat - exact) > 0.1


def test_an_order_is_its_chain_of_conditionals() -> None:
    denoiser = odd()
    for order in ((2, 3, 4), (4, 2, 3)):
        rank = np.zeros((2, 6), np.int32)
        rank[:, list(order)] = range(3)
        found = in_order(denoiser, TEXTS, jnp.asarray(rank))
        for row in range(2):
            chain = sum(surprises(denoiser, row, order[j:])[0] for j in range(3))
            assert found[row] == pytest.approx(chain, rel=1e-5)
    left = np.broadcast_to(np.arange(-2, 4), (2, 6))
    np.testing.assert_array_equal(
        in_order(denoiser, TEXTS), in_order(denoiser, TEXTS, jnp.asarray(left))
    )


def test_guidance_leads_away_from_the_answer_without_a_prompt() -> None:
    """c = (2, 0), u = (1, .5), w = 1 gives (3, -.5); here by the logits of both runs."""
    denoiser, hidden = odd(), jnp.asarray(TEXTS.answer)
    logits = np.asarray(log_predictions(denoiser, TEXTS, hidden), np.float64)
    bare = TEXTS._replace(tokens=jnp.where(TEXTS.answer, TEXTS.tokens, MASK))
    other = np.asarray(log_predictions(denoiser, bare, hidden), np.float64)
    logits[..., MASK] = other[..., MASK] = -1e9
    wanted = other + 2 * (logits - other)
    wanted -= np.log(np.exp(wanted).sum(axis=2, keepdims=True))
    found = np.asarray(log_predictions(denoiser, TEXTS, hidden, guidance=1.0))
    np.testing.assert_allclose(found[:, 2:5, :MASK], wanted[:, 2:5, :MASK], atol=1e-4)
    assert np.isneginf(found[:, 2:5, MASK]).all()


def test_a_row_is_alone_with_its_key() -> None:
    denoiser, keys = odd(), jax.random.split(jax.random.key(2), 2)
    both = counts(denoiser, keys, TEXTS, 8)
    turned = Texts(*(part[::-1] for part in TEXTS))
    np.testing.assert_array_equal(both[::-1], counts(denoiser, keys[::-1], turned, 8))
    padding = TEXTS.tokens.at[:, 5].set(MASK - 1)
    other = counts(denoiser, keys, TEXTS._replace(tokens=padding), 8)
    np.testing.assert_array_equal(both, other)


def test_no_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="samples=0"):
        counts(TRUE, jax.random.split(jax.random.key(0), 2), TEXTS, 0)
