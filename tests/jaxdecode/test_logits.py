"""Logits transforms against their naive references, at the edges, and as values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxdecode.logits import (
    Allow,
    Ban,
    BanSequences,
    Chain,
    Epsilon,
    Eta,
    ForcedTokens,
    FrequencyPenalty,
    Identity,
    MinimumLength,
    MinP,
    NoCitation,
    NoRepeatNgram,
    OneOf,
    PresencePenalty,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    Typical,
    chain,
    ordered,
    rank_threshold,
)
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, row_keys, usable
from jaxdecode.testing import naive
from jaxdecode.testing.enumerable import softmax

V = 8
INF = float("inf")
PROMPT = Prompt.of([[1, 2, 1, 3], [4, 5]], width=5)
SEEN = ([1, 2, 1, 3], [4, 5])


@jax.jit
def run(transform, prompt, outputs, logits):
    """Observe the columns of outputs i32[R, L] (-1: the row is inactive), then apply."""
    state = transform.init(prompt)
    for token in outputs.T:
        state = transform.observe(state, jnp.maximum(token, 0), token >= 0)
    return transform.apply(state, logits)


def one(transform, logits):
    """Apply a transform to one row, without a history."""
    rows = jnp.asarray([logits, logits], jnp.float32)
    return np.asarray(run(transform, PROMPT, jnp.zeros((2, 0), jnp.int32), rows)[0], np.float64)


FILTERS = {
    "temperature": (Temperature, naive.temperature, st.floats(0.1, 5)),
    "top_k": (TopK, naive.top_k, st.integers(1, V + 2)),
    "top_p": (TopP, naive.top_p, st.floats(0, 1)),
    "min_p": (MinP, naive.min_p, st.floats(0, 1)),
    "typical": (Typical, naive.typical, st.floats(0.01, 1)),
    "epsilon": (Epsilon, naive.epsilon, st.floats(0, 1)),
    "eta": (Eta, naive.eta, st.floats(0, 1)),
}
# Few values, so that ties are common; far enough apart that rounding makes none.
LOGIT = st.sampled_from([-7.5, -3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0, 6.0, 20.0, -INF])


@pytest.mark.parametrize("name", FILTERS)
@given(data=st.data(), row=st.lists(LOGIT, min_size=V, max_size=V))
def test_filters_equal_their_references(name, data, row) -> None:
    assume(max(row) > -INF)
    make, reference, values = FILTERS[name]
    value = data.draw(values)
    logits = np.array(row)
    expected = reference(logits, value)
    if name not in ("temperature", "top_k"):
        # Where a cut falls on a token up to rounding, either side is right.
        near = [reference(logits, np.clip(value + step, 0, 1)) for step in (-1e-5, 1e-5)]
        assume(all(np.array_equal(x, expected) for x in near))
    np.testing.assert_allclose(one(make(value), logits), expected, 1e-5)


# The tokens kept of p = .40 .25 .15 .10 .07 .03, worked out by hand.
WORKED = [
    (TopP(0.6), [0, 1]),
    (TopP(0.7), [0, 1, 2]),
    (TopP(0.91), [0, 1, 2, 3, 4]),
    (TopP(0.0), [0]),
    (TopP(1.0), [0, 1, 2, 3, 4, 5]),
    (TopK(1), [0]),
    (TopK(4), [0, 1, 2, 3]),
    (TopK(100), [0, 1, 2, 3, 4, 5]),
    (MinP(0.1), [0, 1, 2, 3, 4]),
    (MinP(0.3), [0, 1, 2]),
    (MinP(0.4), [0, 1]),
    (Typical(0.2), [1]),
    (Typical(0.5), [0, 1, 2]),
    (Typical(0.7), [0, 1, 2]),
    (Typical(0.85), [0, 1, 2, 3]),
    (Epsilon(0.05), [0, 1, 2, 3, 4]),
    (Epsilon(0.12), [0, 1, 2]),
    (Epsilon(0.45), [0]),
    (Eta(0.05), [0, 1, 2, 3, 4]),
    (Eta(0.12), [0, 1, 2, 3]),
    (Eta(0.3), [0, 1, 2]),
    (Eta(0.0009), [0, 1, 2, 3, 4, 5]),
]


@pytest.mark.parametrize(("transform", "kept"), WORKED, ids=lambda x: str(x))
def test_worked_cases(transform, kept) -> None:
    edited = one(transform, [*np.log([0.40, 0.25, 0.15, 0.10, 0.07, 0.03]), -INF, -INF])
    assert np.flatnonzero(edited > -INF).tolist() == kept
    p = np.array([0.40, 0.25, 0.15, 0.10, 0.07, 0.03])[kept]
    np.testing.assert_allclose(softmax(edited)[kept], p / p.sum(), 1e-5)


def test_few_of_a_long_row_are_those_of_the_whole_row() -> None:
    """They are sought in blocks: with ties in and across them, and where hardly any are left."""
    score = np.random.default_rng(0).normal(size=(3, 33_001)).astype(np.float32).round(2)
    score[1, 5:] = -np.inf
    score[2, ::512] = 9.0  # one in each of 65 blocks
    descending, find = -np.sort(-score, axis=1), jax.jit(rank_threshold)
    for k in ([1, 3, 64], [2, 64, 63], [64, 64, 65], [900, 1, 1]):
        least = np.take_along_axis(descending, np.array(k)[:, None] - 1, axis=1)
        np.testing.assert_array_equal(find(score, np.array(k)), score >= least)


def test_temperature_before_or_after_a_filter() -> None:
    logits = [*np.log([0.40, 0.25, 0.15, 0.10, 0.07, 0.03]), -INF, -INF]
    assert np.isfinite(one(chain(Temperature(2.0), TopP(0.6)), logits)).sum() == 3
    assert np.isfinite(one(chain(TopP(0.6), Temperature(2.0)), logits)).sum() == 2


@pytest.mark.parametrize(
    ("transform", "logits", "kept"),
    [
        (TopK(2), [3, 1, 1, 1, 0, 0, 0, 0], [0, 1, 2, 3]),
        (TopK(1), [0] * 8, list(range(8))),
        (TopP(0.3), [0] * 8, list(range(8))),
        (TopP(0.0), [5, 5, 1, 1, 1, 1, 1, 1], [0, 1]),
        (TopK(1), [-0.0, 0.0, -1, -1, -1, -1, -1, -1], [0, 1]),
        (TopP(0.5), [-INF] * 7 + [-80.0], [7]),
        (TopP(1.0), [0.0, -60.0] + [-INF] * 6, [0, 1]),
        (MinP(1.0), [2, 2, 1, 0, 0, 0, 0, 0], [0, 1]),
        (Typical(1.0), [0.0, -60.0] + [-INF] * 6, [0, 1]),
    ],
)
def test_ties_and_extremes(transform, logits, kept) -> None:
    assert np.flatnonzero(one(transform, logits) > -INF).tolist() == kept


ALL = [
    Identity(),
    Temperature(0.5),
    TopK(3),
    TopP(0.5),
    MinP(0.1),
    Typical(0.5),
    Epsilon(0.1),
    Eta(0.1),
    RepetitionPenalty(1.3, V),
    PresencePenalty(0.5, V),
    FrequencyPenalty(0.5, V),
    Ban.of([1]),
    Allow.of([0, 1, 2]),
    MinimumLength.of(2, 0),
    NoRepeatNgram(2, 4),
    BanSequences.of([[5, 3], [4]]),
    OneOf.of([[1, 2], [1]], [0]),
    chain(Temperature(0.5), TopK(3), TopP(0.5)),
]


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_unusable_rows_stay_unusable_and_to_themselves(transform) -> None:
    rows = jnp.array([[-INF] * V, [0.5, jnp.nan] + [0.0] * 6])
    edited = run(transform, PROMPT, jnp.zeros((2, 0), jnp.int32), rows)
    assert np.isneginf(edited[0]).all()
    assert np.isnan(edited[1]).any()
    sound = jnp.tile(jnp.arange(V) / 4.0, (2, 1))
    alone = run(transform, PROMPT, jnp.zeros((2, 0), jnp.int32), sound)
    beside = run(transform, PROMPT, jnp.zeros((2, 0), jnp.int32), sound.at[1].set(jnp.nan))
    np.testing.assert_array_equal(alone[0], beside[0])


EXCLUDING = [ForcedTokens.of([3, 4]), NoCitation.of([[1, 3, 5, 4, 5, 6]], V, 1)]


@pytest.mark.parametrize("transform", [*ALL, *EXCLUDING], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("broken", [jnp.nan, INF])
def test_no_transform_hides_what_is_broken(transform, broken) -> None:
    """Wherever the logit stands that makes a row unusable, it is there still, excluded or not."""
    rows = jnp.tile(jnp.arange(V) / 4.0, (V, 1)) + jnp.where(jnp.eye(V, dtype=bool), broken, 0.0)
    prompts = Prompt.of([[1, 2, 1, 3]] * V, width=5)
    edited = run(transform, prompts, jnp.zeros((V, 0), jnp.int32), rows)
    assert not usable(edited).any()
    drawn = Categorical()(row_keys(jax.random.key(0), prompts.id, prompts.id), edited)
    assert (drawn == -1).all()


HISTORIES = {
    "repetition": (
        RepetitionPenalty(1.5, V),
        lambda x, p, o: naive.repetition_penalty(x, [*p, *o], 1.5),
    ),
    "encouraging": (
        RepetitionPenalty(0.5, V),
        lambda x, p, o: naive.repetition_penalty(x, [*p, *o], 0.5),
    ),
    "presence": (PresencePenalty(0.7, V), lambda x, p, o: naive.presence_penalty(x, o, 0.7)),
    "frequency": (FrequencyPenalty(0.7, V), lambda x, p, o: naive.frequency_penalty(x, o, 0.7)),
    "ban": (Ban.of([0, 3, 99]), lambda x, p, o: naive.ban(x, [0, 3])),
    "allow": (Allow.of([0, 3, 99]), lambda x, p, o: naive.allow(x, [0, 3])),
    "forced": (ForcedTokens.of([2, -1, 0]), lambda x, p, o: naive.forced(x, o, [2, -1, 0])),
    "minimum": (
        MinimumLength.of(3, [0, 1]),
        lambda x, p, o: naive.minimum_length(x, o, 3, [0, 1]),
    ),
    "unigram": (NoRepeatNgram(1, 6), lambda x, p, o: naive.no_repeat_ngram(x, [*p, *o], 1)),
    "bigram": (NoRepeatNgram(2, 6), lambda x, p, o: naive.no_repeat_ngram(x, [*p, *o], 2)),
    "trigram": (NoRepeatNgram(3, 6), lambda x, p, o: naive.no_repeat_ngram(x, [*p, *o], 3)),
    "long": (NoRepeatNgram(20, 6), lambda x, p, o: x),
    "chain": (
        chain(PresencePenalty(0.7, V), NoRepeatNgram(2, 6), TopK(3)),
        lambda x, p, o: naive.top_k(
            naive.no_repeat_ngram(naive.presence_penalty(x, o, 0.7), [*p, *o], 2), 3
        ),
    ),
}
# Outputs of two rows over three tokens; -1 is a step at which the row was not active.
BANNED = ([2], [0, 1], [3, 0], [1, 1, 0])  # [3, 0] may begin in the first row's prompt
CHOICES = ([0, 1], [0, 1, 2, 2], [2], [1, 1])
HISTORIES |= {
    "sequences": (
        BanSequences.of(BANNED),
        lambda x, p, o: naive.ban_sequences(x, [*p, *o], BANNED),
    ),
    "choices": (OneOf.of(CHOICES, [0, 5]), lambda x, p, o: naive.one_of(x, o, CHOICES, [0, 5])),
}
OUTPUTS = st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 2)), min_size=6, max_size=6)


@pytest.mark.parametrize("name", HISTORIES)
@given(outputs=OUTPUTS, seed=st.integers(0, 99))
def test_histories_equal_their_references(name, outputs, seed) -> None:
    transform, reference = HISTORIES[name]
    outputs = np.array(outputs).T
    logits = np.random.default_rng(seed).normal(size=(2, V)).astype(np.float32)
    edited = run(transform, PROMPT, jnp.asarray(outputs), jnp.asarray(logits))
    for row in range(2):
        output = [int(token) for token in outputs[row] if token >= 0]
        expected = reference(logits[row].astype(np.float64), SEEN[row], output)
        np.testing.assert_allclose(edited[row], expected, 1e-5, 1e-6)


def test_an_ngram_history_past_its_room_excludes_nothing() -> None:
    outputs = jnp.array([[1, 1, 1, 1, 1, 1]] * 2)
    logits = jnp.zeros((2, V))
    assert np.isneginf(run(NoRepeatNgram(2, 6), PROMPT, outputs, logits)).any(axis=1).all()
    np.testing.assert_array_equal(run(NoRepeatNgram(2, 3), PROMPT, outputs, logits)[0], 0.0)


def test_padding_of_a_prompt_counts_for_nothing() -> None:
    transform = chain(RepetitionPenalty(2.0, V), NoRepeatNgram(2, 4))
    logits = jnp.ones((2, V))
    none = jnp.zeros((2, 0), jnp.int32)
    other = Prompt(PROMPT.tokens.at[1, 2:].set(7), PROMPT.length, PROMPT.id)
    np.testing.assert_array_equal(
        run(transform, PROMPT, none, logits), run(transform, other, none, logits)
    )


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_states_are_gathered_row_by_row(transform) -> None:
    state = transform.init(PROMPT)
    state = transform.observe(state, jnp.array([1, 2]), jnp.array([True, True]))
    order = jnp.array([1, 1, 0])
    gathered = jax.tree.map(lambda leaf: leaf[order], state)
    logits = jax.random.normal(jax.random.key(0), (2, V))
    expected = transform.apply(state, logits)[order]
    np.testing.assert_array_equal(transform.apply(gathered, logits[order]), expected)


def test_new_numbers_trace_nothing_anew() -> None:
    traces = []

    @jax.jit
    def apply(transform, logits):
        traces.append(1)
        return transform.apply(transform.init(PROMPT), logits)

    logits = jax.random.normal(jax.random.key(0), (2, V))
    for value in (0.5, 0.7):
        apply(chain(Temperature(value), TopP(value), TopK(int(10 * value))), logits)
    assert len(traces) == 1


def test_chains() -> None:
    assert isinstance(chain(), Identity)
    assert chain(TopK(2)) == TopK(2)
    assert isinstance(chain(TopK(2), TopP(0.5)), Chain)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=2))
def test_ordered_integers_compare_as_the_floats(pair) -> None:
    # Subnormals may be flushed to zero where the floats are read.
    assume(all(x == 0 or abs(x) > 1e-37 for x in pair))
    a, b = (int(x) for x in ordered(jnp.array(pair, jnp.float32)))
    assert (a < b) == (pair[0] < pair[1])
    assert (a == b) == (pair[0] == pair[1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Temperature(0.0), r"temperature=0\.0 .*use Greedy for deterministic decoding"),
        (lambda: Temperature(-1), "temperature=-1 "),
        (lambda: Temperature(INF), "temperature=inf "),
        (lambda: Temperature(float("nan")), "temperature=nan "),
        (lambda: Temperature(jnp.float32(0)), r"temperature=0\.0 "),
        (lambda: TopK(0), "k=0 .*leave TopK out"),
        (lambda: TopP(1.5), r"p=1\.5 .*<= 1"),
        (lambda: TopP(-0.1), r"p=-0\.1 "),
        (lambda: MinP(2), "p=2 "),
        (lambda: Typical(0.0), r"mass=0\.0 "),
        (lambda: Epsilon(1.1), r"epsilon=1\.1 "),
        (lambda: Eta(-1), "epsilon=-1 "),
        (lambda: RepetitionPenalty(0.0, V), r"penalty=0\.0 "),
        (lambda: Ban.of([]), r"ids=\[\]"),
        (lambda: Allow.of([-1]), r"ids=\[-1\]"),
        (lambda: ForcedTokens.of([-2]), r"tokens=\[-2\]"),
        (lambda: MinimumLength.of(-1, 0), "tokens=-1 "),
        (lambda: NoRepeatNgram(0, 4), "n=0 "),
        (lambda: BanSequences.of([[1], []]), r"sequences=\[\[1\], \[\]\]: one sequence or more"),
        (lambda: OneOf.of([], [0]), r"choices=\[\]: one sequence or more"),
        (lambda: OneOf.of([[1]], []), r"eos=\[\]: without an end token"),
        (lambda: NoRepeatNgram(2, 0), "max_tokens=0 "),
        (lambda: one(PresencePenalty(1.0, V + 1), [0.0] * V), "vocab_size=9 .* 8 tokens"),
    ],
)
def test_bad_arguments_are_refused_by_name(make, words) -> None:
    with pytest.raises(ValueError, match=words):
        make()
