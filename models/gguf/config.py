"""The config.json that a GGUF file's metadata amounts to, for `models.families` to read.

Where metadata leave a choice to the program that runs the file, llama.cpp's is taken: the base
of Gemma 3's local layers, which layers slide, and how the largest Gemmas scale their queries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from models.families.fields import Fields
from models.rope import Rope, frequencies

# Layers of the one size of each generation whose queries are scaled by hidden / heads.
SCALED_BY_WIDTH = {"gemma2": 46, "gemma3": 62}
# Architectures that may have experts. The program knows what no entry says: whether the shares of
# a token's experts sum to 1.
MIXED = {"llama": True, "qwen3moe": True, "olmoe": False}
# Llama 3.1 to 3.3 are published with one of these; the file holds the table they make.
LLAMA3 = ({"factor": 8.0}, {"factor": 32.0})
LLAMA3_REST = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def config_of(kind: str, metadata: Fields, table: tuple[int, ...], tied: bool) -> dict[str, Any]:
    """config.json; `table` is the embedding table's shape."""
    fields = _Prefixed(metadata, kind)
    dense = () if kind in MIXED else ("expert_count",)
    for name in (
        *dense,
        "expert_shared_count",
        "leading_dense_block_count",
        "nextn_predict_layers",
    ):
        if fields.integer(name, 0):
            raise ValueError(f"{metadata.where}: {kind}.{name} asks for what is not built")
    tokens = metadata.data.get("tokenizer.ggml.tokens")
    ids = {
        name: metadata.integer(f"tokenizer.ggml.{stored}_token_id", -1)
        for name, stored in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
    }
    common = {
        "vocab_size": table[0],
        "tie_word_embeddings": tied,
        **{f"{name}_token_id": None if value < 0 else value for name, value in ids.items()},
    }
    if isinstance(tokens, list) and 0 < len(tokens) <= table[0]:
        common["valid_vocab_size"] = len(tokens)
    return common | (_gpt2(fields) if kind == "gpt2" else _decoder(kind, fields))


class _Prefixed:
    """The metadata of one architecture, without its name in front."""

    def __init__(self, fields: Fields, kind: str) -> None:
        self._fields, self._kind, self.where = fields, kind, fields.where

    def has(self, name: str) -> bool:
        return self._fields.has(f"{self._kind}.{name}")

    def integer(self, name: str, default: int | None = None) -> int:
        return self._fields.integer(f"{self._kind}.{name}", default)

    def number(self, name: str, default: float | None = None) -> float:
        return self._fields.number(f"{self._kind}.{name}", default)

    def text(self, name: str, default: str) -> str:
        return self._fields.text(f"{self._kind}.{name}", default)


def _gpt2(fields: _Prefixed) -> dict[str, Any]:
    return {
        "n_embd": fields.integer("embedding_length"),
        "n_head": fields.integer("attention.head_count"),
        "n_layer": fields.integer("block_count"),
        "n_inner": fields.integer("feed_forward_length"),
        "n_positions": fields.integer("context_length"),
        "layer_norm_epsilon": fields.number("attention.layer_norm_epsilon", 1e-5),
    }


