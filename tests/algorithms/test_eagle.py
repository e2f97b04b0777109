"""The pool of EAGLE-2, and what drafters remember of the text from round to round."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.speculative.drafters.eagle import Eagle, Foreseen
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.cache import Cache
from jaxdecode.draft import Spent
from jaxdecode.lm import ModelCost, prefill
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM
from tests.conformance import heads

TARGET = EnumerableLM.random(3, 5)
PROMPT = Prompt.of([[1, 2, 3], [4], [2, 2], [0, 1, 4, 1]], width=4)
LENGTH = 8
LAWS = np.array([[0.1, 0.6, 0.3], [0.25, 0.15, 0.6], [0.7, 0.2, 0.1]], np.float32)


@struct.dataclass
class LastToken:
    """A head whose estimate is its token alone, one-hot, for a target that looks it up."""

    cost = ModelCost(1, 0, 0)
    vocab_size = 3

    def init_cache(self, batch: int, capacity: int) -> Cache:
        return TARGET.init_cache(batch, capacity)

    def __call__(self, target, feature, tokens, cache, view):
        return jax.nn.one_hot(tokens, 3), cache


@struct.dataclass
class Table:
    """A target whose output matrix turns a one-hot token into the law after it."""

    def unembed(self, hidden):
        return jnp.log(hidden @ jnp.asarray(LAWS))


def pooled(width: int, length: int, budget: int):
    """The draft after token 0."""
    drafter = Eagle(LastToken(), width, length, budget)
    cache = drafter.head.init_cache(1, 16)
    state = Foreseen(cache, jax.nn.one_hot(jnp.array([0]), 3), Spent.nothing(1))
    table: Any = Table()  # all that growing asks of a target
    pool, first, _, spent = drafter.grow(table, state, jnp.array([True]))
    np.testing.assert_allclose(jnp.exp(first[0]), LAWS[0], rtol=1e-5)
    return pool, drafter.chosen(pool, jnp.array([True])), spent


def spelled(tokens, parent) -> list[str]:
    found: list[str] = []
    for token, above in zip(np.asarray(tokens)[0], np.asarray(parent)[0], strict=True):
        found.append((found[above] if above >= 0 else "") + str(token))
    return found


def test_the_pool_and_the_draft_of_a_worked_example():
    pool, draft, spent = pooled(2, 3, 5)
    found = spelled(pool.token, pool.parent)
    joint = dict(zip(found, np.exp(np.asarray(pool.score)[0]).tolist(), strict=True))
    assert joint == pytest.approx(
        {
            "1": 0.6,
            "2": 0.3,
            "12": 0.36,
            "10": 0.15,
            "20": 0.21,
            "21": 0.06,
            "120": 0.252,
            "121": 0.072,
            "201": 0.126,
            "202": 0.063,
        }
    )
    chosen = spelled(draft.tokens, draft.shape.parent)
    assert set(chosen) == {"1", "2", "12", "20", "120"}
    np.testing.assert_array_equal(draft.shape.depth[0], [len(path) for path in chosen])
    assert (int(spent.passes[0]), int(spent.tokens[0])) == (2, 4)


def test_width_one_is_the_chain_of_first_choices():
    _, draft, _ = pooled(1, 4, 4)
    assert draft.shape.chain
    assert draft.tokens[0].tolist() == [1, 2, 0, 1]


def test_the_chosen_are_the_best_and_have_no_gaps():
    head = heads.head("eagle", generator())
    drafter = Eagle(head, 3, 4, 9)
    hidden = jax.jit(prefill, static_argnums=2)(TARGET, PROMPT, 4).hidden
    state = drafter.init(TARGET, PROMPT, hidden, 12, 12)
    going = jnp.ones((4,), bool)
    pool, _, _, _ = jax.jit(drafter.grow)(TARGET, state, going)
    pool, draft = jax.device_get((pool, jax.jit(drafter.chosen)(pool, going)))
    parent = np.asarray(draft.shape.parent)
    assert (parent < np.arange(9)).all()
    for row in range(4):
        score = np.asarray(pool.score)[row]
        above = np.asarray(pool.parent)[row]
        assert (score[above >= 0] <= score[above[above >= 0]]).all()
        every = spelled(pool.token[row : row + 1], pool.parent[row : row + 1])
        best = [every[i] for i in np.argsort(-score, kind="stable")[:9]]
        assert set(spelled(draft.tokens[row : row + 1], parent[row : row + 1])) == set(best)


def generator() -> Generator:
    return Generator(TARGET, Identity(), Greedy(), Stop.of(()), LENGTH)


@pytest.mark.parametrize("make", [heads.pool, heads.paths, heads.hops, heads.hop_tree])
def test_what_is_remembered_is_what_reading_the_text_leaves(make):
    """Caches and features after rounds of accepting and rejecting, from true hidden states."""
    speculator, capacity = make(generator(), TARGET), 4 + LENGTH

    @jax.jit
    def paused(speculator, until):
        rows = speculator.start(jax.random.key(0), PROMPT, 1, capacity)
        return speculator.advance(rows, until)

    @jax.jit
    def read(speculator, text):
        hidden = prefill(TARGET, text, capacity).hidden
        return speculator.drafter.init(TARGET, text, hidden, 4 + LENGTH, capacity)

    lagged = False
    for until in (5, 8, 9):
        rows = paused(speculator, jnp.full((4,), until))
        state, _ = rows.speculation
        texts = [
            [*np.asarray(PROMPT.tokens)[b, :n].tolist(), *np.asarray(rows.tokens)[b, :m].tolist()]
            for b, (n, m) in enumerate(zip(PROMPT.length, rows.length, strict=True))
        ]
        fresh = read(speculator, Prompt.of(texts, width=capacity))
        for b, text in enumerate(texts):
            held = int(state.cache.length[b])
            # Kangaroo reads the last accepted draft at the beginning of the next round.
            assert len(text) - 2 <= held <= len(text) - 1
            lagged |= held == len(text) - 2
            for mine, other in (
                (state.cache.k[:, b, :, :, :held], fresh.cache.k[:, b, :, :, :held]),
                (state.cache.v[:, b, :, :held], fresh.cache.v[:, b, :, :held]),
                (state.cache.position[b, :held], fresh.cache.position[b, :held]),
            ):
                np.testing.assert_allclose(mine, other, atol=1e-5)
        for name in ("feature", "hidden"):
            if hasattr(state, name):
                mine, other = getattr(state, name), getattr(fresh, name)
                np.testing.assert_allclose(mine, other, atol=1e-5)
                assert not lagged


@pytest.mark.parametrize("make", [heads.pool, heads.paths, heads.hops, heads.hop_tree, heads.fused])
def test_long_texts_are_plain_decodings_where_no_edit_remembers_the_path(make):
    """Whole drafts are matched at once then, unfinished trees among them."""
    long = replace(generator(), max_tokens=20)
    run = jax.jit(lambda decoder: decoder(jax.random.key(0), PROMPT).tokens)
    found = run(Autoregressive(make(long, TARGET)))
    np.testing.assert_array_equal(found, run(Autoregressive(long)))


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0, 2, 2), "width=0"),
        ((2, 2, 7), "budget=7"),
        ((4, 2, 2), "width=4 exceeds"),
    ],
)
def test_nonsense_is_refused(numbers, words):
    with pytest.raises(ValueError, match=words):
        Eagle(LastToken(), *numbers)
