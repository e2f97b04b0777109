"""Samplers of practice against naive references and llama.cpp, and what is heard of a token."""

import json
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.verifiers.residual import Residual
from algorithms.tokens.mirostat import Mirostat, MirostatTopK
from jaxdecode import logits as edits
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.logits import (
    Dry,
    DynamicTemperature,
    ExcludeTop,
    QuadraticSmoothing,
    Temperature,
    TopK,
    TopNSigma,
    chain,
    hears,
)
from jaxdecode.logits.transform import noted
from jaxdecode.ngram.suffix import Suffix
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.speculate import Speculator
from jaxdecode.stop import Stop
from jaxdecode.testing import naive
from jaxdecode.testing.enumerable import EnumerableLM, sequence_probs, softmax
from jaxdecode.testing.statistics import assert_distribution, completions, power, rejects
from tests.references import llama_cpp
from tests.references.momentum import depth

INF, V = float("inf"), 8
LOGIT = st.sampled_from([-7.5, -3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0, 6.0, 20.0, -INF])
BLANK = Prompt.of([[1, 2, 1, 3], [4, 5]], width=5)


@jax.jit
def apply(transform, prompt, logits):
    return transform.apply(transform.init(prompt), logits)


def one(transform, row, prompt=BLANK):
    return np.asarray(apply(transform, prompt, jnp.asarray([row, row], jnp.float32))[0], np.float64)


FILTERS = {
    "top_n_sigma": (TopNSigma, naive.top_n_sigma, (st.floats(0.05, 4),)),
    "dynamic_temperature": (
        DynamicTemperature,
        naive.dynamic_temperature,
        (st.floats(0.1, 1), st.floats(1, 3), st.floats(0.2, 3)),
    ),
    "quadratic_smoothing": (
        QuadraticSmoothing,
        naive.quadratic_smoothing,
        (st.floats(0.05, 2), st.floats(1, 3)),
    ),
}


@pytest.mark.parametrize("name", FILTERS)
@given(data=st.data(), row=st.lists(LOGIT, min_size=V, max_size=V))
def test_equal_their_references(name, data, row) -> None:
    assume(max(row) > -INF)
    make, reference, strategies = FILTERS[name]
    values = [data.draw(strategy) for strategy in strategies]
    expected = reference(np.array(row), *values)
    if name == "top_n_sigma":
        near = [reference(np.array(row), values[0] + step) for step in (-1e-5, 1e-5)]
        assume(all(np.array_equal(x, expected) for x in near))
    # The entropy of a nearly certain law is the logarithm of nearly 1, and a power of it.
    loose = 1e-2 if name == "dynamic_temperature" else 1e-4
    np.testing.assert_allclose(one(make(*values), row), expected, loose, loose)


@given(
    row=st.lists(LOGIT, min_size=V, max_size=V),
    threshold=st.floats(0, 1),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    cold=st.sampled_from([0.5, 1.0]),
)
def test_xtc_is_the_mixture_of_its_coin(row, threshold, share, cold) -> None:
    assume(max(row) > -INF)
    cut = naive.exclude_top(np.array(row), threshold)
    near = [naive.exclude_top(np.array(row), threshold + step) for step in (-1e-5, 1e-5)]
    assume(all(np.array_equal(x, cut) for x in near))
    law = (1 - share) * softmax(np.array(row) / cold) + share * softmax(cut / cold)
    found = one(ExcludeTop(threshold, share, Temperature(cold)), row)
    np.testing.assert_allclose(np.exp(found), law, 1e-4, 1e-6)


def test_top_n_sigma_keeps_the_same_tokens_at_every_temperature() -> None:
    row = np.random.default_rng(0).normal(size=V)
    before, after = chain(Temperature(3.0), TopNSigma(0.8)), chain(TopNSigma(0.8), Temperature(3.0))
    np.testing.assert_allclose(one(before, row), one(after, row), 1e-5)
    assert 0 < np.isfinite(one(before, row)).sum() < V


@given(
    text=st.lists(st.integers(0, 3), min_size=1, max_size=24),
    split=st.integers(1, 24),
    breaker=st.integers(0, 5),
)
def test_matches_by_brute_force(text, split, breaker) -> None:
    """Depths of momentum and penalties of DRY, over prompt and output, with a ragged neighbour."""
    text = text[:24]
    prompt, output = text[:split], text[split:]
    found = matches(jnp.asarray([*prompt, *[9] * (24 - len(prompt))]), len(prompt), pad(output), 9)
    assert found[0].tolist() == [depth(text, v, 99) - 1 for v in range(5)]
    assert found[1].tolist() == [depth([7], v, 99) - 1 for v in range(5)]
    stopped = matches(
        jnp.asarray([*prompt, *[9] * (24 - len(prompt))]), len(prompt), pad(output), breaker
    )
    logits = naive.dry(np.zeros(5), text, 1.0, 2.0, 1, [breaker])
    expected = np.where(np.asarray(stopped[0]) >= 1, -(2.0 ** (np.asarray(stopped[0]) - 1)), 0.0)
    np.testing.assert_allclose(logits, expected)


