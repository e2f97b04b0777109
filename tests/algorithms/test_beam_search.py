"""Beam search and its kin against brute force, worked lists and a plain reference."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.search.anti_language_model import AntiLanguageModel
from algorithms.search.beam_search import BeamSearch, SiblingRank
from algorithms.search.diverse_beam_search import DiverseBeamSearch
from algorithms.search.diversity import Cumulative, Diversity, Embedded, Hamming, Ngram
from algorithms.search.stochastic_beam_search import StochasticBeamSearch
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.certainty import CertaintyMeter
from jaxdecode.decoder import Decoder, decode
from jaxdecode.extension import Front, Likeliest
from jaxdecode.finished import LengthPenalty
from jaxdecode.logits import (
    Ban,
    BanSequences,
    Identity,
    NoRepeatNgram,
    OneOf,
    PresencePenalty,
    chain,
)
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_probs, sequence_probs
from jaxdecode.testing.statistics import assert_distribution, power
from tests.markov import MarkovLM
from tests.references import beams as naive

END, ROOT = 3, 4
TABLE = np.array(
    [
        [0.10, 0.50, 0.30, 0.10, 0.0],
        [0.45, 0.05, 0.30, 0.20, 0.0],
        [0.25, 0.35, 0.10, 0.30, 0.0],
        [1.00, 0.00, 0.00, 0.00, 0.0],
        [0.55, 0.30, 0.14, 0.01, 0.0],
    ]
)
with np.errstate(divide="ignore"):
    MARKOV = MarkovLM(jnp.asarray(np.log(TABLE), jnp.float32))
WORKED = Generator(MARKOV, Identity(), Greedy(), Stop.of(END), 3)
ONE = Prompt.of([[ROOT]])

MODEL = EnumerableLM.random(3, 5)
PROMPTS = ([1, 2, 3], [4], [2, 2])
RAGGED = Prompt.of(PROMPTS, width=4)
LENGTH, EOS = 4, 0
FREE = Generator(MODEL, Identity(), Greedy(), Stop.of(EOS), LENGTH)


def run(decoder: Decoder, prompt: Prompt, seed: int = 0) -> Result:
    return jax.device_get(decode(decoder, seed, prompt))


def spelled(result: Result, row: int = 0, group: int | None = None) -> list[str]:
    """The list of a row as strings of digits, E for the end."""
    found = result.trace
    kept = [k for k in range(found.length.shape[1]) if group in (None, found.group[row, k])]
    texts = [found.tokens[row, k, : found.length[row, k]].tolist() for k in kept]
    return ["".join("012E"[token] for token in text) for text in texts]


def law(row: int) -> naive.Law:
    return lambda output: np.log(next_probs(MODEL, [*PROMPTS[row], *output]))


def assert_lists(result: Result, row: int, expected: list[naive.Hypothesis]) -> None:
    """The same hypotheses in the same order, with their scores."""
    found = result.trace
    for k, one in enumerate(expected):
        length = found.length[row, k]
        assert tuple(found.tokens[row, k, :length].tolist()) == one.tokens, (row, k)
        np.testing.assert_allclose(found.score[row, k], one.score, atol=2e-5)
        np.testing.assert_allclose(found.logprob[row, k], one.raw, atol=2e-5)


def test_the_worked_lists_of_both_schemes() -> None:
    """A hypothesis that is fifth and ends is kept where there are spare candidates."""
    alive = run(BeamSearch(WORKED, 4), ONE)
    assert spelled(alive) == ["010", "012", "101", "1E"]
    expected = [-2.08949, -2.49496, -2.69563, -2.81341]
    np.testing.assert_allclose(alive.trace.score[0], expected, atol=1e-5)
    assert alive.trace.status[0].tolist() == [Status.LENGTH] * 3 + [Status.EOS]
    assert spelled(run(BeamSearch(WORKED, 4, spare=False), ONE)) == ["010", "012", "101", "021"]


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.6, 1.0])
def test_lengths_are_compared_as_published_and_stopping_early_loses_nothing(alpha) -> None:
    penalty = LengthPenalty(alpha, "gnmt")
    found = run(BeamSearch(WORKED, 4, penalty), ONE)
    whole = run(BeamSearch(WORKED, 4, penalty, stopping="never"), ONE)
    reference = naive.search(
        lambda output: np.log(np.maximum(TABLE[output[-1] if output else ROOT], 1e-300)),
        4,
        3,
        (END,),
        divisor=lambda length: ((5 + length) / 6) ** alpha,
    )[0]
    assert_lists(found, 0, reference)
    np.testing.assert_array_equal(found.trace.tokens, whole.trace.tokens)
    np.testing.assert_array_equal(found.trace.rank, whole.trace.rank)
    if alpha == 0.6:
        divisors = found.trace.score[0] / found.trace.rank[0]
        wanted = np.where(found.trace.length[0] == 3, 1.188402, 1.096903)
        np.testing.assert_allclose(divisors, wanted, rtol=1e-5)


def test_a_beam_as_wide_as_the_space_is_brute_force() -> None:
    """Ragged rows, each by enumeration; and what is narrower equals the plain reference."""
    wide = run(BeamSearch(FREE, 4**3), RAGGED)
    narrow = run(BeamSearch(replace(FREE, cache_growth=2), 3), RAGGED)
    for row, prompt in enumerate(PROMPTS):
        every = sequence_probs(MODEL, prompt, LENGTH, eos=[EOS])
        best = sorted(every.items(), key=lambda item: -item[1])[:50]
        whole = [naive.Hypothesis(tokens, np.log(p), np.log(p)) for tokens, p in best]
        assert_lists(wide, row, whole)
        assert_lists(narrow, row, naive.search(law(row), 3, LENGTH, [EOS])[0])
    assert (wide.usage.target_passes <= LENGTH + 1).all()
    assert (wide.usage.invalid == 0).all()


def test_one_beam_is_greedy_search() -> None:
    found = run(BeamSearch(FREE, 1, stopping="first", leading=True), RAGGED)
    for row in range(len(PROMPTS)):
        output: tuple[int, ...] = ()
        while len(output) < LENGTH and EOS not in output:
            output = (*output, int(np.argmax(law(row)(output))))
        assert tuple(found.tokens[row, : found.length[row]].tolist()) == output


def test_edits_follow_each_hypothesis() -> None:
    """Repeated pairs are excluded along a hypothesis' own history, and cost nothing."""
    blocking = replace(FREE, transform=NoRepeatNgram(2, LENGTH))
    found = run(BeamSearch(blocking, 4), RAGGED)
    for row in range(len(PROMPTS)):
        expected = naive.search(constrained(row, lambda text: False), 4, LENGTH, [EOS])[0]
        assert_lists(found, row, expected)


