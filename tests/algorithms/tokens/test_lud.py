"""Lexical units, learning them and decoding by them, against plain Python and worked numbers."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from algorithms.speculative.drafters.placeholders import Placeholders
from algorithms.speculative.verifiers.match import Match
from algorithms.tokens.lexical_units import Loss, Placing, packed, units
from algorithms.tokens.lud import LUD
from algorithms.tokens.mirostat import Mirostat
from algorithms.tokens.rules.acceptance import ByChance, Confident
from algorithms.tokens.rules.stutter import Extends, Nothing, Same
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.lm import prefill
from jaxdecode.logits import Identity, RepetitionPenalty
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.speculate import Speculator
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_probs, sequence_logprob
from jaxdecode.train.losses import next_token
from models.placeholder import with_placeholder
from models.presets import small
from models.transformer import Transformer
from tests.markov import MarkovLM, emitted, rounds
from tests.references import lud as naive

P = (0.30, 0.95, 0.97, 0.92, 0.40, 0.99, 0.96, 0.20, 0.91)
MODEL, PAD, EOS, LENGTH = EnumerableLM.random(5, 6, sharpness=2.5), 5, 0, 9
PROMPTS = ([1, 2, 3], [4], [2, 2], [3, 1, 3, 1])
PROMPT = Prompt.of(PROMPTS, width=4)
LAW = partial(next_probs, MODEL)
GREEDY = Generator(MODEL, Identity(), Greedy(), Stop.of(EOS), LENGTH)


def run(decoder, prompt=PROMPT, seed=0):
    return jax.device_get(decode(decoder, seed, prompt))


def test_worked_units() -> None:
    said = np.ones(9, bool)
    assert units(P, said, 0.9, 4) == [(1, 3), (5, 6), (8, 8)]
    assert units(P, said, 0.96, 4) == [(2, 2), (5, 5)]
    assert units(P, said, 0.0, 9) == [(0, 8)]
    assert [naive.passes(P, 0.9, k) for k in (1, 2, 3, 4)] == [9, 7, 6, 6]
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random(30)
        for k in (1, 2, 3, 8):
            assert units(p, np.ones(30, bool), 0.4, k) == naive.units(p, 0.4, k)
    assert units(P, np.arange(9) >= 2, 0.9, 4)[0] == (2, 3)  # a prompt has no part in a unit


TEXT = np.arange(9)[None] % 5
FOUND = [[(1, 3), (5, 6), (8, 8)]]


def test_worked_placing() -> None:
    """Three placeholders, what they see, and which units get longer tails."""
    placing = Placing(pad=7, longest=4, room=4)
    batch, lost = placing.place(TEXT, np.array([9]), FOUND, np.random.default_rng(0))
    held = batch["group"][0] >= 0
    found = {
        (int(p), int(s), int(x))
        for p, s, x in zip(
            batch["place"][0][held], batch["start"][0][held], batch["label"][0][held], strict=True
        )
    }
    assert found == {(1, 1, 2), (2, 1, 3), (5, 5, 6 % 5)} and lost == 0
    assert (
        Placing(7, longest=4, room=2).place(TEXT, np.array([9]), FOUND, np.random.default_rng(0))[1]
        == 1
    )
    tails = Placing(7, longest=4, tails=True)
    assert tails.spans(FOUND[0], 9) == [(1, 3), (5, 3)]  # none behind the last token


def test_packed_placeholders_are_those_of_texts_of_their_own() -> None:
    """Each placeholder in a row of its own says the same; the text's loss does not change."""
    model, pad = with_placeholder(Transformer(small(11, hidden=32, layers=2), rngs=nnx.Rngs(0)))
    assert pad == 11 and model.vocab_size == 11
    text = jnp.asarray([[1, 5, 3, 2, 9, 4, 4, 8, 6]])
    length, mask = jnp.asarray([9]), jnp.ones((1, 9), bool)
    batch, _ = Placing(pad, room=4).place(
        np.asarray(text), np.asarray(length), FOUND, np.random.default_rng(0)
    )
    place, start, group = (jnp.asarray(batch[n]) for n in ("place", "start", "group"))
    logits = packed(model, text, length, place, start, group, jnp.int32(pad))
    for slot in np.flatnonzero(batch["group"][0] >= 0):
        first, last = int(batch["start"][0, slot]), int(batch["place"][0, slot])
        alone = jnp.concatenate([text[:, :first], jnp.full((1, last - first + 1), pad)], axis=1)
        wanted, _ = model.forward(alone)
        np.testing.assert_allclose(logits[0, 9 + slot], wanted[0, -1], atol=1e-4)
    loss, metrics = Loss(rate=0.0)(model, text, mask, length, **batch)
    plain, _ = next_token(model, text, mask, length)
    np.testing.assert_allclose(loss, plain, rtol=1e-5)
    both, more = Loss(rate=0.5)(model, text, mask, length, **batch)
    np.testing.assert_allclose(both, plain + 0.5 * more["pad_loss"], rtol=1e-5)
    gradient = nnx.grad(lambda m: Loss(text=0.0)(m, text, mask, length, **batch)[0])(model)
    assert float(jnp.abs(gradient["embedding"][...][pad]).sum()) > 0
    assert float(metrics["pad_loss"]) > 0


