"""Variations on the common decoder: SmolLM3, OLMo 2, Granite.

SmolLM3 leaves the rotation out of every fourth layer. OLMo 2 normalises what each half layer gives
and not what it takes, and all queries, and keys, of a token together. Granite scales embeddings,
scores, half layers and logits by numbers of its own.
"""

from __future__ import annotations

from typing import Any

from models.config import TransformerConfig
from models.families.family import Family, Source, vector
from models.families.fields import Fields
from models.families.llama import llama_names, read_common, whole_heads, write_llama
from models.families.rope import read_rope


def _common(fields: Fields, theta: float = 1e4, eps: float = 1e-6) -> dict[str, Any]:
    """What the three share; `theta` and `eps` are a family's defaults."""
    whole_heads(fields)
    common, bias = read_common(fields), fields.flag("attention_bias", False)
    return common | {
        "rope": read_rope(fields, common["head_dim"], common["max_positions"], theta),
        "norm_eps": fields.number("rms_norm_eps", eps),
        "activation": fields.activation("hidden_act", "silu"),
        "qkv_bias": bias,
        "out_bias": bias,
    }


def _rotated(fields: Fields, layers: int) -> tuple[bool, ...]:
    """Which layers rotate, by `no_rope_layers`, in which a 1 says that a layer does."""
    if not fields.has("no_rope_layers"):
        every = fields.integer("no_rope_layer_interval", 4)
        if every < 1:
            raise ValueError(f"{fields.where}: no_rope_layer_interval={every} must be at least 1")
        return tuple((i + 1) % every != 0 for i in range(layers))
    flags = fields.data["no_rope_layers"]
    if (
        not isinstance(flags, list)
        or len(flags) < layers
        or any(type(flag) is not int or flag not in (0, 1) for flag in flags)
    ):
        raise ValueError(
            f"{fields.where}: no_rope_layers={str(flags)[:80]} must be a list of 0 and 1, one for "
            f"each of the {layers} layers"
        )
    return tuple(flag == 1 for flag in flags[:layers])


def _read_smollm3(fields: Fields) -> TransformerConfig:
    common = _common(fields, theta=2e6)
    if "num_key_value_heads" not in fields.data:  # a null says as many as heads
        common["kv_heads"] = 4
    rotated = _rotated(fields, common["layers"])
    sliding = fields.sliding(common["layers"])
    if sliding is None:
        windowed = fields.flag("use_sliding_window", False) and fields.has("sliding_window")
        sliding = tuple(windowed and not turns for turns in rotated)
    window = fields.size("sliding_window", "max_positions") if any(sliding) else 0
    common["tied"] = fields.flag("tie_word_embeddings", True)
    return TransformerConfig(
        **common,
        mlp_bias=fields.flag("mlp_bias", False),
        rotated=() if all(rotated) else rotated,
        window=window,
        sliding=sliding if window else (),
    )


def _read_olmo2(fields: Fields) -> TransformerConfig:
    return TransformerConfig(
        **_common(fields, eps=1e-5),
        norm="rms_wide",
        input_norms=False,
        output_norms=True,
        qk_norm=True,
        whole_qk_norm=True,
    )


def _read_granite(fields: Fields) -> TransformerConfig:
    return TransformerConfig(
        **_common(fields),
        mlp_bias=fields.flag("mlp_bias", False),
        embed_scale=fields.above("embedding_multiplier", 0, 1.0),
        query_scale=fields.above("attention_multiplier", 0, 1.0),
        residual_scale=fields.above("residual_multiplier", 0, 1.0),
        logit_divisor=fields.above("logits_scaling", 0, 1.0),
    )


def _write_smollm3(config: TransformerConfig) -> dict[str, Any]:
    flags = config.sliding or (False,) * config.layers
    return write_llama(config) | {
        "no_rope_layers": [int(turns) for turns in config.rotated or (True,) * config.layers],
        "use_sliding_window": bool(config.window),
        "sliding_window": config.window or None,
        "layer_types": ["sliding_attention" if f else "full_attention" for f in flags],
    }


def _write_granite(config: TransformerConfig) -> dict[str, Any]:
    return write_llama(config) | {
        "embedding_multiplier": config.embed_scale,
        "attention_multiplier": config.query_scale,
        "residual_multiplier": config.residual_scale,
        "logits_scaling": config.logit_divisor,
    }


def _olmo2_names(config: TransformerConfig) -> dict[str, Source]:
    """Both norms follow their half layer."""
    table, layer = llama_names(config), "model.layers.{i}."
    table["layers/attention_output_norm"] = table["layers/mlp_norm"]
    table["layers/mlp_output_norm"] = vector(layer + "post_feedforward_layernorm")
    return table


SMOLLM3 = Family(
    "smollm3",
    "SmolLM3ForCausalLM",
    _read_smollm3,
    _write_smollm3,
    llama_names,
    reads=("no_rope_layers", "no_rope_layer_interval"),
)
OLMO2 = Family("olmo2", "Olmo2ForCausalLM", _read_olmo2, write_llama, _olmo2_names)
GRANITE = Family(
    "granite",
    "GraniteForCausalLM",
    _read_granite,
    _write_granite,
    llama_names,
    reads=(
        "embedding_multiplier",
        "attention_multiplier",
        "residual_multiplier",
        "logits_scaling",
    ),
)
