"""Hyperfitting trains on the texts it was given, on them alone, and until they are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from algorithms.alignment.hyperfitting import Hyperfitting
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Temperature
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from models.presets import small
from models.transformer import Transformer


class Pairs(nnx.Module):
    """The next token from the newest, through a vector of each."""

    def __init__(self, words: int, width: int = 4):
        keys = jax.random.split(jax.random.key(0), 2)
        self.embedding = nnx.Param(jax.random.normal(keys[0], (words, width)))
        self.head = nnx.Param(jax.random.normal(keys[1], (width, words)))

    def forward(self, tokens, valid=None):
        hidden = self.embedding[...][tokens]
        return hidden @ self.head[...], hidden


TEXTS = np.random.default_rng(0).integers(5, size=(12, 8)).astype(np.int32)  # of 7 words


def weights(model) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model))]


def test_defaults_are_the_papers():
    recipe = Hyperfitting()
    assert (recipe.rate, recipe.batch, recipe.epochs(2000)) == (1e-6, 8, 20)
    assert recipe.updates == 2000 // 8 * 20
    assert recipe.epochs(16) == 2500  # fewer texts, as many updates


def test_every_epoch_is_the_set_in_another_order():
    batches = Hyperfitting(batch=4, seed=1).batches(TEXTS)
    epochs = [[batches(3 * epoch + step)["tokens"] for step in range(3)] for epoch in range(2)]
    first, second = (np.concatenate(epoch) for epoch in epochs)
    assert not np.array_equal(first, second)
    for epoch in (first, second):
        assert np.array_equal(np.unique(epoch, axis=0), np.unique(TEXTS, axis=0))
    again = Hyperfitting(batch=4, seed=1).batches(TEXTS)
    assert np.array_equal(again(4)["tokens"], batches(4)["tokens"])
    other = Hyperfitting(batch=4, seed=2).batches(TEXTS)
    assert not np.array_equal(other(4)["tokens"], batches(4)["tokens"])
    # Two of twelve are left out of an epoch of batches of five, others in the next.
    odd = Hyperfitting(batch=5).batches(np.arange(24, dtype=np.int32).reshape(12, 2))
    seen = [{*odd(2 * e)["tokens"][:, 0], *odd(2 * e + 1)["tokens"][:, 0]} for e in range(3)]
    assert all(len(epoch) == 10 for epoch in seen) and len(set.union(*seen)) > 10


def test_all_but_the_first_tokens_are_predicted():
    for first in (1, 2):
        batch = Hyperfitting(batch=4, unpredicted=first).batches(TEXTS)(0)
        expected = [[False] * first + [True] * (8 - first)] * 4
        assert batch["loss_mask"].tolist() == expected and set(batch["length"]) == {8}


def test_without_a_gradient_nothing_moves_and_runs_repeat():
    """Words that no text has get no gradient: decay alone would move them."""
    recipe = Hyperfitting(rate=0.1, updates=30, batch=4)
    start = Pairs(7)
    seen: list[int] = []
    one = recipe(start, recipe.batches(TEXTS), watch_every=15, visit=lambda s, m: seen.append(s))
    assert seen == [15, 30]
    before, after = np.asarray(start.embedding[...]), np.asarray(one.embedding[...])
    assert np.array_equal(before[5:], after[5:]) and np.all(before[:5] != after[:5])
    two = recipe(start, recipe.batches(TEXTS))
    assert all(map(np.array_equal, weights(one), weights(two)))
    other = recipe(start, Hyperfitting(batch=4, seed=9).batches(TEXTS))
    assert not any(map(np.array_equal, weights(one), weights(other)))


def test_eight_texts_are_learned_by_heart():
    """Loss below 0.01, and greedy text from the first two tokens of each is the text."""
    rng = np.random.default_rng(2)
    texts = np.stack([rng.permutation(16)[:12] for _ in range(8)]).astype(np.int32)
    texts[:, :2] = [[0, i] for i in range(8)]
    model = Transformer(small(16, hidden=32, layers=1, heads=2), rngs=nnx.Rngs(0))
    recipe = Hyperfitting(rate=1e-2, updates=150, unpredicted=2)
    losses: list[float] = []
    batches = recipe.batches(texts)
    known = recipe(model, batches, watch=lambda s, m: losses.append(m["loss"]), watch_every=15)
    assert losses[0] > 0.5 and losses[-1] < 0.01
    prompt = Prompt.of(texts[:, :2].tolist(), width=2)

    def greedy(model, temperature: float) -> list[list[int]]:
        rules = (Temperature(temperature), Greedy(), Stop.of(99))
        decoder = Autoregressive(Generator(model, *rules, max_tokens=10))
        return np.asarray(decode(decoder, 0, prompt).tokens).tolist()

    assert greedy(known, 1.0) == texts[:, 2:].tolist()
    # However sharp the original is made, its greedy text stays what it was.
    assert greedy(model, 1.0) == greedy(model, 0.2) != texts[:, 2:].tolist()


@pytest.mark.parametrize(
    ("changes", "rows", "message"),
    [
        ({"batch": 13}, 12, "texts=12 do not fill a batch=13"),
        ({"unpredicted": 8}, 12, "unpredicted=8: of texts of 8"),
        ({"unpredicted": 0}, 12, "unpredicted=0"),
    ],
)
def test_texts_that_cannot_be_learned(changes, rows, message):
    with pytest.raises(ValueError, match=message):
        Hyperfitting(**changes).batches(TEXTS[:rows])


def test_half_precision_is_refused():
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), Pairs(7))
    recipe = Hyperfitting()
    with pytest.raises(ValueError, match=r"embedding.* is bfloat16.*rate=1e-06"):
        recipe(half, recipe.batches(TEXTS))
