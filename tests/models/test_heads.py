"""Heads that draft for a frozen target: their equations, how they begin, learn and are stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.train.frozen import Lesson, read, smooth_l1, taught, whole
from models.heads.clover import Clover
from models.heads.eagle import Eagle
from models.heads.files import fingerprint, load, save
from models.heads.kangaroo import Kangaroo
from models.heads.medusa import Medusa
from models.presets import LLAMA_2_7B, small
from models.transformer import Transformer, abstract

V, D, ROWS, WIDTH = 12, 16, 4, 10
CONFIG = small(V, hidden=D, layers=2, heads=2, kv_heads=1, mlp=32)
KINDS = (Medusa, Clover, Eagle, Kangaroo)
LESSONS = {
    Medusa: Lesson(hard=1.0, decay=0.8),
    Clover: Lesson(hard=1.0, decay=0.8),
    Eagle: Lesson(feature=1.0, soft=0.1, noise=51.2),
    Kangaroo: Lesson(soft=1.0, layers=(1,)),
}


def sharp(seed: int) -> Transformer:
    """A target that is sure of something."""
    model = Transformer(CONFIG, rngs=nnx.Rngs(seed))
    return jax.tree.map(lambda w: w * 8 if w.ndim > 1 else w, model)


@pytest.fixture(scope="module")
def target() -> Transformer:
    return sharp(0)


def batches(step: int) -> dict[str, Any]:
    """x_{t+1} = x_t + 1 mod V, with padding behind."""
    start = np.random.default_rng([7, step]).integers(V, size=(ROWS, 1))
    length = np.array([WIDTH, WIDTH, 8, 7], np.int32)
    return {
        "tokens": ((start + np.arange(WIDTH)) % V).astype(np.int32),
        "loss_mask": np.arange(WIDTH) < length[:, None],
        "length": length,
    }


def reading(target: Transformer, layers=(1,)):
    tokens = jnp.asarray(batches(0)["tokens"])
    return read(target, tokens, jnp.ones(tokens.shape, bool), layers)


def varied(head, seed: int = 5):
    """The head with every weight disturbed."""
    leaves, tree = jax.tree.flatten(head)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return tree.unflatten(
        w + 0.3 * jax.random.normal(k, w.shape) for w, k in zip(leaves, keys, strict=True)
    )


def test_a_reading_is_the_targets_own_forward_pass(target):
    seen = reading(target, (0, 1, 2))
    logits, hidden = target.forward(seen.tokens)
    np.testing.assert_allclose(seen.logits, logits, atol=1e-5)
    np.testing.assert_allclose(seen.hidden, hidden, atol=1e-5)
    np.testing.assert_allclose(seen.streams[0], target.embed(seen.tokens))
    np.testing.assert_allclose(target.final(seen.streams[2]), hidden, atol=1e-5)


def test_medusa_and_clover_begin_as_the_target_whatever_the_token(target):
    seen = reading(target)
    for exit in Medusa.of(target).teach(target, seen):
        np.testing.assert_allclose(exit.logits, seen.logits, atol=1e-4)
    clover = Clover.of(target, rngs=nnx.Rngs(1))
    hidden, _ = clover.absorb(target, seen.hidden, None, seen.view)
    for exit in clover.teach(target, seen):
        np.testing.assert_allclose(exit.logits, target.unembed(hidden), atol=1e-4)


def test_clovers_block_begins_as_the_targets_last_layer(target):
    seen = reading(target)
    hidden, _ = Clover.of(target, rngs=nnx.Rngs(1)).absorb(target, seen.streams[1], None, seen.view)
    np.testing.assert_allclose(target.final(hidden), seen.hidden, atol=1e-4)


@pytest.mark.parametrize(
    ("silu", "expected"), [(False, (4.2, 4.0)), (True, (3.92223, 4.0))], ids=["plain", "silu"]
)
def test_clovers_connection_against_numbers_by_hand(silu, expected):
    """W_Q = W_K = I, W_V = 2 I, one attention head; a softmax of one key would give (5, 4)."""
    config = small(3, hidden=2, layers=1, heads=1, mlp=4, norm_eps=1e-12, rope=None)
    clover = Clover(config, 1, augment="none", silu=silu, rngs=nnx.Rngs(0))
    clover.query[...] = clover.key[...] = jnp.eye(2)
    clover.value[...] = 2 * jnp.eye(2)
    found = clover._connect(jnp.array([[[3.0, 4.0]]]), jnp.array([[[1.0, 0.0]]]))
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)


def test_clovers_queries_learn_once_values_have_moved(target):
    lesson, batch = Lesson(hard=1.0), batches(0)

    gradient = jax.jit(jax.grad(lambda c: lesson(c, target, **batch)[0]))

    def slope(clover) -> float:
        return float(jnp.abs(gradient(clover).query[...]).max())

    clover = Clover.of(target, rngs=nnx.Rngs(2))
    assert slope(clover) == 0
    clover.value[...] = 0.1 * jnp.eye(D)
    assert slope(clover) > 1e-6


def test_clover_looks_at_the_token_before_and_medusa_does_not(target):
    seen = reading(target)
    other = (seen.tokens + 1) % V
    for kind, looks in ((Medusa, False), (Clover, True)):
        head = varied(kind.of(target, rngs=nnx.Rngs(3)))
        guess = jax.jit(lambda head, tokens: head.guess(target, 0, seen.hidden, tokens)[0])
        logits, turned = guess(head, seen.tokens), guess(head, other)
        assert bool(jnp.any(jnp.abs(logits - turned) > 1e-4)) is looks


def test_the_connection_alone_learns_a_language_of_one_token_memory(target):
    """With the hidden state at zero, what is left is the token before."""
    clover = Clover(CONFIG, 2, augment="none", rngs=nnx.Rngs(4))

    class Blind(nnx.Module):
        def __init__(self, clover: Clover):
            self.clover = clover

        def teach(self, target, reading):
            empty = jax.tree.map(jnp.zeros_like, reading.hidden)
            dark = type(reading)(
                reading.tokens, reading.valid, reading.streams, empty + 0.1, reading.logits
            )
            return self.clover.teach(target, dark)

    told = []
    fit(
        Blind(clover),
        Lesson(hard=1.0),
        taught(batches, lambda: target),
        optax.adam(2e-2),
        steps=250,
        watch=lambda step, means: told.append(means),
    )
    assert told[-1]["accuracy_0"] == 1.0
    assert told[-1]["accuracy_1"] == 1.0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_it_learns_resumes_and_leaves_the_target_alone(kind, target, tmp_path):
    head, lesson = kind.of(target, rngs=nnx.Rngs(6)), LESSONS[kind]
    source = taught(batches, lambda: target, seed=3)
    told = []

    def train(folder: Path | None, steps: int):
        where = None if folder is None else Checkpoints(folder, 20)
        return fit(
            head,
            lesson,
            source,
            optax.adam(3e-3),
            steps,
            where,
            lambda step, means: told.append(means["loss"]),
            20,
        )

    unbroken = train(None, 40)
    assert told[-1] < told[0]
    train(tmp_path, 20)
    resumed = train(tmp_path, 40)
    for one, other in zip(jax.tree.leaves(unbroken), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    own = jax.jit(jax.grad(lambda t: lesson(head, t, **batches(0))[0]))(target)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(own))


def test_an_exit_is_judged_where_its_token_stands(target):
    """By hand: labels `ahead` places further, laws and hidden states one before them."""
    batch, head = batches(2), varied(Eagle.of(target, rngs=nnx.Rngs(7)))
    seen = read(target, batch["tokens"], batch["loss_mask"])
    (exit,) = head.teach(target, seen)
    loss, metrics = Lesson(hard=0.5, soft=0.2, feature=2.0)(head, target, **batch)
    assert exit.feature is not None
    terms, hits = [], []
    for row, length in enumerate(batch["length"]):
        for t in range(length - 2):
            logq = jax.nn.log_softmax(exit.logits[row, t])
            p = jax.nn.softmax(seen.logits[row, t + 1])
            label = batch["tokens"][row, t + 2]
            error = exit.feature[row, t] - seen.hidden[row, t + 1]
            terms.append(
                -0.5 * logq[label] - 0.2 * jnp.sum(p * logq) + 2.0 * jnp.mean(smooth_l1(error))
            )
            hits.append(jnp.argmax(logq) == label)
    np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-4)
    np.testing.assert_allclose(metrics["accuracy_0"], np.mean(hits), rtol=1e-5)


def test_smooth_l1():
    np.testing.assert_allclose(smooth_l1(jnp.array([0.5, -1.0, -3.0])), [0.125, 0.5, 2.5])


def test_kangaroos_loss_is_least_where_the_adapter_is_the_rest_of_the_target(target):
    """All layers shared and the target's own norm: cross-entropy falls to the entropy."""
    batch = batches(1)
    perfect = Kangaroo.of(target, layers=2, kind="none", rngs=nnx.Rngs(0))
    lesson = Lesson(soft=1.0, layers=(2,))
    loss, metrics = lesson(perfect, target, **batch)
    seen = read(target, batch["tokens"], batch["loss_mask"])
    logp = jax.nn.log_softmax(seen.logits)
    entropy = -jnp.sum(jnp.exp(logp) * logp, axis=2)
    weight = batch["loss_mask"][:, 1:]
    floor = float(jnp.sum(entropy[:, :-1] * weight) / weight.sum())
    np.testing.assert_allclose(loss, floor, rtol=1e-5)
    np.testing.assert_allclose(metrics["acceptance_0"], 1.0, rtol=1e-5)
    rough, _ = Lesson(soft=1.0, layers=(1,))(
        varied(Kangaroo.of(target, layers=1, rngs=nnx.Rngs(0))), target, **batch
    )
    assert float(rough) >= floor


