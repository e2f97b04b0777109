"""Opening checkpoints: what is accepted, in which layouts, and what is refused and how."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import safetensors
from models.checkpoint_files import CONFIG, INDEX, WEIGHTS
from models.checkpoints import Checkpoint, load, load_backbone
from models.denoisers import canvas_of, is_denoiser
from models.export import save
from models.parameters import parameters
from models.presets import small
from models.transformer import Transformer, arrays_of

FIXTURES = Path(__file__).parent / "fixtures"


def copy(name: str, folder: Path) -> Path:
    """A fixture's checkpoint, to be damaged."""
    target = folder / name
    shutil.copytree(FIXTURES / name, target)
    return target


def edit_json(path: Path, **changes: Any) -> None:
    """Replace fields; None removes one."""
    data = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in data.items() if v is not None}))


def edit_tensors(folder: Path, change: Callable[[dict[str, np.ndarray]], dict]) -> None:
    """Rewrite a folder's single file of weights."""
    reader = safetensors.Reader(folder / WEIGHTS)
    tensors = change({name: np.array(reader.read(name)) for name in reader.entries})
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    safetensors.write(folder / WEIGHTS, shapes, tensors.__getitem__)


def same(a, b) -> None:
    for path, array in arrays_of(a).items():
        np.testing.assert_array_equal(array, arrays_of(b)[path], err_msg=path)


# What is accepted.


def test_the_dtype_is_the_stored_one_unless_asked():
    assert load(FIXTURES / "llama").dtype == jnp.float32
    assert load(FIXTURES / "mistral_full").dtype == jnp.float16
    assert load(FIXTURES / "gemma").dtype == jnp.bfloat16
    model = load(FIXTURES / "gemma", dtype="float32")
    assert model.dtype == jnp.float32
    assert model.config.dtype == "float32"


def test_a_tokenizers_vocabulary_hides_padded_rows():
    model = load(FIXTURES / "llama", vocab_size=90)
    assert (model.vocab_size, model.config.rows) == (90, 101)
    assert model.forward(jnp.ones((1, 2), jnp.int32))[0].shape == (1, 2, 90)
    with pytest.raises(ValueError, match="fewer than vocab_size=102"):
        load(FIXTURES / "llama", vocab_size=102)


def test_every_part_is_read_as_from_the_whole():
    for name in ("llama", "phi3", "gpt2", "opt_post", "mixtral"):
        checkpoint = Checkpoint(FIXTURES / name)
        for path, want in parameters(checkpoint.config).items():
            whole = checkpoint.read(path, None, np.dtype("float32"))
            assert whole.shape == want.shape
            part = tuple(slice(size // 3, max(size // 3 + 1, size // 2)) for size in want.shape)
            read = checkpoint.read(path, part, np.dtype("float32"))
            np.testing.assert_array_equal(read, whole[part], err_msg=f"{name} {path}")


def test_it_loads_straight_into_the_shards_of_a_mesh():
    """In a process of its own, which pretends to have four devices."""
    program = """
import jax, numpy as np, sys
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from models.checkpoints import load
from models.parameters import logical_axes
from models.transformer import arrays_of
mesh = Mesh(np.array(jax.devices()).reshape(4), ("model",))
split = {"heads", "kv_heads", "mlp"}
for folder in sys.argv[1:]:
    whole = load(folder, dtype="float32")
    shardings = {
        path: NamedSharding(mesh, P(*("model" if a in split else None for a in axes)))
        for path, axes in logical_axes(whole.config).items()
    }
    spread = load(folder, dtype="float32", shardings=shardings)
    for path, array in arrays_of(spread).items():
        assert array.sharding == shardings[path], path
        np.testing.assert_array_equal(array, arrays_of(whole)[path], err_msg=path)
    assert arrays_of(spread)["layers/q"].addressable_shards[0].data.shape[-1] * 4 == (
        whole.config.q_width
    )
"""
    folders = [str(FIXTURES / name) for name in ("llama", "phi3", "mixtral")]
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program, *folders],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=environment | {"JAX_PLATFORMS": "cpu"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_second_copy_is_held(tmp_path: Path):
    """Beyond the model, the host holds a stacked weight being filled and one being handed over."""
    model = Transformer(small(2048, hidden=256, layers=6), rngs=nnx.Rngs(0))
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(model))
    save(model, tmp_path / "out")
    tracemalloc.start()
    try:
        load(tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < total / 2
    finally:
        tracemalloc.stop()


def renamed(name: str, folder: Path, old: str, new: str, **more: np.ndarray) -> Path:
    target = copy(name, folder)
    edit_tensors(target, lambda t: {k.replace(old, new, 1): v for k, v in t.items()} | more)
    return target


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("gpt2", "transformer.", ""),
        ("opt", "model.", ""),
        ("llama", "model.", ""),
        ("gemma3_multimodal", "language_model.model.", "model.language_model."),
    ],
)
def test_other_prefixes_in_use(name: str, old: str, new: str, tmp_path: Path):
    stored = safetensors.Reader(FIXTURES / name / WEIGHTS).entries
    assert any(tensor.startswith(old) for tensor in stored)
    same(load(renamed(name, tmp_path, old, new)), load(FIXTURES / name))


