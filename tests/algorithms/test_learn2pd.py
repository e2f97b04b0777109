"""Learn2PD: the oracle, the filter, decoding by it, and the prediction of ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.diffusion import oracle as oracles
from algorithms.diffusion.choosers import Threshold
from algorithms.diffusion.filter import Filter, Lesson, fingerprint, loss, quality, train
from algorithms.diffusion.learn2pd import Learned, learn2pd
from algorithms.diffusion.oracle import Oracle
from jaxdecode import autoregress
from jaxdecode.choose import Top
from jaxdecode.ending import EndOfText, Whole
from jaxdecode.guess import Guess, Sight
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.hashed import Hashed, hashed_logits
from jaxdecode.unmask import Unmasker
from tests.canvases import OneOf
from tests.references import unmasking

MASK, NEW, BLOCK = 5, 12, 4
DENOISER = Hashed.of(5, seed=2, sharpness=2.0)
PROMPTS = [[1, 2, 3], [4], [2, 2, 0, 1, 3], [0, 4], [3], [1, 1]]
PROMPT = Prompt.of(PROMPTS, width=8)
ENDS = Stop.of(3)
KEY = jax.random.key(0)
FILTER = Filter.random(5, BLOCK)


@jax.jit
def run(un: Unmasker, prompt: Prompt) -> Any:
    return autoregress.generate(un, KEY, prompt)


def double(tokens):
    pairs, model = list(enumerate(tokens)), DENOISER.model
    return np.stack([hashed_logits(model, pairs, i) for i in range(len(tokens))])  # type: ignore[arg-type]


def by_filter(filter: Filter, threshold: float):
    def accepts(confidence: np.ndarray) -> np.ndarray:
        x = confidence
        for index, (weight, bias) in enumerate(filter.layers):
            x = (np.maximum(x, 0) if index else x) @ np.asarray(weight, float).T + np.asarray(bias)
        return 1 / (1 + np.exp(-x)) > threshold

    return accepts


MODES = {
    "whole": (Whole(), {"by_acceptance": False, "by_foresight": False, "closes": False}),
    "both rules": (EndOfText(), {}),
    "acceptance": (EndOfText(by_foresight=False), {"by_foresight": False}),
    "foresight": (EndOfText(by_acceptance=False), {"by_acceptance": False}),
}


@pytest.mark.parametrize("mode", MODES)
def test_equals_the_loop(mode) -> None:
    """Tokens, cuts, what each pass ran and log-probabilities are those of the naive loop. Places
    that are cut off are out of sight: one that was seen would change every guess."""
    ending, rules = MODES[mode]
    rows = run(learn2pd(DENOISER, FILTER, ENDS, NEW, 0.5, ending), PROMPT)
    cuts = 0
    for row, prompt in enumerate(PROMPTS):
        accepts = by_filter(FILTER, 0.5)
        want = unmasking.learned(double, prompt, MASK, NEW, BLOCK, accepts, [3], **rules)
        length = int(rows.length[row])
        assert rows.tokens[row, :length].tolist() == want.tokens[:length]
        ended = 3 in want.tokens
        assert length == (want.tokens.index(3) + 1 if ended else NEW)
        assert rows.status[row] == (Status.EOS if ended else Status.LENGTH)
        assert int(rows.usage.target_tokens[row]) == want.run
        assert int(rows.usage.target_passes[row]) == len(want.limits)
        assert int(rows.speculation.limit[row]) == want.limits[-1]
        shown = range(len(prompt), len(prompt) + length)
        np.testing.assert_allclose(
            rows.logprob[row], sum(want.logprob.get(i, 0.0) for i in shown), 1e-4, 1e-5
        )
        cuts += want.limits[-1] < len(prompt) + NEW
    assert (cuts > 0) == (mode != "whole")


def test_what_was_decided_behind_a_cut_is_padding() -> None:
    """A pass decides places behind the end that it cuts at; to the filter they are nothing, as
    the loop has it, whatever the denoiser would say there."""
    keen = jax.tree.map(lambda x: 6 * x, Filter.random(24, BLOCK))
    prompts = [[3, 4, 3], [2, 1, 1], [4, 4, 0], [1], [0, 2], [4]]
    rows = run(learn2pd(DENOISER, keen, ENDS, NEW, 0.5), Prompt.of(prompts, width=8))
    behind = rows.speculation.fill & (rows.speculation.decided >= 0) & ~rows.speculation.done
    assert behind[:3].any(axis=1).all()
    for row, prompt in enumerate(prompts):
        accepts = by_filter(keen, 0.5)
        want = unmasking.learned(double, prompt, MASK, NEW, BLOCK, accepts, [3])
        length = int(rows.length[row])
        assert rows.tokens[row, :length].tolist() == want.tokens[:length]
        assert int(rows.usage.target_passes[row]) == len(want.limits)


def test_a_filter_that_looks_at_one_place_is_a_threshold() -> None:
    choosers = Learned(Filter.threshold(BLOCK, 0.7), 0.5), Threshold(0.7)
    ones = [run(unmasker(OneOf(which, choosers)), PROMPT) for which in range(2)]
    np.testing.assert_array_equal(ones[0].speculation.decided, ones[1].speculation.decided)
    np.testing.assert_array_equal(ones[0].tokens, ones[1].tokens)
    assert (ones[0].usage.target_passes < NEW).all()


def unmasker(chooser: Any, **options: Any) -> Unmasker:
    options = {"ending": Whole(), "block": BLOCK} | options
    return Unmasker(DENOISER, chooser, Greedy(), ENDS, NEW, **options)


def test_thresholds_at_the_ends() -> None:
    """tau = 1 is one place a pass, tau = 0 a pass a block."""
    for tau, passes in ((1.0, NEW), (0.0, NEW // BLOCK)):
        rows = run(learn2pd(DENOISER, FILTER, ENDS, NEW, tau, Whole()), PROMPT)
        assert (rows.usage.target_passes == passes).all()
        if tau == 1.0:
            static = run(unmasker(Top()), PROMPT)
            np.testing.assert_array_equal(rows.speculation.decided, static.speculation.decided)


def test_the_cut() -> None:
    """Ends foreseen at 5 and 9 cut behind the surer one; one accepted at 5 cuts behind it."""
    limit, none = jnp.array([16]), jnp.zeros((1, 16), bool)
    foreseen = jnp.full((1, 16), -jnp.inf).at[0, 5].set(0.6).at[0, 9].set(0.9)
    limit = EndOfText().cut(limit, none, foreseen)
    assert limit.tolist() == [10]
    accepted = none.at[0, 5].set(True).at[0, 7].set(True)
    limit = EndOfText().cut(limit, accepted, foreseen)
    assert limit.tolist() == [6]
    assert EndOfText().cut(limit, none, foreseen).tolist() == [6]  # never grows
    assert EndOfText().cut(limit, none, jnp.full((1, 16), -jnp.inf)).tolist() == [6]


def test_what_is_cut_off_lingers_in_a_dual_cache_where_asked() -> None:
    def made(lingers: bool) -> Any:
        ending = EndOfText(lingers=lingers)
        return run(learn2pd(DENOISER, FILTER, ENDS, NEW, 0.5, ending, cache="dual"), PROMPT)

    clean, released = made(False), made(True)
    assert (clean.status != Status.RUNNING).all() and (released.status != Status.RUNNING).all()
    # The first pass and its cut are the same; what the next ones see differs by what was cut.
    assert clean.usage.attended.sum() != released.usage.attended.sum()
    assert (clean.speculation.limit < PROMPT.length + NEW).any()


# The oracle and its traces.


def test_the_oracle_writes_the_reference_in_fewer_passes() -> None:
    un = unmasker(Top())
    wanted = jax.jit(oracles.reference)(un, KEY, PROMPT)
    np.testing.assert_array_equal(
        wanted,
        run(un, PROMPT).speculation.tokens[
            np.arange(len(PROMPTS))[:, None], np.asarray(PROMPT.length)[:, None] + np.arange(NEW)
        ],
    )
    rows = jax.jit(oracles.oracle)(un, KEY, PROMPT)
    at = np.asarray(PROMPT.length)[:, None] + np.arange(NEW)
    np.testing.assert_array_equal(np.take_along_axis(rows.speculation.tokens, at, 1), wanted)
    assert (rows.usage.target_passes <= NEW).all() and (rows.usage.target_passes < NEW).any()
    lesson = oracles.lesson(un, KEY, PROMPT)
    assert len(lesson.label) == int(rows.usage.target_passes.sum())
    assert lesson.open.any(axis=1).all()
    steps = np.asarray(rows.speculation.chooser.count)
    np.testing.assert_array_equal(steps, rows.usage.target_passes)


def test_a_stuck_oracle_writes_what_it_knows() -> None:
    """Guesses that never change and a reference that is wrong at one place of each block: the
    rest is decided in the first pass, and the second finds nothing new."""
    steady = Hashed.of(5, seed=2, sharpness=1e-7, smooth=1e7)
    un = replace(unmasker(Top()), denoiser=steady)
    wanted = np.array(jax.jit(oracles.reference)(un, KEY, PROMPT))
    wanted[:, 1::BLOCK] = (wanted[:, 1::BLOCK] + 1) % 5
    rows = run(replace(un, chooser=Oracle(jnp.asarray(wanted))), PROMPT)
    assert (rows.usage.target_passes == 2 * NEW // BLOCK).all()
    at = np.asarray(PROMPT.length)[:, None] + np.arange(NEW)
    np.testing.assert_array_equal(np.take_along_axis(rows.speculation.tokens, at, 1), wanted)


def test_labels_of_a_script() -> None:
    """Guesses abxx, abcx, abcd of abcd: labels 1100, 1110, 1111; 2, 1 and 1 are decided."""
    chooser = Oracle(jnp.array([[0, 1, 2, 3]]))
    state, open_ = chooser.init(1, 4), np.ones((1, 4), bool)
    key, law = jax.random.split(jax.random.key(0), 1), jnp.log(jnp.full((1, 4, 5), 0.2))
    found = []
    for step, guess in enumerate(([0, 1, 4, 4], [0, 1, 2, 4], [0, 1, 2, 3])):
        seen = Sight(
            Guess(jnp.array([guess]), law),
            jnp.asarray(open_),
            jnp.asarray(~open_),
            place=jnp.array([0]),
            step=jnp.array([step]),
            entered=jnp.array([4]),
            key=key,
            coin=key,
        )
        choice, state = chooser(state, seen)
        found.append(int(choice.accept.sum()))
        open_ &= ~np.asarray(choice.accept)
    assert found == [2, 1, 1] and int(state.count[0]) == 3
    assert state.label[0, :3].astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert state.open[0, :3].sum(axis=1).tolist() == [4, 2, 1]


def test_a_prompt_in_the_block_is_padding_to_the_oracle_as_to_the_filter() -> None:
    """Blocks of a causal denoiser may begin with the end of a prompt, which is neither right nor
    sure; what is decided is."""
    chooser, key = Oracle(jnp.array([[7, 3]])), jax.random.split(jax.random.key(0), 1)
    law = jnp.log(jnp.full((1, 4, 8), 1 / 8))
    seen = Sight(
        Guess(jnp.array([[7, 7, 7, 4]]), law),
        open=jnp.array([[False, False, False, True]]),
        done=jnp.array([[False, False, True, False]]),
        place=jnp.array([-2]),
        step=jnp.array([1]),
        entered=jnp.array([2]),
        key=key,
        coin=key,
    )
    _, state = chooser(chooser.init(1, 4), seen)
    np.testing.assert_allclose(state.confidence[0, 0], [0, 0, 1 / 8, 1 / 8], 1e-6)
    assert state.label[0, 0].tolist() == [False, False, True, False]


# The filter.


def test_sizes_and_padding() -> None:
    for block, count in ((32, 2112), (16, 544), (8, 144)):
        assert Filter.random(0, block).parameters == count
    assert Filter.random(0, 32, depth=1).parameters == 32 * 33
    assert Filter.random(0, 32, depth=4).parameters == 2 * 2112


def loss_by_place(filter: Filter, lesson: Lesson) -> Any:
    z = filter(lesson.confidence)
    return jnp.mean(jnp.logaddexp(0, z) - z * lesson.label, axis=0)


def test_training_on_a_threshold() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random((400, 8)).astype(np.float32)
    lesson = Lesson(confidence, confidence > 0.8, np.ones((400, 8), bool), np.arange(400) % 40)
    zero = jax.tree.map(jnp.zeros_like, Filter.random(0, 8))
    np.testing.assert_allclose(loss(zero, lesson), np.log(2), 1e-5)
    seen, held = lesson.of_prompts(range(30)), lesson.of_prompts(range(30, 40))
    assert len(seen.label) == 300 and len(held.label) == 100
    filter, losses = train(Filter.random(2, 8), seen, steps=5000)
    assert losses[-1] < 0.15 < losses[0]
    judged = quality(filter, held, 0.9)
    assert judged.false < 0.02 and judged.recall > 0.5
    # Eight confidences that tell nothing of each other need a unit each. Where a start loses
    # some for good, as many places stay at what is known without looking: H(0.2) = 0.5 nats.
    lame, losses = train(Filter.random(1, 8), seen, steps=5000)
    (weight, bias), _ = lame.layers
    dead = int((jax.nn.relu(seen.confidence @ weight.T + bias).max(axis=0) == 0).sum())
    per_place = np.asarray(loss_by_place(lame, seen))
    assert dead > 0 and (per_place > 0.4).sum() == dead
    assert losses[-1] == pytest.approx(per_place.mean(), abs=5e-3)
    with pytest.raises(ValueError, match="the filter learns from"):
        train(Filter.random(1, 4), seen)


def test_refusals() -> None:
    other = Hashed.of(5, seed=9)
    trained = replace(FILTER, model=fingerprint(DENOISER))
    learn2pd(DENOISER, trained, ENDS, NEW)
    with pytest.raises(ValueError, match="confidences do not carry over"):
        learn2pd(other, trained, ENDS, NEW)
    with pytest.raises(ValueError, match="trained for blocks of 4"):
        learn2pd(DENOISER, trained, ENDS, NEW, block=6)
    with pytest.raises(ValueError, match="must lie in"):
        Learned(FILTER, 1.2)
