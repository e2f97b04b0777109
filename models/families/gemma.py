"""Gemma 1, 2 and 3: (1 + w) norms, scaled embeddings, tied heads.

The multimodal Gemma 3 nests its text settings in `text_config`, with many fields left to
their defaults; only its language model is read.
"""

from __future__ import annotations

from typing import Any

from models.config import TransformerConfig
from models.families.family import Family, Source, vector
from models.families.fields import Fields
from models.families.llama import llama_names, read_common, whole_heads, with_rope, write_common
from models.families.rope import rope_from, rope_parameters, write_rope
from models.rope import Rope

# What the text settings of a multimodal Gemma 3 may leave out.
GEMMA3_DEFAULTS = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131072,
}


def _read_common(fields: Fields) -> dict[str, Any]:
    whole_heads(fields)
    fields.refuse("attention_bias", False)
    fields.refuse("use_bidirectional_attention", False)
    common = read_common(fields, head_dim=256)
    return common | {
        "norm": "rms_plus_one",
        "tied": fields.flag("tie_word_embeddings", True),
        "embed_scale": common["hidden"] ** 0.5,
    }


def _read_gemma(fields: Fields) -> TransformerConfig:
    # The first release's configs name the exact gelu; the weights were trained with tanh.
    fields.refuse("hidden_act", "gelu", "gelu_pytorch_tanh")
    fields.refuse("hidden_activation", "gelu", "gelu_pytorch_tanh")
    common = with_rope(fields, _read_common(fields))
    return TransformerConfig(**common, activation="gelu_tanh")


def _read_sandwich(fields: Fields) -> dict[str, Any]:
    """What Gemma 2 and 3 share: four norms a layer, windows on some, soft caps."""
    common = _read_common(fields)
    scalar = fields.above("query_pre_attn_scalar", 0.0, 256.0)
    return common | {
        "output_norms": True,
        "activation": fields.activation("hidden_activation", "gelu_pytorch_tanh"),
        "query_scale": scalar**-0.5,
    }


def _cap(fields: Fields, name: str, default: float) -> float:
    """A soft cap, which an explicit null turns off."""
    return (
        0.0 if name in fields.data and not fields.has(name) else fields.at_least(name, 0, default)
    )


def _windowed(fields: Fields, layers: int, pattern: int) -> dict[str, Any]:
    sliding = fields.sliding(layers)
    if sliding is None:
        sliding = tuple((i + 1) % pattern != 0 for i in range(layers))
    window = fields.integer("sliding_window", 4096)
    return {"window": window, "sliding": sliding} if any(sliding) else {}


def _read_gemma2(fields: Fields) -> TransformerConfig:
    common = with_rope(fields, _read_sandwich(fields))
    return TransformerConfig(
        **common,
        **_windowed(fields, common["layers"], 2),
        attention_cap=_cap(fields, "attn_logit_softcapping", 50.0),
        logit_cap=_cap(fields, "final_logit_softcapping", 30.0),
    )


def _read_gemma3(fields: Fields) -> TransformerConfig:
    fields = Fields({**GEMMA3_DEFAULTS, **fields.data}, fields.where)
    common = _read_sandwich(fields)
    head_dim, context = common["head_dim"], common["max_positions"]
    pattern = fields.integer("sliding_window_pattern", 6)
    if pattern < 1:
        raise ValueError(f"{fields.where}: sliding_window_pattern={pattern} must be at least 1")
    if fields.has("rope_parameters"):
        both = fields.table("rope_parameters")
        full, local = both.table("full_attention"), both.table("sliding_attention")
    else:
        full, local = fields.table("rope_scaling"), Fields({}, fields.where)
    theta = full.above("rope_theta", 1, fields.above("rope_theta", 1, 1e6))
    local_theta = local.above("rope_theta", 1, fields.above("rope_local_base_freq", 1, 1e4))
    return TransformerConfig(
        **common,
        **_windowed(fields, common["layers"], pattern),
        qk_norm=True,
        rope=rope_from(fields, full, theta, head_dim, context),
        rope_local=rope_from(fields, local, local_theta, head_dim, context),
        attention_cap=_cap(fields, "attn_logit_softcapping", 0.0),
        logit_cap=_cap(fields, "final_logit_softcapping", 0.0),
    )


def _read_multimodal(fields: Fields) -> TransformerConfig:
    return _read_gemma3(fields.table("text_config"))


def _write_gemma(config: TransformerConfig) -> dict[str, Any]:
    name = "gelu_pytorch_tanh"
    rope = config.rope or Rope(config.head_dim)
    fields = write_common(config, name) | {"hidden_activation": name}
    return fields | write_rope(rope, config.head_dim)


def _write_sandwich(config: TransformerConfig) -> dict[str, Any]:
    scalar = config.query_scale**-2
    flags = config.sliding or (False,) * config.layers
    return _write_gemma(config) | {
        "query_pre_attn_scalar": round(scalar) if abs(scalar - round(scalar)) < 1e-6 else scalar,
        "sliding_window": config.window or 4096,
        "layer_types": ["sliding_attention" if f else "full_attention" for f in flags],
        "attn_logit_softcapping": config.attention_cap or None,
        "final_logit_softcapping": config.logit_cap or None,
    }


def _write_gemma3(config: TransformerConfig) -> dict[str, Any]:
    full = config.rope or Rope(config.head_dim)
    local = config.rope_local or full
    return _write_sandwich(config) | {
        "rope_parameters": {
            "full_attention": rope_parameters(full, config.head_dim),
            "sliding_attention": rope_parameters(local, config.head_dim),
        },
        "rope_local_base_freq": local.theta,
    }


def _sandwich_names(config: TransformerConfig) -> dict[str, Source]:
    """Here `post_attention_layernorm` truly follows attention."""
    table, layer = llama_names(config), "model.layers.{i}."
    table["layers/attention_output_norm"] = table["layers/mlp_norm"]
    table["layers/mlp_norm"] = vector(layer + "pre_feedforward_layernorm")
    table["layers/mlp_output_norm"] = vector(layer + "post_feedforward_layernorm")
    return table


GEMMA = Family("gemma", "GemmaForCausalLM", _read_gemma, _write_gemma, llama_names)
GEMMA2 = Family("gemma2", "Gemma2ForCausalLM", _read_gemma2, _write_sandwich, _sandwich_names)
GEMMA3 = Family("gemma3_text", "Gemma3ForCausalLM", _read_gemma3, _write_gemma3, _sandwich_names)
GEMMA3_MULTIMODAL = Family(
    "gemma3",
    "Gemma3ForConditionalGeneration",
    _read_multimodal,
    lambda config: {"text_config": _write_gemma3(config)},
    _sandwich_names,
    aliases=("model.language_model.", "language_model.model."),
    ignored=(r"rotary_emb\.inv_freq$", r"vision_tower\.", r"multi_modal_projector\."),
)