def test_buffers_that_are_no_weights_are_passed_over(tmp_path: Path):
    mask = {"h.0.attn.bias": np.ones((1, 1, 4, 4), np.uint8)}
    folder = renamed("gpt2", tmp_path, "transformer.", "", **mask)
    same(load(folder), load(FIXTURES / "gpt2"))
    table = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)}
    same(load(renamed("llama", tmp_path, "", "", **table)), load(FIXTURES / "llama"))


def test_a_tied_model_may_store_its_head_again(tmp_path: Path):
    """A copy is passed over, in whatever type; a head of its own is the model's."""
    whole = load(FIXTURES / "gemma")
    table = np.array(arrays_of(whole)["embedding"])
    for kind in (table.dtype, np.float32):
        head = {"lm_head.weight": table.astype(kind)}
        same(load(renamed("gemma", tmp_path / str(kind), "", "", **head)), whole)
    other = table.copy()
    other[7, 3] += 1
    model = load(renamed("gemma", tmp_path / "other", "", "", **{"lm_head.weight": other}))
    assert not model.config.tied
    np.testing.assert_array_equal(arrays_of(model)["head"], other.T)
    tokens = jnp.arange(6)[None]
    hidden = np.asarray(whole.forward(tokens)[1], np.float32)
    expected = hidden @ other.astype(np.float32).T
    np.testing.assert_allclose(model.forward(tokens)[0], expected, atol=0.05)
    assert np.abs(np.asarray(whole.forward(tokens)[0]) - expected)[..., 7].max() > 0.5


def test_a_backbone_hands_out_the_rest(tmp_path: Path):
    head = np.arange(32, dtype=np.float32)[None]
    folder = renamed("llama", tmp_path, "", "", **{"score.weight": head})
    with pytest.raises(ValueError, match=r"unknown tensors score\.weight.*load_backbone"):
        load(folder)
    backbone = load_backbone(folder)
    assert list(backbone.extra) == ["score.weight"]
    np.testing.assert_array_equal(backbone.extra["score.weight"], head)
    assert backbone.config["model_type"] == "llama"
    assert backbone.model.head is None
    tokens = jnp.arange(6)[None]
    hidden = load(FIXTURES / "llama").forward(tokens)[1]
    np.testing.assert_allclose(backbone.model.forward(tokens)[1], hidden, atol=1e-6)


def test_a_backbone_needs_no_head(tmp_path: Path):
    folder = copy("llama", tmp_path)
    edit_tensors(folder, lambda t: {k: v for k, v in t.items() if k != "lm_head.weight"})
    with pytest.raises(ValueError, match=r"'lm_head\.weight' is missing"):
        load(folder)
    assert load_backbone(folder).extra == {}


# What is refused.


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"quantization_config": {"quant_method": "awq"}},
        {"is_causal": False},
        {"residual_multiplier": 0.2},
        {"no_rope_layers": [1, 0]},
        {"architectures": ["LlamaBiModel"]},
        {"model_type": "t5"},
        {"model_type": "llada_moe"},
        {"hidden_size": "8"},
    ],
    ids=str,
)
def test_whoever_reads_a_config_names_its_file(changes: dict, tmp_path: Path):
    folder = copy("llama", tmp_path)
    edit_json(folder / CONFIG, **changes)
    opened: list[Callable[[Path], object]] = [Checkpoint]
    if "hidden_size" not in changes:  # whose family is all that these look at
        opened += [is_denoiser, canvas_of]
    for by in opened:
        with pytest.raises(ValueError) as error:
            by(folder)
        assert str(folder / CONFIG) in str(error.value)


def test_a_config_may_begin_with_an_editors_mark(tmp_path: Path):
    folder = copy("llama", tmp_path)
    path = folder / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Checkpoint(folder).config == Checkpoint(FIXTURES / "llama").config


