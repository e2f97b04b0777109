"""FreeDave is static decoding in fewer passes: the same states, in the same order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.diffusion import judging, leaps
from algorithms.diffusion.choosers import EntropyBounded, Factor, Steady, Threshold
from algorithms.diffusion.drafts import Plan
from algorithms.diffusion.freedave import eager, freedave, freedave_plus
from algorithms.diffusion.leaps import Leaper
from jaxdecode import autoregress
from jaxdecode.certainty import CertaintyMeter
from jaxdecode.choose import Even, Fixed, Top
from jaxdecode.ending import EndOfText
from jaxdecode.logits import Temperature
from jaxdecode.prompt import Prompt
from jaxdecode.remask import Rework
from jaxdecode.result import Status
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.hashed import Hashed
from jaxdecode.unmask import Unmasker
from tests.canvases import OneOf

NEVER = Stop.of()
CASES = Prompt.of([[*map(int, np.base_repr(i, 3).zfill(9))] for i in range(10_000)], width=9)
FEW = jax.tree.map(lambda x: x[:1000], CASES)
COLD = Temperature(1e-6)


def static(chooser: Any = None, smooth: float = 3.0, max_tokens=6, **options: Any) -> Unmasker:
    # Beside 1e7 what depends on the state is lost in rounding: guesses that never change.
    sharpness = 1 / smooth if smooth > 1e6 else 1.0
    denoiser = Hashed.of(3, prompt=9, smooth=smooth, sharpness=sharpness)
    denoiser = replace(denoiser, causal_blocks=options.pop("causal", None))
    options = {"sampler": Greedy(), "stop": NEVER, "block": 6} | options
    chooser = Top() if chooser is None else chooser
    return Unmasker(denoiser, chooser, max_tokens=max_tokens, **options)


CHOOSERS: dict[str, Any] = {
    "one a step": Top(),
    "two a step": Top(Fixed(2)),
    "margin": Top(order="margin"),
    "entropy": Top(order="entropy"),
    "random": Top(order="random"),
    "even": Top(Even(4)),
    "threshold": Threshold(0.8),
    "factor": Factor(1.0),
    "bounded": EntropyBounded(0.2),
}


def chosen(name: str, transform: Any = COLD, **options: Any) -> Unmasker:
    """All in one program: any chooser, and sampling that a temperature of nearly 0 freezes."""
    which = OneOf(list(CHOOSERS).index(name), tuple(CHOOSERS.values()))
    return static(which, sampler=Categorical(), transform=transform, **options)


@jax.jit
def run(generator: Any, prompt: Prompt) -> Any:
    return autoregress.generate(generator, jax.random.key(0), prompt)


def assert_lossless(one: Any, many: Any, exact: bool = True) -> None:
    for name in ("tokens", "length", "status"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))
    np.testing.assert_allclose(one.logprob, many.logprob, 1e-4, 1e-4)
    assert (many.usage.target_passes <= one.usage.target_passes).all()
    if exact:
        np.testing.assert_array_equal(one.speculation.decided, many.speculation.decided)
        np.testing.assert_array_equal(one.speculation.tokens, many.speculation.tokens)
    usage = many.usage
    emitted = usage.accepted + usage.bonus - usage.truncated
    np.testing.assert_array_equal(usage.emitted, emitted)
    steps = np.arange(usage.histogram.shape[1])
    np.testing.assert_array_equal((usage.histogram * steps).sum(1), usage.accepted)
    np.testing.assert_array_equal(usage.histogram.sum(1), usage.target_passes)
    assert (usage.accepted <= usage.drafted).all()


def test_equals_static_decoding_in_ten_thousand_cases() -> None:
    """Every case a denoiser of its own; guesses that change with each token, and steadier ones.

    The mean passes are those of the brief's toys, which fall with steadiness.
    """
    means = []
    for smooth in (0.0, 3.0):
        one = run(static(smooth=smooth), CASES)
        many = run(freedave(static(smooth=smooth), 4), CASES)
        assert_lossless(one, many)
        assert (one.usage.target_passes == 6).all()
        means.append(float(many.usage.target_passes.mean()))
    assert 5.4 < means[0] < 5.8 and 4.2 < means[1] < 4.6


def test_a_wrong_acceptance_is_caught(monkeypatch) -> None:
    """Taking a draft whose tokens the step's guesses agree with, whatever their order."""

    def by_tokens(rule, drafts, real, live, ahead, token):
        agrees = ahead.plan.token == token[:, None]
        new = drafts[:, 1:] & ~drafts[:, :-1]
        holds = jnp.all(~new | agrees[:, :-1], axis=2) & live[:, :-1] & real[:, 1:]
        chain = jnp.cumprod(holds.astype(jnp.int32), axis=1)
        path = jnp.concatenate([real[:, :1], chain > 0], axis=1)
        return path, jnp.sum(chain, axis=1)

    monkeypatch.setattr(leaps, "accepted", by_tokens)
    # Another number of drafts than elsewhere: the right rule's program must not be found.
    wrong = run(freedave(static(), 3), FEW)
    right = run(chosen("one a step"), FEW)
    assert np.mean(np.any(wrong.tokens != right.tokens, axis=1)) > 0.02


