"""RSD: truncated Gumbel noise, the law of stochastic beams, verification in the order drawn."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.speculative.drafters import beam
from algorithms.speculative.drafters.beam import Beam, conditioned
from algorithms.speculative.drafters.siblings import Siblings
from algorithms.speculative.drafters.tree import Tree
from algorithms.speculative.rsd import PAPER, rsd_c, rsd_s
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode import struct, verify
from jaxdecode.draft import Verdict
from jaxdecode.paper import citation
from jaxdecode.testing.statistics import ALPHA, p_value
from tests.algorithms.toys import DRAFT, emitting, fit, grow, markov, one_level, per_round, sample
from tests.references import trees as reference

TEXTS = 20_000
FREE = markov([(0.6, 0.3, 0.1)])


def test_noise_is_conditioned_on_its_maximum() -> None:
    """The worked example, sorted as the beam has it, and a parent with a child too few."""
    phi = -0.7 + np.log([0.6, 0.3, 0.1])
    noisy = phi + np.array([0.1, 0.5, -0.2])
    np.testing.assert_allclose(noisy, (-1.110826, -1.403973, -3.202585), atol=1e-6)
    found = conditioned(jnp.array([-0.3]), jnp.asarray(noisy)[None])
    np.testing.assert_allclose(found[0], (-0.3, -0.868921, -3.131531), atol=1e-5)
    few = conditioned(jnp.array([-0.3]), jnp.array([[-2.0, -jnp.inf]]))
    np.testing.assert_allclose(few[0], (-0.3, -jnp.inf), atol=1e-6)


def pairs(draft) -> np.ndarray:
    """Both sequences of every tree of two levels and width two, as cells 0..8 (token, token)."""
    last = draft.tokens[:, 2:]
    first = np.take_along_axis(draft.tokens, draft.shape.parent[:, 2:], axis=1)
    return np.where(draft.valid[:, 2:], 3 * first + last, -1)


def beams() -> dict[tuple[int, int], float]:
    """P(i, then j) of two sequences without replacement."""
    leaf = np.outer([0.6, 0.3, 0.1], [0.6, 0.3, 0.1]).ravel()
    return {(i, j): leaf[i] * leaf[j] / (1 - leaf[i]) for i in range(9) for j in range(9) if i != j}


def test_beams_are_sequences_without_replacement() -> None:
    draft = grow(Tree(FREE, Beam(2, 2)), TEXTS)
    found = pairs(draft)
    assert p_value(found, beams()) > ALPHA
    included = [np.mean((found == cell).any(axis=1)) for cell in range(9)]
    known = (
        0.625515,
        0.374495,
        0.134173,
        0.374495,
        0.198103,
        0.068073,
        0.134173,
        0.068073,
        0.022899,
    )
    np.testing.assert_allclose(included, known, atol=0.02)


WRONG_BEAMS = {
    "noise of its own": lambda gamma, perturbed: perturbed,
    "no noise of the parent": lambda gamma, perturbed: perturbed - perturbed[..., :1],
}


@pytest.mark.parametrize("name", WRONG_BEAMS)
def test_wrong_beams_are_caught(name, monkeypatch) -> None:
    """Children whose noise forgets that of their parent."""
    monkeypatch.setattr(beam, "conditioned", WRONG_BEAMS[name])
    assert p_value(pairs(grow(Tree(FREE, Beam(2, 2)), TEXTS)), beams()) < ALPHA


@pytest.mark.parametrize(
    ("wanted", "drawn", "increments"),
    [
        ((0.2, 0.3, 0.5), (0.6, 0.3, 0.1), (0.6, 0.1, 0.3)),
        ((0.1, 0.2, 0.3, 0.4), (0.5, 0.3, 0.15, 0.05), (0.5, 0.188571, 0.086429, 0.225)),
        ((1.0, 0.0), (0.5, 0.5), (0.5, 0.5)),
    ],
)
def test_the_whole_support_is_always_accepted(wanted, drawn, increments) -> None:
    """Which child is accepted, of as many as there are tokens."""
    keys = jax.random.split(jax.random.key(7), TEXTS)
    tokens, number, emitted = one_level(
        Residual(), jnp.asarray(wanted), jnp.asarray(drawn), len(drawn), keys, jnp.array(False)
    )
    assert (np.asarray(number) == 1).all()
    assert p_value(np.asarray(emitted), np.asarray(wanted)) > ALPHA
    place = np.argmax(np.asarray(tokens) == np.asarray(emitted)[:, None], axis=1)
    assert p_value(place, dict(enumerate(increments))) > ALPHA


def test_texts_follow_the_target_and_yields_are_known() -> None:
    """Two constant factors, then the same program where tokens do not depend on context."""
    result = sample(rsd_c(emitting(), DRAFT, (2, 2, 1)), TEXTS)
    assert fit(result) > ALPHA
    np.testing.assert_allclose(per_round(result), 2.73, atol=0.03)
    free = sample(rsd_c(emitting(markov([(0.2, 0.3, 0.5)])), FREE, (2, 2, 1)), TEXTS)
    chance = 0.7  # of a level with two children; the third level has one
    expected = 1 + chance + chance**2 + chance**2 * 0.6
    np.testing.assert_allclose(per_round(free), expected, atol=0.03)


def test_beams_yield_what_a_reference_yields() -> None:
    result = sample(rsd_s(emitting(), DRAFT, 3, 3), TEXTS)
    assert fit(result) > ALPHA
    np.testing.assert_allclose(per_round(result), 2.94, atol=0.03)


def test_the_reference_is_exact_too() -> None:
    """The naive loop, held to the numbers and the law it is to vouch for."""
    rng = np.random.default_rng(0)
    drawn, wanted = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5])
    rounds = []
    for _ in range(4000):
        tree = reference.siblings(rng, lambda path: drawn, (2, 2))
        rounds.append(reference.verify(rng, lambda path: wanted, lambda path: drawn, tree))
    assert p_value(np.array([text[0] for text in rounds]), wanted) > ALPHA
    np.testing.assert_allclose(np.mean([len(text) for text in rounds]), 2.19, atol=0.06)


@struct.dataclass
class Sorted:
    """Wrong: siblings are tried in the order of their tokens and not in that of the draws."""

    def pair(self, drafter) -> None:
        """Anything goes."""

    def __call__(self, keys, judge, draft, depth) -> Verdict:
        return Residual()(keys, judge, replace(draft, tokens=jnp.sort(draft.tokens)), depth)


@struct.dataclass
class Unconditioned:
    """Wrong: the law of a second sibling still holds the first."""

    def pair(self, drafter) -> None:
        """Anything goes."""

    def __call__(self, keys, judge, draft, depth) -> Verdict:
        return verify.recurse(keys, judge, draft, depth, replacement=True)


@pytest.mark.parametrize("verifier", [Sorted(), Unconditioned()], ids=lambda x: type(x).__name__)
def test_wrong_rules_are_caught(verifier) -> None:
    """Beside the right one, which passes."""
    wanted, drawn = jnp.array([0.1, 0.2, 0.3, 0.4]), jnp.array([0.5, 0.3, 0.15, 0.05])
    keys = jax.random.split(jax.random.key(7), TEXTS)
    fits = [
        p_value(
            np.asarray(one_level(rule, wanted, drawn, 2, keys, jnp.array(False))[2]),
            np.asarray(wanted),
        )
        for rule in (Residual(), verifier)
    ]
    assert fits[0] > ALPHA > fits[1]


def test_a_tree_is_numbered_and_drawn_as_it_says() -> None:
    """Distinct siblings side by side, levels in order, laws and ancestors their own."""
    draft = grow(Tree(DRAFT, Siblings((2, 2))), 50)
    np.testing.assert_array_equal(draft.shape.parent, np.tile([-1, -1, 0, 0, 1, 1], (50, 1)))
    np.testing.assert_array_equal(draft.shape.depth, np.tile([1, 1, 2, 2, 2, 2], (50, 1)))
    assert draft.valid.all()
    tokens = draft.tokens.reshape(50, 3, 2)
    assert (tokens[..., 0] != tokens[..., 1]).all()
    seen = np.eye(6, dtype=bool)
    seen[2:4, 0] = seen[4:, 1] = True
    np.testing.assert_array_equal(draft.shape.seen, np.tile(seen, (50, 1, 1)))
    above = np.concatenate([np.zeros((50, 2), int), np.repeat(tokens[:, 0], 2, axis=1)], axis=1)
    assert draft.logq is not None and draft.source is not None
    laws = jnp.exp(jnp.take_along_axis(draft.logq, draft.source[..., None], axis=1))
    np.testing.assert_allclose(laws, np.exp(np.asarray(DRAFT.table))[above], rtol=1e-5)


def test_bad_shapes_are_refused_and_the_paper_is_cited() -> None:
    with pytest.raises(ValueError, match="width=0"):
        Beam(0, 2)
    with pytest.raises(ValueError, match="factors"):
        Siblings((2, 0))
    with pytest.raises(ValueError, match=r"k=4 must lie in 1\.\.3"):
        grow(Tree(DRAFT, Siblings((4,))), 2)
    assert PAPER.bibtex() in citation(rsd_s(emitting(), DRAFT, 2, 2))
