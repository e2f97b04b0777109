"""AdaDec against plain Python, the worked bigram, and what must make it greedy decoding."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.selection.best_of_n import BestOfN
from algorithms.tokens.adadec import AdaDec
from algorithms.tokens.mirostat import Mirostat
from algorithms.tokens.rules.triggers import Always, Chance, Uncertain
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.lm import prefill
from jaxdecode.logits import Identity, RepetitionPenalty
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import LikelihoodScorer
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_probs
from tests.markov import MarkovLM
from tests.markov import generator as plain
from tests.references import adadec as naive

MODEL, EOS, LINE, LENGTH = EnumerableLM.random(5, 6, sharpness=1.2), 0, 3, 7
LAW = partial(next_probs, MODEL)
PROMPTS = ([1, 2, 3], [4], [2, 2], [5, 1, 5, 1])
PROMPT = Prompt.of(PROMPTS, width=4)
GREEDY = Generator(MODEL, Identity(), Greedy(), Stop.of(EOS), LENGTH)
NEVER = float("inf")


def run(decoder, prompt=PROMPT, seed=0):
    return jax.device_get(decode(decoder, seed, prompt))


@pytest.mark.parametrize("branch, ahead, line", [(3, 4, ()), (2, 2, (LINE,))])
def test_it_does_what_the_reference_does(branch, ahead, line) -> None:
    """At thresholds between the entropies, from never to always."""
    moved = 0
    for threshold in (NEVER, 1.55, 1.4, 1.2, 0.0):
        found = run(AdaDec(GREEDY, Uncertain(threshold), branch, ahead, Stop.of(line or 6)))
        for row, prompt in enumerate(PROMPTS):
            tokens, paused, entropies = naive.decode(
                LAW,
                prompt,
                LENGTH,
                [EOS],
                pauses=lambda _, h, at=threshold: h >= at,
                branch=branch,
                ahead=ahead,
                line=line or [6],
            )
            length = found.length[row]
            assert found.tokens[row, :length].tolist() == tokens
            assert found.trace.paused[row, :length].tolist() == paused
            np.testing.assert_allclose(found.trace.entropy[row, :length], entropies, rtol=1e-4)
            moved += tokens != run(Autoregressive(GREEDY)).tokens[row, :length].tolist()
    assert moved >= 3


def test_where_it_looks_at_nothing_it_is_greedy() -> None:
    expected = run(Autoregressive(GREEDY))
    for trigger, branch, ahead in (
        (Uncertain(NEVER), 3, 4),
        (Always(), 1, 4),
        (Always(), 3, 0),
        (Chance(0.0), 3, 4),
    ):
        found = run(AdaDec(GREEDY, trigger, branch, ahead))
        np.testing.assert_array_equal(found.tokens, expected.tokens)
        np.testing.assert_allclose(found.logprob, expected.logprob, 1e-5, 1e-5)


def test_it_is_fair_in_what_it_counts() -> None:
    """A look at B candidates takes L passes of B tokens, and saves the pass of the next step."""
    endless = Generator(MODEL, Identity(), Greedy(), Stop.of(()), LENGTH)
    found = run(AdaDec(endless, Always(), 3, 4))
    read = np.array([len(prompt) - 1 for prompt in PROMPTS])
    assert found.usage.target_tokens.tolist() == (read + 1 + LENGTH * 3 * 4).tolist()
    assert found.usage.target_passes.tolist() == ((read > 0) + 1 + LENGTH * 4).tolist()
    never = run(AdaDec(endless, Uncertain(NEVER), 3, 4))
    assert never.usage.target_tokens.tolist() == (read + LENGTH).tolist()
    rare = run(AdaDec(endless, Chance(0.3), 3, 4))
    pauses = rare.trace.paused[:, :-1].sum(1)
    last = rare.trace.paused[:, -1]
    saved = pauses  # each but one at the last token spares a step
    looked = (pauses + last) * 12
    assert rare.usage.target_tokens.tolist() == (read + LENGTH - saved + looked).tolist()
    assert 0 < (pauses + last).sum() < LENGTH * len(PROMPTS)


def test_the_cache_is_that_of_a_fresh_prefill() -> None:
    """After looks, with a root that was run as a candidate and one that was not."""
    decoder = AdaDec(GREEDY, Chance(0.5), 3, 3)
    capacity = 4 + LENGTH

    @jax.jit
    def paused(decoder, until):
        rows = decoder.start(jax.random.key(3), PROMPT, 1, capacity)
        return decoder.advance(rows, until)

    for until in (6, 8):
        rows = paused(decoder, jnp.full((4,), until))
        for row, prompt in enumerate(PROMPTS):
            text = [*prompt, *rows.tokens[row, : int(rows.length[row])].tolist()]
            length = len(text) - 1
            assert int(rows.cache.length[row]) == length
            fresh = prefill(MODEL, Prompt.of([text], width=capacity), capacity).cache
            held = length + bool(rows.speculation.known[row] and rows.running[row])
            if held > length:
                longer = Prompt.of([[*text, 0]], width=capacity)
                fresh = prefill(MODEL, longer, capacity).cache
            for mine, other in ((rows.cache.k[0, row], fresh.k[0, 0]),):
                np.testing.assert_allclose(mine[..., :held], other[..., :held], 1e-6)
            np.testing.assert_array_equal(rows.cache.position[row, :held], fresh.position[0, :held])


def controlled(prompt, text) -> np.ndarray:
    """Mirostat's law after a text, for a target of 1.2 bits; 1e-30 for what it excludes."""
    mu = 2 * 1.2
    for place in range(len(prompt), len(text)):
        mu -= -np.log2(LAW(text[:place])[text[place]]) - 1.2
    p = LAW(text)
    within = -np.log2(p) <= mu
    kept = within if within.any() else np.arange(len(p)) == p.argmax()
    return np.where(kept, p / p[kept].sum(), 1e-30)