def test_worked_acceptance() -> None:
    for sure, free, expected in (
        ((0.99, 0.95, 0.97, 0.5), False, 3),
        ((0.6, 0.99, 0.99, 0.99), False, 1),
        ((0.6, 0.99, 0.99, 0.99), True, 4),
        ((0.99, 0.4, 0.99, 0.99), False, 1),
        ((0.2, 0.1, 0.1, 0.1), False, 1),
        ((0.91, 0.9, 0.9, 0.9), False, 4),
    ):
        assert naive.accepted(sure, 0.9, free) == expected


@pytest.mark.parametrize("longest, first_free", [(4, False), (3, True)])
def test_it_does_what_the_reference_does(longest, first_free) -> None:
    several = 0
    for beta in (0.0, 0.35, 0.6, 0.9, 2.0):
        for stutter in (Same(), Nothing()):
            decoder = LUD(GREEDY, PAD, longest, Confident(beta), stutter, first_free)
            found = run(decoder)
            for row, prompt in enumerate(PROMPTS):
                output, spans = naive.decode(
                    LAW,
                    prompt,
                    LENGTH,
                    [EOS],
                    pad=PAD,
                    longest=longest,
                    beta=beta,
                    first_free=first_free,
                    same=isinstance(stutter, Same),
                )
                assert found.tokens[row, : found.length[row]].tolist() == output
                read = len(prompt) > 1
                assert found.usage.target_passes[row] - read == len(spans)
                true = sequence_logprob(MODEL, prompt, output)
                np.testing.assert_allclose(found.logprob[row], true, atol=1e-4)
                several += max(spans) > 1
                assert found.status[row] == (Status.EOS if output[-1] == EOS else Status.LENGTH)
    assert several >= 10


def test_chance_is_asked_anew_in_every_pass() -> None:
    """By rate r spans of n tokens and more, the first of which has to be accepted too, come with
    r^n; a toss that ended a span does not decide on the next one."""
    endless, rate = Generator(MODEL, Identity(), Greedy(), Stop.of(()), 24), 0.7
    prompt = Prompt.of([[2, 1]] * 64, ids=range(64), width=4)
    found = run(LUD(endless, PAD, 4, ByChance(rate), Nothing(), rescored=False), prompt)
    spans = found.usage.histogram.sum(axis=0) / found.usage.histogram.sum()
    wanted = [1 - rate**2, rate**2 - rate**3, rate**3 - rate**4, rate**4]
    np.testing.assert_allclose(spans, wanted, atol=0.06)


def test_beyond_one_or_a_token_a_pass_it_is_plain_decoding() -> None:
    """Also under a law that remembers; the first token of a pass always is."""
    for edit, sampler in ((RepetitionPenalty(1.4, 6), Greedy()), (Mirostat(1.5), Categorical())):
        edited = Generator(MODEL, edit, sampler, Stop.of(EOS), LENGTH)
        expected = run(Autoregressive(edited))
        for decoder in (LUD(edited, PAD, 4, Confident(1.5)), LUD(edited, PAD, 1, Confident(0.0))):
            found = run(decoder)
            np.testing.assert_array_equal(found.tokens, expected.tokens)
            np.testing.assert_allclose(found.logprob, expected.logprob, 1e-4, 1e-4)


