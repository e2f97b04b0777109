"""Writing checkpoints: complete or not at all, and read back bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models import safetensors
from models.checkpoint_files import CONFIG, INDEX, WEIGHTS
from models.checkpoints import load, load_backbone
from models.export import save
from models.presets import small
from models.transformer import arrays_of
from tests.models.samples import CONFIGS, perturbed
from tests.models.variants import VARIANTS

FIXTURES = Path(__file__).parent / "fixtures"
MODEL = perturbed(CONFIGS["plain"])


@pytest.mark.parametrize("name", [variant.name for variant in VARIANTS])
@pytest.mark.parametrize("shard", [10**9, 20_000])
def test_round_trip(name: str, shard: int, tmp_path: Path):
    model = load(FIXTURES / name)
    save(model, tmp_path / "out", max_shard_bytes=shard)
    assert (tmp_path / "out" / INDEX).exists() == (shard == 20_000)
    again = load(tmp_path / "out")
    assert again.config == model.config
    for path, array in arrays_of(model).items():
        np.testing.assert_array_equal(array, arrays_of(again)[path], err_msg=path)


def test_shards_stay_below_the_limit_and_are_indexed(tmp_path: Path):
    save(MODEL, tmp_path / "out", max_shard_bytes=20_000)
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    total = 0
    for file in sorted(set(index["weight_map"].values())):
        entries = safetensors.Reader(tmp_path / "out" / file).entries
        size = sum(entry.nbytes for entry in entries.values())
        assert size <= 20_000 or len(entries) == 1
        assert {index["weight_map"][name] for name in entries} == {file}
        total += size
    assert index["metadata"]["total_size"] == total


def test_what_travels_along(tmp_path: Path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer" / "private.txt").write_text("not ours to copy")
    head = np.arange(32, dtype=np.float32)[None]
    save(
        MODEL,
        tmp_path / "deep" / "out",
        tokenizer=tmp_path / "tokenizer",
        config={"eos_token_id": [3, 4]},
        tensors={"score.weight": head},
    )
    files = {path.name for path in (tmp_path / "deep" / "out").iterdir()}
    assert files == {CONFIG, WEIGHTS, "tokenizer.json"}
    backbone = load_backbone(tmp_path / "deep" / "out")
    assert backbone.config["eos_token_id"] == [3, 4]
    np.testing.assert_array_equal(backbone.extra["score.weight"], head)


def test_the_valid_vocabulary_is_remembered(tmp_path: Path):
    model = perturbed(small(50, hidden=32, layers=1, heads=4, rows=64))
    save(model, tmp_path / "out")
    assert load(tmp_path / "out").vocab_size == 50


def test_a_family_is_found_or_refused(tmp_path: Path):
    save(MODEL, tmp_path / "mistral", family="mistral")
    assert json.loads((tmp_path / "mistral" / CONFIG).read_text())["model_type"] == "mistral"
    with pytest.raises(ValueError, match=r"cannot be written.*differing: qwen2: qkv_bias"):
        save(MODEL, tmp_path / "qwen2", family="qwen2")
    with pytest.raises(ValueError, match="model_type='bert' is not supported"):
        save(MODEL, tmp_path / "bert", family="bert")
    odd = perturbed(small(50, hidden=32, layers=1, heads=4, activation="relu", logit_cap=2.0))
    with pytest.raises(ValueError, match="cannot be written as a published family"):
        save(odd, tmp_path / "odd")
    assert {path.name for path in tmp_path.iterdir()} == {"mistral"}


def test_nothing_is_overwritten_unasked(tmp_path: Path):
    save(MODEL, tmp_path / "out")
    other = perturbed(CONFIGS["plain"], seed=7)
    with pytest.raises(ValueError, match="exists; choose another folder or pass overwrite"):
        save(other, tmp_path / "out")
    save(other, tmp_path / "out", overwrite=True)
    np.testing.assert_array_equal(
        arrays_of(load(tmp_path / "out"))["norm"], arrays_of(other)["norm"]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_leaves_no_trace(exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if exists:
        save(MODEL, tmp_path / "out")
    write, written = safetensors.write, []

    def failing(path: Path, *arguments) -> None:
        written.append(path)
        if len(written) == 2:
            raise OSError("no space left on device")
        write(path, *arguments)

    monkeypatch.setattr(safetensors, "write", failing)
    with pytest.raises(OSError, match="no space left"):
        save(perturbed(CONFIGS["plain"], 3), tmp_path / "out", max_shard_bytes=9, overwrite=True)
    assert len(written) == 2
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if exists else [])
    if exists:
        np.testing.assert_array_equal(
            arrays_of(load(tmp_path / "out"))["norm"], arrays_of(MODEL)["norm"]
        )


def test_a_name_of_the_models_own_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"tensors\['model.norm.weight'\] is a name of"):
        save(MODEL, tmp_path / "out", tensors={"model.norm.weight": np.zeros(32, np.float32)})
    assert not list(tmp_path.iterdir())