def test_an_edit_that_hears_how_probable_tokens_were_goes_along() -> None:
    looking = AdaDec(replace(GREEDY, transform=Mirostat(1.2)), Always(), 3, 4)
    found, moved = run(looking), 0
    for row, prompt in enumerate(PROMPTS):
        law = partial(controlled, prompt)
        how = {"pauses": lambda *_: True, "branch": 3, "ahead": 4}
        tokens, _, _ = naive.decode(law, prompt, LENGTH, [EOS], **how)
        assert found.tokens[row, : found.length[row]].tolist() == tokens
        moved += tokens != naive.decode(LAW, prompt, LENGTH, [EOS], **how)[0]
    assert moved >= 1


def test_it_edits_and_selects_as_a_generator_does() -> None:
    """Edits that remember go along the continuations; best-of-N runs on it."""
    edited = Generator(MODEL, RepetitionPenalty(1.5, 6), Categorical(), Stop.of(EOS), LENGTH)
    found = run(BestOfN(AdaDec(edited, Uncertain(1.2), 2, 3), LikelihoodScorer(MODEL), samples=3))
    again = run(BestOfN(AdaDec(edited, Uncertain(NEVER), 2, 3), LikelihoodScorer(MODEL), samples=3))
    base = run(BestOfN(edited, LikelihoodScorer(MODEL), samples=3))
    np.testing.assert_array_equal(again.tokens, base.tokens)
    assert (found.tokens != base.tokens).any()


NAMES = "SABCXYZE"
ROWS = {
    "S": {"A": 0.40, "B": 0.35, "C": 0.20, "X": 0.05},
    "A": {"X": 0.30, "Y": 0.28, "Z": 0.22, "B": 0.20},
    "B": {"Y": 0.95, "X": 0.05},
    "C": {"Z": 0.60, "X": 0.40},
    "X": {"X": 0.5, "Y": 0.4, "E": 0.1},
    "Y": {"Z": 0.90, "E": 0.10},
    "Z": {"E": 0.90, "X": 0.10},
    "E": {"E": 1.0},
}


def test_a_worked_bigram() -> None:
    """Scores at four lengths, and what is chosen above and below the entropy of 1.2056 nats."""
    table = np.array([[ROWS[a].get(b, 0.0) for b in NAMES] for a in NAMES])

    def law(text):
        return table[text[-1]]

    known = {
        1: (-1.0601, -0.5506, -1.0601),
        2: (-0.9378, -0.4022, -0.7419),
        3: (-0.8766, -0.3280, -0.7419),
        5: (-0.8155, -0.3280, -0.7419),
    }
    end = NAMES.index("E")
    for ahead, expected in known.items():
        scores = [naive.score(law, [0], NAMES.index(c), ahead, [end])[0] for c in "ABC"]
        np.testing.assert_allclose(scores, expected, atol=1e-4)
    np.testing.assert_allclose(naive.entropy(table[0]), 1.2056, atol=1e-4)
    with np.errstate(divide="ignore"):
        model = MarkovLM(jnp.asarray(np.log(table), jnp.float32))
    generator = Generator(model, Identity(), Greedy(), Stop.of(end), 1)
    for threshold, ahead, token in ((1.2, 5, "B"), (1.21, 5, "A"), (1.2, 0, "A"), (0.0, 2, "B")):
        found = run(AdaDec(generator, Uncertain(threshold), 3, ahead), Prompt.of([[0]], width=1))
        assert NAMES[found.tokens[0, 0]] == token
        np.testing.assert_allclose(found.trace.entropy[0, 0], 1.2056, atol=1e-4)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="branch=0"):
        AdaDec(GREEDY, Always(), 0)
    with pytest.raises(ValueError, match="threshold=-1"):
        Uncertain(-1.0)
    with pytest.raises(ValueError, match=r"rate=1\.5"):
        Chance(1.5)
    wide = AdaDec(plain(MarkovLM.cycle(4), 2), Always(), 9, 1)
    assert run(wide, Prompt.of([[0]])).tokens[0].tolist() == [1, 2]  # B beyond the vocabulary
