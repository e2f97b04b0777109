"""Published reward models: stored outputs of `transformers`, and the way back to a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from models import safetensors
from models.checkpoints import load
from models.pooling import pooled_index, sequence_rewards
from models.presets import small
from models.process_rewards import ProcessReward
from models.reward_checkpoints import load_reward, save_reward
from models.rewards import RewardModel
from tests.models.reward_variants import (
    BAD,
    GOOD,
    LENGTHS,
    TAG,
    VARIANTS,
    WIDTH,
    RewardVariant,
    padded,
)

FIXTURES = Path(__file__).parent / "reward_fixtures"
TOLERANCE = 2e-5
BY_NAME = [pytest.param(variant, id=variant.name) for variant in VARIANTS]
POOLED = [pytest.param(v, id=v.name) for v in VARIANTS if v.head == "sequence"]
run = jax.jit(lambda model, tokens, valid: model.forward(tokens, valid)[0])
scores = jax.jit(sequence_rewards, static_argnames="pad")
VALID = np.arange(WIDTH) < np.asarray(LENGTHS)[:, None]
LENGTH = jnp.asarray(LENGTHS)


def opened(variant: RewardVariant, folder: Path) -> RewardModel:
    if variant.head == "language":
        return RewardModel.of_language_model(load(folder, dtype="float32"), (GOOD, BAD), GOOD)
    return load_reward(folder, dtype="float32", check_finite=True).model


def stored(variant: RewardVariant) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / variant.name / "expected.npz") as file:
        return dict(file)


def test_the_fixtures_are_those_of_the_table():
    assert {path.name for path in FIXTURES.iterdir()} == {variant.name for variant in VARIANTS}


@pytest.mark.parametrize("variant", BY_NAME)
def test_outputs_at_every_token(variant: RewardVariant):
    expected = stored(variant)
    model = opened(variant, FIXTURES / variant.name)
    outputs = np.asarray(run(model, expected["tokens"], VALID))
    error = np.abs(outputs - expected["outputs"])[VALID].max()
    assert error < TOLERANCE
    assert np.abs(expected["outputs"][VALID]).max() > 0.5


@pytest.mark.parametrize("variant", POOLED)
def test_scores_of_the_library_under_any_padding(variant: RewardVariant):
    expected, reward = stored(variant), load_reward(FIXTURES / variant.name, dtype="float32")
    pad = variant.arguments["pad_token_id"]
    assert reward.pad == pad
    ours = np.asarray(scores(reward.model, expected["tokens"], LENGTH, pad))
    for side in ("alone", "left", "right"):
        np.testing.assert_allclose(ours, expected[side], atol=TOLERANCE, err_msg=side)
    for side in ("left", "right"):
        ids, _ = padded(expected["tokens"], pad, side)
        index = np.asarray(pooled_index(jnp.asarray(ids), pad))
        inner = index - (np.subtract(WIDTH, LENGTHS) if side == "left" else 0)
        for row in np.flatnonzero((ids != pad).any(axis=1)):
            read = expected["outputs"][row, inner[row], 0]
            assert abs(read - expected[side][row]) < TOLERANCE


def test_where_padding_is_an_end_token_the_published_rule_differs_from_ours():
    variant = VARIANTS[1]
    expected, reward = stored(variant), load_reward(FIXTURES / variant.name, dtype="float32")
    last = scores(reward.model, expected["tokens"], LENGTH)
    at = np.arange(3), np.asarray(LENGTHS) - 1
    np.testing.assert_allclose(last, expected["outputs"][at][:, 0], atol=TOLERANCE)
    # The third text is nothing but end tokens, which all look alike.
    assert np.abs(last - expected["alone"])[:2].min() > 1e-2
    plain = stored(VARIANTS[0])
    model = opened(VARIANTS[0], FIXTURES / VARIANTS[0].name)
    both = [scores(model, plain["tokens"], LENGTH, pad) for pad in (None, 0)]
    np.testing.assert_array_equal(*both)


@pytest.mark.parametrize("name", ["qwen2_deep", "qwen2_summary", "mistral_language"])
@pytest.mark.parametrize("at", ["separator", "before"])
def test_step_scores(name: str, at):
    variant = next(variant for variant in VARIANTS if variant.name == name)
    expected = stored(variant)
    judge = ProcessReward.of(opened(variant, FIXTURES / name), TAG, at)
    found, count = judge(jnp.asarray(expected["tokens"]), LENGTH, 4)
    for row, length in enumerate(LENGTHS):
        where = [i - (at == "before") for i in range(length) if expected["tokens"][row, i] == TAG]
        out = expected["outputs"][row, where].astype(float)
        if name == "qwen2_summary":
            steps = 1 / (1 + np.exp(-out[:, 0]))
        else:
            good = {"qwen2_deep": 1, "mistral_language": 0}[name]
            steps = np.exp(out[:, good]) / np.exp(out).sum(1)
        assert count[row] == len(steps)
        np.testing.assert_allclose(found[row, : len(steps)], steps, atol=TOLERANCE)


def made(readout, labels, good, deep=False, dtype="float32"):
    config = small(31, hidden=16, layers=1, heads=2, dtype=dtype)
    return RewardModel.create(
        config, labels, rngs=nnx.Rngs(0), readout=readout, good=good, deep=deep
    )


@pytest.mark.parametrize(
    ("model", "architecture"),
    [
        (made("score", 1, 0), "LlamaForSequenceClassification"),
        (made("sigmoid", 1, 0, dtype="bfloat16"), "LlamaForSequenceClassification"),
        (made("softmax", 3, 0), "LlamaForSequenceClassification"),
        (made("softmax", 2, 0, deep=True), "LlamaForProcessRewardModel"),
        (made("score", 1, 0, deep=True), "LlamaForRewardModel"),
    ],
)
def test_saved_and_opened_again(model: RewardModel, architecture: str, tmp_path: Path):
    save_reward(model, tmp_path / "a", pad=3)
    again = load_reward(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["architectures"] == [architecture]
    assert again.pad == 3
    ours, theirs = again.model, model
    assert (ours.readout, ours.good) == (theirs.readout, theirs.good)
    assert ours.config == theirs.config
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("variant", [pytest.param(v.values[0], id=v.id) for v in BY_NAME[:6]])
def test_published_tensors_come_back_byte_for_byte(variant: RewardVariant, tmp_path: Path):
    source = FIXTURES / variant.name
    save_reward(load_reward(source).model, tmp_path / "out")
    before = safetensors.Reader(source / "model.safetensors")
    after = safetensors.Reader(tmp_path / "out" / "model.safetensors")
    # A head of the language model is no part of a reward model.
    assert before.entries.keys() - after.entries.keys() <= {"lm_head.weight"}
    for name in after.entries:
        assert after.read(name).tobytes() == before.read(name).tobytes(), name


def test_a_language_models_columns_under_a_soft_cap_are_not_saved(tmp_path: Path):
    language = load(FIXTURES / "mistral_language", dtype="float32")
    capped = RewardModel.of_language_model(language.configured(logit_cap=2.0), (3, 4), 3)
    with pytest.raises(ValueError, match="caps logits"):
        save_reward(capped, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def change(folder: Path, **tensors) -> None:
    """Rewrite a folder's tensors: an array replaces one, None removes it."""
    reader = safetensors.Reader(folder / "model.safetensors")
    kept = {name: np.array(reader.read(name)) for name in reader.entries} | tensors
    kept = {name: array for name, array in kept.items() if array is not None}
    shapes = {name: (array.shape, array.dtype) for name, array in kept.items()}
    safetensors.write(folder / "model.safetensors", shapes, kept.__getitem__)


