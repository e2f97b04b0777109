"""The zoo: what is stored is what was scored, and nothing else is opened."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import zoo
from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.batches import ExampleBatches
from experiments.tasks.stdlib import StandardLibrary
from experiments.zoo import stdlib_recipes
from experiments.zoo.distillation import distillation, taught
from experiments.zoo.making import make
from experiments.zoo.recipe import Recipe, as_dict, held_out
from experiments.zoo.recipes import RECIPES
from jaxdecode.train.losses import next_token
from models.presets import small
from models.transformer import Transformer, arrays_of

TASK = Arithmetic((1, 2))
CODEC = TASK.tokenizer()
SHIPPED_BYTES = 16e6


def stream():
    return as_dict(ExampleBatches(TASK, CODEC, 4, (48,), seed=0))


def tiny(name: str, **changes) -> Recipe:
    """One layer of 32 features for two steps."""
    config = small(CODEC.vocab_size, hidden=32, layers=1)
    common: dict = {
        "kind": "generator",
        "about": "tiny",
        "tokenizer": lambda: CODEC,
        "create": lambda rngs: Transformer(config, rngs=rngs),
        "loss": next_token,
        "batches": stream,
        "score": held_out(next_token, stream),
        "steps": 2,
    }
    return Recipe(name=name, **common | changes)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    """A zoo of a target in half precision and a draft taught by it."""
    folder = tmp_path_factory.mktemp("zoo")
    weights = folder / "weights"
    make(tiny("target", stored="float16"), folder / "runs", weights)

    def lessons():
        return taught(stream(), lambda: zoo.read(weights / "target").model)

    draft = tiny(
        "draft",
        loss=distillation,
        batches=lessons,
        score=held_out(distillation, lessons),
        target="target",
    )
    make(draft, folder / "runs", weights)
    return weights


def test_weights_are_scored_as_they_are_stored(shelf):
    shipped = zoo.read(shelf / "target")
    assert shipped.model.dtype == jnp.float32
    for path, array in arrays_of(shipped.model).items():
        np.testing.assert_array_equal(array, array.astype("float16"), err_msg=path)
    assert shipped.card["held_out"] == tiny("target").score(shipped.model)
    size = {name: (shelf / name / "model.safetensors").stat().st_size for name in zoo.names(shelf)}
    count = sum(array.size for array in arrays_of(shipped.model).values())
    assert size["target"] < 2 * count + 2000 < 4 * count < size["draft"]


def test_a_card_says_what_a_draft_is_for(shelf):
    target, draft = zoo.read(shelf / "target"), zoo.read(shelf / "draft")
    assert draft.card["target"] == {"name": "target", "sha256": target.card["sha256"]}
    assert draft.card["tokenizer"] == target.card["tokenizer"] == CODEC.fingerprint()
    assert 0 < draft.card["held_out"]["acceptance"] < 1
    assert "target" not in target.card


def test_a_finished_run_is_put_again_without_training(shelf, capsys):
    before = zoo.digest(shelf / "target")
    make(tiny("target", stored="float16"), shelf.parent / "runs", shelf)
    assert zoo.digest(shelf / "target") == before
    assert "target 2/2" not in capsys.readouterr().out


def test_other_weights_than_the_cards_are_refused(shelf, tmp_path):
    copy = tmp_path / "target"
    copy.mkdir()
    for file in (shelf / "target").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert zoo.read(copy).card == zoo.read(shelf / "target").card
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match="not those of its card"):
        zoo.read(copy)
    with pytest.raises(ValueError, match=r"the zoo has .*arithmetic"):
        zoo.load("nothing")


def test_a_perfect_draft_is_always_accepted():
    config = small(CODEC.vocab_size, hidden=32, layers=1)
    one, two = (Transformer(config, rngs=nnx.Rngs(seed)) for seed in (0, 1))
    two = jax.tree.map(lambda weight: weight * 3, two)  # apart from uniform, so from each other
    batch = taught(stream(), lambda: one)(0)
    measure = jax.jit(distillation)
    same, metrics = measure(one, **batch)
    assert abs(same) < 1e-6 and metrics["agreement"] == 1.0
    assert metrics["acceptance"] == pytest.approx(1.0, abs=1e-5)

    loss, metrics = measure(two, **batch)
    inside = batch["loss_mask"][:, 1:]
    q = np.asarray(two.forward(batch["tokens"][:, :-1])[0], np.float64)[inside]
    p = np.asarray(batch["teacher"], np.float64)[inside]
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (p, q))
    text = batch["tokens"][:, 1:][inside]
    assert loss == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-4)
    assert metrics["acceptance"] == pytest.approx(np.minimum(p, q).sum(1).mean(), rel=1e-5)
    assert metrics["agreement"] == pytest.approx((p.argmax(1) == q.argmax(1)).mean())
    assert metrics["accuracy"] == pytest.approx((q.argmax(1) == text).mean())
    right = q[np.arange(len(text)), text]
    assert metrics["text_loss"] == pytest.approx(-np.log(right).mean(), rel=1e-4)
    assert metrics["acceptance"] < 0.99


def test_all_recipes_fit_together(monkeypatch):
    """Shapes only: every loss takes its model and its batches, and all weights fit the zoo."""
    monkeypatch.setattr(stdlib_recipes, "CORPUS", StandardLibrary(cap=400_000))
    stdlib_recipes.learned.cache_clear()
    stored = 0
    for name, make_recipe in RECIPES.items():
        recipe = make_recipe()
        assert recipe.name == name and (recipe.target is None or recipe.target in RECIPES)
        model = nnx.eval_shape(lambda recipe=recipe: recipe.create(nnx.Rngs(0)))
        loss, metrics = jax.eval_shape(recipe.loss, model, **recipe.batches()(0))
        assert loss.shape == () and "accuracy" in metrics
        sizes = [weight.size for weight in jax.tree.leaves(model)]
        stored += sum(sizes) * jnp.dtype(recipe.stored).itemsize
    stdlib_recipes.learned.cache_clear()
    assert stored < SHIPPED_BYTES


@pytest.mark.parametrize("name", zoo.names())
def test_what_ships_opens(name):
    shipped = zoo.load(name)
    assert shipped.model.vocab_size == shipped.tokenizer.vocab_size
    assert shipped.card["tokenizer"] == shipped.tokenizer.fingerprint()
    card = json.loads((shipped.folder / "card.json").read_text())
    assert card["held_out"] and card["recipe"].endswith(f"train {name}")
