"""S2D: exits, the exactness of skipped layers, laws of its ways to draft, sorted fine-tuning."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.drafters.levels import Depth, Levels, deepen
from algorithms.speculative.drafters.nested import Nested
from algorithms.speculative.s2d import Peak, s2d
from jaxdecode import autoregress, struct
from jaxdecode.autoregress import Generator
from jaxdecode.draft import Spent
from jaxdecode.lm import extend
from jaxdecode.logits import Temperature
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM
from jaxdecode.testing.statistics import assert_distribution, rejects
from jaxdecode.text import Text
from jaxdecode.train.fit import fit
from jaxdecode.train.losses import next_token
from jaxdecode.train.nested import Sorted
from models.presets import small
from models.transformer import Transformer, arrays_of

TARGET = EnumerableLM.random(3, 5, sharpness=2.0)
UNTRAINED = Transformer(small(5, hidden=16, layers=3, heads=2, tied=False), rngs=nnx.Rngs(3))
ARRAYS = arrays_of(UNTRAINED)
DRAFT = Transformer(UNTRAINED.config, arrays=ARRAYS | {"head": 9 * ARRAYS["head"]})  # sharper
EXITS = (1, 2, 3)
PROMPTS = [[1, 2, 3], [4], [2, 2], [0, 1, 4, 1]]
PROMPT = Prompt.of(PROMPTS, [7, 2, 9, 3], 4)
LENGTH = 20


@struct.dataclass
class Ladder:
    """A layered model that says the same after a number of layers, whatever it reads."""

    logits: jax.Array  # [L + 1, V]

    vocab_size = 16
    max_positions = None

    @property
    def cost(self):
        return EnumerableLM.random(0, 16).cost

    def init_cache(self, batch, capacity):
        return EnumerableLM.random(0, 16, width=2).init_cache(batch, capacity)

    def embed(self, tokens, position=None):
        return jnp.zeros((*tokens.shape, 2))

    def run_layers(self, hidden, cache, view, first=0, last=None):
        return hidden + ((last or 0) - first), cache

    def final(self, hidden):
        return hidden

    def unembed(self, hidden):
        return self.logits[hidden[..., 0].astype(int)]

    def __call__(self, tokens, cache, view):
        raise AssertionError("it is only read in parts")


def confident(c: float) -> np.ndarray:
    """16 logits of which the largest probability is c; exactly, where it is a half."""
    if c == 0.5:
        return np.array([0.0, 0.0] + [-np.inf] * 14)
    return np.array([0.0] + [np.log((1 / c - 1) / 15)] * 15)


@pytest.mark.parametrize(
    ("confidences", "exit"),
    [((0.9, 0.1, 0.1), 0), ((0.4, 0.6, 0.1), 1), ((0.4, 0.5, 0.2), 2), ((0.5, 0.51, 0.9), 1)],
)
def test_a_token_leaves_where_one_is_sure(confidences, exit: int) -> None:
    """Strictly above the threshold of .5, or at the last."""
    rows = [np.zeros(16)] + [confident(c) for c in confidences]
    drafter = Nested(Ladder(jnp.array(rows)), (1, 2, 3), (0.5, 0.5, 0.0), 2)
    prompt = Prompt.of([[1]], [0], 1)
    cache = drafter.model.init_cache(1, 4)
    zero = jnp.zeros((1, 3), jnp.int32)
    levels = Levels(cache, jnp.zeros((1, 2, 4, 2)), zero, zero)
    depth = Depth(levels, jnp.zeros((1, 2)), Spent.nothing(1))
    logits, found, depth = drafter.law(Text.of(prompt, 4), depth, (), jnp.ones((1,), bool))
    assert int(found[0]) == exit
    np.testing.assert_allclose(logits[0], rows[exit + 1])
    assert depth.levels.runs[0].tolist() == [1] * (exit + 1) + [0] * (2 - exit)


@jax.jit
def down(depth: Depth, text: Text, exit) -> Depth:
    """The newest tokens down to their exits."""
    for level in range(len(EXITS)):
        depth = deepen(DRAFT, EXITS, level, text, depth, exit >= level)
    return depth


def test_skipped_layers_are_caught_up_exactly() -> None:
    """Any pattern of exits, with rejections in between, leaves what running all layers does."""
    rng = np.random.default_rng(0)
    text = Text.of(PROMPT, 32)
    depth = Depth(Levels.of(DRAFT, PROMPT, 3, 32, 32), jnp.zeros((4, 16)), Spent.nothing(4))
    exits = [[0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 2, 1, 0, 1, 2, 0], [2] * 16, [0] * 16, [1, 0] * 8]
    for step in range(16):
        depth = down(depth, text, jnp.array([row[step] for row in exits]))
        full = extend(
            DRAFT,
            jnp.maximum(text.tokens, 0),
            DRAFT.init_cache(4, 34),
            fresh=True,
            valid=jnp.arange(32) < text.length[:, None],
        )
        fill = np.asarray(depth.levels.fill)
        assert (fill[:, 0] == text.length).all() and (np.diff(fill, axis=1) <= 0).all()
        for row in range(4):
            for level, (first, last) in enumerate(((0, 1), (1, 2), (2, 3))):
                count = fill[row, level]
                if exits[row][step] >= level:
                    assert count == text.length[row]
                for mine, other in (
                    (
                        depth.levels.cache.k[first:last, row, :, :, :count],
                        full.cache.k[first:last, row, :, :, :count],
                    ),
                    (
                        depth.levels.cache.v[first:last, row, :, :count],
                        full.cache.v[first:last, row, :, :count],
                    ),
                ):
                    np.testing.assert_allclose(mine, other, 1e-5, 1e-5)
            if exits[row][step] == 2:
                logits = DRAFT.unembed(DRAFT.final(depth.stream[row]))
                np.testing.assert_allclose(
                    logits, full.logits[row, text.length[row] - 1], 1e-4, 1e-5
                )
        if step % 5 == 4:  # two tokens are taken back, and others come
            text = replace(text, length=text.length - 2)
            depth = replace(depth, levels=depth.levels.back(text.length))
        fresh = jnp.asarray(rng.integers(0, 5, (4, 1)), jnp.int32)
        text = text.append(fresh, jnp.ones((4,), jnp.int32))


@jax.jit
def decode(speculator, key):
    rows = autoregress.generate(speculator, key, PROMPT)
    return rows.tokens, rows.usage, rows.speculation[0]


def greedy() -> Generator:
    return Generator(TARGET, Temperature(1.0), Greedy(), Stop.of(()), LENGTH)


def nested(thresholds):
    """The text, its account and the drafter's state under these thresholds."""
    return decode(s2d(greedy(), DRAFT, EXITS, thresholds, 6), jax.random.key(0))