def settings(folder: Path, **fields) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


BF16 = ml_dtypes.bfloat16


@pytest.mark.parametrize(
    ("name", "tensors", "fields", "message"),
    [
        ("llama_sequence", {"score.weight": None}, {}, "no known reward head.*: none"),
        ("llama_sequence", {"value.weight": np.ones(3, BF16)}, {}, "no known reward head"),
        (
            "llama_sequence",
            {"score.weight": None, "classifier.weight": np.ones((2, 16), BF16)},
            {"architectures": ["GPT2ForTokenClassification"]},
            "GPT2ForTokenClassification has no known reward head; .* classifier.weight. Known are",
        ),
        ("llama_sequence", {"score.weight": np.ones((1, 8), BF16)}, {}, "reads 8 features"),
        ("llama_sequence", {"score.weight": np.ones(16, BF16)}, {}, "floats of 2 axes"),
        ("llama_sequence", {"score.weight": np.ones((1, 16), np.int8)}, {}, "floats of 2 axes"),
        ("llama_sequence", {"score.weight": np.full((1, 16), np.nan, BF16)}, {}, "not finite"),
        ("llama_sequence", {}, {"id2label": {"0": "a", "1": "b"}}, "2 labels, but.*1 outputs"),
        ("llama_sequence", {}, {"reward_readout": "cube"}, "reward_readout='cube'"),
        (
            "llama_sequence",
            {"score.weight": np.ones((3, 16), BF16)},
            {"num_labels": 3},
            "which of 3 labels",
        ),
        ("qwen2_deep", {"score.0.bias": np.ones(5, BF16)}, {}, "bias has shape"),
        ("mistral_language", {}, {}, "of_language_model"),
    ],
)
def test_damaged_heads_are_refused(name, tensors, fields, message, tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(FIXTURES / name, folder)
    change(folder, **tensors)
    settings(folder, **fields)
    with pytest.raises(ValueError, match=message):
        load_reward(folder, check_finite=True)


def test_a_value_head_by_its_older_name(tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(FIXTURES / "llama_sequence", folder)
    weight = np.array(safetensors.Reader(folder / "model.safetensors").read("score.weight"))
    change(folder, **{"score.weight": None, "v_head.weight": weight})
    old, new = load_reward(folder).model, load_reward(FIXTURES / "llama_sequence").model
    assert old.readout == new.readout == "score"
    for one, other in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
        np.testing.assert_array_equal(one, other)
