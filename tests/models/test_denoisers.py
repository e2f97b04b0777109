"""Published denoisers: their logits, their canvases, what is refused, and export."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.denoiser import Denoiser
from jaxdecode.lm import extend
from jaxdecode.train.masked import predictions
from models import checkpoints, safetensors
from models.denoisers import canvas_of, is_denoiser, load_denoiser, save_denoiser
from models.families import family_of, from_hf
from models.parameters import parameters
from models.transformer import Transformer
from tests.models import denoiser_reference as naive
from tests.models.denoiser_variants import LENGTHS, MASK, TOLERANCE, VARIANTS, VOCABULARY, Variant

FIXTURES = Path(__file__).parent / "denoiser_fixtures"
BY_NAME = [pytest.param(variant, id=variant.name) for variant in VARIANTS]
STORED = [pytest.param(v, id=v.name) for v in VARIANTS if v.code is not None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A variant's folder: the stored one, or random weights of its shapes."""
    made: dict[str, Path] = {}

    def of(variant: Variant) -> Path:
        if variant.code is not None:
            return FIXTURES / variant.name
        if variant.name not in made:
            made[variant.name] = tmp_path_factory.mktemp(variant.name)
            write(made[variant.name], variant)
        return made[variant.name]

    return of


def write(folder: Path, variant: Variant, **changes: Any) -> None:
    """Random weights, every one of them perturbed, under the published names."""
    config = {k: v for k, v in (variant.config | changes).items() if v is not None}
    (folder / "config.json").write_text(json.dumps(config))
    found = from_hf(config)
    names = family_of(config).names(found)
    rng, shapes = np.random.default_rng(5), {}
    for path, want in parameters(found).items():
        source = names[path]
        for _, name in source.named(want.shape):
            shapes[name] = (source.shape(want.shape), np.dtype(np.float32))

    def produce(name: str) -> np.ndarray:
        shape = shapes[name][0]
        return (rng.normal(size=shape) * 0.2 + ("norm" in name)).astype(np.float32)

    safetensors.write(folder / "model.safetensors", shapes, produce)


def rows_of(folder: Path) -> np.ndarray:
    path = folder / "expected.npz"
    if path.is_file():
        return np.load(path)["tokens"]
    draws = np.random.default_rng(0).integers(3, VOCABULARY, (len(LENGTHS), max(LENGTHS)))
    return draws.astype(np.int32)


@jax.jit
def raw(denoiser: Denoiser, rows: jax.Array, length: jax.Array) -> jax.Array:
    """Logits as the model gives them, every place seeing what the denoiser says."""
    place = jnp.broadcast_to(jnp.arange(rows.shape[1]), rows.shape)
    block = denoiser.visible(place, place)
    return denoiser.model.forward(rows, place < length[:, None], block=block)[0]  # type: ignore


@pytest.mark.parametrize("variant", STORED)
def test_logits_of_the_published_code(variant: Variant, folder) -> None:
    expected = np.load(folder(variant) / "expected.npz")
    denoiser = load_denoiser(folder(variant), dtype="float32", check_finite=True)
    found = np.asarray(raw(denoiser, expected["tokens"], jnp.asarray(LENGTHS)))
    assert np.abs(expected["logits"]).max() > 1
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(
            found[row, :length], expected["logits"][row, :length], atol=TOLERANCE, rtol=0
        )


@pytest.mark.parametrize("variant", BY_NAME)
def test_logits_of_the_naive_double(variant: Variant, folder) -> None:
    """Prediction of every place, the shift applied; and each usual mistake is far off."""
    here = folder(variant)
    denoiser, rows = load_denoiser(here, dtype="float32"), rows_of(here)
    reader = safetensors.Reader(here / "model.safetensors")
    tensors = {n: np.asarray(reader.read(n)).astype(np.float32) for n in reader.entries}
    config = json.loads((here / "config.json").read_text())
    found = np.asarray(predictions(denoiser, jnp.asarray(rows), jnp.asarray(LENGTHS)))
    applied = set()
    row, length = 1, LENGTHS[1]
    tokens = rows[row, :length]
    wanted = law(naive.read(config, naive.logits(config, tensors, tokens)))
    np.testing.assert_allclose(found[row, :length], wanted, atol=1e-4)
    assert np.isneginf(found[row, :length, MASK]).all()
    keep = np.arange(VOCABULARY) != MASK
    for mistake in naive.MISTAKES:
        other = law(naive.read(config, naive.logits(config, tensors, tokens, mistake), mistake))
        if not np.allclose(other, wanted, atol=1e-9):
            applied.add(mistake)
            assert np.abs(other[:, keep] - wanted[:, keep]).max() > 0.02, mistake
    assert {"causal", "shift", "theta", "norms", "gate"} <= applied
    assert ("blocks" in applied) == (denoiser.causal_blocks is not None)