def constrained(row: int, refused: Callable[[list[int]], bool]) -> naive.Law:
    """No pair of tokens twice, and nothing that is refused."""

    def permitted(output: tuple[int, ...]) -> np.ndarray:
        text = [*PROMPTS[row], *output]
        pairs = set(itertools.pairwise(text))
        logp = law(row)(output).copy()
        for token in range(5):
            if (text[-1], token) in pairs or refused([*text, token]):
                logp[token] = -np.inf
        return logp

    return permitted


def test_groups_keep_away_from_each_other_within_the_constraints() -> None:
    """Sequences that are banned, and pairs that may not repeat, of two groups of beams."""
    edits = chain(NoRepeatNgram(2, LENGTH), BanSequences.of([[1], [3, 2], [4, 4]]))
    diverse = DiverseBeamSearch(replace(FREE, transform=edits), 4, 2, 0.7)
    found = run(diverse, RAGGED)
    for row in range(len(PROMPTS)):
        law_ = constrained(row, lambda text: text[-1] == 1 or text[-2:] in ([3, 2], [4, 4]))
        options: dict[str, Any] = {"groups": 2, "spare": False, "strength": 0.7}
        lists = naive.search(law_, 2, LENGTH, [EOS], penalty=naive.hamming, **options)
        for group, expected in enumerate(lists):
            own = found.trace.group[row] == group
            texts = zip(found.trace.tokens[row][own], found.trace.length[row][own], strict=True)
            spelt = {tuple(tokens[:length].tolist()) for tokens, length in texts if length}
            assert spelt == {one.tokens for one in expected}


def test_what_is_likely_after_anything_is_weighed_down() -> None:
    """The first two tokens cost their likelihood without the prompt; the model's own is told."""
    weighing = AntiLanguageModel.of(MODEL, [4], 0.6, 2)
    found = run(BeamSearch(replace(FREE, transform=weighing), 3, stopping="never"), RAGGED)

    def weighed(row: int) -> naive.Law:
        def scores(output: tuple[int, ...]) -> np.ndarray:
            alone = np.log(next_probs(MODEL, [4, *output]))
            return law(row)(output) - (0.6 * alone if len(output) < 2 else 0.0)

        return scores

    for row, prompt in enumerate(PROMPTS):
        every = sequence_probs(MODEL, prompt, LENGTH, eos=[EOS])
        for k, one in enumerate(naive.search(weighed(row), 3, LENGTH, [EOS])[0]):
            length = found.trace.length[row, k]
            assert tuple(found.trace.tokens[row, k, :length].tolist()) == one.tokens
            np.testing.assert_allclose(found.trace.score[row, k], one.score, atol=2e-5)
            np.testing.assert_allclose(
                found.trace.logprob[row, k], np.log(every[one.tokens]), atol=2e-5
            )
    with pytest.raises(ValueError, match="begin"):
        AntiLanguageModel.of(MODEL, [], 0.6, 2)


