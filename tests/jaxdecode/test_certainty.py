"""Certainty measures: known values, laws, and the meter against a naive teacher-forced loop."""

from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from jaxdecode import autoregress
from jaxdecode.autoregress import Generator
from jaxdecode.certainty import (
    MEASURES,
    Certainty,
    CertaintyMeter,
    Measures,
    measure,
    score_certainty,
)
from jaxdecode.logits import Temperature, TopP, chain
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.stop import Stop
from jaxdecode.surprise import SurpriseMeter
from jaxdecode.testing.enumerable import EnumerableLM, next_logits
from models.presets import small
from models.transformer import Transformer

# Four-token distributions with their self-certainty, cross-entropy, negative entropy, negated
# Gini impurity and negated distributional perplexity.
KNOWN = {
    (0.7, 0.1, 0.1, 0.1): (0.429813, 1.816108, -0.940448, -0.48, -2.561129),
    (0.97, 0.01, 0.01, 0.01): (2.075198, 3.461492, -0.167701, -0.0588, -1.182582),
    (0.4, 0.3, 0.2, 0.1): (0.121777, 1.508072, -1.279854, -0.70, -3.596115),
}
SHAPES = [field.name for field in fields(Measures) if field.name != "logprob"]
EOS = 2
MODEL = EnumerableLM.random(5, 7, sharpness=2.0)
PROMPT = Prompt.of([[1, 3, 4], [5], [2, 2, 6, 1]], [4, 9, 1], 6)
LENGTH = 9

logits_lists = st.sampled_from([2, 7, 40]).flatmap(
    lambda n: st.lists(st.floats(-30, 30, width=32), min_size=n, max_size=n)
)

measure_jit = jax.jit(measure)
generate = jax.jit(autoregress.generate, static_argnames="samples")
score = jax.jit(score_certainty, static_argnames=("shifted", "chunk"))


def at(logits, token=0, base=None) -> Measures:
    logits = jnp.asarray(logits, jnp.float32)
    return measure_jit(logits, jnp.full(logits.shape[:-1], token), base)


def naive(p: np.ndarray, token: int, q: np.ndarray | None = None) -> dict[str, float]:
    """One position, by the definitions, from probabilities."""
    q = np.full(len(p), 1 / len(p)) if q is None else q
    entropy = -sum(x * np.log(x) for x in p)
    return {
        "kl": sum(b * np.log(b / x) for b, x in zip(q, p, strict=True) if b > 0),
        "cross_entropy": -sum(b * np.log(x) for b, x in zip(q, p, strict=True)),
        "neg_entropy": -entropy,
        "gini": -(1 - sum(x * x for x in p)),
        "neg_distributional_perplexity": -np.exp(entropy),
        "avg_logprob": np.log(p[token]),
    }


def naive_response(
    prompt: list[int], response: list[int], shifted=False, include_end=False, q=None
) -> dict[str, float]:
    """A response's means, one position after the other."""
    text = [token for token in response if include_end or token != EOS]
    seen = []
    for i, token in enumerate(text):

        def probs(length: int) -> np.ndarray:
            z = next_logits(MODEL, [*prompt, *response[:length]])
            return np.exp(z) / np.exp(z).sum()

        before = naive(probs(i), token, q)
        after = naive(probs(i + 1), token, q) if shifted else before
        seen.append(after | {"avg_logprob": before["avg_logprob"]})
    means = {name: float(np.mean([one[name] for one in seen])) for name in seen[0]}
    return means | {"neg_perplexity": -np.exp(-means["avg_logprob"]), "length": len(text)}


@pytest.mark.parametrize("p", KNOWN)
def test_known_distributions(p) -> None:
    found = at(np.log(p))
    for name, expected in zip(SHAPES, KNOWN[p], strict=True):
        np.testing.assert_allclose(
            getattr(found, name), expected, rtol=1e-6, atol=1e-6, err_msg=name
        )
    np.testing.assert_allclose(at(np.log(p), 3).logprob, np.log(p[3]), rtol=1e-6)