def test_missing_files(tmp_path: Path):
    refused(tmp_path / "nowhere", "is no folder")
    refused(tmp_path, r"config\.json is missing")
    folder = copy("llama", tmp_path)
    (folder / WEIGHTS).unlink()
    refused(folder, "neither model.safetensors nor model.safetensors.index.json")
    sharded = copy("qwen2_sliding", tmp_path)
    next(sharded.glob("model-00002*")).unlink()
    refused(sharded, r"model-00002-of-\d+\.safetensors is missing, though")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["tiny.q4.gguf"], r"config\.json is missing; tiny\.q4\.gguf is a GGUF file"),
        (
            ["adapter_config.json", "adapter_model.safetensors"],
            r"adapter_config\.json is of an adapter .* beside org/base and no .*merge_and_unload",
        ),
        (["consolidated.safetensors", "params.json"], "under their authors' own names"),
        (["config.json", "model-00001-of-00003.safetensors"], "one of several shards, which model"),
        (["config.json", "consolidated.00.pth"], "under their authors' own names"),
        (["config.json", "tf_model.h5"], "of another framework"),
        (["snapshots"], "a folder of the Hugging Face cache"),
        (["config.json", "weights.safetensors"], "none of the names that a checkpoint has"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_else_a_folder_is_and_what_to_do(tmp_path: Path, names: list[str], message: str):
    for name in names:
        (tmp_path / name).write_text("{}")
    if "config.json" in names:
        shutil.copy(FIXTURES / "llama" / CONFIG, tmp_path / CONFIG)
    if "adapter_config.json" in names:
        edit_json(tmp_path / "adapter_config.json", base_model_name_or_path="org/base")
    refused(tmp_path, message)


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "tiny.safetensors").write_bytes(b"data")
    refused(tmp_path / "tiny.safetensors", "is no folder; tiny.safetensors is none of the names")
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    refused(tmp_path / "tiny.gguf", "the file is truncated or damaged")
    refused(tmp_path, "tiny.gguf is a GGUF file.*give the file itself")


def test_pickled_weights_are_not_opened(tmp_path: Path):
    folder = copy("llama", tmp_path)
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    refused(folder, "pickle runs code.*convert once")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "no valid JSON"),
        ("[1]", "a JSON object was expected"),
        ('{"model_type": "llama", "model_type": "gemma"}', "'model_type' appears twice"),
        ('{"model_type": "llama", "rms_norm_eps": NaN}', "NaN is no JSON number"),
        ("[" * 100_000, "no valid JSON"),
        ("{}", "model_type=None is not supported"),
        ('{"model_type": "mamba"}', "model_type='mamba' is not supported; known are llama"),
        ('{"model_type": ["llama"]}', "is not supported"),
    ],
)
def test_damaged_configs(text: str, match: str, tmp_path: Path):
    folder = copy("llama", tmp_path)
    (folder / CONFIG).write_text(text)
    refused(folder, match)


@pytest.mark.parametrize(
    ("name", "changes", "match"),
    [
        ("llama", {"hidden_size": None}, "'hidden_size' is missing"),
        ("llama", {"hidden_size": "32"}, "hidden_size='32' must be an integer"),
        ("llama", {"hidden_size": 32.5}, "hidden_size=32.5 must be an integer"),
        ("llama", {"num_attention_heads": 0}, "num_attention_heads=0"),
        ("llama", {"num_key_value_heads": 3}, "kv_heads=3"),
        ("llama", {"tie_word_embeddings": "no"}, "tie_word_embeddings='no'"),
        ("llama", {"hidden_act": "mish"}, "hidden_act='mish' must be one of"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("llama", {"quantization_config": {"quant_method": "gptq"}}, "are gptq quantised, .* open"),
        (
            "qwen2",
            {"is_causal": False},
            "is_causal=False asks for another forward pass than a qwen2",
        ),
        ("llama", {"residual_multiplier": 0.22}, "residual_multiplier=0.22 asks for another"),
        ("llama", {"no_rope_layers": [1, 1, 1, 0]}, "no_rope_layers=.* asks for another"),
        ("llama", {"no_rope_layers": 4}, "no_rope_layers=4 asks for another"),
        ("mistral", {"num_local_experts": 8}, "num_local_experts=8 asks for another"),
        ("gpt2", {"alibi": True}, "alibi=True asks for another"),
        ("llama", {"architectures": ["LlamaBiModel"]}, "LlamaBiModel, which sees both ways"),
        ("llama", {"rope_parameters": {"rope_type": "spiral"}}, "rope_type='spiral'"),
        ("llama", {"rope_parameters": [1]}, "rope_parameters=.* must be an object"),
        ("llama", {"rope_parameters": {"rope_theta": 1e999}}, "Infinity is no JSON number"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("phi3", {"rope_parameters": {"partial_rotary_factor": 2.0}}, "partial_rotary_factor=2"),
        ("gemma2", {"layer_types": ["sliding_attention"]}, "names 1 of 2 layers"),
        ("gemma2", {"layer_types": ["linear", "full"]}, "layer_types=.* must be a list"),
        (
            "gemma2",
            {"query_pre_attn_scalar": 0},
            "query_pre_attn_scalar=0.0 must be a number above 0",
        ),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("opt", {"num_attention_heads": 5}, "5 heads do not divide the width 32"),
        ("opt", {"enable_bias": False}, "enable_bias=False"),
        (
            "llama",
            {"architectures": ["LlamaForSequenceClassification"]},
            "names LlamaForSequenceClassification, which is no language model; .*load_reward",
        ),
        ("gpt2", {"architectures": ["GPT2ForQuestionAnswering"]}, "no language .*load_backbone"),
    ],
)
def test_configs_that_cannot_be(name: str, changes: dict, match: str, tmp_path: Path):
    folder = copy(name, tmp_path)
    edit_json(folder / CONFIG, **changes)
    refused(folder, match)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"vocab_size": 2**31}, "vocab_size=2147483648 must be an integer in 1..2097152"),
        ({"num_hidden_layers": 10**6}, "layers=1000000"),
        ({"intermediate_size": -1}, "intermediate_size=-1"),
        ({"vocab_size": 2**21, "hidden_size": 2**16}, r"has shape \(101, 32\), but"),
    ],
)
def test_absurd_sizes_cost_no_memory(changes: dict, match: str, tmp_path: Path):
    folder = copy("llama", tmp_path)
    edit_json(folder / CONFIG, **changes)
    tracemalloc.start()
    try:
        refused(folder, match)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def without(tensors: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in tensors.items() if key != name}