def test_where_placeholders_know_what_comes_it_is_said_four_at_a_time() -> None:
    """A model that reads nothing but places, whatever stands there."""
    tokens = 12
    place = np.broadcast_to(np.eye(tokens)[1 + np.arange(11)][:, None], (11, tokens, tokens))
    known = EnumerableLM(
        keys=jnp.zeros(place.shape),
        values=jnp.asarray(place * 3.0),
        head=jnp.diag(30.0 * jnp.arange(1, tokens + 1)),
        bias=jnp.zeros(tokens),
    )
    generator = Generator(known, Identity(), Greedy(), Stop.of(()), 8)
    plain = run(Autoregressive(generator), Prompt.of([[0]]))
    assert plain.tokens[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    found = run(LUD(generator, 11), Prompt.of([[0]]))
    assert found.tokens[0].tolist() == plain.tokens[0].tolist()
    assert found.usage.target_passes.tolist() == [2]
    assert found.usage.histogram.tolist() == [[0, 0, 0, 2]]


def test_the_cache_is_that_of_a_fresh_prefill() -> None:
    """No placeholder is left in it."""
    decoder, capacity = LUD(GREEDY, PAD, 4, Confident(0.3)), 4 + LENGTH

    @jax.jit
    def paused(decoder, until):
        rows = decoder.start(jax.random.key(3), PROMPT, 1, capacity)
        return decoder.advance(rows, until)

    for until in (6, 9):
        rows = paused(decoder, jnp.full((4,), until))
        for row, prompt in enumerate(PROMPTS):
            text = [*prompt, *rows.tokens[row, : int(rows.length[row])].tolist()]
            length = int(rows.cache.length[row])
            assert length == len(text) - int(rows.speculation.count[row])
            fresh = prefill(MODEL, Prompt.of([text], width=capacity), capacity).cache
            for mine, other in ((rows.cache.k, fresh.k), (rows.cache.v.mT, fresh.v.mT)):
                np.testing.assert_allclose(
                    mine[0, row][..., :length], other[0, 0][..., :length], 1e-6
                )


def test_repetition() -> None:
    texts = [b"", b"in", b"inter", b"net", b"i"]
    extends = Extends.of(texts)
    for before, token, expected in ((1, 2, True), (2, 1, False), (3, 3, True), (0, 3, False)):
        found = extends(jnp.array([before]), jnp.array([token]))
        assert bool(found[0]) == expected
    assert naive.accepted((1, 1, 1), 0.5, repeats=(False, True, False)) == 1


def test_the_exact_form_says_what_plain_decoding_says() -> None:
    """And on a model whose placeholders are right it takes fewer passes."""
    expected = run(Autoregressive(GREEDY))
    found = run(Autoregressive(Speculator(GREEDY, Placeholders(PAD, 3, 0.0), Match())))
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.logprob, expected.logprob, 1e-4, 1e-4)
    # A bigram's placeholder says one thing: the token PAD is followed by, here 3, 4, 3, 4, ...
    table = np.full((6, 6), -9.0)
    for before, after in ((0, 3), (3, 3), (5, 3)):
        table[before, after] = 9.0
    model = MarkovLM(jnp.asarray(table, jnp.float32))
    plain = Generator(model, Identity(), Greedy(), Stop.of(()), 9)
    history = rounds(Speculator(plain, Placeholders(5, 4), Match()), Prompt.of([[0]]))
    assert emitted(history) == [1, 4, 4]
    assert history[-1].tokens[0].tolist() == [3] * 9


def test_refusals() -> None:
    with pytest.raises(ValueError, match="longest=0"):
        LUD(GREEDY, PAD, 0)
    with pytest.raises(ValueError, match="beta=-1"):
        Confident(-1.0)
    with pytest.raises(ValueError, match="rate=2"):
        ByChance(2.0)
    with pytest.raises(ValueError, match="longest=1"):
        Placeholders(PAD, 1)
    with pytest.raises(ValueError, match="alpha=2"):
        Placing(PAD, 2.0)