@pytest.mark.parametrize("vocab", [2, 5, 1000])
def test_uniform(vocab) -> None:
    found = at(np.full(vocab, -7.5))
    expected = (0.0, np.log(vocab), -np.log(vocab), -(1 - 1 / vocab), -vocab)
    for name, value in zip(SHAPES, expected, strict=True):
        np.testing.assert_allclose(getattr(found, name), value, rtol=2e-6, atol=1e-6, err_msg=name)


def test_mean_of_two_tokens() -> None:
    meter = CertaintyMeter(jnp.array([3]))
    state = meter.init(1)
    for p in list(KNOWN)[::2]:
        on = jnp.array([True])
        state = meter.observe(state, jnp.log(jnp.array([p])), jnp.array([0]), on)
    np.testing.assert_allclose(state.mean().kl, 0.275795, rtol=3e-6)


def test_tail_driven() -> None:
    """KL(U || p) rewards a suppressed tail; the measures of the head disagree with it."""
    two, one = at(np.log([0.5, 0.498, 0.001, 0.001])), at(np.log([0.97, 0.01, 0.01, 0.01]))
    np.testing.assert_allclose(two.kl, 2.415159, rtol=2e-6)
    assert two.kl > one.kl
    for name in ("neg_entropy", "gini", "neg_distributional_perplexity"):
        assert getattr(two, name) < getattr(one, name)


@given(logits_lists, st.floats(-50, 50), st.randoms())
def test_not_negative_and_invariant(logits, shift, random) -> None:
    z = np.array(logits)
    found = at(z)
    assert found.kl >= -1e-5
    order = random.sample(range(len(z)), len(z))
    for name in SHAPES:
        value = getattr(found, name)
        np.testing.assert_allclose(getattr(at(z + shift), name), value, 2e-4, 2e-4)
        np.testing.assert_allclose(getattr(at(z[order]), name), value, 2e-5, 2e-5)


@given(logits_lists, st.floats(0.2, 0.95))
def test_lower_temperature_is_more_certain(logits, temperature) -> None:
    z = np.array(logits, np.float32)
    slack = 1e-5 * (1 + np.abs(z).max())
    assert at(z / temperature).kl >= at(z).kl - slack
    if np.ptp(z) > 0.5:
        assert at(z / temperature).kl > at(z).kl > 0


@pytest.mark.parametrize(("token", "slope"), [(0, 0.18), (1, -0.42)])
def test_slope_of_a_step_on_one_token(token, slope) -> None:
    """Raising log p(y) by a gradient step changes self-certainty by p(y) - sum p^2."""
    p = np.array([0.7, 0.1, 0.1, 0.1])
    step = np.eye(4)[token] - p
    np.testing.assert_allclose(p[token] - p @ p, slope)
    gradient = jax.grad(lambda z: at(z).kl)(jnp.log(p))
    np.testing.assert_allclose(gradient @ step, slope, atol=1e-6)
    ahead, behind = (at(np.log(p) + s * step).kl for s in (1e-2, -1e-2))
    np.testing.assert_allclose((ahead - behind) / 2e-2, slope, atol=1e-3)


@pytest.mark.parametrize("vocab", [4, 128, 32000])
def test_logits_form_is_the_definition(vocab) -> None:
    z = 3 * np.random.default_rng(vocab).standard_normal(vocab).astype(np.float32)
    p = np.exp(z.astype(np.float64))
    p /= p.sum()
    found = at(z, 1)
    for name, value in naive(p, 1).items():
        name = "logprob" if name == "avg_logprob" else name
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-6, atol=1e-6, err_msg=name)


def test_half_precision_logits_are_summed_in_float32() -> None:
    z = jnp.asarray(4 * np.random.default_rng(0).standard_normal(50000), jnp.bfloat16)
    expected = at(z.astype(jnp.float32)).kl
    np.testing.assert_allclose(measure(z, jnp.array(0)).kl, expected, rtol=1e-6)