NORM = "model.layers.1.input_layernorm.weight"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: without(t, NORM), f"'{NORM}' is missing; it holds layers/attention_norm"),
        (lambda t: t | {"model.extra.weight": t[NORM]}, "unknown tensors model.extra.weight"),
        (lambda t: t | {"model.layers.2.mlp.up_proj.weight": t[NORM]}, "unknown tensors"),
        (lambda t: t | {NORM: t[NORM][:31]}, r"has shape \(31,\), but config.json asks for"),
        (lambda t: t | {NORM: t[NORM].astype(np.int8)}, "holds int8, not floats"),
        (lambda t: t | {"../../evil": t[NORM]}, "'../../evil' is no tensor name"),
        (lambda t: t | {"/etc/passwd": t[NORM]}, "'/etc/passwd' is no tensor name"),
        (lambda t: t | {"a..b": t[NORM]}, "'a..b' is no tensor name"),
    ],
)
def test_tensors_that_do_not_belong(change, match: str, tmp_path: Path):
    folder = copy("llama", tmp_path)
    edit_tensors(folder, change)
    refused(folder, match)


def test_weights_that_are_not_finite(tmp_path: Path):
    folder = copy("llama", tmp_path)
    edit_tensors(folder, lambda t: t | {NORM: np.full(32, np.nan, np.float32)})
    assert np.isnan(arrays_of(load(folder))["layers/attention_norm"][1]).all()
    with pytest.raises(ValueError, match="weights of layers/attention_norm are not finite"):
        load(folder, check_finite=True)


@pytest.mark.parametrize(
    "file",
    ["../model.safetensors", "/tmp/model.safetensors", "a/b.safetensors", "..", "x.bin", 7, ""],
)
def test_an_index_that_points_elsewhere(file, tmp_path: Path):
    folder = copy("qwen2_sliding", tmp_path)
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    edit_json(folder / INDEX, weight_map=weight_map | {"model.norm.weight": file})
    refused(folder, "a safetensors file of the same folder was expected")


def test_an_index_that_disagrees_with_its_files(tmp_path: Path):
    folder = copy("qwen2_sliding", tmp_path)
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    for changed in (
        weight_map | {"model.more.weight": weight_map["model.norm.weight"]},
        without(weight_map, "model.norm.weight"),
        {**weight_map, "model.norm.weight": sorted(set(weight_map.values()))[0]},
    ):
        edit_json(folder / INDEX, weight_map=changed)
        refused(folder, "disagree on whether it holds")
    edit_json(folder / INDEX, weight_map=[])
    refused(folder, "weight_map is missing or empty")


def test_a_tensor_that_two_shards_hold(tmp_path: Path):
    folder = copy("qwen2_sliding", tmp_path)
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    name, first = next(iter(weight_map.items()))
    other = next(file for file in weight_map.values() if file != first)
    tensor = np.array(safetensors.Reader(folder / first).read(name))
    reader = safetensors.Reader(folder / other)
    tensors = {n: np.array(reader.read(n)) for n in reader.entries} | {name: tensor}
    shapes = {n: (t.shape, t.dtype) for n, t in tensors.items()}
    safetensors.write(folder / other, shapes, tensors.__getitem__)
    refused(folder, "disagree on whether it holds")


def test_devices_hold_the_model():
    model = load(FIXTURES / "llama")
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(model))