def test_a_beam_as_wide_as_the_choices_ranks_them_all() -> None:
    choices = ([1, 2], [1], [3, 3, 1], [4, 2])
    found = run(BeamSearch(replace(FREE, transform=OneOf.of(choices, [EOS])), 4), RAGGED)
    for row, prompt in enumerate(PROMPTS):
        every = sequence_probs(MODEL, prompt, LENGTH, eos=[EOS])
        scored = {(*choice, EOS): np.log(every[(*choice, EOS)]) for choice in choices}
        best = sorted(scored.items(), key=lambda item: -item[1])
        assert_lists(found, row, [naive.Hypothesis(tokens, p, p) for tokens, p in best])


def test_sibling_ranks_spread_the_parents() -> None:
    """The k-th child of a hypothesis pays k times the rate, and its children do after it."""
    found = run(BeamSearch(FREE, 3, ranker=SiblingRank(0.7), spare=False), RAGGED)

    def penalised(row: int) -> naive.Law:
        def ranked(output: tuple[int, ...]) -> np.ndarray:
            logp = law(row)(output)
            return logp - 0.7 * (np.argsort(np.argsort(-logp)) + 1)

        return ranked

    for row in range(len(PROMPTS)):
        expected = naive.search(penalised(row), 3, LENGTH, [EOS], spare=False)[0]
        texts = [tuple(found.trace.tokens[row, k, : len(e.tokens)]) for k, e in enumerate(expected)]
        assert texts == [one.tokens for one in expected]
        np.testing.assert_allclose(found.trace.score[row], [e.score for e in expected], atol=2e-5)


SECOND = {
    0.2: {"010": (-2.6895, -2.0895), "012": (-3.0950, -2.4950)},
    0.5: {"101": (-3.1956, -2.6956), "010": (-3.5895, -2.0895)},
    0.8: {"2E": (-3.1701, -3.1701), "010": (-4.4895, -2.0895)},
    2.0: {"2E": (-3.1701, -3.1701), "201": (-4.0456, -4.0456)},
}


@pytest.mark.parametrize("strength", [0.0, *SECOND])
def test_the_worked_lists_of_two_groups(strength) -> None:
    found = run(DiverseBeamSearch(WORKED, 4, 2, strength), ONE)
    assert spelled(found, group=0) == ["010", "012"]
    if strength == 0:
        assert spelled(found, group=1) == ["010", "012"]
        return
    lists = found.trace
    at = [k for k in range(4) if lists.group[0, k] == 1]
    for k, text in zip(at, spelled(found, group=1), strict=True):
        scores = SECOND[strength][text]
        np.testing.assert_allclose((lists.score[0, k], lists.logprob[0, k]), scores, atol=1e-4)


def test_the_worked_lists_of_four_groups() -> None:
    half = run(DiverseBeamSearch(WORKED, 4, 4, jnp.full((4,), 0.5)), ONE)
    by_group = {int(g): text for g, text in zip(half.trace.group[0], spelled(half), strict=True)}
    assert [by_group[g] for g in range(4)] == ["010", "012", "101", "02E"]
    two = run(DiverseBeamSearch(WORKED, 4, 4, jnp.full((4,), 2.0)), ONE)
    assert sorted(spelled(two)) == ["010", "02E", "101", "2E"]
    at = spelled(two).index("02E")
    np.testing.assert_allclose(two.trace.score[0, at], -5.0058, atol=1e-4)
    np.testing.assert_allclose(two.trace.logprob[0, at], -3.0058, atol=1e-4)


VECTORS = np.random.default_rng(0).normal(size=(5, 4))
TABLE_OF_VECTORS = jnp.asarray(VECTORS, jnp.float32)


@struct.dataclass
class Sum:
    """Several terms at once, so that one program tests them all."""

    terms: tuple[Diversity, ...]

    def __call__(self, front: Front) -> jax.Array:
        return sum((term(front) for term in self.terms), jnp.zeros(()))


