"""Mirostat: its equations, its identity, its law under speculation, and Zipf's numbers."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import ArrayLike

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.verifiers.match import Match
from algorithms.speculative.verifiers.residual import Residual
from algorithms.tokens import zipf
from algorithms.tokens.mirostat import Mirostat, MirostatTopK, exponent, log_rank, reachable
from jaxdecode import struct
from jaxdecode.autoregress import Generator, generate
from jaxdecode.logits import Temperature, chain
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.speculate import Speculator
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_logits, sequence_probs, softmax
from jaxdecode.testing.statistics import assert_distribution, completions, power, rejects
from tests.conformance import growing, remembering
from tests.references import mirostat as reference

P6 = np.array([0.40, 0.25, 0.15, 0.10, 0.07, 0.03])
MODEL = EnumerableLM.random(3, 5)
PROMPT = Prompt.of([[1, 2, 3], [4], [2, 2], [0, 1, 4, 1], [3]], [7, 2, 9, 3, 4], 4)
never, drawing = Stop.of(99), Categorical()


def law(p):
    return jnp.log(jnp.asarray(np.array([p], np.float32)))


@jax.jit
def edit(rules, mu, logits):
    return rules.apply(mu, logits)


def kept(rules, mu, p: ArrayLike = P6):
    edited = edit(rules, jnp.array([mu]), law(p))
    return np.flatnonzero(np.asarray(edited[0]) > -np.inf).tolist()


@jax.jit
def rows_of(generator, key, prompt):
    return generate(generator, key, prompt)


@jax.jit
def run(decoder, key, prompt):
    return decoder(key, prompt)


def test_numbers_of_the_rank_formula() -> None:
    def k(s, mu, vocab):
        return float(jnp.exp2(log_rank(jnp.array([s]), jnp.array([mu]), vocab))[0])

    for mu, value in ((4, 2.2329), (6, 7.8740), (8, 27.7666), (10, 97.9151)):
        np.testing.assert_allclose(k(1.1, float(mu), 50257), value, 1e-4)
        assert abs(zipf.rank_at(mu, 50257, 1.1) - value) < 1e-4
    np.testing.assert_allclose(k(1.5, 6.0, 50000), 10.1095, 1e-4)
    np.testing.assert_allclose(k(1.2, 8.0, 1000), 33.8128, 1e-4)
    for s in (1.0, 1 + 1e-6, 1 - 1e-6):
        np.testing.assert_allclose(k(s, 6.0, 1000), 9.264949, 1e-4)
    s6 = exponent(law(P6), 100)
    np.testing.assert_allclose(s6, [1.0900129], 1e-5)
    for mu, value in ((1, 1.190), (2, 2.247), (3, 4.245), (4, 6.0)):
        np.testing.assert_allclose(k(s6[0], float(mu), 6), value, 1e-3)
    flat = exponent(law([0.2, 0.18, 0.16, 0.14, 0.12, 0.1, 0.1]), 100)
    np.testing.assert_allclose(flat, [0.271857], 1e-5)
    assert k(flat[0], 3.0, 7) == pytest.approx(7) and k(flat[0], 2.0, 7) == 1.0
    assert k(0.0, 500.0, 7) == pytest.approx(7)  # an exactly flat head, and 2^mu past a float


def test_the_exponent_is_exact_on_zipf_laws() -> None:
    for s, vocab, head in ((0.7, 50, 100), (1.0, 300, 20), (1.6, 300, 100)):
        p = zipf.weights(vocab, s)
        np.testing.assert_allclose(exponent(law(p / p.sum()), head), [s], 1e-4)


def test_kept_sets_known_by_hand() -> None:
    two, one = Mirostat(2.0), MirostatTopK(2.0)
    found = {mu: kept(two, mu) for mu in (-1.0, 1.0, 2.0001, 3.0, 4.0, 9.0)}
    assert list(found.values()) == [[0], [0], [0, 1], [0, 1, 2], [0, 1, 2, 3, 4], list(range(6))]
    assert [len(kept(one, mu)) for mu in (-5.0, 1.0, 2.0, 3.0, 4.0)] == [1, 1, 2, 4, 6]
    mu = two.hear(jnp.array([4.0]), law(P6), jnp.array([3]), jnp.array([True]))
    np.testing.assert_allclose(mu, [2.678072], 1e-6)
    assert kept(two, float(mu[0])) == [0, 1]
    assert two.hear(jnp.array([4.0]), law(P6), jnp.array([3]), jnp.array([False])) == 4.0
    # A law with excluded tokens, one that has a single token, and a tie at the top.
    assert kept(two, 4.0, [0.5, 0.5, 0, 0, 0, 0]) == [0, 1]
    assert kept(one, 4.0, [0, 0, 1, 0, 0, 0]) == [2]
    assert kept(two, 0.1, [0.1, 0.4, 0.4, 0.05, 0.03, 0.02]) == [1]
    capped = replace(two, most=3.0)
    assert capped.hear(jnp.array([3.0]), law(P6), jnp.array([0]), jnp.array([True])) == 3.0


@pytest.mark.parametrize("make", [Mirostat, MirostatTopK])
def test_kept_sets_equal_the_reference(make) -> None:
    rng = np.random.default_rng(0)
    for vocab in (3, 150):
        for scale in (0.3, 2.0, 6.0):
            p = softmax(scale * rng.normal(size=vocab)).astype(np.float32)
            sizes = []
            for mu in (-0.5, 0.9, 2.3, 4.1, 7.7):
                name = "kept_by_surprise" if make is Mirostat else "kept_by_rank"
                if make is MirostatTopK and abs(reference.rank(p, mu) % 1 - 0.5) < 1e-3:
                    continue
                assert kept(make(1.0), mu, p) == getattr(reference, name)(p, mu)
                sizes.append(len(kept(make(1.0), mu, p)))
            assert sizes == sorted(sizes)


@pytest.mark.parametrize("make", [Mirostat, MirostatTopK])
@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_the_identity_of_the_loop(make, rate) -> None:
    """Mean surprise = target + (mu_0 - mu_T) / (rate T), rows that end early included; an
    integer target keeps a float mu."""
    generator = Generator(MODEL, make(1, rate), drawing, Stop.of(1), 40)
    rows = rows_of(generator, jax.random.key(4), PROMPT)
    length = np.asarray(rows.length)
    assert len(set(length.tolist())) > 1 and length.max() > 5
    mean = -np.asarray(rows.logprob) / np.log(2) / length
    np.testing.assert_allclose(mean, 1 + (2 - np.asarray(rows.transform)) / rate / length, 1e-4)


def zipfian(vocab: int, s: float) -> EnumerableLM:
    """A model that says the same law after every text."""
    model = EnumerableLM.random(0, vocab, width=1)
    return replace(model, head=0 * model.head, bias=jnp.log(jnp.asarray(zipf.weights(vocab, s))))


@pytest.mark.parametrize(("rate", "near"), [(1.0, 0.03), (0.1, 0.12)])
@pytest.mark.parametrize("make", [Mirostat, MirostatTopK])
def test_control_of_a_stationary_law(make, rate, near) -> None:
    """A Zipf law of 1.1 over 1,000 tokens: near the target after 200, within what mu may differ."""
    for target in (3.0, 5.0):
        generator = Generator(zipfian(1000, 1.1), make(target, rate), drawing, never, 200)
        rows = rows_of(generator, jax.random.key(1), Prompt.of([[0]] * 4))
        mean = -np.asarray(rows.logprob) / np.log(2) / 200
        np.testing.assert_allclose(mean.mean(), target, atol=near)


def test_unbounded_it_samples_and_bounded_by_zero_it_is_greedy() -> None:
    short = Prompt.of([[1, 2]] * 4000)
    for make in (Mirostat, MirostatTopK):
        free = run(
            Autoregressive(Generator(MODEL, make(2.0, 1.0, 1e6), drawing, never, 2)),
            jax.random.key(0),
            short,
        )
        assert_distribution(
            completions(free.tokens, free.length), sequence_probs(MODEL, [1, 2], 2), family=2
        )
        bound = make(0.0, 1.0, -1.0, 0.0)
        held = run(
            Autoregressive(Generator(MODEL, bound, drawing, never, 6)), jax.random.key(0), PROMPT
        )
        plain = run(
            Autoregressive(Generator(MODEL, Temperature(1.0), Greedy(), never, 6)),
            jax.random.key(0),
            PROMPT,
        )
        np.testing.assert_array_equal(held.tokens, plain.tokens)


def naive_edit(target: float, rate: float, moves: bool = True):
    """The transform of texts, from the reference: mu is worked out from the output."""

    def edit(logits, prompt, output):
        mu, text = 2 * target, list(prompt)
        for token in output if moves else ():
            mu = reference.step(next_of(tuple(text)), mu, token, target, rate)
            text.append(token)
        left = reference.kept_by_surprise(softmax(logits), mu)
        return np.where(np.isin(np.arange(len(logits)), left), logits, -np.inf)

    return edit


@cache
def next_of(text: tuple[int, ...]) -> np.ndarray:
    return softmax(next_logits(MODEL, text))


@struct.dataclass
class Deaf:
    """A planted fault: mu stays where it was."""

    rules: Mirostat

    def init(self, prompt):
        return self.rules.init(prompt)

    def apply(self, state, logits):
        return self.rules.apply(state, logits)

    def observe(self, state, token, active):
        return state


def speculated(transform, verifier) -> Autoregressive:
    generator = Generator(MODEL, transform, drawing, never, 3)
    drafter = Chain(MODEL.perturbed(1, 0.6), 2, Temperature(0.8), drawing)
    return Autoregressive(Speculator(generator, drafter, verifier))


def test_the_law_under_speculation_and_a_wrong_one() -> None:
    """mu follows the accepted path: the law of three tokens is that of plain decoding, and a
    verifier that forgets to move it is refuted."""
    rules, count = Mirostat(1.8, 1.0), 2500
    right = sequence_probs(MODEL, [1, 2], 3, naive_edit(1.8, 1.0))
    wrong = sequence_probs(MODEL, [1, 2], 3, naive_edit(1.8, 1.0, moves=False))
    assert power(count, right, wrong) > 0.999
    prompts = Prompt.of([[1, 2]] * count)
    found = run(speculated(rules, Residual()), jax.random.key(2), prompts)
    assert int(np.asarray(found.usage.accepted).sum()) > count / 2
    assert_distribution(completions(found.tokens, found.length), right)
    planted = run(speculated(Deaf(rules), Residual()), jax.random.key(2), prompts)
    assert rejects(completions(planted.tokens, planted.length), right)
    # Sibling drafts, and a drafter that keeps the laws it has heard.
    generator = Generator(MODEL, rules, drawing, never, 3)
    for make in (growing.sequences, remembering.averaged):
        other = Autoregressive(make(generator, MODEL.perturbed(1, 0.6)))
        found = run(other, jax.random.key(3), prompts)
        assert_distribution(completions(found.tokens, found.length), right, family=3)


@pytest.mark.parametrize("make", [Mirostat, MirostatTopK])
def test_speculation_by_match_is_plain_decoding(make) -> None:
    edits = chain(Temperature(0.9), make(1.4, 0.6))
    generator = Generator(MODEL, edits, drawing, Stop.of(1), 9)
    drafter = Chain(MODEL.perturbed(1, 0.4), 3, sampler=Greedy())
    plain = run(Autoregressive(generator), jax.random.key(5), PROMPT)
    found = run(Autoregressive(Speculator(generator, drafter, Match())), jax.random.key(5), PROMPT)
    for field in ("tokens", "length", "status"):
        np.testing.assert_array_equal(getattr(found, field), getattr(plain, field))


def test_a_drafter_cannot_draft_with_it() -> None:
    generator = Generator(MODEL, Mirostat(1.2), drawing, never, 3)
    drafter = Chain(MODEL, 2, Mirostat(1.2), drawing)
    decoder = Autoregressive(Speculator(generator, drafter, Residual()))
    with pytest.raises(ValueError, match="give it another transform"):
        run(decoder, jax.random.key(0), PROMPT)


def test_targets_out_of_reach_are_told() -> None:
    reachable(0.7, 5.2, 3.0)
    with pytest.raises(ValueError, match=r"below greedy text's 0\.70: truncation alone"):
        reachable(0.7, 5.2, 0.5)
    with pytest.raises(ValueError, match=r"above sampled text's 5\.20"):
        reachable(0.7, 5.2, 6.0)


def test_zipf_tables() -> None:
    vocab, s = 50257, 1.1
    np.testing.assert_allclose(zipf.harmonic(1000, 1.2), 4.335765, 1e-6)
    np.testing.assert_allclose(zipf.harmonic(vocab, s), 7.196944, 1e-6)
    np.testing.assert_allclose(zipf.harmonic_integral(vocab, s), 6.612492, 1e-6)
    by_k = [zipf.top_k_cross_entropy(k, vocab, s) for k in (1, 10, 100, 1000, vocab)]
    np.testing.assert_allclose(by_k, [2.8474, 4.2067, 5.7372, 7.1731, 9.3266], atol=1e-4)
    shares = (0.1, 0.3, 0.5, 0.7, 0.9, 1)
    assert [zipf.nucleus(p, vocab, s) for p in shares] == [1, 6, 36, 363, 7321, vocab]
    by_p = [zipf.top_p_cross_entropy(p, vocab, s) for p in shares]
    np.testing.assert_allclose(by_p, [2.8474, 3.8698, 5.0644, 6.5563, 8.3132, 9.3266], atol=1e-4)
    np.testing.assert_allclose(
        [zipf.top_p_closed(p, vocab, s) for p in (0.1, 0.5, 0.9)], [3.4595, 6.7302, 11.3160], 1e-4
    )
    heat = [zipf.tempered_cross_entropy(t, vocab, s) for t in (0.5, 0.7, 1, 1.3)]
    np.testing.assert_allclose(heat, [3.5225, 4.8282, 9.3266, 13.4970], 1e-4)
    for exponent_, fit in ((1.1, 0.987), (1.2, 0.952)):
        p = np.linspace(0.1, 1, 10)
        y = np.array([zipf.top_p_cross_entropy(x, vocab, exponent_) for x in p])
        assert abs(np.corrcoef(p, y)[0, 1] ** 2 - fit) < 0.01
    # The closed form for top-k is within a tenth of a bit from k = 10 on, and on both sides.
    near = [zipf.top_k_closed(k, vocab, s) for k in (10, 100, 1000, vocab)]
    np.testing.assert_allclose(near, by_k[1:], atol=0.1)
    assert near[0] > by_k[1] and near[1] < by_k[2]
    kept_ = [sum(zipf.surprise(i, vocab, s) <= mu for i in range(1, 101)) for mu in (4, 6, 8, 10)]
    assert kept_ == [2, 7, 25, 90]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zipf.weights(0, 1.0), "vocab=0"),
        (lambda: zipf.harmonic(10, 0.0), "s=0.0"),
        (lambda: zipf.top_k_cross_entropy(11, 10, 1.1), "k=11"),
        (lambda: zipf.nucleus(0.0, 10, 1.1), "p=0.0"),
        (lambda: zipf.surprise(0, 10, 1.1), "rank=0"),
        (lambda: zipf.top_k_closed(3, 10, 1.0), "s=1.0"),
        (lambda: zipf.tempered_cross_entropy(0.0, 10, 1.0), "temperature=0.0"),
    ],
)
def test_refusals_of_the_theory(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
