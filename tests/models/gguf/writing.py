"""GGUF files of the tiny published checkpoints, as llama.cpp's converters would write them.

Names come from the `gguf` package's own tables; what converters do to the weights is written
down here once more: they interleave the halves of Llama's queries and keys, add 1 to Gemma's
norms, and turn GPT-2's matrices.
"""

from __future__ import annotations

import importlib
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.checkpoint_files import open_tensors

FIXTURES = Path(__file__).parents[1] / "fixtures"
KINDS = {
    "llama": "llama",
    "llama_biased": "llama",
    "llama_llama3": "llama",
    "llama_linear": "llama",
    "llama_yarn": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "gemma3_linear": "gemma3",
    "phi3": "phi3",
    "phi3_longrope": "phi3",
    "mixtral": "llama",
    "qwen3_moe": "qwen3moe",
    "olmoe": "olmoe",
    "gpt2": "gpt2",
}
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?-+=/()ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    """A folder's tensors by their published names, in float32."""
    readers = open_tensors(folder)
    return {name: reader.read(name).astype(np.float32) for name, reader in readers.items()}


def merged(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same with all experts of a layer in one tensor, [experts, out, in]."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for name, tensor in tensors.items():
        expert = re.search(r"\.experts\.(\d+)\.", name)
        plain = name if expert is None else name.replace(expert[0], ".experts.")
        found.setdefault(plain, {})[-1 if expert is None else int(expert[1])] = tensor
    return {
        name: parts[-1] if -1 in parts else np.stack([parts[i] for i in range(len(parts))])
        for name, parts in found.items()
    }


def convert(
    name: str,
    path: Path,
    kind: Callable[[str], str] = lambda name: "F32",
    change: Mapping[str, Any] | None = None,
    ungrouped: bool = False,
) -> Path:
    """Write the fixture `name` as a GGUF file; `kind` is the type of each matrix by its name.

    `change` replaces entries of metadata, None removing one. `ungrouped` writes the same model
    with a key and a value of its own for every head.
    """
    gguf = importlib.import_module("gguf")
    folder, arch = FIXTURES / name, KINDS[name]
    config = json.loads((folder / "config.json").read_text())
    tensors = tensors_of(folder)
    if ungrouped:
        tensors = {name: repeated(name, tensor, config) for name, tensor in tensors.items()}
        config["num_key_value_heads"] = config["num_attention_heads"]
    writer = gguf.GGUFWriter(path, arch)
    entries = metadata(arch, config) | vocabulary(101) | dict(change or {})
    for key, value in entries.items():
        if value is None:
            continue
        store(writer, key, value)
    code = gguf.MODEL_ARCH_NAMES
    (member,) = (member for member, spelled in code.items() if spelled == arch)
    table = gguf.get_tensor_name_map(member, 16)
    for published, tensor in merged(tensors).items():
        tensor = prepared(arch, published, tensor, config)
        target = table.get_name(published, (".weight", ".bias"))
        assert target is not None, published
        wanted = kind(target) if tensor.ndim == 2 else "F32"
        quantised = gguf.GGMLQuantizationType[wanted]
        data = tensor if wanted == "F32" else gguf.quants.quantize(tensor, quantised)
        writer.add_tensor(target, data, raw_dtype=quantised)
    for target, tensor in rotary(config).items():
        writer.add_tensor(target, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def repeated(name: str, tensor: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Keys and values once for each head that reads them."""
    if not re.search(r"\.k_(proj|norm)\.|\.v_proj\.", name):
        return tensor
    groups = config["num_key_value_heads"]
    parts = tensor.reshape(groups, -1, *tensor.shape[1:])
    return parts.repeat(config["num_attention_heads"] // groups, 0).reshape(-1, *tensor.shape[1:])


def store(writer: Any, key: str, value: Any) -> None:
    """One entry, its type from the value's."""
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def metadata(arch: str, config: dict[str, Any]) -> dict[str, Any]:
    """What converters write of a config.json."""
    scaling = rope_of(config)
    if arch == "gpt2":
        return {
            "gpt2.context_length": config["n_positions"],
            "gpt2.embedding_length": config["n_embd"],
            "gpt2.feed_forward_length": config["n_inner"],
            "gpt2.block_count": config["n_layer"],
            "gpt2.attention.head_count": config["n_head"],
            "gpt2.attention.layer_norm_epsilon": float(config["layer_norm_epsilon"]),
        }
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    width = config.get("head_dim") or hidden // heads
    partial = scaling.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    entries: dict[str, Any] = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": hidden,
        "feed_forward_length": config["intermediate_size"],
        "block_count": config["num_hidden_layers"],
        "attention.head_count": heads,
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.freq_base": float(scaling.get("rope_theta", 1e4)),
        "rope.dimension_count": int(partial * width),
    }
    experts = config.get("num_local_experts", config.get("num_experts"))
    if experts:
        entries["expert_count"] = experts
        entries["expert_used_count"] = config["num_experts_per_tok"]
    if arch == "qwen3moe":
        entries["expert_feed_forward_length"] = config["moe_intermediate_size"]
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind in ("linear", "yarn"):
        entries |= {"rope.scaling.type": kind, "rope.scaling.factor": float(scaling["factor"])}
    if kind == "yarn":
        original = scaling["original_max_position_embeddings"]
        entries["rope.scaling.original_context_length"] = original
    if arch in ("gemma2", "gemma3", "phi3") and config.get("sliding_window"):
        entries["attention.sliding_window"] = config["sliding_window"]
    if arch == "phi3" and config.get("original_max_position_embeddings"):
        original = config["original_max_position_embeddings"]
        entries["rope.scaling.original_context_length"] = original
        if scaling.get("short_factor"):
            stretch = config["max_position_embeddings"] / original
            amplitude = math.sqrt(1 + math.log(stretch) / math.log(original))
            entries["rope.scaling.attn_factor"] = amplitude
    if arch == "gemma2":
        entries["attn_logit_softcapping"] = float(config["attn_logit_softcapping"])
        entries["final_logit_softcapping"] = float(config["final_logit_softcapping"])
    if arch == "gemma3":
        both = config.get("rope_parameters") or {}
        local = both.get("sliding_attention", {}).get("rope_theta")
        local = local or config.get("rope_local_base_freq") or 1e4
        entries["rope.freq_base_swa"] = float(local)
    return {f"{arch}.{key}": value for key, value in entries.items()}


def rope_of(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary settings of the full layers, in either spelling."""
    new = config.get("rope_parameters")
    if new:
        return new.get("full_attention", new)
    old = {key: value for key, value in (config.get("rope_scaling") or {}).items() if value}
    return old | {"rope_theta": config.get("rope_theta", 1e4)}


def rotary(config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Tensors of frequency factors: Llama 3's one set, Phi-3's two."""
    scaling = rope_of(config)
    kind = scaling.get("rope_type") or scaling.get("type")
    if scaling.get("short_factor"):
        return {
            f"rope_factors_{name}.weight": np.array(scaling[f"{name}_factor"], np.float32)
            for name in ("long", "short")
        }
    if kind != "llama3":
        return {}
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    factors = []
    for i in range(0, width, 2):
        wavelength = 2 * math.pi * scaling["rope_theta"] ** (i / width)
        longest = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
        shortest = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
        if wavelength < shortest:
            factors.append(1.0)
        elif wavelength > longest:
            factors.append(scaling["factor"])
        else:
            ramp = scaling["original_max_position_embeddings"] / wavelength
            ramp = (ramp - scaling["low_freq_factor"]) / (
                scaling["high_freq_factor"] - scaling["low_freq_factor"]
            )
            factors.append(1 / ((1 - ramp) / scaling["factor"] + ramp))
    return {"rope_freqs.weight": np.array(factors, np.float32)}


def prepared(arch: str, name: str, tensor: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """A tensor as the converter of its architecture stores it."""
    if arch == "llama" and re.search(r"\.[qk]_proj\.", name):
        heads = "num_attention_heads" if ".q_proj." in name else "num_key_value_heads"
        rows = len(tensor) // config[heads] // 2
        halves = tensor.reshape(config[heads], 2, rows, *tensor.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(tensor.shape))
    if arch.startswith("gemma") and name.endswith("norm.weight"):
        return tensor + 1
    if arch == "gpt2" and re.search(r"c_(attn|proj|fc)\.weight$", name):
        return np.ascontiguousarray(tensor.T)
    return tensor


def vocabulary(size: int) -> dict[str, Any]:
    """SentencePiece's entries for a vocabulary of single letters and a few words."""
    tokens = ["<unk>", "<s>", "</s>", "\N{LOWER ONE EIGHTH BLOCK}", *LETTERS]
    tokens += ["th", "the", "in", "an", "and", "at", "cat", "er", "on"]
    tokens += [f"<unused{index}>" for index in range(size - len(tokens))]
    types = [2, 3, 3] + [1] * (size - 3)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(index) for index in range(size)],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }
