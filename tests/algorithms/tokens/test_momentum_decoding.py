"""Momentum decoding, contrastive search and DoLa against references from the definitions."""

from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.selection.speculative_rejection import SpeculativeRejection
from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.drafters.prompt_lookup import PromptLookup
from algorithms.speculative.verifiers.match import Match
from algorithms.speculative.verifiers.residual import Residual
from algorithms.tokens.contrastive_search import ContrastiveSearch
from algorithms.tokens.dola import Dola
from algorithms.tokens.momentum_decoding import (
    BLOCKING,
    CONSTANT,
    PUBLISHED,
    REVISED,
    Momentum,
    momentum_decoding,
)
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity, LogitsTransform, NoRepeatNgram, Temperature
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import FunctionScorer
from jaxdecode.speculate import Speculator
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_logits, softmax
from tests.references import momentum as reference

MODEL = EnumerableLM.random(7, 6, sharpness=1.5)
TEXTS = [[1, 2, 3], [4], [2, 2], [0, 1, 4, 1], [3]]
PROMPT = Prompt.of(TEXTS, [7, 2, 9, 3, 4], 4)
LENGTH, NEVER, PLAIN = 14, Stop.of(99), Identity()


@jax.jit
def run(decoder, prompt):
    return decoder(jax.random.key(0), prompt)


def tokens(generator, prompt=PROMPT):
    return np.asarray(run(Autoregressive(generator), prompt).tokens)


def greedy(edits: LogitsTransform = PLAIN) -> Generator:
    return Generator(MODEL, edits, Greedy(), NEVER, LENGTH)


def saying(text):
    return next_logits(MODEL, text)


@pytest.mark.parametrize("table", [PUBLISHED, REVISED, CONSTANT])
def test_text_equals_the_reference(table) -> None:
    for alpha in (0.2, 0.6):
        found = tokens(momentum_decoding(MODEL, NEVER, LENGTH, table, alpha, 4))
        for row, text in zip(found, TEXTS, strict=True):
            assert row.tolist() == reference.momentum(saying, text, LENGTH, table, alpha, 4)


def test_without_resistance_or_choice_it_is_greedy() -> None:
    plain = tokens(greedy())
    for alpha, k, table in ((0.0, 5, BLOCKING), (0.2, 5, (0.0, 0.0)), (0.2, 1, PUBLISHED)):
        generator = momentum_decoding(MODEL, NEVER, LENGTH, table, alpha, k)
        np.testing.assert_array_equal(tokens(generator), plain)


def test_an_infinite_resistance_blocks_n_grams() -> None:
    table = (0.0, 0.0, 0.0, 0.0, np.inf, np.inf)
    found = tokens(momentum_decoding(MODEL, NEVER, LENGTH, table, 1.0, MODEL.vocab_size))
    np.testing.assert_array_equal(found, tokens(greedy(NoRepeatNgram(4, LENGTH))))


def test_worked_selections() -> None:
    text = Prompt.of([[1, 2, 3, 7, 8, 2, 3]])
    rule = Momentum.of(4)

    @jax.jit
    def chosen(p):
        return jnp.argmax(rule.apply(rule.init(text), jnp.log(p)[None])[0])

    candidates = jnp.array([7, 8, 9, 2, 1])
    p = jnp.zeros(410).at[candidates].set(jnp.array([0.9, 0.05, 0.04, 0.008, 0.002]))
    assert chosen(p) == 7
    assert chosen(p.at[7].set(0.7).at[10:].set(0.2 / 400)) == 9


@pytest.mark.parametrize("lap", [1, 2, 5])
def test_it_leaves_a_loop_after_three_tokens(lap) -> None:
    """A cycle of near certainty, one lap read: .79, .39, .19 pass and -.01 does not."""
    vocab = lap + 4
    following = np.full((vocab, vocab), 0.0025, np.float32)
    for token in range(vocab):
        following[token, :lap] = 1e-9
        following[token, (token + 1) % lap] = 0.99
    rule = Momentum.of(8)
    prompt = Prompt.of([list(range(lap))])

    @jax.jit
    def walk(laws):
        def step(carry, _):
            state, newest = carry
            edited = rule.apply(state, jnp.log(laws[newest])[None])
            token = jnp.argmax(edited, axis=1).astype(jnp.int32)
            return (rule.observe(state, token, jnp.array([True])), token[0]), token[0]

        start = (rule.init(prompt), jnp.int32(lap - 1))
        return jax.lax.scan(step, start, None, length=4)[1]

    found = np.asarray(walk(jnp.asarray(following))).tolist()
    assert found[:3] == [i % lap for i in range(3)]
    assert found[3] >= lap


def test_special_tokens_are_no_nodes() -> None:
    rule, prompt = Momentum.of(4, ignored=[0]), Prompt.of([[0, 1, 0, 1], [5, 5]])
    depth = jax.jit(lambda: rule.depth(rule.init(prompt), jnp.array([[0, 1], [0, 5]])))()
    assert depth.tolist() == [[0, 1], [0, 2]]


@pytest.mark.parametrize("verifier", [Match(), Residual()])
def test_speculation_changes_nothing(verifier) -> None:
    """Drafts of a model and of the text itself, which is what momentum resists."""
    generator = momentum_decoding(MODEL, Stop.of(5), LENGTH)
    plain = run(Autoregressive(generator), PROMPT)
    drafter = Chain(MODEL.perturbed(1, 0.3), 3)
    if isinstance(verifier, Match):
        drafter = PromptLookup(3, 2, whole=False)
    found = run(Autoregressive(Speculator(generator, drafter, verifier)), PROMPT)
    np.testing.assert_array_equal(found.tokens, plain.tokens)
    np.testing.assert_array_equal(found.length, plain.length)
    assert int(found.usage.accepted.sum()) > 0