def test_a_kangaroo_for_seven_billion_parameters_has_67_million():
    target = abstract(LLAMA_2_7B)
    head = nnx.eval_shape(lambda: Kangaroo.of(target, layers=2, rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(head)) == 67_117_056


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_it_is_stored_and_opened_by_its_own_target_alone(kind, target, tmp_path):
    head = varied(kind.of(target, rngs=nnx.Rngs(8)))
    save(head, tmp_path, target)
    opened = load(kind, tmp_path, target)
    assert jax.tree.structure(opened) == jax.tree.structure(head)
    for one, other in zip(jax.tree.leaves(opened), jax.tree.leaves(head), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="another target"):
        load(kind, tmp_path, sharp(1))
    with pytest.raises(ValueError, match="not a"):
        load(Medusa if kind is not Medusa else Eagle, tmp_path, target)
    said = json.loads((tmp_path / "head.json").read_text())
    assert said["target"] == fingerprint(target)
    (tmp_path / "head.json").unlink()
    with pytest.raises(ValueError, match=r"no head\.json"):
        load(kind, tmp_path, target)


def test_the_fingerprint_survives_half_precision_and_not_a_changed_weight(target):
    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), target)
    assert fingerprint(half) == fingerprint(target)
    assert fingerprint(jax.tree.map(lambda w: -w, target)) != fingerprint(target)