def pad(output):
    return jnp.asarray([*output, *[-1] * (24 - len(output))])


@jax.jit
def matches(prompt, length, output, ignored):
    """`before_all` of a prompt and its output beside a row of one token; and `before` agrees."""
    rows = jnp.stack([prompt, jnp.full_like(prompt, 7)])
    both = Prompt(rows, jnp.stack([length, 1]), jnp.arange(2))
    ignored = ignored[None]

    def read(suffix, token):
        active = jnp.stack([token >= 0, False])
        return suffix.append(jnp.stack([token, token]), active, ignored), None

    suffix, _ = jax.lax.scan(read, Suffix.of(both, 48, ignored), output)
    one_by_one = suffix.before(jnp.broadcast_to(jnp.arange(5), (2, 5)))
    return jnp.where(one_by_one == suffix.before_all(5), one_by_one, -99)


@jax.jit
def depths(prompt):
    return Suffix.of(prompt, 16).before_all(10)


def test_depths_known_by_hand() -> None:
    def found(text, *tokens):
        all_of = depths(Prompt.of([text], width=10))
        return [int(all_of[0, token]) for token in tokens]

    text = [1, 2, 3, 7, 8, 2, 3]
    assert found(text, 7, 8, 2, 1, 9) == [2, 0, 0, 0, -1]
    assert found([*text, 7], 8, 7) == [3, 0]
    assert found([*text, 7, 8], 2) == [4]
    assert found([*text, 7, 8, 2], 3) == [5]
    assert [found([4] * n, 4)[0] + 1 for n in range(1, 8)] == [1, 2, 3, 4, 5, 6, 7]


@jax.jit
def dried(transform, prompt, logits):
    return transform.apply(transform.init(prompt), logits)


def test_filters_equal_llama_cpp() -> None:
    stored = json.loads(llama_cpp.STORED.read_text())["filters"]
    text = Prompt.of([llama_cpp.TEXT] * 4)
    rows = jnp.asarray(llama_cpp.inputs())
    for (name, _, values, arguments), expected in zip(llama_cpp.SETTINGS, stored, strict=True):
        found = np.asarray(dried(getattr(edits, name)(**arguments), text, rows))
        for row, left in zip(found, expected, strict=True):
            assert np.flatnonzero(row > -INF).tolist() == sorted(map(int, left)), (name, values)
            given_ = np.array([left[str(token)] for token in np.flatnonzero(row > -INF)])
            kept = row[row > -INF]
            if name == "ExcludeTop":  # a law, not logits
                kept, given_ = kept - kept.max(), given_ - given_.max()
            np.testing.assert_allclose(kept, given_, 2e-5, 2e-5, err_msg=name)


@struct.dataclass
class Forgetful:
    """A planted fault: the penalty does not see what is emitted."""

    rules: Dry

    def init(self, prompt):
        return self.rules.init(prompt)

    def apply(self, state, logits):
        return self.rules.apply(state, logits)

    def observe(self, state, token, active):
        return state


def test_the_law_under_speculation_and_a_wrong_one() -> None:
    """A penalty that remembers, a cut and a coin, all at once, along drafts that are accepted."""
    model, text, count = EnumerableLM.random(3, 5), [1, 2, 1], 2500
    penalty = Dry(1.2, 4, 1.75, 1)
    rest = (TopNSigma(1.6), QuadraticSmoothing(0.3), ExcludeTop(0.2, 0.6, Temperature(1.2)))

    def law(remembers=True):
        def edit(logits, prompt, output):
            seen = [*prompt, *output] if remembers else prompt
            logits = naive.dry(logits, seen, 1.2, 1.75, 1)
            logits = naive.quadratic_smoothing(naive.top_n_sigma(logits, 1.6), 0.3)
            cut = naive.exclude_top(logits, 0.2)
            mixed = 0.4 * softmax(logits / 1.2) + 0.6 * softmax(cut / 1.2)
            with np.errstate(divide="ignore"):
                return np.log(mixed)

        return sequence_probs(model, text, 3, edit)

    def drawn(first):
        generator = Generator(model, chain(first, *rest), Categorical(), Stop.of(99), 3)
        drafter = Chain(model.perturbed(1, 0.6), 2)
        decoder = Autoregressive(Speculator(generator, drafter, Residual()))
        found = speculated(decoder, jax.random.key(2), Prompt.of([text] * count))
        return completions(found.tokens, found.length)

    right = law()
    assert power(count, right, law(remembers=False)) > 0.999
    assert_distribution(drawn(penalty), right)
    assert rejects(drawn(Forgetful(penalty)), right)


