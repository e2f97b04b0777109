"""The common pre-norm decoder: Llama, Mistral, Qwen 2 and 3, Phi-3.

Vicuna and TinyLlama are Llamas, Qwen 2.5 is a Qwen 2.
"""

from __future__ import annotations

from typing import Any

from models.config import TransformerConfig
from models.families.family import Family, Source, linears, matrix, vector
from models.families.fields import Fields
from models.families.rope import read_rope, write_rope
from models.rope import Rope


def read_common(fields: Fields, head_dim: int | None = None) -> dict[str, Any]:
    """The arguments all families of this lineage share; `head_dim` is the family's default."""
    for name in ("quantization_config", "compression_config"):
        fields.refuse(name)
    hidden, heads = (
        fields.size("hidden_size", "hidden"),
        fields.size("num_attention_heads", "heads"),
    )
    context = fields.size("max_position_embeddings", "max_positions", 2048)
    return {
        "vocab_size": fields.size("vocab_size", "vocab_size"),
        "hidden": hidden,
        "mlp": fields.size("intermediate_size", "mlp"),
        "layers": fields.size("num_hidden_layers", "layers"),
        "heads": heads,
        "kv_heads": fields.size("num_key_value_heads", "kv_heads", heads),
        "head_dim": fields.size("head_dim", "head_dim", head_dim or hidden // heads),
        "norm_eps": fields.number("rms_norm_eps", 1e-6),
        "max_positions": context,
        "tied": fields.flag("tie_word_embeddings", False),
    }


def with_rope(fields: Fields, common: dict[str, Any]) -> dict[str, Any]:
    """The fields with the rotation that a configuration asks for."""
    rope = read_rope(fields, common["head_dim"], common["max_positions"])
    return common | {"rope": rope}


def whole_heads(fields: Fields) -> None:
    """Refuse partial rotation, which this family's published code does not implement."""
    fields.refuse("partial_rotary_factor", 1, 1.0)
    fields.table("rope_parameters").refuse("partial_rotary_factor", 1, 1.0)


def _read_llama(fields: Fields) -> TransformerConfig:
    whole_heads(fields)
    bias = fields.flag("attention_bias", False)
    return TransformerConfig(
        **with_rope(fields, read_common(fields)),
        activation=fields.activation("hidden_act", "silu"),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=fields.flag("mlp_bias", False),
    )


def window_of(fields: Fields, default: int) -> int:
    """A window on all layers; an explicit null turns it off."""
    if "sliding_window" in fields.data and fields.data["sliding_window"] is None:
        return 0
    return fields.integer("sliding_window", default)


def _read_mistral(fields: Fields) -> TransformerConfig:
    whole_heads(fields)
    fields.refuse("layer_types")
    return TransformerConfig(
        **with_rope(fields, read_common(fields)),
        activation=fields.activation("hidden_act", "silu"),
        window=window_of(fields, 4096),
    )


def _qwen_window(fields: Fields, layers: int) -> dict[str, Any]:
    """Windows apply only where switched on, and then from layer `max_window_layers`."""
    if not fields.flag("use_sliding_window", False) or not fields.has("sliding_window"):
        return {}
    sliding = fields.sliding(layers)
    if sliding is None:
        first = fields.integer("max_window_layers", 28)
        sliding = tuple(i >= first for i in range(layers))
    window = fields.integer("sliding_window")
    return {"window": window, "sliding": sliding} if any(sliding) else {}


def _read_qwen2(fields: Fields) -> TransformerConfig:
    whole_heads(fields)
    common = with_rope(fields, read_common(fields))
    return TransformerConfig(
        **common,
        activation=fields.activation("hidden_act", "silu"),
        qkv_bias=True,
        **_qwen_window(fields, common["layers"]),
    )


def _read_qwen3(fields: Fields) -> TransformerConfig:
    whole_heads(fields)
    common = with_rope(fields, read_common(fields, head_dim=128))
    bias = fields.flag("attention_bias", False)
    return TransformerConfig(
        **common,
        activation=fields.activation("hidden_act", "silu"),
        qk_norm=True,
        qkv_bias=bias,
        out_bias=bias,
        **_qwen_window(fields, common["layers"]),
    )


def _read_phi3(fields: Fields) -> TransformerConfig:
    return TransformerConfig(
        **with_rope(fields, read_common(fields)),
        activation=fields.activation("hidden_act", "silu"),
        window=window_of(fields, 0),
    )


def write_common(config: TransformerConfig, activation: str = "silu") -> dict[str, Any]:
    """What all Llama-like configurations say."""
    return {
        "vocab_size": config.rows,
        "hidden_size": config.hidden,
        "intermediate_size": config.mlp,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": activation,
        "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_positions,
        "tie_word_embeddings": config.tied,
    }


def _write_plain(config: TransformerConfig) -> dict[str, Any]:
    rope = config.rope or Rope(config.head_dim)
    return write_common(config) | write_rope(rope, config.head_dim)


def write_llama(config: TransformerConfig) -> dict[str, Any]:
    """What Llama's own say, biases included."""
    bias = {"attention_bias": config.out_bias, "mlp_bias": config.mlp_bias}
    return _write_plain(config) | bias


def write_mistral(config: TransformerConfig) -> dict[str, Any]:
    """What Mistral's say: a window, and no biases."""
    return _write_plain(config) | {"sliding_window": config.window or None}


def _write_qwen(config: TransformerConfig) -> dict[str, Any]:
    kinds = ["sliding_attention" if slides else "full_attention" for slides in config.sliding]
    first = config.sliding.index(True) if config.window else config.layers
    return _write_plain(config) | {
        "use_sliding_window": bool(config.window),
        "sliding_window": config.window or None,
        "max_window_layers": first,
        "layer_types": kinds or ["full_attention"] * config.layers,
    }


def _write_qwen3(config: TransformerConfig) -> dict[str, Any]:
    return _write_qwen(config) | {"attention_bias": config.out_bias}


def _write_phi3(config: TransformerConfig) -> dict[str, Any]:
    rope = config.rope or Rope(config.head_dim)
    context = {"original_max_position_embeddings": rope.original or config.max_positions}
    return write_mistral(config) | context


def llama_names(config: TransformerConfig) -> dict[str, Source]:
    """Names of the lineage, Gemma's plain form included."""
    layer, table = "model.layers.{i}.", {}
    table["embedding"] = vector("model.embed_tokens")
    table["layers/attention_norm"] = vector(layer + "input_layernorm")
    linears(table, config, {x: f"{layer}self_attn.{x}_proj" for x in "qkvo"})
    if config.qk_norm:
        table["layers/q_norm"] = vector(layer + "self_attn.q_norm")
        table["layers/k_norm"] = vector(layer + "self_attn.k_norm")
    table["layers/mlp_norm"] = vector(layer + "post_attention_layernorm")
    linears(table, config, {x: f"{layer}mlp.{x}_proj" for x in ("gate", "up", "down")})
    table["norm"] = vector("model.norm")
    table["head"] = matrix("lm_head")
    return table


def _phi3_names(config: TransformerConfig) -> dict[str, Source]:
    """Queries, keys and values share a tensor, gate and up another."""
    table = llama_names(config)
    qkv = "model.layers.{i}.self_attn.qkv_proj.weight"
    total = config.q_width + 2 * config.kv_width
    table["layers/q"] = Source(qkv, True, 0, total)
    table["layers/k"] = Source(qkv, True, config.q_width, total)
    table["layers/v"] = Source(qkv, True, config.q_width + config.kv_width, total)
    gate_up = "model.layers.{i}.mlp.gate_up_proj.weight"
    table["layers/gate"] = Source(gate_up, True, 0, 2 * config.mlp)
    table["layers/up"] = Source(gate_up, True, config.mlp, 2 * config.mlp)
    return table


LLAMA = Family("llama", "LlamaForCausalLM", _read_llama, write_llama, llama_names)
MISTRAL = Family("mistral", "MistralForCausalLM", _read_mistral, write_mistral, llama_names)
QWEN2 = Family("qwen2", "Qwen2ForCausalLM", _read_qwen2, _write_qwen, llama_names)
QWEN3 = Family("qwen3", "Qwen3ForCausalLM", _read_qwen3, _write_qwen3, llama_names)
PHI3 = Family("phi3", "Phi3ForCausalLM", _read_phi3, _write_phi3, _phi3_names)