@pytest.mark.parametrize("name", CHOOSERS)
def test_every_chooser_it_claims(name) -> None:
    one, many = run(chosen(name), FEW), run(Leaper(chosen(name), 2), FEW)
    assert_lossless(one, many)
    gained = one.usage.target_passes.sum() - many.usage.target_passes.sum()
    assert gained > 0 or name == "two a step"  # drafts of one place more are never two steps


def test_sampled_guesses_keep_their_noise() -> None:
    """The noise belongs to place and state, so that drafts and steps share it."""
    warm = chosen("one a step", Temperature(1.0))
    one, many = run(warm, FEW), run(Leaper(warm, 2), FEW)
    assert_lossless(one, many)
    frozen = run(chosen("one a step"), FEW)
    assert np.any(np.asarray(one.tokens) != np.asarray(frozen.tokens))


def test_steps_of_several_places() -> None:
    """Drafts that grow by a step's places; and those of one place are never worse than none."""
    one = run(chosen("two a step"), FEW)
    many = run(freedave(static(Top(Fixed(2))), 2), FEW)
    assert_lossless(one, many)
    assert many.usage.target_passes.sum() < one.usage.target_passes.sum() == 3 * 1000


def test_caches_and_layouts() -> None:
    """Equal to the same cached decoding, with branches in one row or a row for each."""
    cached = static(block=3, cache="dual")
    one = run(cached, FEW)
    tree, rows = (run(freedave(cached, 3, layout=kind), FEW) for kind in ("tree", "batch"))
    assert_lossless(one, tree)
    assert_lossless(one, rows)
    np.testing.assert_array_equal(tree.usage.target_passes, rows.usage.target_passes)
    np.testing.assert_array_equal(tree.usage.target_tokens, rows.usage.target_tokens)


def test_eager_drafts_reach_into_the_next_block() -> None:
    """The same text and order as block by block, where drafts kept inside a block need at least
    two passes for each of the two; guesses that never change need two in all."""
    for smooth in (3.0, 1e7):
        blocks = static(block=3, smooth=smooth, causal=3, cache="prefix")
        one, across = run(blocks, FEW), run(eager(blocks, 6, blocks=2), FEW)
        assert_lossless(one, across)
    assert (across.usage.target_passes == 2).all()
    with pytest.raises(ValueError, match="causal_blocks"):
        eager(static())
    # In a window of two blocks the first step would decide half of both: other steps than static.
    with pytest.raises(ValueError, match="steps of its block"):
        eager(static(Top(Even(2)), block=3, causal=3))


def test_passes_of_guesses_that_never_change() -> None:
    """1 + ceil((L - 1) / d) passes a block."""
    four = run(freedave(static(smooth=1e7), 4), CASES)
    assert (four.usage.target_passes == 3).all()
    two = run(Leaper(chosen("one a step", smooth=1e7), 2), FEW)
    assert (two.usage.target_passes == 4).all()


def test_order_counts() -> None:
    """Drafts rank p, r, q where static decoding goes p, q, r: one step is proved, not three."""
    drafts = jnp.array([[[1, 0, 0], [1, 0, 1], [1, 1, 1]]], bool)
    step = jnp.array([[[0, 1, 0], [0, 1, 0], [0, 0, 0]]], bool)  # what follows each draft
    token = jnp.array([[1, 2, 3]])
    tokens = jnp.broadcast_to(token[:, None], drafts.shape)
    plan = Plan(step, tokens, tokens * 1.0, tokens * 1.0, jnp.ones((1, 3), bool))
    ahead = judging.Ahead(plan, tokens * 1.0, token[:, 0], token[:, 0] * 1.0)
    live = jnp.array([[True, True, False]])
    real = jnp.ones((1, 3), bool)
    for rule in ("exact", "subset"):
        path, last = judging.accepted(rule, drafts, real, live, ahead, token)
        assert last.tolist() == [0] and path.tolist() == [[True, False, False]]


def test_plus_is_near_threshold_decoding_in_fewer_passes() -> None:
    one = run(chosen("threshold"), FEW)
    many = run(freedave_plus(static(Threshold(0.8)), 4), FEW)
    assert many.usage.target_passes.sum() < one.usage.target_passes.sum()
    assert np.mean(np.all(one.tokens == many.tokens, axis=1)) > 0.8
    assert (many.status == Status.LENGTH).all()


def test_refusals() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"remasker": Rework(1)}, "steps verified together"),
        ({"meter": CertaintyMeter(jnp.zeros((0,), jnp.int32))}, "steps verified together"),
        ({"ending": EndOfText(), "stop": Stop.of(1)}, "changes what drafts were made from"),
        ({"cache": "dual", "refresh": 2}, "changes what drafts were made from"),
        ({"chooser": Steady(vocab=4)}, "remembers its steps"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            Leaper(static(**options), 2)
    with pytest.raises(ValueError, match="Top\\(Fixed"):
        freedave(static(Threshold(0.5)))
    with pytest.raises(ValueError, match="drafts=0"):
        freedave(static(), 0)
    with pytest.raises(ValueError, match="must be exact or subset"):
        Leaper(static(), 2, rule="both")  # type: ignore[arg-type]
