"""EAD against plain Python, forced entropies, caches that make no difference."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.tokens.ead import EAD
from algorithms.tokens.rules.switches import Coin, RollingEntropy, Routed, Turns
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.lm import prefill
from jaxdecode.logits import Identity, RepetitionPenalty, Temperature, chain
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy, row_keys
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_probs
from tests.references import ead as naive

LARGE, EOS, LENGTH = EnumerableLM.random(5, 6, sharpness=1.2), 0, 9
SMALL = EnumerableLM.random(9, 6, sharpness=1.0)
PROMPTS = ([1, 2, 3], [4], [2, 2], [5, 1, 5, 1])
PROMPT = Prompt.of(PROMPTS, width=4)
LAWS = {"S": partial(next_probs, SMALL), "L": partial(next_probs, LARGE)}
GREEDY = Generator(LARGE, Identity(), Greedy(), Stop.of(EOS), LENGTH)


def run(decoder, prompt=PROMPT, seed=0):
    return jax.device_get(decode(decoder, seed, prompt))


def writers(result, row: int) -> str:
    return "".join("SL"[int(x)] for x in result.trace.large[row, : result.length[row]])


ENTROPIES = (0.1, 0.2, 3.0, 0.2, 0.1, 2.5, 2.8, 2.6, 0.3, 0.1, 0.0, 0.1, 0.2, 0.1)
SCHEDULES = {
    (1, 1): "SSSLSSLLLSSSSS",
    (3, 1): "SSSLLLSLLLSSSS",
    (5, 1): "SSSLSSLLLLLLSS",
    (3, 4): "SSSSLLLLLLSSSS",
    (3, 6): "SSSSSSSLLLLLLS",
}


@pytest.mark.parametrize("window, hold", SCHEDULES)
def test_worked_schedules(window, hold) -> None:
    """At a threshold of 1.05 bits; and the reference says the same with every open point."""
    keys = row_keys(jax.random.key(0), jnp.zeros(2, jnp.int32), jnp.zeros(2, jnp.int32))
    for partial_, reset, both in ((True, False, True), (False, True, False), (True, True, True)):
        switch = RollingEntropy(1.05, window, hold, partial=partial_, reset=reset, both=both)
        plain = naive.Schedule(1.05, window, hold, "S", partial_, reset, both)
        state, found, expected = switch.init(2), "", ""
        for bits in ENTROPIES:
            found += "SL"[int(switch.large(state)[0])]
            expected += plain.who
            state = switch.observe(state, keys, jnp.full(2, bits), jnp.array([True, False]))
            plain.note(bits)
        assert found == expected
        assert not switch.large(state)[1] and state.count[1] == 0
        if (partial_, reset, both) == (True, False, True):
            assert found == SCHEDULES[window, hold]


def test_it_does_what_the_reference_does() -> None:
    """Greedy, at thresholds between the entropies, with both ways of the token of the change."""
    mixed = 0
    for regenerate in (False, True):
        for tau, hold, start in ((1.9, 1, False), (1.6, 2, True), (2.2, 1, False), (1.3, 3, False)):
            switch = RollingEntropy(tau, 3, hold, start_large=start)
            found = run(EAD(GREEDY, SMALL, switch, regenerate=regenerate, stride=4))
            for row, prompt in enumerate(PROMPTS):
                schedule = naive.Schedule(tau, 3, hold, "SL"[start])
                output, who = naive.decode(LAWS, prompt, LENGTH, [EOS], schedule, regenerate)
                assert found.tokens[row, : found.length[row]].tolist() == output
                assert writers(found, row) == who
                mixed += "SL" in who or "LS" in who
    assert mixed >= 8


def test_caches_make_no_difference() -> None:
    """Read when needed, along or anew; and what each costs."""
    generator = Generator(
        LARGE,
        chain(RepetitionPenalty(1.3, 6), Temperature(0.8)),
        Categorical(),
        Stop.of(()),
        LENGTH,
    )
    switch = RollingEntropy(1.5, 2, 1)
    found = {
        kind: run(EAD(generator, SMALL, switch, caches=kind, stride=4), seed=3)
        for kind in ("lazy", "lockstep", "recompute")
    }
    lazy, along, anew = found.values()
    for other in (along, anew):
        np.testing.assert_array_equal(other.tokens, lazy.tokens)
        np.testing.assert_array_equal(other.trace.large, lazy.trace.large)
        np.testing.assert_allclose(other.logprob, lazy.logprob, 1e-5, 1e-5)
    seen = np.asarray(PROMPT.length) + LENGTH - 1
    assert along.usage.target_tokens.tolist() == seen.tolist()
    assert along.usage.draft_tokens.tolist() == seen.tolist()
    for row in range(len(PROMPTS)):
        who, length = writers(lazy, row), int(PROMPT.length[row])
        large, small = who.rfind("L"), who.rfind("S")
        assert lazy.usage.target_tokens[row] == (length + large if large >= 0 else 0)
        assert lazy.usage.draft_tokens[row] == (length + small if small >= 0 else 0)
    assert (anew.usage.target_tokens >= lazy.usage.target_tokens).all()
    assert anew.usage.target_tokens.sum() > lazy.usage.target_tokens.sum()


def test_two_equal_models_are_one() -> None:
    expected = run(Autoregressive(GREEDY))
    for switch in (RollingEntropy(1.9, 2, 1), Coin(0.5, 0.5), Turns(1, 2), Routed.by(1.0, 2)):
        found = run(EAD(GREEDY, LARGE, switch, stride=4))
        np.testing.assert_array_equal(found.tokens, expected.tokens)
        np.testing.assert_allclose(found.logprob, expected.logprob, 1e-5, 1e-5)


def test_thresholds_at_the_ends_are_the_models_alone() -> None:
    small = run(Autoregressive(Generator(SMALL, Identity(), Greedy(), Stop.of(EOS), LENGTH)))
    found = run(EAD(GREEDY, SMALL, RollingEntropy(float("inf")), stride=4))
    np.testing.assert_array_equal(found.tokens, small.tokens)
    assert not found.usage.target_tokens.any()
    found = run(EAD(GREEDY, SMALL, RollingEntropy(-1.0, 1, 1, start_large=True), stride=4))
    np.testing.assert_array_equal(found.tokens, run(Autoregressive(GREEDY)).tokens)
    assert not found.usage.draft_tokens.any()


def test_a_cache_that_caught_up_is_that_of_a_fresh_prefill() -> None:
    decoder = EAD(GREEDY, SMALL, Turns(3, 2), stride=4)
    capacity = 4 + LENGTH

    @jax.jit
    def paused(decoder, until):
        rows = decoder.start(jax.random.key(3), PROMPT, 1, capacity)
        return decoder.advance(rows, until)

    rows = paused(decoder, jnp.full((4,), 8))
    for row, prompt in enumerate(PROMPTS):
        text = [*prompt, *rows.tokens[row, : int(rows.length[row])].tolist()]
        for model, cache in ((LARGE, rows.cache), (SMALL, rows.speculation.cache)):
            length = int(cache.length[row])
            assert length < len(text)
            fresh = prefill(model, Prompt.of([[*text, 0]], width=capacity), capacity).cache
            np.testing.assert_allclose(
                cache.k[0, row][..., :length], fresh.k[0, 0][..., :length], 1e-6
            )


def test_switches_are_what_they_say() -> None:
    """A coin's share and runs, turns in order, a question routed once."""
    keys = row_keys(jax.random.key(1), jnp.arange(2000), jnp.zeros(2000, jnp.int32))
    coin, seen = Coin(0.1, 0.3), []
    state, on = coin.init(2000), jnp.ones(2000, bool)
    for step in range(40):
        seen.append(np.asarray(coin.large(state)))
        state = coin.observe(state, jax.vmap(partial(fold, step))(keys), jnp.zeros(2000), on)
    assert abs(np.mean(seen[20:]) - 0.25) < 0.02
    turns, state, found = Turns(2, 3), Turns(2, 3).init(1), ""
    for _ in range(10):
        found += "SL"[int(turns.large(state)[0])]
        state = turns.observe(state, keys[:1], jnp.zeros(1), on[:1])
    assert found == "SSLLLSSLLL"
    routed = Routed.by(1.0, 2)
    for entropies, expected in (((2, 1, 0, 0), "SSLLL"), ((1, 0.5, 9, 9), "SSSSS")):
        state, found = routed.init(1), ""
        for bits in (*entropies, 0.0):
            found += "SL"[int(routed.large(state)[0])]
            state = routed.observe(state, keys[:1], jnp.full(1, float(bits)), on[:1])
        assert found == expected