def _decoder(kind: str, fields: _Prefixed) -> dict[str, Any]:
    """Everything but GPT-2."""
    hidden, heads = fields.integer("embedding_length"), fields.integer("attention.head_count")
    if heads < 1:
        raise ValueError(f"{fields.where}: {kind}.attention.head_count={heads} must be at least 1")
    width = fields.integer("attention.key_length", hidden // heads)
    if fields.integer("attention.value_length", width) != width:
        raise ValueError(f"{fields.where}: values of another width than keys are not built")
    config = {
        "hidden_size": hidden,
        "intermediate_size": fields.integer("feed_forward_length"),
        "num_hidden_layers": fields.integer("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.integer("attention.head_count_kv", heads),
        "head_dim": width,
        "rms_norm_eps": fields.number("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": fields.integer("context_length"),
    }
    if kind in MIXED and fields.integer("expert_count", 0):
        config |= {
            "num_local_experts": fields.integer("expert_count"),
            "num_experts_per_tok": fields.integer("expert_used_count"),
            "norm_topk_prob": MIXED[kind],
        }
    if kind == "qwen3moe":
        config["moe_intermediate_size"] = fields.integer("expert_feed_forward_length")
    rotated = fields.integer("rope.dimension_count", width)
    if rotated != width:
        config["partial_rotary_factor"] = rotated / max(width, 1)
    window = fields.integer("attention.sliding_window", 0)
    if kind == "phi3":
        config["sliding_window"] = window or None
        if fields.has("rope.scaling.original_context_length"):
            original = fields.integer("rope.scaling.original_context_length")
            config["original_max_position_embeddings"] = original
    if kind not in SCALED_BY_WIDTH:
        return config | _rope(fields)
    by_width = config["num_hidden_layers"] == SCALED_BY_WIDTH[kind]
    config["query_pre_attn_scalar"] = hidden / heads if by_width else width
    return config | (_gemma2(fields, window) if kind == "gemma2" else _gemma3(fields, window))


def _gemma2(fields: _Prefixed, window: int) -> dict[str, Any]:
    return {
        "sliding_window": window or 4096,
        "attn_logit_softcapping": fields.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": fields.number("final_logit_softcapping", 30.0),
    } | _rope(fields)


def _gemma3(fields: _Prefixed, window: int) -> dict[str, Any]:
    layers, every = fields.integer("block_count"), 6
    if fields.has("attention.sliding_window_pattern"):
        every = fields.integer("attention.sliding_window_pattern")
    if not 0 < layers <= 1024 or every < 1:
        raise ValueError(f"{fields.where}: {layers} layers with every {every}th one full")
    full, slides = "full_attention", "sliding_attention"
    kinds = [full if (i + 1) % every == 0 else slides for i in range(layers)]
    local = {"rope_type": "default", "rope_theta": fields.number("rope.freq_base_swa", 1e4)}
    return {
        "sliding_window": window or 4096,
        "layer_types": kinds if window else [full] * layers,
        "attn_logit_softcapping": fields.number("attn_logit_softcapping", 0.0) or None,
        "final_logit_softcapping": fields.number("final_logit_softcapping", 0.0) or None,
        "rope_parameters": {
            "full_attention": _rope(fields)["rope_parameters"],
            "sliding_attention": local,
        },
    }


def _rope(fields: _Prefixed) -> dict[str, Any]:
    """One rotary table; factors stored as tensors come later."""
    table: dict[str, Any] = {"rope_theta": fields.number("rope.freq_base", 1e4)}
    kind = fields.text("rope.scaling.type", "linear" if fields.has("rope.scale_linear") else "none")
    known_by_tensors, amplitude = kind in ("none", "longrope"), "rope.scaling.attn_factor"
    if fields.has(amplitude) and (known_by_tensors or fields.number(amplitude) != 1.0):
        table["attention_factor"] = fields.number(amplitude)
    if known_by_tensors:
        return {"rope_parameters": table | {"rope_type": "default"}}
    if kind not in ("linear", "yarn"):
        raise ValueError(f"{fields.where}: rope.scaling.type={kind!r} is not supported")
    factor = fields.number("rope.scaling.factor", fields.number("rope.scale_linear", 1.0))
    table |= {"rope_type": kind, "factor": factor}
    if kind == "yarn":
        table["original_max_position_embeddings"] = fields.integer(
            "rope.scaling.original_context_length"
        )
        table["beta_fast"] = fields.number("rope.scaling.yarn_beta_fast", 32.0)
        table["beta_slow"] = fields.number("rope.scaling.yarn_beta_slow", 1.0)
    return {"rope_parameters": table}


def rotary_sets(
    config: dict[str, Any], factors: Mapping[str, np.ndarray], where: str
) -> dict[str, Any]:
    """The scaling that a file's tensors of factors amount to, as fields of its config.

    One set (rope_freqs) divides the frequencies: Llama 3's scaling, by its published parameters
    where they make the same set. Two (rope_factors) are Phi-3's, for short and long texts.
    """
    table = dict(config.get("rope_parameters", {}))
    amplitude = table.get("full_attention", table).get("attention_factor")
    if amplitude not in (None, 1.0) and "rope_factors_long.weight" not in factors:
        raise ValueError(
            f"{where}: rope.scaling.attn_factor={amplitude} without rope_factors_long is not built"
        )
    if not factors:
        return {}
    table.pop("attention_factor", None)
    if table.get("rope_type") != "default":
        raise ValueError(f"{where}: {', '.join(factors)} beside another scaling of the positions")
    width = int(config["head_dim"] * config.get("partial_rotary_factor", 1.0))
    for name, value in factors.items():
        if value.shape != (width // 2,) or not (np.isfinite(value).all() and (value > 0).all()):
            raise ValueError(f"{where}: {name} must hold {width // 2} positive numbers")
    one = factors.get("rope_freqs.weight")
    if one is not None:
        if (one == 1).all():
            return {}
        scaling = _llama3(width, table["rope_theta"], one) or _longrope(one, one, 1.0)
    else:
        long, short = (factors.get(f"rope_factors_{name}.weight") for name in ("long", "short"))
        if long is None or short is None:
            raise ValueError(f"{where}: of rope_factors_long and rope_factors_short one is missing")
        scaling = _longrope(short, long, None)
    context = config["max_position_embeddings"]
    trained = config.get("original_max_position_embeddings", context)
    scaling.setdefault("original_max_position_embeddings", trained)
    if one is None and amplitude is not None:
        longer = context > trained > 1
        natural = math.sqrt(1 + math.log(context / trained) / math.log(trained)) if longer else 1.0
        if abs(amplitude - natural) > 1e-6:  # more than the rounding of what follows anyway
            scaling["attention_factor"] = amplitude
    return {"rope_parameters": table | scaling}


def _llama3(width: int, theta: float, factors: np.ndarray) -> dict[str, Any] | None:
    plain = frequencies(Rope(width, theta))
    for candidate in LLAMA3:
        settings = candidate | LLAMA3_REST
        rope = Rope(width, theta, "llama3", candidate["factor"], 8192, low=1.0, high=4.0)
        if np.allclose(plain / frequencies(rope), factors, rtol=1e-5):
            return {"rope_type": "llama3", **settings}
    return None


def _longrope(short: np.ndarray, long: np.ndarray, amplitude: float | None) -> dict[str, Any]:
    scaling: dict[str, Any] = {  # the shortest decimals, as in Container
        "rope_type": "longrope",
        "short_factor": [float(str(x)) for x in short],
        "long_factor": [float(str(x)) for x in long],
    }
    return scaling if amplitude is None else scaling | {"attention_factor": amplitude}