def hidden(text):
    """The final hidden state after a text."""
    pairs = [(i % len(MODEL.keys), token) for i, token in enumerate(text)]
    parts = [np.asarray(MODEL.keys[pair] + MODEL.values[pair], np.float64) for pair in pairs]
    return np.tanh(np.sum(parts, axis=0))


@pytest.mark.parametrize("rules", [(0.6, 3), (0.3, 5)])
def test_contrastive_search_equals_the_reference(rules) -> None:
    alpha, k = rules
    result = run(Autoregressive(ContrastiveSearch(greedy(), alpha, k)), PROMPT)
    for row, text in zip(np.asarray(result.tokens), TEXTS, strict=True):
        assert row.tolist() == reference.contrastive(saying, hidden, text, LENGTH, alpha, k)
    usage = jax.device_get(result.usage)
    lengths = np.array([len(text) for text in TEXTS])
    # The prompt in one pass and its last token in another, then k candidates a step.
    assert (usage.target_tokens == lengths + k * LENGTH).all()
    assert (usage.target_passes == LENGTH + 1 + (lengths > 1)).all()
    totals = lengths[:, None] + np.arange(LENGTH)
    attended = lengths * (lengths + 1) / 2 + (k * (totals + 1)).sum(axis=1)
    np.testing.assert_allclose(usage.attended, attended)


def test_contrastive_search_without_penalty_or_choice_is_greedy() -> None:
    plain = tokens(greedy())
    for alpha, k in ((0.0, 4), (0.6, 1)):
        np.testing.assert_array_equal(tokens(ContrastiveSearch(greedy(), alpha, k)), plain)


def worth(prompt, prompt_length, tokens, length):
    return jnp.sum(tokens % 3, axis=1) + 0.0 * length


def test_both_run_under_selection() -> None:
    """Deterministic texts make equal candidates, whatever cuts and gathers do."""
    momentum = momentum_decoding(MODEL, NEVER, LENGTH)
    for generator in (momentum, ContrastiveSearch(greedy(), 0.6, 3)):
        plain = tokens(generator)
        decoder = SpeculativeRejection(generator, FunctionScorer(worth), budget=48, width=3)
        np.testing.assert_array_equal(run(decoder, PROMPT).tokens, plain)


def exits(text, normed=False):
    """Log-laws of the enumerable model's embedding and of its last layer."""
    at = (len(text) - 1) % len(MODEL.keys)
    early = np.asarray(MODEL.keys[at, text[-1]] + MODEL.values[at, text[-1]], np.float64)
    head, bias = np.asarray(MODEL.head, np.float64), np.asarray(MODEL.bias, np.float64)
    return np.log(softmax(early @ head + bias)), np.log(softmax(saying(text)))


def test_dola_is_the_contrast_of_plausible_tokens() -> None:
    generator = Generator(Dola(MODEL, (0,), 0.1), Identity(), Greedy(), NEVER, LENGTH)
    for row, text in zip(tokens(generator), TEXTS, strict=True):
        grown = list(text)
        for token in row:
            early, late = exits(grown)
            score = np.where(np.exp(late) >= 0.1 * np.exp(late).max(), late - early, -np.inf)
            assert token == np.argmax(score)
            grown.append(int(token))


def test_dola_takes_the_exit_that_is_farthest() -> None:
    rng = np.random.default_rng(0)
    laws = jax.nn.log_softmax(jnp.asarray(3 * rng.normal(size=(3, 2, 1, 6)), jnp.float32))
    found = Dola(MODEL, (0,), 0.0).contrast(laws[0], [laws[1], laws[2]])
    for row in range(2):
        p, *early = np.exp(np.asarray(laws[:, row, 0], np.float64))
        apart = [0.5 * sum(x @ np.log(x / ((p + q) / 2)) for x in (p, q)) for q in early]
        expected = np.log(p) - np.log(early[int(np.argmax(apart))])
        np.testing.assert_allclose(found[row, 0], expected, 1e-4, 1e-5)


def test_dola_under_speculation_is_itself() -> None:
    generator = Generator(Dola(MODEL, (0,)), Temperature(0.9), Categorical(), NEVER, LENGTH)
    drafter = Chain(MODEL, 2, sampler=Greedy())
    found = tokens(Speculator(generator, drafter, Match()))
    np.testing.assert_array_equal(found, tokens(generator))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: momentum_decoding(MODEL, NEVER, 4, k=7), "k=7"),
        (lambda: Momentum.of(4, (0.0, 2.0, 1.0)), "resistance"),
        (lambda: Momentum.of(4, (1.0, 2.0)), "resistance"),
        (lambda: Momentum.of(4, alpha=-0.1), "alpha"),
        (lambda: ContrastiveSearch(greedy(), 0.6, 7), "k=7"),
        (lambda: ContrastiveSearch(greedy(), 1.6), "alpha=1.6"),
        (lambda: ContrastiveSearch(replace(greedy(), sampler=Categorical())), "draws nothing"),
        (lambda: Dola(MODEL, ()), r"exits=\(\)"),
        (lambda: Dola(MODEL, (2, 1)), "rising"),
        (
            lambda: Speculator(cast(Any, ContrastiveSearch(greedy())), PromptLookup(3, 2), Match()),
            "no pass over a draft can verify it",
        ),
    ],
)
def test_refusals(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_prompt_too_long_is_refused_before_any_compute() -> None:
    with pytest.raises(ValueError, match="token"):
        decode(Autoregressive(ContrastiveSearch(greedy())), 0, Prompt.of([[9]]))