def plain() -> jax.Array:
    decoder = Autoregressive(greedy())
    return jax.jit(lambda decoder, key: decoder(key, PROMPT))(decoder, jax.random.key(0)).tokens


@pytest.mark.parametrize("thresholds", [(0.0, 0.0, 0.0), (0.6, 0.4, 0.0), (1.0, 1.0, 0.0)])
def test_greedy_text_is_the_targets_and_exits_are_as_told(thresholds) -> None:
    tokens, usage, state = nested(thresholds)
    np.testing.assert_array_equal(tokens, plain())
    assert (state.exits.sum(1) >= usage.drafted).all()
    runs = np.asarray(state.levels.runs)
    if thresholds[0] == 0.0:
        assert (state.exits[:, 1:] == 0).all() and (runs[:, 1:] == 0).all()
    elif thresholds[0] == 1.0:
        assert (state.exits[:, :2] == 0).all() and (runs[:, 0] == runs[:, 2]).all()
    else:
        assert (state.exits.sum(0) > 0).all()


def test_all_layers_always_is_a_chain() -> None:
    """What is drafted, accepted and emitted is what the whole draft model drafts as a chain."""
    tokens, usage, _ = nested((1.0, 1.0, 0.0))
    spec = s2d(greedy(), DRAFT, EXITS, (1.0, 1.0, 0.0), 6)
    chain = replace(spec, drafter=Chain(DRAFT, 6, Temperature(1.0), Greedy()))
    other, count, _ = decode(chain, jax.random.key(0))
    np.testing.assert_array_equal(tokens, other)
    for name in ("drafted", "accepted", "histogram", "draft_passes", "draft_tokens"):
        np.testing.assert_array_equal(getattr(usage, name), getattr(count, name))


def test_higher_thresholds_go_deeper() -> None:
    """On the same texts, token by token."""
    prompt = Prompt.of(np.random.default_rng(1).integers(0, 5, (32, 6)).tolist(), None, 6)

    @jax.jit
    def exits(first, second):
        drafter = Nested(DRAFT, EXITS, jnp.stack([first, second, 0.0]), 4)
        state = drafter.init(DRAFT, prompt, jnp.zeros((32, 5, 1)), 8, 8)
        depth = Depth(state.levels, jnp.zeros((32, 16)), Spent.nothing(32))
        return drafter.law(state.text, depth, (), jnp.ones((32,), bool))[1]

    found = [exits(a, b) for a, b in ((0.0, 0.0), (0.4, 0.2), (0.6, 0.4), (0.6, 0.6), (1.0, 1.0))]
    for lower, higher in pairwise(found):
        assert (higher >= lower).all()
    assert found[0].max() == 0 and found[-1].min() == 2 and len(set(found[2].tolist())) == 3


