"""PEARL: steps of a reference, laws, closed forms against simulation, ablations, the clock."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.speculative.pearl import (
    Clock,
    best_in_turn,
    pearl,
    speed_up,
    speed_up_in_turn,
    tokens_a_step,
    within,
)
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.logits import RepetitionPenalty, Temperature, chain
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_logits, sequence_probs
from jaxdecode.testing.statistics import assert_distribution, rejects
from tests.references.pearl import steps

TARGET = EnumerableLM.random(3, 5)
DRAFT = TARGET.perturbed(1, 0.4)
LENGTH = 24
PROMPTS = [[1, 2, 3], [4], [2, 2], [0, 1, 4, 1]]
PROMPT = Prompt.of(PROMPTS, [7, 2, 9, 3], 4)
SAMPLES = 6000
MANY = Prompt.of([[1, 2]] * SAMPLES, list(range(SAMPLES)), 2)
LAW = sequence_probs(TARGET, [1, 2], 3)
ABLATIONS = [(True, True), (False, True), (True, False)]


@jax.jit
def run(decoder, key, prompt):
    return decoder(key, prompt)


def greedy(penalty: float = 1.0) -> Generator:
    transform = chain(RepetitionPenalty(penalty, 5), Temperature(1.0))
    return Generator(TARGET, transform, Greedy(), Stop.of(()), LENGTH)


def sampled(length: int, target: EnumerableLM = TARGET) -> Generator:
    return Generator(target, Temperature(1.0), Categorical(), Stop.of(()), length)


def decode(generator: Generator, draft: EnumerableLM, prompt: Prompt = PROMPT, **options):
    decoder = Autoregressive(pearl(generator, draft, **options))
    return jax.device_get(run(decoder, jax.random.key(5), prompt))


@pytest.mark.parametrize("window", [1, 3])
def test_steps_are_those_of_the_reference(window: int) -> None:
    found = decode(greedy(), DRAFT, window=window)

    def choose(model):
        return lambda seen: int(np.argmax(next_logits(model, seen)))

    for row, prompt in enumerate(PROMPTS):
        text, log = steps(choose(TARGET), choose(DRAFT), prompt, LENGTH, window)
        assert found.tokens[row].tolist() == text
        histogram = found.usage.histogram[row]
        assert histogram.sum() == len(log)
        # A step accepts all it emits but the last, the guess or a correction.
        counts = np.bincount([tokens - 1 for _, tokens in log], minlength=len(histogram))
        assert histogram.tolist() == counts.tolist()
        assert found.usage.drafted[row] == sum(post for post, _ in log) * (window - 1)
        assert found.usage.draft_passes[row] == window * len(log)


@pytest.mark.parametrize(("pre", "post"), ABLATIONS)
def test_greedy_text_is_the_targets(pre: bool, post: bool) -> None:
    plain = run(Autoregressive(greedy(1.3)), jax.random.key(5), PROMPT)
    for draft in (DRAFT, EnumerableLM.random(8, 5, sharpness=3.0)):
        found = decode(greedy(1.3), draft, window=3, pre_verify=pre, post_verify=post)
        np.testing.assert_array_equal(found.tokens, plain.tokens)


def test_ablations_are_slower() -> None:
    """On a window as long as the target is slow."""
    taken = {}
    for pre, post in ABLATIONS:
        usage = decode(greedy(), DRAFT, window=3, pre_verify=pre, post_verify=post).usage
        passes, drafts = float(usage.histogram.sum()), float(usage.draft_passes.sum())
        taken[pre, post] = Clock(3).parallel(3, passes, drafts)
    assert taken[True, True] < taken[False, True]
    assert taken[True, True] < taken[True, False]


def test_the_draft_that_is_the_target_never_fails() -> None:
    usage = decode(greedy(), TARGET, window=3).usage
    np.testing.assert_array_equal(usage.histogram[:, 2], [8] * 4)  # 1 + 3 * 8 tokens
    np.testing.assert_array_equal(usage.histogram[:, 0], [1] * 4)


@pytest.mark.parametrize(
    ("window", "pre", "post"), [(1, True, True), *((3, *ablation) for ablation in ABLATIONS)]
)
def test_samples_follow_the_targets_law(window: int, pre: bool, post: bool) -> None:
    found = decode(sampled(3), DRAFT, MANY, window=window, pre_verify=pre, post_verify=post)
    assert_distribution(found.tokens, LAW, family=4)


@struct.dataclass
class Shifted:
    """A wrong rule: pending tokens are judged by the law of the window's first token."""

    def pair(self, drafter) -> None:
        pass

    def __call__(self, keys, judge, draft, depth):
        logq = jnp.broadcast_to(draft.guess.logq[:, None], draft.logq.shape)
        return Residual()(keys, judge, replace(draft, logq=logq), depth)