TERMS: dict[str, tuple[Any, tuple[naive.Penalty, ...]]] = {
    "of steps": (
        Sum((Cumulative(2.0), Hamming(), Ngram((1, 3)))),
        (naive.cumulative(2.0, False), naive.hamming, naive.ngram((1, 3))),
    ),
    "of vectors": (
        Sum(
            (Cumulative(3.0, gated=True), Embedded(TABLE_OF_VECTORS), Embedded(TABLE_OF_VECTORS, 2))
        ),
        (naive.cumulative(3.0, True), naive.embedded(VECTORS, 1), naive.embedded(VECTORS, 2)),
    ),
}


@pytest.mark.parametrize("terms", TERMS)
def test_terms_equal_their_references(terms) -> None:
    """Three groups of two, the list of each and its scores, on ragged rows."""
    diversity, penalties = TERMS[terms]
    found = run(DiverseBeamSearch(FREE, 6, 3, 0.4, diversity, rank_by="augmented"), RAGGED)

    def penalty(*given: Any) -> float:
        return sum(one(*given) for one in penalties)

    for row in range(len(PROMPTS)):
        rules = {"groups": 3, "spare": False, "strength": 0.4, "penalty": penalty}
        groups = naive.search(law(row), 2, LENGTH, [EOS], **rules)
        merged = sorted((h for group in groups for h in group), key=lambda h: -h.score)
        np.testing.assert_allclose(found.trace.score[row], [h.score for h in merged], atol=3e-5)
        np.testing.assert_allclose(
            sorted(found.trace.logprob[row]), sorted(h.raw for h in merged), atol=3e-5
        )


@struct.dataclass
class Trusted:
    """A term, or a ranker, that claims never to raise a score: the fault to be caught."""

    of: Any
    nonnegative = True

    def falling(self, rising) -> bool:
        return True

    def __call__(self, front: Front) -> jax.Array:
        return self.of(front)


FLAT = EnumerableLM.random(1, 5, sharpness=0.5)
LIFTED = Generator(FLAT, PresencePenalty(-3.0, 5), Greedy(), Stop.of(1), 6)
APART = Embedded(TABLE_OF_VECTORS)


def diverse(term: Diversity) -> DiverseBeamSearch:
    generator = Generator(FLAT, Identity(), Greedy(), Stop.of(2), 6)
    return DiverseBeamSearch(generator, 2, 2, 4.0, term, rank_by="augmented", spare=True)


@pytest.mark.parametrize(
    ("honest", "trusted", "rises"),
    [
        (BeamSearch(LIFTED, 1), BeamSearch(LIFTED, 1, ranker=Trusted(Likeliest())), True),
        (diverse(APART), diverse(Trusted(APART)), True),
        (diverse(Hamming()), diverse(Trusted(Hamming())), False),
    ],
    ids=["edits", "cosines", "counts"],
)
def test_a_search_stops_early_only_where_scores_can_only_fall(honest, trusted, rises) -> None:
    """Presence rewarded, and negative cosines, raise scores: what is open may still win."""
    found, early = run(honest, RAGGED), run(trusted, RAGGED)
    if rises:
        assert (found.trace.score.max(axis=1) >= early.trace.score.max(axis=1) - 1e-5).all()
        assert (found.trace.score.max(axis=1) > early.trace.score.max(axis=1) + 0.1).any()
    else:  # nothing is lost, and the saving is still there
        np.testing.assert_array_equal(found.trace.tokens, early.trace.tokens)
        np.testing.assert_array_equal(found.usage.target_passes, early.usage.target_passes)


def front(own: list[int], other: list[int]) -> Front:
    """One hypothesis about to take its third token, beside one that has, over 9 tokens."""
    texts = jnp.asarray([[[*own, 0], other]], jnp.int32)
    zero = jnp.zeros((1, 1))
    return Front(
        step=jnp.asarray(2),
        group=jnp.asarray(1),
        key=jax.random.split(jax.random.key(0), 1),
        score=zero,
        total=zero,
        logp=jnp.zeros((1, 1, 9)),
        tokens=texts[:, :1],
        others=texts,
        counted=jnp.asarray([[False, True]]),
        candidates=1,
    )


STEPS: tuple[Diversity, ...] = (
    Hamming(),
    Cumulative(2.0),
    Cumulative(2.0, gated=True),
    Ngram((2,)),
    Embedded(jnp.eye(9)),
    Cumulative(float("inf")),
    Cumulative(float("inf"), gated=True),
)