@pytest.mark.parametrize("parts", ["layer", "attention", "mlp"])
def test_an_adapter_with_a_cache_says_what_it_says_without(parts, target):
    head = varied(Kangaroo.of(target, kind=parts, rngs=nnx.Rngs(9)))
    seen = reading(target)
    stream, valid = seen.streams[1], jnp.ones((ROWS, 1), bool)
    whole_logits, _ = head(target, stream, None, seen.view)
    cache = head.init_cache(ROWS, WIDTH)
    for t in range(WIDTH):
        view = whole(valid)
        at = jnp.full((ROWS,), t, jnp.int32)
        view = type(view)(position=view.position + t, start=at, prefix=at, valid=valid)
        logits, cache = head(target, stream[:, t : t + 1], cache, view)
        np.testing.assert_allclose(logits[:, 0], whole_logits[:, t], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: Medusa.of(t, count=0), "count=0"),
        (lambda t: Clover.of(t, rngs=nnx.Rngs(0), gate="softmax"), "gate='softmax'"),
        (lambda t: Clover.of(t, rngs=nnx.Rngs(0), connection="all"), "connection='all'"),
        (lambda t: Kangaroo.of(t, layers=3, rngs=nnx.Rngs(0)), "layers=3"),
        (lambda t: Lesson(), "hard=0.0"),
        (lambda t: Lesson(feature=1.0)(Medusa.of(t), t, **batches(0)), "feature=1.0"),
    ],
)
def test_nonsense_is_refused(make, words, target):
    with pytest.raises(ValueError, match=words):
        make(target)
