"""SpecTr and SpecInfer: yields known exactly, the target's law, and rules that break it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.drafters.siblings import Siblings
from algorithms.speculative.drafters.tree import Tree
from algorithms.speculative.spectr import PAPER, spectr
from algorithms.speculative.verifiers import k_seq
from algorithms.speculative.verifiers.k_seq import KSeq
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode.paper import citation
from jaxdecode.sampling import residual
from jaxdecode.speculate import Speculator
from jaxdecode.testing.statistics import ALPHA, p_value
from jaxdecode.transport import accepted, division, overlap
from tests.algorithms.toys import DRAFT, emitting, fit, markov, one_level, per_round, sample

TEXTS = 20_000
COUNT, DEPTH = 4, 2
WANTED, DRAWN = jnp.array([0.1, 0.2, 0.3, 0.4]), jnp.array([0.5, 0.3, 0.15, 0.05])
KEYS = jax.random.split(jax.random.key(3), TEXTS)


def test_texts_follow_the_target() -> None:
    assert fit(sample(spectr(emitting(), DRAFT, COUNT, DEPTH), TEXTS)) > ALPHA


def test_yield_where_tokens_do_not_depend_on_context() -> None:
    generator, draft = emitting(markov([(0.2, 0.3, 0.5)])), markov([(0.6, 0.3, 0.1)])
    result = sample(spectr(generator, draft, COUNT, DEPTH), TEXTS)
    np.testing.assert_allclose(per_round(result), 2.245998, atol=0.02)


@pytest.mark.parametrize(
    ("verifier", "count", "expected"),
    [
        (KSeq(), 2, 0.622829),
        (KSeq(), 4, 0.730662),
        (Residual(True), 2, 0.6),
        (Residual(True), 4, 0.711),
    ],
)
def test_one_level_accepts_as_computed(verifier, count, expected) -> None:
    _, number, emitted = one_level(verifier, WANTED, DRAWN, count, KEYS, jnp.array(True))
    assert p_value(np.asarray(emitted), np.asarray(WANTED)) > ALPHA
    np.testing.assert_allclose(number.mean(), expected, atol=0.015)


def test_one_draft_is_speculative_sampling() -> None:
    """The same uniforms decide the same."""
    several, single = (
        one_level(verifier, WANTED, DRAWN, 1, KEYS, jnp.array(True))
        for verifier in (KSeq(), Residual(True))
    )
    for mine, other in zip(several, single, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_the_remainder_is_never_a_token_that_was_drawn() -> None:
    """Wherever the remainder has mass, a drawn token is accepted for certain."""
    drawn, number, emitted = one_level(KSeq(), WANTED, DRAWN, 4, KEYS, jnp.array(True))
    repeats = (drawn == emitted[:, None]).any(axis=1) & (number == 0)
    assert int(repeats.sum()) == 0


WRONG = {
    "no division": {"division": lambda target, draft, alive: jnp.ones(target.shape[:-1])},
    "the residual of one draft": {
        "remainder": lambda target, draft, rho, alive: residual(target, draft)
    },
    "too small a division": {
        "division": lambda target, draft, alive: 1 + 0.5 * (division(target, draft, alive) - 1)
    },
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules_are_caught(name, monkeypatch) -> None:
    for part, rule in WRONG[name].items():
        monkeypatch.setattr(k_seq, part, rule)
    with jax.disable_jit():
        *_, emitted = one_level(KSeq(), WANTED, DRAWN, 4, KEYS, jnp.array(True))
    assert p_value(np.asarray(emitted), np.asarray(WANTED)) < ALPHA


def test_counting_the_dead_is_caught(monkeypatch) -> None:
    """The division factor and remainder of all sequences, whichever are alive."""

    def left(target, draft, rho, alive):
        beta = overlap(target, draft, rho)
        share = (accepted(beta, COUNT) / beta)[..., None]
        rest = jnp.maximum(target - jnp.minimum(draft, target / rho[..., None]) * share, 0)
        return rest / jnp.sum(rest, axis=-1, keepdims=True)

    monkeypatch.setattr(
        k_seq, "division", lambda target, draft, alive: division(target, draft, alive * 0 + COUNT)
    )
    monkeypatch.setattr(k_seq, "remainder", left)
    jax.clear_caches()
    wrong = fit(sample(spectr(emitting(), DRAFT, COUNT, DEPTH), TEXTS))
    jax.clear_caches()
    assert wrong < ALPHA


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="without replacement"):
        Speculator(emitting(), Tree(DRAFT, Siblings((2, 2))), KSeq())
    with pytest.raises(ValueError, match="make them agree"):
        Speculator(emitting(), Tree(DRAFT, Siblings((2, 2), replacement=True)), Residual())
    with pytest.raises(ValueError, match="count=0"):
        Siblings.sequences(0, 3)
    with pytest.raises(ValueError, match="factors"):
        Siblings(())
    Speculator(emitting(), Chain(DRAFT, 3), KSeq())


def test_the_paper_is_cited() -> None:
    assert PAPER.bibtex() in citation(spectr(emitting(), DRAFT, 2, 2))