def test_empirical_base() -> None:
    p, q = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.6, 0.0, 0.25, 0.15])
    found = at(np.log(p), base=jnp.asarray(q, jnp.float32))
    np.testing.assert_allclose(found.kl, naive(p, 0, q)["kl"], rtol=1e-5)
    np.testing.assert_allclose(found.cross_entropy, naive(p, 0, q)["cross_entropy"], rtol=1e-5)
    np.testing.assert_allclose(at(np.log(q + 1e-9), base=jnp.asarray(q)).kl, 0, atol=1e-5)


@pytest.mark.parametrize("fault", [-np.inf, np.inf, np.nan])
def test_a_logit_that_is_not_finite_spoils_its_row_alone(fault) -> None:
    logits = jnp.zeros((2, 4)).at[1, 2].set(fault)
    meter = CertaintyMeter(jnp.array([], jnp.int32))
    on = jnp.array([True, True])
    state = meter.observe(meter.init(2), logits, jnp.array([0, 0]), on)
    mean = meter.observe(state, jnp.zeros((2, 4)), jnp.array([0, 0]), on).mean()
    for name in MEASURES:
        first, second = getattr(mean, name)
        assert np.isfinite(first) and np.isnan(second), name
    # What is not counted may be anything.
    off = meter.observe(meter.init(2), logits, jnp.array([0, 0]), jnp.array([True, False])).mean()
    assert off.length.tolist() == [1, 0]


@pytest.fixture(scope="module")
def decoded():
    """Sampled rows with temperature and filter, of several lengths, some without an end."""

    def run(include_end=False, base=None):
        generator = Generator(
            MODEL,
            chain(Temperature(0.7), TopP(0.9)),
            Categorical(),
            Stop.of(EOS),
            LENGTH,
            CertaintyMeter(jnp.array([EOS]), base, include_end),
        )
        return generate(generator, jax.random.key(8), PROMPT, samples=4)

    return run


