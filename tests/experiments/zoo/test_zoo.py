"""The zoo: what is stored is what was scored, and nothing else is opened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import zoo
from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.batches import ExampleBatches, WindowBatches
from experiments.tasks.stdlib import StandardLibrary
from experiments.zoo import foresight, head_recipes, stdlib_recipes, step_recipes
from experiments.zoo.distillation import distillation, worth
from experiments.zoo.making import make, rescore
from experiments.zoo.recipe import Recipe, as_dict, held_out
from experiments.zoo.recipes import RECIPES
from experiments.zoo.skills.skill import Skill, Skills
from jaxdecode.train.frozen import Lesson, taught
from jaxdecode.train.losses import next_token
from models.heads.acceptance import AcceptanceHead
from models.heads.medusa import Medusa
from models.presets import small
from models.transformer import Transformer, arrays_of

TASK = Arithmetic((1, 2))
CODEC = TASK.tokenizer()
SHIPPED_BYTES = 24e6
KNOWS = Skills("share", "nothing", {"all": Skill(0.5, 0.1, 4)})


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
        "skills": lambda model: KNOWS,
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
        score=worth(lessons, stream),
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


def test_a_rate_that_is_held_falls_over_what_is_left():
    plain, held = tiny("a", steps=40).rate(), tiny("a", steps=40, hold=20, horizon=100).rate()
    long = tiny("a", steps=100).rate()
    peak = tiny("a").peak
    for step in (0, 3, 19):
        np.testing.assert_allclose(held(step), long(step), rtol=1e-5)
    np.testing.assert_allclose(held(20), long(20), rtol=1e-5)
    assert np.asarray(held(30)) > np.asarray(plain(30))
    for rate in (plain, held):
        np.testing.assert_allclose(rate(40), peak / 20, rtol=1e-4)


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


def test_rounds_go_on_in_the_batches_with_a_fresh_optimiser(tmp_path):
    """Two rounds are one model, trained on, and a run that stopped between them goes on."""
    weights, asked = tmp_path / "weights", []

    def counting():
        batches = stream()
        return lambda step: (asked.append(step), batches(step))[1]

    recipe = tiny("again", batches=counting, again=((3, 1e-3),))
    first, second = recipe.rounds
    assert (first.steps, second.steps, second.peak, recipe.total) == (2, 3, 1e-3, 5)
    make(recipe, tmp_path / "runs", weights)
    assert sorted({*asked}) == [0, 1, 2, 3, 4]
    assert zoo.read(weights / "again").card["steps"] == 5
    digest = zoo.digest(weights / "again")
    shutil.rmtree(tmp_path / "runs" / "again" / "again-1")
    before = len(asked)
    make(recipe, tmp_path / "runs", weights)
    assert {2, 3, 4} <= {*asked[before:]} and zoo.digest(weights / "again") == digest


def test_a_card_that_does_not_say_what_a_model_can_do_is_refused_until_it_does(shelf, tmp_path):
    copy = tmp_path / "target"
    shutil.copytree(shelf / "target", copy)
    card = json.loads((copy / "card.json").read_text())
    skills = card.pop("skills")
    (copy / "card.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"target: its card has no skills.*zoo score target"):
        zoo.read(copy)
    told = rescore(tiny("target"), tmp_path)
    assert told["skills"] == skills == KNOWS.card()
    assert list(told) == list(zoo.read(shelf / "target").card)
    assert zoo.read(copy).card == told


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
    _, metrics = measure(one, **batch)
    assert metrics["agreement"] == 1.0
    assert metrics["acceptance"] == pytest.approx(1.0, abs=1e-5)

    loss, metrics = measure(two, **batch)
    inside = batch["loss_mask"][:, 1:]
    p, q = (
        np.exp(np.asarray(jax.nn.log_softmax(model.forward(batch["tokens"])[0]), np.float64))
        for model in (one, two)
    )
    p, q = p[:, :-1][inside], q[:, :-1][inside]
    text = batch["tokens"][:, 1:][inside]
    assert loss == pytest.approx(-(p * np.log(q)).sum(1).mean(), rel=1e-4)
    assert metrics["acceptance"] == pytest.approx(np.minimum(p, q).sum(1).mean(), rel=1e-5)
    assert metrics["agreement"] == pytest.approx((p.argmax(1) == q.argmax(1)).mean())
    assert metrics["accuracy"] == pytest.approx((q.argmax(1) == text).mean())
    assert metrics["acceptance"] < 0.99


def test_a_head_opens_beside_its_own_target_only(shelf, tmp_path):
    weights = tmp_path / "weights"
    shutil.copytree(shelf, weights)

    def target():
        return zoo.read(weights / "target").model

    lesson = Lesson(hard=1.0)
    head = tiny(
        "head",
        kind="head",
        create=lambda rngs: Medusa.of(target(), rngs=rngs, count=1),
        loss=lesson,
        batches=lambda: taught(stream(), target),
        score=held_out(lesson, lambda: taught(stream(), target)),
        stored="float16",
        target="target",
    )
    make(head, tmp_path / "runs", weights)
    shipped = zoo.read(weights / "head")
    assert isinstance(shipped.model, Medusa) and shipped.model.count == 1
    assert shipped.model.outer[...].dtype == jnp.float32
    assert shipped.card["held_out"] == head.score(shipped.model)
    assert shipped.card["tokenizer"] == shipped.tokenizer.fingerprint()
    make(tiny("target", stored="float16", seed=1), tmp_path / "runs", weights)
    with pytest.raises(ValueError, match="trained for other weights than those of"):
        zoo.read(weights / "head")


def test_foresight_learns_from_answers_drawn_once_and_drafts_drawn_anew(monkeypatch):
    monkeypatch.setattr(foresight, "PROMPT", 4)
    monkeypatch.setattr(foresight, "RESPONSE", 3)
    model = Transformer(small(CODEC.vocab_size, hidden=32, layers=1), rngs=nnx.Rngs(0))
    corpus = np.random.default_rng(0).integers(3, CODEC.vocab_size, 100).astype(np.int32)
    windows = WindowBatches(corpus, CODEC, rows=2, width=8, seed=0)
    opened = []

    def target():
        opened.append("target")
        return model

    batches = foresight.foreseen(windows, target, lambda: model, pool=2)
    seen = [batches(step) for step in (0, 2, 0)]
    for one, again in zip(*(jax.tree.leaves(seen[i]) for i in (0, 2)), strict=True):
        np.testing.assert_array_equal(one, again)
    assert (seen[0]["hidden"] != seen[1]["hidden"]).any()
    assert opened == ["target"]
    for batch in seen:
        assert not batch["counted"][:, :4].any() and batch["counted"].any()
        # A model accepts all of its own draws.
        np.testing.assert_allclose(batch["label"][batch["counted"]], 1.0, rtol=1e-5)


def unseen(windows: WindowBatches, target, draft, pool: int):
    """In place of `foreseen`, tested above: its shapes without its decoding."""
    place = (windows.rows, 6)
    hidden = np.zeros((*place, draft().config.hidden), np.float32)
    lesson = {"hidden": hidden, "label": np.ones(place), "counted": np.ones(place, bool)}
    return lambda step: lesson


def unjudged(generator, split, seed: int):
    """In place of `judged`, tested beside it: one row of its shapes."""
    row = step_recipes.labelled(CODEC, "1+2=", [CODEC.eos_id])
    return lambda step: {name: value[None] for name, value in row.items()}


def test_all_recipes_fit_together(monkeypatch):
    """Shapes only: every loss takes its model and its batches, and all weights fit the zoo."""
    monkeypatch.setattr(head_recipes, "foreseen", unseen)
    monkeypatch.setattr(step_recipes, "judged", unjudged)
    monkeypatch.setattr(stdlib_recipes, "CORPUS", StandardLibrary(cap=400_000))
    stdlib_recipes.learned.cache_clear()
    stored = 0
    for name, make_recipe in RECIPES.items():
        recipe = make_recipe()
        assert recipe.name == name and (recipe.target is None or recipe.target in RECIPES)
        model = nnx.eval_shape(lambda recipe=recipe: recipe.create(nnx.Rngs(0)))
        loss, metrics = jax.eval_shape(recipe.loss, model, **recipe.batches()(0))
        assert loss.shape == () and metrics
        sizes = [weight.size for weight in jax.tree.leaves(model)]
        stored += sum(sizes) * jnp.dtype(recipe.stored).itemsize
    stdlib_recipes.learned.cache_clear()
    assert stored < SHIPPED_BYTES


@pytest.mark.parametrize("name", zoo.names())
def test_what_ships_opens(name):
    shipped = zoo.load(name)
    if isinstance(shipped.model, AcceptanceHead):  # reads hidden states, and names no tokens
        draft = zoo.load(shipped.card["target"]["name"]).model
        assert shipped.model.width == draft.config.hidden
    else:
        assert shipped.model.vocab_size == shipped.tokenizer.vocab_size
    assert shipped.card["tokenizer"] == shipped.tokenizer.fingerprint()
    card = json.loads((shipped.folder / "card.json").read_text())
    assert card["held_out"] and card["recipe"].endswith(f"train {name}")
