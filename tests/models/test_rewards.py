"""Reward models: how outputs are read, and that a scorer's cache changes nothing."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Rows
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import RewardScorer
from jaxdecode.stop import Stop
from jaxdecode.train.losses import bradley_terry
from models.parameters import count
from models.pooling import pooled_index, sequence_rewards
from models.presets import small
from models.reward_heads import LinearHead, MlpHead
from models.rewards import RewardModel, headless
from models.transformer import Transformer

VOCABULARY, TOKENS, SAMPLES, WINDOW = 31, 10, 3, 5
CONFIG = small(VOCABULARY, hidden=32, layers=2, heads=4)
PROMPTS = [[3, 4, 5, 6, 7], [8, 9], [10, 3, 4]]
PROMPT = Prompt.of(PROMPTS, width=8)
scores = jax.jit(sequence_rewards, static_argnames="pad")
begin = jax.jit(lambda scorer, prompt: scorer.init(prompt, SAMPLES)[0])
read = jax.jit(lambda scorer, *given: scorer.score(*given, WINDOW)[:2])


def noisy(model, seed=0, spread=0.2):
    """Noise on every parameter: fresh weights hide what is left out."""
    leaves, tree = jax.tree.flatten(model)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(
        tree,
        [
            x + spread * jax.random.normal(k, x.shape, x.dtype)
            for x, k in zip(leaves, keys, strict=True)
        ],
    )


MODEL = noisy(RewardModel.create(CONFIG, rngs=nnx.Rngs(0)))
DRAWS = np.random.default_rng(0)
TEXTS = [DRAWS.integers(3, VOCABULARY, n).tolist() for n in (14, 9, 2, 11)]


def batch(texts, width=16, padding=0):
    """Right-padded tokens and lengths."""
    tokens = np.full((len(texts), width), padding, np.int32)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
    return jnp.asarray(tokens), jnp.asarray([len(text) for text in texts], jnp.int32)


# Reading outputs.


def test_readouts():
    hidden = jax.random.normal(jax.random.key(1), (2, 3))
    backbone = MODEL.backbone
    one = RewardModel(backbone, LinearHead(jnp.ones((32, 1))), "score")
    assert one.reward(hidden[:, :1]).tolist() == hidden[:, 0].tolist()
    judge = RewardModel(backbone, LinearHead(jnp.ones((32, 1))), "sigmoid")
    np.testing.assert_allclose(judge.reward(hidden[:, :1]), 1 / (1 + np.exp(-hidden[:, 0])), 1e-6)
    classes = RewardModel(backbone, LinearHead(jnp.ones((32, 3))), "softmax", good=2)
    odds = np.exp(hidden)
    np.testing.assert_allclose(classes.reward(hidden), odds[:, 2] / odds.sum(1), 1e-6)


@pytest.mark.parametrize(
    ("head", "readout", "good", "message"),
    [
        (LinearHead(jnp.ones((16, 1))), "score", 0, "reads 16 features.*gives 32"),
        (LinearHead(jnp.ones((32, 2))), "score", 0, "has 2; use 'softmax'"),
        (LinearHead(jnp.ones((32, 2))), "sigmoid", 0, "has 2; use 'softmax'"),
        (LinearHead(jnp.ones((32, 1))), "softmax", 0, "two classes or more"),
        (LinearHead(jnp.ones((32, 2))), "softmax", 2, "good=2"),
        (LinearHead(jnp.ones((32, 1))), "logit", 0, "readout='logit'"),
    ],
)
def test_what_does_not_fit_is_refused(head, readout, good, message):
    with pytest.raises(ValueError, match=message):
        RewardModel(MODEL.backbone, head, readout, good)


def test_heads_check_their_shapes():
    with pytest.raises(ValueError, match="matrix"):
        LinearHead(jnp.ones((3,)))
    with pytest.raises(ValueError, match="bias has shape"):
        LinearHead(jnp.ones((3, 2)), jnp.ones((3,)))
    with pytest.raises(ValueError, match="inner layer has 4"):
        MlpHead(jnp.ones((3, 4)), jnp.ones((4,)), jnp.ones((5, 2)), jnp.ones((2,)))
    with pytest.raises(ValueError, match="labels=0"):
        RewardModel.create(CONFIG, 0, rngs=nnx.Rngs(0))


def test_a_language_model_judges_by_a_few_of_its_tokens():
    config = replace(CONFIG, tied=False, logit_cap=3.0)
    language = noisy(Transformer(config, rngs=nnx.Rngs(1)))
    tokens, length = batch(TEXTS)
    ids = (7, 20, 9)
    judge = RewardModel.of_language_model(language, ids, good=20)
    assert judge.backbone.head is None
    logits = language.forward(tokens)[0][..., jnp.asarray(ids)]
    np.testing.assert_allclose(judge.forward(tokens)[0], logits, atol=1e-5)
    at = np.arange(len(TEXTS)), np.asarray(length) - 1
    odds = np.exp(np.asarray(logits)[at])
    np.testing.assert_allclose(scores(judge, tokens, length), odds[:, 1] / odds.sum(1), 1e-4)
    with pytest.raises(ValueError, match="good=5 must be one of"):
        RewardModel.of_language_model(language, ids, good=5)
    with pytest.raises(ValueError, match="31 is outside"):
        RewardModel.of_language_model(language, (7, 31), good=7)
    with pytest.raises(ValueError, match=r"headless\(backbone\)"):
        RewardModel(language, LinearHead(jnp.ones((32, 1))))


def test_the_cost_is_that_of_the_head_it_has():
    language = Transformer(replace(CONFIG, tied=False), rngs=nnx.Rngs(0))
    table = VOCABULARY * 32
    vectors = sum(x.size for x in jax.tree.leaves(language) if x.shape[-1] == x.size // 2)
    rest = count(language.config) - 2 * table - vectors - 32  # norms do not multiply
    one = RewardModel(headless(language), LinearHead(jnp.ones((32, 1))))
    assert one.cost.parameters == rest + 32
    deep = RewardModel.create(CONFIG, 2, rngs=nnx.Rngs(0), deep=True)
    assert deep.cost.parameters == rest + 32 * 32 + 64
    assert one.cost.attention == language.cost.attention


def test_training_reaches_every_weight():
    tokens, length = batch(TEXTS)
    model = noisy(RewardModel.create(CONFIG, rngs=nnx.Rngs(3), deep=True))
    pair = (tokens[:2], length[:2], tokens[2:], length[2:])
    gradient = jax.jit(jax.grad(lambda m: bradley_terry(m, *pair)[0]))(model)
    still = [float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient)]
    # The last bias moves both rewards of a pair alike.
    assert sorted(still)[0] < 1e-6 < sorted(still)[1]


# Where a sequence is read.


def naive_index(ids, pad):
    real = [i for i, token in enumerate(ids) if token != pad]
    return real[-1] if real else 0


def test_pooled_index_follows_the_published_rule():
    pad, rows = 0, [[5, 6, 0, 0], [0, 0, 5, 6], [5, 6, 7, 8], [0, 0, 0, 0], [5, 0, 6, 0]]
    tokens = jnp.asarray(rows)
    found = pooled_index(tokens, pad).tolist()
    assert found == [naive_index(row, pad) for row in rows] == [1, 3, 3, 0, 2]
    length = jnp.asarray([4, 4, 2, 3, 3])
    cut = [naive_index(row[:n], pad) for row, n in zip(rows, length.tolist(), strict=True)]
    assert pooled_index(tokens, pad, length).tolist() == cut == [1, 3, 1, 0, 2]
    assert pooled_index(tokens, None, length).tolist() == [3, 3, 1, 2, 2]
    assert pooled_index(tokens[:1], None).tolist() == [3]
    with pytest.raises(ValueError, match=r"5 rows.*one row at a time"):
        pooled_index(tokens, None)


def test_batch_equals_single_and_padding_is_not_read():
    tokens, length = batch(TEXTS)
    together = scores(MODEL, tokens, length)
    hostile, _ = batch(TEXTS, padding=7)
    np.testing.assert_array_equal(together, scores(MODEL, hostile, length))
    for row, text in enumerate(TEXTS):
        alone = scores(MODEL, jnp.asarray([text]), jnp.asarray([len(text)]))
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def test_candidates_in_another_order_get_the_same_rewards():
    order = [2, 0, 3, 1]
    tokens, length = batch(TEXTS)
    again = scores(MODEL, tokens[jnp.asarray(order)], length[jnp.asarray(order)])
    np.testing.assert_array_equal(again, scores(MODEL, tokens, length)[jnp.asarray(order)])


# The scorer.


def generator() -> Generator:
    language = noisy(Transformer(CONFIG, rngs=nnx.Rngs(2)), spread=0.05)
    return Generator(language, Identity(), Categorical(), Stop.of([1, 2]), TOKENS)


@pytest.fixture(scope="module")
def stages() -> list[Rows]:
    """The same rows after 5 tokens and after all."""
    run, total = jax.jit(Generator.advance), 8 + TOKENS
    rows = generator().start(jax.random.key(5), PROMPT, SAMPLES, total)
    return [rows := run(generator(), rows, rows.prompt_length + n) for n in (WINDOW, TOKENS)]


def whole(rows: Rows, suffix=()) -> np.ndarray:
    """Rewards of prompt and response, read at once and without a cache."""
    texts = []
    for row, length in enumerate(rows.length.tolist()):
        response = np.asarray(rows.tokens)[row, :length].tolist()
        texts.append([*PROMPTS[row // SAMPLES], *response, *suffix])
    return np.asarray(scores(MODEL, *batch(texts, width=24)))


@pytest.mark.parametrize("suffix", [(), (11, 12, 13)])
def test_reading_in_parts_equals_reading_at_once(stages, suffix):
    scorer = RewardScorer(MODEL, jnp.asarray(suffix, jnp.int32))
    state = begin(scorer, PROMPT)
    for rows in stages:
        reward, state = read(scorer, state, PROMPT, rows)
        np.testing.assert_allclose(reward, whole(rows, suffix), atol=1e-5)
    early, late = (rows.length.tolist() for rows in stages)
    assert min(early) < WINDOW and len(set(late)) > 2  # some rows had ended before


def test_a_suffix_leaves_the_cache_as_it_was(stages):
    plain, closed = RewardScorer(MODEL), RewardScorer(MODEL, jnp.asarray([11, 12, 13]))
    rewards, states = [], []
    for scorer in (plain, closed):
        reward, state = read(scorer, begin(scorer, PROMPT), PROMPT, stages[0])
        rewards.append(reward)
        states.append(state.cache)
    a, b = states
    assert np.abs(rewards[0] - rewards[1]).min() > 1e-4
    assert a.capacity == b.capacity
    np.testing.assert_array_equal(a.length, b.length)
    seen = np.arange(a.capacity) < np.asarray(a.length)[:, None]
    for ours, theirs, slots in ((a.v, b.v, 3), (a.k, b.k, 4)):
        ours, theirs = (np.moveaxis(np.asarray(x), slots, 2)[:, seen] for x in (ours, theirs))
        np.testing.assert_array_equal(ours, theirs)
