"""The canvas engine: equality with loops, laws, caches, endings, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.diffusion.choosers import EntropyBounded, Factor, Threshold
from jaxdecode import autoregress
from jaxdecode.autoregress import Generator
from jaxdecode.choose import Ancestral, Even, Everything, Fixed, Top
from jaxdecode.decoder import decode
from jaxdecode.denoiser import Denoiser
from jaxdecode.ending import EndOfText, Whole
from jaxdecode.logits import Identity, Temperature
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.remask import Lowest, Rework
from jaxdecode.result import Status
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.conformance import end_rules
from jaxdecode.testing.enumerable import EnumerableLM
from jaxdecode.testing.hashed import Hashed, hashed_logits
from jaxdecode.testing.joint import Joint, chain_rule
from jaxdecode.testing.statistics import assert_distribution, completions, power, rejects
from jaxdecode.unmask import Unmasker
from tests.canvases import OneOf
from tests.references import unmasking

MASK = 5
DENOISER = Hashed.of(5, seed=3, sharpness=2.0)
PROMPTS = [[1, 2, 3], [4], [2, 2, 0, 1, 3], [0, 4]]
NEVER = Stop.of()
ONE = Top()
BITS = Joint.of(np.array([[0.4, 0.1], [0.2, 0.3]]))


def unmasker(
    denoiser: Denoiser = DENOISER, chooser: Any = ONE, max_tokens=8, block=4, **options: Any
) -> Unmasker:
    options = {"sampler": Greedy(), "stop": NEVER} | options
    return Unmasker(denoiser, chooser, max_tokens=max_tokens, block=block, **options)


def run(un: Unmasker, prompts=PROMPTS, seed: int = 0) -> Any:
    """Rows run to their end, canvas and all."""
    return jax.device_get(_run(un, jax.random.key(seed), Prompt.of(prompts, width=8)))


@jax.jit
def _run(un: Unmasker, key: jax.Array, prompt: Prompt) -> Any:
    return autoregress.generate(un, key, prompt)


def double(denoiser: Denoiser, limit: int | None = None):
    """The logits of a canvas by the model's double, shifted and blocked as the denoiser is."""

    def logits(tokens):
        tokens, size = tokens[:limit], denoiser.causal_blocks
        model: Any = denoiser.model
        found = []
        for i in range(len(tokens)):
            at = max(i - 1, 0) if denoiser.shift else i
            end = len(tokens) if size is None else (at // size + 1) * size
            found.append(hashed_logits(model, list(enumerate(tokens))[:end], at))
        return np.stack(found)

    return logits


CASES: dict[str, tuple[Any, unmasking.Rule, str]] = {
    "top 1": (Top(), unmasking.fixed(1), "confidence"),
    "top 3": (Top(Fixed(3)), unmasking.fixed(3), "confidence"),
    "even": (Top(Even(3)), unmasking.even(3), "confidence"),
    "margin": (Top(Fixed(2), "margin"), unmasking.fixed(2), "margin"),
    "entropy": (Top(Fixed(2), "entropy"), unmasking.fixed(2), "entropy"),
    "left": (Top(Fixed(2), "left"), unmasking.fixed(2), "left"),
    "threshold": (Threshold(0.7), unmasking.threshold(0.7), "confidence"),
    "factor": (Factor(1.3), unmasking.factor(1.3), "confidence"),
    "factor, quirk": (Factor(1.3, True), unmasking.factor(1.3, True), "confidence"),
    "bounded": (EntropyBounded(0.3), unmasking.entropy_bounded(0.3), "entropy"),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_loop(name) -> None:
    """Tokens, order, passes, log-probs and counts are those of the naive loop, row by row."""
    _, rule, order = CASES[name]
    choosers = tuple(chooser for chooser, *_ in CASES.values())
    rows = run(unmasker(chooser=OneOf(list(CASES).index(name), choosers)))
    for row, prompt in enumerate(PROMPTS):
        start = [*prompt, *[MASK] * 8]
        want = unmasking.fill(double(DENOISER), start, MASK, len(prompt), 4, rule, order)
        check_row(rows, row, prompt, want)
        assert rows.usage.target_tokens[row] == want.passes * len(start)
        assert rows.usage.attended[row] == want.passes * len(start) ** 2


def check_row(rows: Any, row: int, prompt: list[int], want: unmasking.Run) -> None:
    span = range(len(prompt), len(prompt) + 8)
    assert rows.tokens[row].tolist() == want.tokens[len(prompt) :]
    assert rows.speculation.tokens[row, : len(prompt)].tolist() == prompt
    assert [rows.speculation.decided[row, i] for i in span] == [want.decided[i] for i in span]
    assert rows.usage.target_passes[row] == want.passes
    assert rows.status[row] == Status.LENGTH and rows.length[row] == 8
    assert rows.usage.bonus[row] == rows.usage.emitted[row] == 8
    np.testing.assert_allclose(rows.logprob[row], sum(want.logprob.values()), 1e-4)


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("cache", ["none", "prefix"])
def test_causal_blocks_equal_the_loop(shift, cache) -> None:
    """Blocks counted from place 0, seen by themselves and later ones: the cache is exact."""
    denoiser = replace(DENOISER, shift=shift, causal_blocks=4)
    rows = run(unmasker(denoiser, Threshold(0.7), cache=cache))
    for row, prompt in enumerate(PROMPTS):
        start = [*prompt, *[MASK] * 8]
        rule = unmasking.threshold(0.7)
        check_row(rows, row, prompt, unmasking.fill(double(denoiser), start, MASK, 0, 4, rule))


@pytest.mark.parametrize("cache", ["prefix", "dual"])
@pytest.mark.parametrize("shift", [False, True])
def test_caches_of_one_layer_are_exact(cache, shift) -> None:
    """With one layer stored keys say what their tokens say, and these are as they were: any
    slot, position or place that is read wrongly changes every conditional."""
    denoiser = replace(DENOISER, shift=shift)
    plain, cached = (
        run(unmasker(denoiser, Threshold(0.7), cache=kind)) for kind in ("none", cache)
    )
    for name in ("tokens", "length", "status"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(cached, name))
    np.testing.assert_array_equal(plain.speculation.decided, cached.speculation.decided)
    np.testing.assert_array_equal(plain.usage.target_passes, cached.usage.target_passes)
    if not shift:
        assert (cached.usage.target_tokens < plain.usage.target_tokens).all()
    if cache == "dual":
        whole = 2 * (np.array([len(p) for p in PROMPTS]) + 8)
        window = (cached.usage.target_passes - 2) * (4 + shift)
        np.testing.assert_array_equal(cached.usage.target_tokens, whole + window)


def test_halves_change_nothing() -> None:
    for cache in ("none", "prefix"):
        one, two = (run(unmasker(chooser=Threshold(0.7), cache=cache, halvings=n)) for n in (0, 2))
        np.testing.assert_array_equal(one.speculation.decided, two.speculation.decided)
        np.testing.assert_array_equal(one.tokens, two.tokens)
        np.testing.assert_array_equal(one.usage.target_tokens, two.usage.target_tokens)


def test_spans_are_filled_in_the_middle() -> None:
    """Masks anywhere; blocks from place 0, and the right context counts."""
    texts = [[1, MASK, 3, MASK, MASK, 0], [MASK, 2], [4, 4, MASK, MASK, MASK, MASK, 1, MASK]]
    rows = run(unmasker(chooser=Threshold(0.8), infill=True), texts)
    for row, text in enumerate(texts):
        want = unmasking.fill(double(DENOISER), text, MASK, 0, 4, unmasking.threshold(0.8))
        holes = [i for i, token in enumerate(text) if token == MASK]
        assert rows.length[row] == len(holes)
        assert rows.tokens[row, : len(holes)].tolist() == [want.tokens[i] for i in holes]
        assert rows.speculation.tokens[row, : len(text)].tolist() == want.tokens
        assert rows.usage.target_passes[row] == want.passes
    dual = run(unmasker(chooser=Threshold(0.8), infill=True, cache="dual"), texts)
    np.testing.assert_array_equal(rows.tokens, dual.tokens)


def test_a_causal_model_in_blocks_of_one_is_autoregression() -> None:
    """Token for token, with its log-probability, greedy and with ends."""
    model = EnumerableLM.random(3, 6, sharpness=2.0)
    denoiser = Denoiser(model, MASK, shift=True, causal_blocks=1)
    banned = replace(model, bias=model.bias.at[MASK].set(-jnp.inf))
    for eos, sequence in (((), ()), ((0, 2), ()), ((), (1, 1))):
        stop = end_rules(model, eos, sequence)
        plain = Generator(banned, Identity(), Greedy(), stop, 8)
        want = decode(Autoregressive(plain), 0, Prompt.of(PROMPTS, width=8))
        for cache in ("none", "prefix"):
            got = run(unmasker(denoiser, block=1, stop=stop, cache=cache))
            for name in ("tokens", "length", "status"):
                np.testing.assert_array_equal(getattr(got, name), getattr(want, name))
            np.testing.assert_allclose(got.logprob, want.logprob, 1e-5, 1e-5)


# Laws.


def outputs(un: Unmasker, count: int, seed: int = 1) -> list[tuple[int, ...]]:
    prompts = Prompt.of([[0]] * count, width=1)
    rows = _run(un, jax.random.key(seed), prompts)
    return completions(rows.tokens, rows.length)


@pytest.mark.parametrize("order", ["left", "random", "entropy", "margin"])
def test_one_at_a_time_samples_the_law(order) -> None:
    """A denoiser of exact conditionals: any order that does not read the draw gives the law."""
    joint = Joint.random(5, 3, 3)
    un = unmasker(joint.denoiser(), Top(order=order), max_tokens=3, block=3, sampler=Categorical())
    law = {text: float(p) for text, p in np.ndenumerate(np.asarray(joint.law, np.float64))}
    assert_distribution(outputs(un, 4000), law, family=4)
    if order == "left":  # three at once: the product of the marginals, which is refuted
        wrong = replace(un, chooser=Top(Fixed(3), "left"))
        assert rejects(outputs(wrong, 4000), law)


def test_inexact_conditionals_sample_the_chain_rule_of_their_order() -> None:
    """Conditionals that no law has: the order matters, and the other order is refuted."""
    joint = Joint.random(5, 3, 3).tilted(7, 1.0)
    un = unmasker(joint.denoiser(), Top(order="left"), max_tokens=3, block=3, sampler=Categorical())
    law, other = chain_rule(joint, [0, 1, 2]), chain_rule(joint, [2, 1, 0])
    assert power(4000, law, other) > 0.999
    samples = outputs(un, 4000)
    assert_distribution(samples, law)
    assert rejects(samples, other)


@pytest.mark.parametrize(
    ("steps", "law"),
    [
        (1, (0.30, 0.20, 0.30, 0.20)),
        (2, (0.35, 0.15, 0.25, 0.25)),
        (4, (0.375, 0.125, 0.225, 0.275)),
    ],
)
def test_ancestral_steps_mix_product_and_joint(steps, law) -> None:
    """(1/T) product + (1 - 1/T) joint, since both bits fall in one of T steps by 1/T."""
    un = unmasker(BITS.denoiser(), Ancestral(steps), max_tokens=2, block=2, sampler=Categorical())
    cells = dict(zip([(0, 0), (0, 1), (1, 0), (1, 1)], law, strict=True))
    samples = outputs(un, 6000)
    assert_distribution(samples, cells, family=3)
    joint = {text: float(p) for text, p in np.ndenumerate(np.asarray(BITS.law, np.float64))}
    if steps < 4:
        assert rejects(samples, joint)


def test_temperature_draws_from_the_tempered_law() -> None:
    """Logits (1, 0, -1) at 0.5; the score stays that of the raw law."""
    law = np.exp([1.0, 0.0, -1.0])
    un = unmasker(
        Joint.of(law / law.sum()).denoiser(),
        max_tokens=1,
        block=1,
        sampler=Categorical(),
        transform=Temperature(0.5),
    )
    cells = dict(zip([(0,), (1,), (2,)], (0.8668, 0.1173, 0.0159), strict=True))
    assert_distribution(outputs(un, 4000), cells)


# Endings, budgets, faults.


def test_a_row_ends_with_its_finished_prefix() -> None:
    """The first end with nothing open before it ends the row, and what is behind is in vain."""
    eos = [0, 3]
    rows = run(unmasker(stop=Stop.of(eos), chooser=Threshold(0.7)))
    whole = run(unmasker(stop=Stop.of(eos), chooser=Threshold(0.7), ending=Whole()))
    assert (rows.status == Status.EOS).any()
    for row, prompt in enumerate(PROMPTS):
        start, rule = [*prompt, *[MASK] * 8], unmasking.threshold(0.7)
        want = unmasking.fill(
            double(DENOISER), start, MASK, len(prompt), 4, rule, eos=eos, prompt=len(prompt)
        )
        assert rows.usage.target_passes[row] == want.passes
    for name in ("tokens", "length", "status"):
        np.testing.assert_array_equal(getattr(rows, name), getattr(whole, name))
    assert (rows.usage.target_passes <= whole.usage.target_passes).all()
    assert (rows.usage.target_passes < whole.usage.target_passes).any()
    usage = rows.usage
    np.testing.assert_array_equal(usage.emitted, usage.bonus - usage.truncated)


def test_a_pause_changes_nothing() -> None:
    """Rows run to a bound and on are rows run at once; a paused row shows its finished prefix."""
    un = unmasker(chooser=Threshold(0.7), cache="dual")
    key, prompt = jax.random.key(0), Prompt.of(PROMPTS, width=8)

    @jax.jit
    def staged(un):
        rows = un.start(key, prompt, 1, 16)
        rows = un.advance(rows, rows.prompt_length + 3)
        return rows, un.advance(rows, rows.prompt_length + 8)

    half, full = staged(un)
    assert (half.length >= 3).all() and (half.status == Status.RUNNING).all()
    want = run(un)
    np.testing.assert_array_equal(full.tokens, want.tokens)
    for row, length in enumerate(np.asarray(half.length)):
        np.testing.assert_array_equal(half.tokens[row, :length], want.tokens[row, :length])


def test_budgets_and_unusable_logits() -> None:
    """A remasker that undoes its own last step for ever is stopped, and says so."""
    endless = unmasker(remasker=Rework(10**6, 1, 0.0), passes=20)
    rows = run(endless)
    assert (rows.status == Status.BUDGET).all() and (rows.usage.target_passes == 20).all()
    rows = run(replace(endless, passes=None))
    assert (rows.usage.target_passes == 4 * 8 + 64).all()
    assert (rows.length < 8).all()
    rows = run(unmasker(Hashed.of(5, sharpness=jnp.nan)))
    assert (rows.status == Status.INVALID).all() and (rows.usage.invalid == 1).all()
    assert (rows.length == 0).all() and (rows.usage.target_passes == 1).all()


def test_remaskers() -> None:
    """Low confidence: after step i as many stay as the schedule says; rework: extra steps."""
    rows = run(unmasker(chooser=Everything(), remasker=Lowest(Even(3)), block=8))
    assert (rows.usage.target_passes == 3).all() and (rows.status == Status.LENGTH).all()
    assert (rows.usage.bonus == 8 + 5 + 2).all()  # 3, 3 and 2 stay
    rows = run(unmasker(remasker=Rework(3), block=8))
    assert (rows.usage.target_passes == 8 + 3).all() and (rows.status == Status.LENGTH).all()
    assert (rows.usage.truncated == 3).all()


# What is refused.


def test_refusals() -> None:
    model = EnumerableLM.random(3, 6)
    with pytest.raises(ValueError, match="wrap a model trained to fill masks"):
        Unmasker(model, Top(), Greedy(), NEVER, 8, 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fills masks and does not continue"):
        Generator(DENOISER, Identity(), Greedy(), NEVER, 8)  # type: ignore[arg-type]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"block": 3}, "does not divide"),
        ({"block": 0}, "block=0"),
        ({"cache": "both"}, "must be one of"),
        ({"refresh": 0}, "refresh=0"),
        ({"halvings": -1}, "halvings=-1"),
        ({"passes": 0}, "passes=0"),
        ({"ending": EndOfText()}, "needs end tokens"),
        ({"ending": EndOfText(), "infill": True, "stop": Stop.of(1)}, "no end to foresee"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            unmasker(**options)
    causal = replace(DENOISER, causal_blocks=4)
    with pytest.raises(ValueError, match="use 'prefix'"):
        unmasker(causal, cache="dual")
    with pytest.raises(ValueError, match="choose a multiple"):
        unmasker(causal, block=2)
    with pytest.raises(ValueError, match="outside the vocabulary"):
        Denoiser(model, 6)
    for make, message in (
        (lambda: Even(0), "steps=0"),
        (lambda: Fixed(0), "count=0"),
        (lambda: Top(order="best"), "must be one of"),  # type: ignore[arg-type]
        (lambda: Factor(-1.0), "give no less"),
        (lambda: EntropyBounded(-0.1), "0 or more"),
        (lambda: EndOfText(False, False), "nothing would ever be cut"),
        (lambda: Rework(0), "at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_prompts_are_refused_before_any_compute() -> None:
    plain, infill = Autoregressive(unmasker()), Autoregressive(unmasker(infill=True))
    with pytest.raises(ValueError, match=r"prompt.tokens\[1, 2\]=5 is the mask"):
        plain.check(Prompt.of([[1], [2, 2, 5]]))
    with pytest.raises(ValueError, match="has 0 masks"):
        infill.check(Prompt.of([[1, 2]]))
    with pytest.raises(ValueError, match="has 9 masks"):
        infill.check(Prompt.of([[5] * 9]))
    infill.check(Prompt.of([[5, 1]]))
    short = Autoregressive(unmasker(replace(DENOISER, longest=10)))
    short.check(Prompt.of([[1, 2]]))
    with pytest.raises(ValueError, match="exceed the model's 10 positions"):
        short.check(Prompt.of([[1, 2, 3]]))