@jax.jit
def speculated(decoder, key, prompt):
    return decoder(key, prompt)


@pytest.mark.skipif(not llama_cpp.available(), reason="needs xllamacpp")
def test_the_stored_numbers_are_those_of_the_installed_library() -> None:
    assert llama_cpp.measure(llama_cpp.Library()) == json.loads(llama_cpp.STORED.read_text())


@pytest.mark.parametrize("index", range(len(llama_cpp.MIROSTATS)))
def test_mirostat_as_llama_cpp_has_it(index) -> None:
    """Fed the tokens that the library drew, the same tokens are kept for 60 steps; the paper's
    rule parts from it."""
    name, _, target, rate = llama_cpp.MIROSTATS[index]
    steps = json.loads(llama_cpp.STORED.read_text())["mirostat"][index]
    make = {"Mirostat": Mirostat, "MirostatTopK": MirostatTopK}[name]
    tokens = jnp.array([step["chosen"] for step in steps])
    rows = jnp.asarray(llama_cpp.inputs())[jnp.arange(len(steps)) % 4]

    @jax.jit
    def kept(transform):
        def read(state, step):
            row, token = step
            left = transform.apply(state, row[None])[0] > -jnp.inf
            return transform.hear(state, row[None], token[None], jnp.array([True])), left

        return jax.lax.scan(read, transform.init(Prompt.of([[1]])), (rows, tokens))[1]

    same = np.asarray(kept(make(target, rate, variant="llama.cpp")))
    for left, step in zip(same, steps, strict=True):
        assert np.flatnonzero(left).tolist() == step["kept"]
    assert (np.asarray(kept(make(target, rate))) != same).any()


def test_a_chain_tells_each_what_it_was_handed() -> None:
    """Mirostat behind a temperature and a filter measures by their law, and nested too."""
    control = Mirostat(1.0)
    row = jnp.log(jnp.array([[0.4, 0.3, 0.2, 0.1]]))
    token, on = jnp.array([1]), jnp.array([True])
    law = softmax(np.log([0.4, 0.3, 0.2]) / 0.5)
    expected = 2.0 - (-np.log2(law[1]) - 1.0)
    for edit in (
        chain(Temperature(0.5), TopK(3), control),
        chain(Temperature(0.5), chain(TopK(3), control), TopK(2)),
    ):
        state = noted(edit, edit.init(Prompt.of([[1]])), row, token, on)
        (mu,) = jax.tree.leaves(state)
        np.testing.assert_allclose(mu, expected, 1e-5)
        assert hears(edit)
    assert not hears(chain(Temperature(0.5), TopK(3)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopNSigma(-1.0), "n=-1.0"),
        (lambda: ExcludeTop(1.2, 0.5), "threshold=1.2"),
        (lambda: ExcludeTop(0.1, -0.5), "probability=-0.5"),
        (lambda: DynamicTemperature(0.0, 1.0), "low=0.0"),
        (lambda: DynamicTemperature(1.5, 1.0), "high=1.0"),
        (lambda: QuadraticSmoothing(0.0), "factor=0.0"),
        (lambda: QuadraticSmoothing(0.3, 4.0), "curve=4.0"),
        (lambda: Dry(-1.0, 4), "multiplier=-1.0"),
        (lambda: Dry(1.0, 4, base=0.5), "base=0.5"),
        (lambda: Dry(1.0, 4, allowed=0), "allowed=0"),
        (lambda: Dry.of(1.0, 4, [-1]), "breakers"),
        (lambda: Mirostat(-1.0), "target=-1.0"),
        (lambda: Mirostat(1.0, 0.0), "rate=0.0"),
        (lambda: Mirostat(1.0, variant=cast(Any, "ours")), "variant='ours'"),
        (lambda: MirostatTopK(1.0, head=1), "head=1"),
    ],
)
def test_refusals(make, message) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        make()


def test_mirostat_without_logits_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="has no logits"):
        chain(Temperature(0.5), Mirostat(1.0)).observe(
            ((), jnp.ones(1)), jnp.ones(1, int), jnp.ones(1, bool)
        )