def test_a_token_written_anew_tosses_two_coins() -> None:
    """The toss that calls the large model is not the one that lets it go, by which it would
    write a share of `enter` = 0.3 and never stay."""
    endless = Generator(LARGE, Identity(), Greedy(), Stop.of(()), LENGTH)
    prompt = Prompt.of([[2, 1]] * 64, ids=range(64), width=4)
    found = run(EAD(endless, SMALL, Coin(0.3, 0.3), regenerate=True, stride=4), prompt)
    large, share = np.zeros(64), []
    for _ in range(LENGTH):  # a small model's token, and then a large one's, is tossed for
        large = large + (1 - large) * 0.3
        share.append(large.mean())
        large = large * 0.7
    assert abs(found.trace.large.mean() - np.mean(share)) < 0.06


def fold(step, key):
    return jax.random.fold_in(key, step)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="its vocabulary has 5 tokens"):
        EAD(GREEDY, EnumerableLM.random(0, 5), Turns(1, 1))
    with pytest.raises(ValueError, match="caches='eager'"):
        EAD(GREEDY, SMALL, Turns(1, 1), caches="eager")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="window=0"):
        RollingEntropy(1.0, 0)
    with pytest.raises(ValueError, match="hold=0"):
        RollingEntropy(1.0, 5, 0)
    with pytest.raises(ValueError, match="stride=1"):
        EAD(GREEDY, SMALL, Turns(1, 1), stride=1)
    with pytest.raises(ValueError, match="enter=2"):
        Coin(2.0, 0.1)