@jax.jit
def penalties(own: Front) -> list[jax.Array]:
    return [term(own)[0, 0] for term in STEPS]


def test_single_steps_of_the_terms() -> None:
    hamming, literal, gated, _, embedded, endless, backing = map(
        np.asarray, penalties(front([5, 8], [5, 7, 2]))
    )
    np.testing.assert_array_equal(hamming, np.arange(9) == 2)
    np.testing.assert_allclose(literal, np.where(np.arange(9) == 2, 0.606531, 0.367879), atol=1e-6)
    np.testing.assert_allclose(gated, np.where(np.arange(9) == 2, 0.606531, 0), atol=1e-6)
    np.testing.assert_allclose(embedded, hamming, atol=1e-6)
    np.testing.assert_allclose(endless, endless[0])
    np.testing.assert_allclose(backing, hamming)
    assert penalties(front([5, 7], [5, 7, 2]))[3].tolist() == [0, 0, 1, *[0] * 6]
    assert penalties(front([8, 5], [5, 7, 2]))[3].tolist() == [0] * 7 + [1, 0]


def test_stochastic_beams_are_draws_without_replacement() -> None:
    """First and second of three, jointly; a second that is any other would be rejected."""
    rows, length = 6000, 2
    generator = Generator(MODEL, Ban.of([4]), Categorical(), Stop.of(EOS), length)
    prompt = Prompt.of([[1, 2]] * rows, ids=range(rows), width=2)
    found = run(StochasticBeamSearch(generator, 3), prompt).trace

    def without(logits: np.ndarray, *_: Any) -> np.ndarray:
        return np.where(np.arange(5) == 4, -np.inf, logits)

    one = sequence_probs(MODEL, [1, 2], length, without, [EOS])
    one = {tokens: p for tokens, p in one.items() if p > 0}
    texts = [
        [tuple(found.tokens[r, k, : found.length[r, k]].tolist()) for k in range(2)]
        for r in range(rows)
    ]
    pairs = {(a, b): p * q / (1 - p) for a, p in one.items() for b, q in one.items() if a != b}
    assert_distribution([(a, b) for a, b in texts], pairs)
    uniform = {(a, b): one[a] / (len(one) - 1) for a, b in pairs}
    assert power(rows, pairs, uniform) > 0.99
    np.testing.assert_allclose(found.total[0, 0], np.log(one[texts[0][0]]), atol=1e-5)
    assert (np.diff(found.score, axis=1) < 0).all()


def test_dead_ends_and_broken_models_are_told_apart() -> None:
    """All tokens excluded: EXHAUSTED; a model that gives NaN: INVALID and counted."""
    dead = run(BeamSearch(replace(FREE, transform=Ban.of(range(5))), 2), RAGGED)
    broken = replace(MODEL, bias=MODEL.bias.at[0].set(jnp.nan))
    nothing = Ban.of(range(5, 10))  # ids past the vocabulary exclude none
    lost = run(BeamSearch(replace(FREE, model=broken, transform=nothing), 2), RAGGED)
    for result, status in ((dead, Status.EXHAUSTED), (lost, Status.INVALID)):
        assert (result.status == status).all() and (result.length == 0).all()
        assert (result.logprob == 0).all() and not result.tokens.any()
    assert (dead.usage.invalid == 0).all() and (lost.usage.invalid == 1).all()


def test_refusals() -> None:
    for beams in (0, -1):
        with pytest.raises(ValueError, match=f"beams={beams}"):
            BeamSearch(FREE, beams)
    for groups in (0, 3, 5):
        with pytest.raises(ValueError, match=f"groups={groups} must divide beams=4"):
            DiverseBeamSearch(FREE, 4, groups)
    with pytest.raises(ValueError, match="strength of shape"):
        DiverseBeamSearch(FREE, 4, 2, jnp.ones(3))
    with pytest.raises(ValueError, match="sampler=Categorical"):
        BeamSearch(replace(FREE, sampler=Categorical()), 2)
    with pytest.raises(ValueError, match="sampler=Greedy"):
        StochasticBeamSearch(FREE, 2)
    with pytest.raises(ValueError, match="meter=CertaintyMeter"):
        BeamSearch(replace(FREE, meter=CertaintyMeter(jnp.zeros((0,), jnp.int32))), 2)
    with pytest.raises(ValueError, match="stopping='soon'"):
        BeamSearch(FREE, 2, stopping="soon")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="rank_by="):
        DiverseBeamSearch(FREE, 4, 2, rank_by="worth")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="form="):
        LengthPenalty(1.0, "linear")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="at least one size"):
        Ngram(())
