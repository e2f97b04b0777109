"""The most probable part of a passage against scoring every part, and the worked bigram."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.tokens.exact_extract import ExactExtract
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits.quotation import Quotation
from jaxdecode.passage import Between, Whole
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_probs, softmax
from tests.markov import MarkovLM
from tests.references import exact_extract as naive

MODEL, END = EnumerableLM.random(3, 7, sharpness=1.5), 6
OPEN, CLOSE = 5, 4
RULE = Between.of([OPEN], [CLOSE])
TEXTS = ([2, OPEN, 1, 2, 3, 1, 0, 2, CLOSE, 3], [OPEN, 3, CLOSE], [0, 0, OPEN, 2, 2, 2, CLOSE])
PASSAGES = ([1, 2, 3, 1, 0, 2], [3], [2, 2, 2])
PROMPT = Prompt.of(TEXTS, width=12)
LAW = partial(next_probs, MODEL)


def extract(longest=8, chunk=8, model=MODEL, **more):
    return ExactExtract(model, RULE, END, longest, chunk, **more)


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_it_is_the_best_of_all_parts(chunk) -> None:
    """The whole search, a bound on the length, and the sum divided by its terms."""
    for longest in (8, 2):
        found = jax.device_get(decode(extract(longest, chunk), 0, PROMPT))
        for row, (text, passage) in enumerate(zip(TEXTS, PASSAGES, strict=True)):
            every = naive.scores(LAW, text, passage, END, longest)
            first, count = naive.best(every)
            assert (found.trace.first[row], found.trace.count[row]) == (first, count)
            assert found.tokens[row, : count + 1].tolist() == [*passage[first:][:count], END]
            np.testing.assert_allclose(found.logprob[row], every[first, count], atol=1e-4)
            assert not found.tokens[row, count + 1 :].any()
        assert (found.status == Status.EOS).all()
        assert (found.length == found.trace.count + 1).all()
    found = jax.device_get(decode(extract(chunk=chunk, normalised=True), 0, PROMPT))
    for row, (text, passage) in enumerate(zip(TEXTS, PASSAGES, strict=True)):
        every = naive.scores(LAW, text, passage, END)
        part = naive.best({part: total / (part[1] + 1) for part, total in every.items()})
        assert (found.trace.first[row], found.trace.count[row]) == part
        np.testing.assert_allclose(found.logprob[row], every[part], atol=1e-4)


def test_many_models_agree_with_the_reference() -> None:
    """And the shortcut of one pass over the passage, in its own context, does not."""
    differs = 0
    for seed in range(12):
        model = EnumerableLM.random(seed, 7, sharpness=1.5)
        found = decode(extract(model=model), 0, PROMPT)
        for row, (text, passage) in enumerate(zip(TEXTS, PASSAGES, strict=True)):
            every = naive.scores(partial(next_probs, model), text, passage, END)
            part = naive.best(every)
            assert (found.trace.first[row], found.trace.count[row]) == part
            np.testing.assert_allclose(found.logprob[row], every[part], atol=1e-4)
            shared = {
                (i, n): naive.score(
                    partial(next_probs, model), [*text, *passage[:i]], passage[i : i + n], END
                )
                for i, n in every
            }
            differs += naive.best(shared) != part
    assert differs > 5  # the planted rule is a different one


def test_it_bounds_greedy_and_counts_what_it_runs() -> None:
    found = jax.device_get(decode(extract(chunk=2), 0, PROMPT))
    rules = Generator(MODEL, Quotation(RULE, jnp.array([END])), Greedy(), Stop.of(END), 9)
    greedy = jax.device_get(decode(Autoregressive(rules), 0, PROMPT))
    for row, (text, passage) in enumerate(zip(TEXTS, PASSAGES, strict=True)):
        expected = naive.constrained(LAW, text, passage, END, 9)
        assert greedy.tokens[row, : greedy.length[row]].tolist() == expected
    assert (greedy.status == Status.EOS).all()
    assert (found.logprob >= greedy.logprob - 1e-5).all()
    n, length = np.array([6, 1, 3]), np.array([len(text) for text in TEXTS])
    assert found.usage.target_tokens.tolist() == (length + n * (n + 1) // 2).tolist()
    assert found.usage.target_passes.tolist() == (2 + -(-n // 2)).tolist()
    assert (found.usage.attended > found.usage.target_tokens).all()


NAMES = "abcdEB"
ROWS = {
    "a": (0.05, 0.60, 0.05, 0.10, 0.20),
    "b": (0.10, 0.05, 0.45, 0.10, 0.30),
    "c": (0.20, 0.10, 0.05, 0.05, 0.60),
    "d": (0.10, 0.10, 0.10, 0.10, 0.60),
    "E": (0.20, 0.20, 0.20, 0.20, 0.20),
    "B": (0.30, 0.10, 0.20, 0.35, 0.05),
}


def test_a_worked_bigram() -> None:
    """Greedy text is no part, constrained greedy text no best part, the exact one is "c"."""
    with np.errstate(divide="ignore"):
        table = np.log([[*ROWS[name], 0.0] for name in NAMES])
    model = MarkovLM(jnp.asarray(table, jnp.float32))
    prompt = Prompt.of([[NAMES.index(x) for x in "abcaB"]], width=5)
    rule = Between.of([], [NAMES.index("B")])
    end = NAMES.index("E")

    def said(result) -> str:
        return "".join(NAMES[t] for t in result.tokens[0, : int(result.length[0])].tolist())

    exact = decode(ExactExtract(model, rule, end, 4, 3), 0, prompt)
    assert said(exact) == "cE" and (exact.trace.first[0], exact.trace.count[0]) == (2, 1)
    np.testing.assert_allclose(exact.logprob[0], np.log(0.12), atol=1e-6)
    plain = Generator(model, Quotation(rule, jnp.array([end])), Greedy(), Stop.of(end), 5)
    assert said(decode(Autoregressive(plain), 0, prompt)) == "abcE"
    free = replace(plain, transform=Quotation(Whole(), jnp.arange(6)))
    assert said(decode(Autoregressive(free), 0, prompt)) != "cE"
    over = decode(ExactExtract(model, rule, end, 4, 3, normalised=True), 0, prompt)
    assert said(over) == "abcE"

    def law(text):
        return softmax(np.where(np.isneginf(table[text[-1]]), -1e9, table[text[-1]]))

    every = naive.scores(law, prompt.tokens[0].tolist(), [0, 1, 2, 0], end)
    known = [0.06, 0.054, 0.0486, 0.00324, 0.03, 0.027, 0.0018, 0.12, 0.008, 0.06]
    np.testing.assert_allclose(np.exp(list(every.values())), known, rtol=1e-6)
    parts = {tuple([0, 1, 2, 0][i : i + n]): s for (i, n), s in every.items()}
    np.testing.assert_allclose(np.exp(list(parts.values())).sum(), 0.35264, atol=1e-6)


def test_a_repeated_part_is_found_where_it_comes_first_and_text_only_adds() -> None:
    """Row 2's passage is one token three times; a longer passage has more to choose among."""
    found = jax.device_get(decode(extract(), 0, PROMPT))
    assert found.trace.first[2] == 0
    every = naive.scores(LAW, TEXTS[0], PASSAGES[0], END)
    distinct = {tuple(PASSAGES[0][i : i + n]): s for (i, n), s in every.items()}
    assert np.exp(list(distinct.values())).sum() <= 1


def test_refusals() -> None:
    with pytest.raises(ValueError, match="longest=0"):
        extract(0)
    with pytest.raises(ValueError, match="end=7"):
        ExactExtract(MODEL, RULE, 7, 3)
    with pytest.raises(ValueError, match=r"prompt 1 \(id 9\): its passage is empty"):
        extract().check(Prompt.of([TEXTS[0], [1, 2, 3]], [4, 9]))
    with pytest.raises(ValueError, match="its passage is empty"):
        extract().check(Prompt.of([[OPEN, CLOSE]]))