def free(law) -> EnumerableLM:
    """A model whose law does not depend on the text."""
    zero = jnp.zeros((4, 2, 2))
    return EnumerableLM(zero, zero, jnp.zeros((2, 2)), jnp.log(jnp.array(law)))


def first_tokens(sampler) -> np.ndarray:
    many = Prompt.of([[0]] * 8000, list(range(8000)), 1)
    generator = Generator(free([0.5, 0.5]), Temperature(1.0), Categorical(), Stop.of(()), 1)
    spec = s2d(generator, free([0.9, 0.1]), (1,), (0.0,), 1, sampler)
    found = jax.jit(lambda spec, key: Autoregressive(spec)(key, many))(spec, jax.random.key(2))
    return np.asarray(found.tokens[:, 0])


@pytest.mark.parametrize("sampler", [None, Greedy()])
def test_drawn_drafts_and_greedy_drafts_keep_the_law(sampler) -> None:
    assert_distribution(first_tokens(sampler), {0: 0.5, 1: 0.5}, family=2)


def test_greedy_drafts_passed_off_as_draws_do_not() -> None:
    found = first_tokens(Peak())
    assert rejects(found, {0: 0.5, 1: 0.5})
    assert_distribution(found, {0: 5 / 9, 1: 4 / 9})


BATCH = {
    "tokens": jax.random.randint(jax.random.key(5), (3, 9), 0, 5),
    "loss_mask": jnp.arange(9) >= jnp.array([[1], [2], [3]]),
    "length": jnp.array([9, 7, 9]),
}
BATCH["loss_mask"] &= jnp.arange(9) < BATCH["length"][:, None]


def test_the_sorted_loss_is_the_mean_of_its_sub_models() -> None:
    alone = {n: Sorted((n,))(DRAFT, **BATCH)[0] for n in EXITS}
    loss, metrics = Sorted(EXITS)(DRAFT, **BATCH)
    assert float(loss) == pytest.approx(np.mean(list(alone.values())), rel=1e-6)
    for n in EXITS:
        assert float(metrics[f"loss_{n}"]) == pytest.approx(float(alone[n]), rel=1e-6)
    assert float(alone[3]) == pytest.approx(float(next_token(DRAFT, **BATCH)[0]), rel=1e-6)


def test_a_layer_learns_from_the_sub_models_that_have_it() -> None:
    def gradient(exits) -> np.ndarray:
        model = jax.grad(lambda model: Sorted(exits)(model, **BATCH)[0])(DRAFT)
        return np.asarray(model.layers["up"][...])

    both, deep, shallow = gradient((1, 3)), gradient((3,)), gradient((1,))
    assert (shallow[1:] == 0).all()
    np.testing.assert_allclose(both[1:], deep[1:] / 2, 1e-4, 1e-7)
    np.testing.assert_allclose(both[0], (deep[0] + shallow[0]) / 2, 1e-4, 1e-7)
    assert np.abs(shallow[0]).max() > 1e-6


def test_sorted_fine_tuning_makes_sub_models() -> None:
    """Shallow sub-models get far better than those of plain fine-tuning, in equal steps."""
    tokens = jnp.cumsum(jnp.ones((8, 12), int), axis=1) * jnp.arange(1, 9)[:, None] % 5
    batch = {"tokens": tokens, "loss_mask": jnp.ones((8, 12), bool), "length": jnp.full((8,), 12)}
    losses = {}
    for exits in (EXITS, (3,)):
        model = fit(UNTRAINED, Sorted(exits), lambda _: batch, optax.adam(5e-3), 60)
        losses[exits] = {k: float(v) for k, v in Sorted(EXITS)(model, **batch)[1].items()}
    assert losses[EXITS]["loss_1"] < losses[(3,)]["loss_1"] - 0.3
    assert losses[EXITS]["loss_3"] < losses[(3,)]["loss_3"] + 0.2


def test_bad_input_is_refused() -> None:
    for wrong in (
        lambda: s2d(greedy(), DRAFT, (2, 1, 3)),
        lambda: s2d(greedy(), DRAFT, ()),
        lambda: s2d(greedy(), DRAFT, EXITS, (0.5, 0.5)),
        lambda: s2d(greedy(), DRAFT, EXITS, (0.5, 1.5, 0.0)),
        lambda: s2d(greedy(), DRAFT, EXITS, length=0),
        lambda: Sorted((3, 3)),
    ):
        with pytest.raises(ValueError, match="="):
            wrong()