def responses(rows) -> list[tuple[list[int], list[int]]]:
    prompts = [PROMPT.tokens[b, : PROMPT.length[b]].tolist() for b in range(PROMPT.batch)]
    count = rows.length.shape[0]
    return [
        (prompts[r * PROMPT.batch // count], rows.tokens[r, : rows.length[r]].tolist())
        for r in range(count)
    ]


def assert_means(found: Certainty, expected: list[dict[str, float] | None]) -> None:
    for row, means in enumerate(expected):
        if means is None:
            assert found.length[row] == 0 and np.isnan(found.kl[row])
            continue
        for name, value in means.items():
            np.testing.assert_allclose(
                getattr(found, name)[row], value, rtol=2e-5, atol=2e-5, err_msg=f"{name}[{row}]"
            )


BASE = np.array([0.3, 0.0, 0.1, 0.2, 0.15, 0.15, 0.1])


@pytest.mark.parametrize(("include_end", "base"), [(False, None), (True, None), (False, BASE)])
def test_streaming_is_teacher_forcing_is_naive(decoded, include_end, base) -> None:
    """The meter sees raw logits: the temperature and the filter above do not show."""
    given = None if base is None else jnp.asarray(base, jnp.float32)
    rows = decoded(include_end, given)
    pairs = responses(rows)
    lengths = {len(response) for _, response in pairs}
    assert len(lengths) > 2 and any(EOS in r for _, r in pairs)
    expected = [
        naive_response(prompt, response, include_end=include_end, q=base)
        if include_end or response != [EOS]
        else None
        for prompt, response in pairs
    ]
    assert_means(rows.meter.mean(), expected)
    meter = CertaintyMeter(jnp.array([EOS]), given, include_end)
    assert_means(score(MODEL, PROMPT, rows.tokens, rows.length, meter, chunk=4), expected)


def test_the_shift_of_the_published_code(decoded) -> None:
    rows = decoded()
    meter = CertaintyMeter(jnp.array([EOS]))
    pairs = responses(rows)
    expected = [naive_response(p, r, shifted=True) if r != [EOS] else None for p, r in pairs]
    for chunk in (3, LENGTH, 64):
        found = score(MODEL, PROMPT, rows.tokens, rows.length, meter, shifted=True, chunk=chunk)
        assert_means(found, expected)
    straight = rows.meter.mean()
    assert np.nanmax(np.abs(np.asarray(found.kl - straight.kl))) > 1e-2


def test_padding_and_place_do_not_matter(decoded) -> None:
    rows = decoded()
    meter = CertaintyMeter(jnp.array([EOS]))
    base = score(MODEL, PROMPT, rows.tokens, rows.length, meter)
    littered = jnp.where(jnp.arange(LENGTH) < rows.length[:, None], rows.tokens, 99)
    wider = jnp.pad(littered, ((0, 0), (0, 5)), constant_values=-7)
    prompt = Prompt(
        jnp.pad(PROMPT.tokens, ((0, 0), (0, 3)), constant_values=6), PROMPT.length, PROMPT.id
    )
    order = jnp.array([2, 0, 1])
    moved = (order[:, None] * 4 + jnp.arange(4)).reshape(-1)
    turned = jax.tree.map(lambda x: x[order], prompt)
    found = score(MODEL, turned, wider[moved], rows.length[moved], meter)
    for name in (*MEASURES, "length"):
        expected = getattr(base, name)[moved]
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-5, err_msg=name)


def test_two_orders_of_measures_agree(decoded) -> None:
    mean = decoded().meter.mean()
    for one, other in (("kl", "cross_entropy"), ("avg_logprob", "neg_perplexity")):
        order = np.argsort(getattr(mean, one), kind="stable")
        np.testing.assert_array_equal(order, np.argsort(getattr(mean, other), kind="stable"))


def test_a_transformer_agrees_with_itself() -> None:
    """Decoding token by token and reading in chunks give one certainty, padded rows or not."""
    config = small(11, hidden=32, layers=2, rows=16)
    model = Transformer(config, rngs=nnx.Rngs(0))
    scaled = jax.tree.map(lambda x: 4 * x, nnx.state(model))
    nnx.update(model, scaled)
    meter = CertaintyMeter(jnp.array([EOS]))
    generator = Generator(model, Temperature(0.8), Categorical(), Stop.of(EOS), 12, meter)
    rows = generate(generator, jax.random.key(0), PROMPT, samples=3)
    found = score(model, PROMPT, rows.tokens, rows.length, meter, chunk=5)
    streamed = rows.meter.mean()
    for name in (*MEASURES, "length"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(streamed, name), rtol=2e-4, atol=1e-5, err_msg=name
        )


def test_refusals() -> None:
    meter = CertaintyMeter(jnp.array([EOS]))
    tokens, length = jnp.zeros((4, 2), jnp.int32), jnp.ones((4,), jnp.int32)
    with pytest.raises(ValueError, match="4 responses to 3 prompts"):
        score_certainty(MODEL, PROMPT, tokens, length, meter)
    with pytest.raises(ValueError, match="chunk=0"):
        score_certainty(MODEL, PROMPT, tokens[:3], length[:3], meter, chunk=0)


def test_surprises_of_every_token() -> None:
    """Bits under the raw law, row by row, and whether a token was the likeliest."""
    meter = SurpriseMeter(3)
    law = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])) + 3.0
    state = meter.observe(meter.init(2), law, jnp.array([1, 1]), jnp.array([True, True]))
    state = meter.observe(state, law, jnp.array([0, 0]), jnp.array([True, False]))
    np.testing.assert_allclose(state.bits, [[2, 1, 0], [-np.log2(0.8), 0, 0]], 1e-5)
    assert state.likeliest.tolist() == [[False, True, False], [True, False, False]]
    assert state.length.tolist() == [2, 1]