def law(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities with the mask left out."""
    out = np.array(logits)
    out[:, MASK] = -np.inf
    return out - np.log(np.exp(out).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("variant", BY_NAME)
def test_canvas_and_refusals_of_what_is_causal(variant: Variant, folder) -> None:
    here = folder(variant)
    denoiser = load_denoiser(here)
    assert canvas_of(here) == variant.canvas
    canvas = variant.canvas
    assert (denoiser.mask_id, denoiser.shift, denoiser.causal_blocks, denoiser.longest) == canvas
    assert is_denoiser(here)
    with pytest.raises(ValueError, match="is a denoiser"):
        checkpoints.load(here)
    causal = Path(__file__).parent / "fixtures" / "llama"
    assert not is_denoiser(causal) and not is_denoiser(causal.parent)
    for opened in (load_denoiser, canvas_of):
        with pytest.raises(ValueError, match=r"no denoiser|is causal"):
            opened(causal)


@pytest.mark.parametrize("variant", BY_NAME)
def test_export_reads_back(variant: Variant, folder, tmp_path: Path) -> None:
    denoiser, rows = load_denoiser(folder(variant)), rows_of(folder(variant))
    kind = variant.config["model_type"]
    save_denoiser(denoiser, tmp_path / "out", family=kind, config={"eos_token_id": 2})
    again = load_denoiser(tmp_path / "out")
    assert canvas_of(tmp_path / "out") == variant.canvas
    length = jnp.asarray(LENGTHS)
    np.testing.assert_array_equal(raw(denoiser, rows, length), raw(again, rows, length))
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["model_type"] == kind and written["eos_token_id"] == 2
    stored = set(safetensors.Reader(folder(variant) / "model.safetensors").entries)
    assert set(safetensors.Reader(tmp_path / "out" / "model.safetensors").entries) == stored
    other = {"llada": "Dream", "Dream": "llada", "sdar": "llada", "Fast_dLLM_Qwen": "sdar"}[kind]
    with pytest.raises(ValueError, match=r"reads (shift|causal_blocks)"):
        save_denoiser(denoiser, tmp_path / "other", family=other)
    with pytest.raises(ValueError, match="causal; a denoiser is"):
        save_denoiser(denoiser, tmp_path / "other", family="llama")


def test_a_block_through_the_cache_is_the_whole(folder) -> None:
    """A block-causal model's blocks one after another, each seeing what is cached."""
    variant = next(v for v in VARIANTS if v.name == "sdar")
    denoiser, rows = load_denoiser(folder(variant), dtype="float32"), rows_of(folder(variant))
    whole = np.asarray(raw(denoiser, rows, jnp.full(len(rows), rows.shape[1])))
    model, size = denoiser.model, variant.canvas.causal_blocks
    assert size is not None
    cache, found = model.init_cache(len(rows), rows.shape[1]), []
    run = jax.jit(extend)
    for first in range(0, rows.shape[1], size):
        part = jnp.asarray(rows[:, first : first + size])
        output = run(model, part, cache, block=jnp.ones((len(rows), size, size), bool))
        cache = dataclasses.replace(output.cache, length=cache.length + size)
        found.append(np.asarray(output.logits))
    np.testing.assert_allclose(np.concatenate(found, axis=1), whole, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "changes", "fault"),
    [
        ("llada", {"block_type": "sequential"}, "block_type"),
        ("llada", {"layer_norm_type": "default"}, "layer_norm_type"),
        ("llada", {"layer_norm_type": None}, "layer_norm_type is missing"),
        ("llada", {"alibi": True}, "alibi"),
        ("llada", {"rope": False}, "rope"),
        ("llada", {"activation_type": "swiglu"}, "activation_type"),
        ("llada", {"include_bias": True}, "include_bias"),
        ("llada", {"attention_layer_norm": True}, "attention_layer_norm"),
        ("llada", {"block_group_size": 2}, "block_group_size"),
        ("llada", {"scale_logits": True}, "scale_logits"),
        ("llada", {"n_heads": 5}, "n_heads"),
        ("llada", {"mask_token_id": None}, "mask_token_id"),
        ("llada", {"mask_token_id": VOCABULARY}, "mask_id=101"),
        ("llada", {"model_type": "lladamoe"}, "mixture of experts"),
        ("llada", {"model_type": "llada2_moe"}, "mixture of experts"),
        ("dream", {"use_sliding_window": True}, "use_sliding_window"),
        ("dream", {"mask_token_id": None}, "mask_id=151666"),
        ("sdar", {"block_size": 0}, "causal_blocks=0"),
        ("sdar", {"model_type": "sdar_moe"}, "mixture of experts"),
    ],
)
def test_bad_folders(name: str, changes, fault: str, folder, tmp_path: Path) -> None:
    variant = next(v for v in VARIANTS if v.name == name)
    shutil.copytree(folder(variant), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text()) | changes
    kept = {k: v for k, v in config.items() if v is not None}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=fault):
        load_denoiser(tmp_path)


def test_the_fixtures_are_those_of_the_table() -> None:
    assert {p.name for p in FIXTURES.iterdir()} == {v.name for v in VARIANTS if v.code}
    assert isinstance(load_denoiser(FIXTURES / "llada").model, Transformer)
