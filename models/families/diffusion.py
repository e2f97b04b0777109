"""Denoisers: LLaDA, Dream, and the block-causal SDAR and Fast-dLLM v2.

Their blocks are those of Llama and of Qwen 2 and 3; what differs is what sees what, which token
is the mask, and whose logits a place reads. Sources: the released modelling code.

    family           block     sees                            logits of place i stand at
    llada            Llama     everything                      i
    Dream            Qwen 2    everything                      i - 1
    sdar             Qwen 3    its block and those before it   i
    Fast_dLLM_Qwen   Qwen 2    its block and those before it   i - 1

A config of Fast-dLLM v2 names no mask; it is token 151665, which its sampler uses.
"""

from __future__ import annotations

from typing import Any

from models.config import TransformerConfig
from models.families.family import Canvas, Family, Source, linears, matrix, vector
from models.families.fields import Fields
from models.families.llama import QWEN2, QWEN3, llama_names, whole_heads
from models.rope import Rope

EXPERTS = ("lladamoe", "llada_moe", "llada2_moe", "sdar_moe")
"""Published denoisers whose MLPs are mixtures of experts, which are not built here."""
FAST_MASK = 151665


def _read_llada(fields: Fields) -> TransformerConfig:
    for name in ("quantization_config", "alibi", "attention_layer_norm", "input_emb_norm"):
        fields.refuse(name, False)
    for name in ("include_bias", "bias_for_layer_norm", "scale_logits"):
        fields.refuse(name, False)
    fields.refuse("block_group_size", 1)
    fields.refuse("layer_norm_with_affine", True)
    # What the class takes where a file says nothing is not what any denoiser was trained with.
    for name, only in (("block_type", "llama"), ("layer_norm_type", "rms"), ("rope", True)):
        fields.refuse(name, only)
        if not fields.has(name):
            raise ValueError(f"{fields.where}: {name} is missing; {only!r} is what is built")
    hidden, heads = fields.integer("d_model"), fields.integer("n_heads")
    if heads < 1 or hidden % heads:
        raise ValueError(f"{fields.where}: n_heads={heads} must divide d_model={hidden}")
    shared = fields.flag("multi_query_attention", False)
    vocabulary = fields.integer("vocab_size")
    return TransformerConfig(
        vocab_size=vocabulary,
        rows=fields.integer("embedding_size", vocabulary),
        hidden=hidden,
        mlp=fields.integer("mlp_hidden_size", fields.integer("mlp_ratio", 4) * hidden),
        layers=fields.integer("n_layers"),
        heads=heads,
        kv_heads=fields.integer("n_kv_heads", 1 if shared else heads),
        head_dim=hidden // heads,
        norm_eps=fields.number("rms_norm_eps", 1e-5),
        max_positions=fields.integer("max_sequence_length", 1024),
        activation=fields.activation("activation_type"),
        qkv_bias=fields.flag("include_qkv_bias", False),
        rope=Rope(hidden // heads, fields.number("rope_theta", 1e4)),
        tied=fields.flag("weight_tying", True),
    )


def _write_llada(config: TransformerConfig) -> dict[str, Any]:
    rope = config.rope or Rope(config.head_dim)
    return {
        "d_model": config.hidden,
        "n_heads": config.heads,
        "n_kv_heads": config.kv_heads,
        "n_layers": config.layers,
        "mlp_hidden_size": config.mlp,
        "activation_type": {"gelu_tanh": "gelu_new"}.get(config.activation, config.activation),
        "block_type": "llama",
        "block_group_size": 1,
        "layer_norm_type": "rms",
        "layer_norm_with_affine": True,
        "rms_norm_eps": config.norm_eps,
        "rope": True,
        "rope_full_precision": True,
        "rope_theta": rope.theta,
        "alibi": False,
        "attention_layer_norm": False,
        "input_emb_norm": False,
        "include_bias": False,
        "include_qkv_bias": config.qkv_bias,
        "bias_for_layer_norm": False,
        "scale_logits": False,
        "multi_query_attention": None,
        "max_sequence_length": config.max_positions,
        "vocab_size": config.rows,
        "embedding_size": config.rows,
        "weight_tying": config.tied,
        "attention_dropout": 0.0,
        "residual_dropout": 0.0,
        "embedding_dropout": 0.0,
        "init_device": "cpu",
        "flash_attention": False,
    }


def _llada_names(config: TransformerConfig) -> dict[str, Source]:
    layer, table = "model.transformer.blocks.{i}.", {}
    table["embedding"] = vector("model.transformer.wte")
    table["layers/attention_norm"] = vector(layer + "attn_norm")
    linears(table, config, {x: f"{layer}{x}_proj" for x in "qkv"} | {"o": layer + "attn_out"})
    table["layers/mlp_norm"] = vector(layer + "ff_norm")
    gated = {"gate": "ff_proj", "up": "up_proj", "down": "ff_out"}
    linears(table, config, {ours: layer + theirs for ours, theirs in gated.items()})
    table["norm"] = vector("model.transformer.ln_f")
    table["head"] = matrix("model.transformer.ff_out")
    return table


def _llada_canvas(fields: Fields) -> Canvas:
    return Canvas(
        fields.integer("mask_token_id"), longest=fields.integer("max_sequence_length", 1024)
    )


def _no_window(fields: Fields) -> None:
    """Windows look back, and are not made for what looks ahead too."""
    fields.refuse("use_sliding_window", False)


def _read_dream(fields: Fields) -> TransformerConfig:
    whole_heads(fields)
    _no_window(fields)
    return QWEN2.read(fields)


def _read_sdar(fields: Fields) -> TransformerConfig:
    _no_window(fields)
    return QWEN3.read(fields)


def _dream_canvas(fields: Fields) -> Canvas:
    return Canvas(
        fields.integer("mask_token_id", 151666),
        shift=True,
        longest=fields.integer("max_position_embeddings", 32768),
    )


def _sdar_canvas(fields: Fields) -> Canvas:
    return Canvas(
        fields.integer("mask_token_id", 151669),
        causal_blocks=fields.integer("block_size", 4),
        longest=fields.integer("max_position_embeddings", 32768),
    )


def _fast_canvas(fields: Fields) -> Canvas:
    return Canvas(
        fields.integer("mask_token_id", FAST_MASK),
        shift=True,
        causal_blocks=fields.integer("bd_size", 32),
        longest=fields.integer("max_position_embeddings", 32768),
    )


LLADA = Family(
    "llada",
    "LLaDAModelLM",
    _read_llada,
    _write_llada,
    _llada_names,
    aliases=(),
    canvas=_llada_canvas,
)
DREAM = Family("Dream", "DreamModel", _read_dream, QWEN2.write, llama_names, canvas=_dream_canvas)
SDAR = Family("sdar", "SDARForCausalLM", _read_sdar, QWEN3.write, llama_names, canvas=_sdar_canvas)
FAST_DLLM = Family(
    "Fast_dLLM_Qwen",
    "Fast_dLLM_QwenForCausalLM",
    _read_dream,
    QWEN2.write,
    llama_names,
    canvas=_fast_canvas,
)
BLOCKS = {"sdar": "block_size", "Fast_dLLM_Qwen": "bd_size"}
"""model_type -> what its config calls the size of a block."""