@struct.dataclass
class Untested:
    """A wrong rule: a window's first token is taken as it is."""

    def pair(self, drafter) -> None:
        pass

    def __call__(self, keys, judge, draft, depth):
        verdict = Residual()(keys, judge, draft, depth)
        taken = draft.guess.valid & (verdict.count == draft.guess.after + 1)
        token = jnp.where(taken, draft.guess.token, verdict.next)
        return replace(verdict, next=token, guessed=taken)


@pytest.mark.parametrize("wrong", [Shifted(), Untested()])
def test_wrong_rules_are_found_out(wrong) -> None:
    spec = replace(pearl(sampled(3), DRAFT, window=3), verifier=wrong)
    found = run(Autoregressive(spec), jax.random.key(5), MANY)
    assert rejects(found.tokens, LAW)


def free(law) -> EnumerableLM:
    """A model whose law does not depend on the text."""
    zero = jnp.zeros((4, 3, 2))
    return EnumerableLM(zero, zero, jnp.zeros((2, 3)), jnp.log(jnp.array(law)))


def test_a_context_free_pair_keeps_the_closed_form() -> None:
    """Acceptance .6: tokens a step, and the share of steps that post-verify."""
    window, rate, post = 3, 1.4162, 0.4335
    prompt = Prompt.of([[0]] * 256, list(range(256)), 1)
    generator = sampled(100, free([0.2, 0.3, 0.5]))
    usage = decode(generator, free([0.6, 0.3, 0.1]), prompt, window=window).usage
    passes = usage.histogram.sum()
    assert usage.emitted.sum() / passes == pytest.approx(rate, rel=0.02)
    assert usage.drafted.sum() / (window - 1) / passes == pytest.approx(post, rel=0.03)


def test_known_values_of_the_closed_forms() -> None:
    found = [tokens_a_step(0.6, g) for g in (1, 2, 3, 5)]
    np.testing.assert_allclose(found, [1, 1.2903, 1.4162, 1.5146], atol=1e-4)
    np.testing.assert_allclose(
        [within(0.6, g) for g in (1, 2, 3, 5)], [0.6, 0.4839, 0.4335, 0.3942], atol=1e-4
    )
    table = {
        0.6: [(1.200, 1.416), (1.400, 1.515), (1.583, 1.553)],  # it loses at c = 8
        0.7: [(1.314, 1.614), (1.583, 1.810), (1.849, 1.913)],
        0.8: [(1.476, 1.894), (1.868, 2.283), (2.270, 2.549)],
        0.9: [(1.757, 2.314), (2.373, 3.127), (3.065, 3.876)],
    }
    for alpha, row in table.items():
        for ratio, expected in zip((3, 5, 8), row, strict=True):
            clock = Clock(ratio)
            mine = best_in_turn(alpha, clock)[1], speed_up(alpha, ratio, clock)
            np.testing.assert_allclose(mine, expected, atol=6e-4)
            sweep = [speed_up(alpha, window, clock) for window in range(1, 20)]
            assert int(np.argmax(sweep)) + 1 == ratio


def test_the_clock() -> None:
    clock = Clock(4, exchange=0.05)
    assert clock.step(4) == pytest.approx(1.05) and clock.step(6) == pytest.approx(1.55)
    assert clock.parallel(4, passes=10, drafts=40) == pytest.approx(10.5)
    assert clock.parallel(4, passes=10, drafts=48) == pytest.approx(12.5)  # two windows alone
    assert clock.in_turn(10, 40) == pytest.approx(20)
    assert speed_up_in_turn(0.5, 1, Clock(2)) == pytest.approx(1.0)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="pre_verify=False, post_verify=False"):
        pearl(greedy(), DRAFT, 2, pre_verify=False, post_verify=False)
    with pytest.raises(ValueError, match="length=0"):
        pearl(greedy(), DRAFT, 0)
    with pytest.raises(ValueError, match="vocabulary"):
        pearl(greedy(), EnumerableLM.random(0, 4))
    with pytest.raises(ValueError, match="ratio=0"):
        Clock(0)
