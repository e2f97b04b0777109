"""A GGUF file is the published checkpoint that it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.checkpoints import Checkpoint, load
from models.families import differences
from models.rope import frequencies
from models.transformer import arrays_of
from tests.models.gguf.writing import FIXTURES, KINDS, convert, prepared, rotary, tensors_of

gguf = pytest.importorskip("gguf")

# Settings that a file cannot say, where llama.cpp decides, and the fixture says otherwise.
UNSAID = {"gemma2": {"query_scale"}, "gemma3": {"query_scale"}, "gemma3_linear": {"query_scale"}}
# The same table, written as one set of factors: its parameters are not among the published ones.
UNSAID |= {"llama_llama3": {"rope"}, "mixtral": {"window", "sliding"}}


@pytest.mark.parametrize("name", KINDS)
def test_config_and_weights_are_those_of_the_folder(name: str, tmp_path: Path):
    path = convert(name, tmp_path / f"{name}.gguf")
    theirs = load(FIXTURES / name, dtype="float32")
    ours = load(path)
    differing = {
        text.split("=")[0].split(":")[0] for text in differences(ours.config, theirs.config)
    }
    assert differing == UNSAID.get(name, set())
    assert ours.config.vocab_size == 101
    for weight, array in arrays_of(theirs).items():
        # 1 + w, less 1, is w up to the rounding of the sum.
        most = 1.2e-7 if "gemma" in name and "norm" in weight else 0.0
        np.testing.assert_allclose(
            arrays_of(ours)[weight], array, rtol=0, atol=most, err_msg=weight
        )


def test_queries_are_scaled_by_the_width_of_a_head_unless_the_model_is_the_largest(tmp_path: Path):
    config = Checkpoint(convert("gemma2", tmp_path / "small.gguf")).config
    assert config.query_scale == 16**-0.5


def test_rotary_factors_are_llama_3s(tmp_path: Path):
    config = Checkpoint(convert("llama_llama3", tmp_path / "x.gguf")).config
    theirs = Checkpoint(FIXTURES / "llama_llama3").config
    assert config.rope is not None and theirs.rope is not None
    np.testing.assert_allclose(frequencies(config.rope), frequencies(theirs.rope), rtol=1e-6)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_published_rotary_factors_are_recognised(factor: float):
    from models.gguf.config import rotary_sets

    scaling = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    factors = rotary({"rope_parameters": scaling, "head_dim": 64})
    plain = {"rope_theta": 500000.0, "rope_type": "default"}
    config = {"head_dim": 64, "rope_parameters": plain, "max_position_embeddings": 131072}
    assert rotary_sets(config, factors, "x") == {"rope_parameters": scaling}
    ones = {name: np.ones_like(value) for name, value in factors.items()}
    assert rotary_sets(config, ones, "x") == {}


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_weights_of_every_kind_keep_their_places(kind: str, tmp_path: Path):
    """Blocks hold rows: the published tensor, stored and read back, in the same rows."""
    code = gguf.GGMLQuantizationType[kind]
    path = convert("llama", tmp_path / "x.gguf", lambda name: "F32" if "down" in name else kind)
    checkpoint = Checkpoint(path)
    config = {"num_attention_heads": 4, "num_key_value_heads": 2}
    for name, tensor in tensors_of(FIXTURES / "llama").items():
        if tensor.ndim < 2 or "down" in name:
            continue
        stored = prepared("llama", name, tensor, config)
        rounded = gguf.quants.dequantize(gguf.quants.quantize(stored, code), code)
        order = prepared("llama", name, np.arange(len(tensor))[:, None] + 0 * tensor, config)
        published = np.zeros_like(tensor)
        published[order[:, 0].astype(int)] = rounded
        np.testing.assert_array_equal(checkpoint.tensor(name).astype(np.float32), published)
    assert load(path).dtype == {"F16": "float16", "BF16": "bfloat16"}.get(kind, "float32")


def test_a_head_that_repeats_the_table_is_tied(tmp_path: Path):
    path = tmp_path / "x.gguf"
    convert("llama_biased", path)
    assert Checkpoint(path).config.tied
    assert not Checkpoint(convert("llama", tmp_path / "y.gguf")).config.tied


CHANGES = [
    ({"general.architecture": "mamba"}, "'mamba' is not supported"),
    ({"split.count": 3}, "one part of several"),
    ({"llama.expert_count": 8}, "unknown tensors blk.0.ffn"),
    ({"llama.expert_shared_count": 1}, "not built"),
    ({"llama.attention.head_count": 0}, "head_count=0 must be at least 1"),
    ({"llama.attention.head_count": "four"}, "must be an integer"),
    ({"llama.attention.head_count": 8}, "asks for"),
    ({"llama.attention.head_count_kv": 3}, "not a multiple"),
    ({"llama.attention.value_length": 4}, "another width"),
    ({"llama.attention.layer_norm_rms_epsilon": None}, "is missing"),
    ({"llama.block_count": 1000000}, "layers=1000000"),
    ({"llama.block_count": 3}, "is missing"),
    ({"llama.embedding_length": 64}, "asks for"),
    ({"llama.rope.scaling.type": "magic"}, "'magic' is not supported"),
    ({"llama.rope.scaling.attn_factor": 1.19}, "attn_factor=1.19 without rope_factors_long"),
    ({"llama.rope.freq_base": float("nan")}, "finite"),
    ({"llama.rope.dimension_count": 4}, "partial_rotary_factor"),
]


@pytest.mark.parametrize(("change", "match"), CHANGES, ids=[str(c[0]) for c in CHANGES])
def test_metadata_that_cannot_be_true(change: dict, match: str, tmp_path: Path):
    with pytest.raises(ValueError, match=match):
        load(convert("llama", tmp_path / "x.gguf", change=change))
