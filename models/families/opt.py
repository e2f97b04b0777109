"""OPT and GPT-2: layer norms with biases, learned positions, no gate."""

from __future__ import annotations

from typing import Any

from models.config import TransformerConfig
from models.families.family import Family, Source, linears, matrix, vector
from models.families.fields import Fields

ACTIVATION_NAMES = {"relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu"}


def _shared(fields: Fields, hidden: int, heads: int) -> dict[str, Any]:
    if hidden % heads:
        raise ValueError(f"{fields.where}: {heads} heads do not divide the width {hidden}")
    return {
        "hidden": hidden,
        "heads": heads,
        "kv_heads": heads,
        "head_dim": hidden // heads,
        "vocab_size": fields.size("vocab_size", "vocab_size"),
        "norm": "layer",
        "out_bias": True,
        "qkv_bias": True,
        "mlp_bias": True,
        "gated": False,
        "tied": fields.flag("tie_word_embeddings", True),
    }


def _read_opt(fields: Fields) -> TransformerConfig:
    fields.refuse("_remove_final_layer_norm", False)
    fields.refuse("layer_norm_elementwise_affine", True)
    fields.refuse("enable_bias", True)
    fields.refuse("quantization_config")
    hidden = fields.size("hidden_size", "hidden")
    return TransformerConfig(
        **_shared(fields, hidden, fields.size("num_attention_heads", "heads")),
        mlp=fields.size("ffn_dim", "mlp"),
        layers=fields.size("num_hidden_layers", "layers"),
        norm_eps=1e-5,
        pre_norm=fields.flag("do_layer_norm_before", True),
        max_positions=fields.size("max_position_embeddings", "max_positions"),
        position_offset=2,
        activation=fields.activation("activation_function", "relu"),
        embed_width=fields.size("word_embed_proj_dim", "embed_width", hidden),
    )


def _write_opt(config: TransformerConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.rows,
        "hidden_size": config.hidden,
        "ffn_dim": config.mlp,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.max_positions,
        "do_layer_norm_before": config.pre_norm,
        "word_embed_proj_dim": config.embed_width,
        "activation_function": ACTIVATION_NAMES[config.activation],
        "tie_word_embeddings": config.tied,
    }


def _normed(table: dict[str, Source], ours: str, theirs: str) -> None:
    table[ours], table[ours + "_bias"] = vector(theirs), vector(theirs, "bias")


def _opt_names(config: TransformerConfig) -> dict[str, Source]:
    base = "model.decoder."
    layer, table = base + "layers.{i}.", {}
    table["embedding"] = vector(base + "embed_tokens")
    table["position"] = vector(base + "embed_positions")
    if config.embed_width != config.hidden:
        table["project_in"] = matrix(base + "project_in")
        table["project_out"] = matrix(base + "project_out")
    _normed(table, "layers/attention_norm", layer + "self_attn_layer_norm")
    names = {x: f"{layer}self_attn.{x}_proj" for x in "qkv"}
    names |= {"o": layer + "self_attn.out_proj", "up": layer + "fc1", "down": layer + "fc2"}
    linears(table, config, names)
    _normed(table, "layers/mlp_norm", layer + "final_layer_norm")
    _normed(table, "norm", base + "final_layer_norm")
    table["head"] = matrix("lm_head")
    return table


def _read_gpt2(fields: Fields) -> TransformerConfig:
    fields.refuse("scale_attn_by_inverse_layer_idx", False)
    fields.refuse("scale_attn_weights", True)
    fields.refuse("add_cross_attention", False)
    fields.refuse("quantization_config")
    hidden = fields.size("n_embd", "hidden")
    return TransformerConfig(
        **_shared(fields, hidden, fields.size("n_head", "heads")),
        mlp=fields.size("n_inner", "mlp", 4 * hidden),
        layers=fields.size("n_layer", "layers"),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        max_positions=fields.size("n_positions", "max_positions"),
        activation=fields.activation("activation_function", "gelu_new"),
    )


def _write_gpt2(config: TransformerConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.rows,
        "n_embd": config.hidden,
        "n_inner": config.mlp,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_positions": config.max_positions,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": ACTIVATION_NAMES[config.activation],
        "tie_word_embeddings": config.tied,
    }


def _gpt2_names(config: TransformerConfig) -> dict[str, Source]:
    """Matrices are stored [in, out] here, queries, keys and values side by side."""
    layer, table = "transformer.h.{i}.", {}
    table["embedding"] = vector("transformer.wte")
    table["position"] = vector("transformer.wpe")
    _normed(table, "layers/attention_norm", layer + "ln_1")
    for index, ours in enumerate(("q", "k", "v")):
        for suffix, kind in (("", "weight"), ("_bias", "bias")):
            name = f"{layer}attn.c_attn.{kind}"
            offset = index * config.hidden
            table[f"layers/{ours}{suffix}"] = Source(name, False, offset, 3 * config.hidden)
    for ours, theirs in (("o", "attn.c_proj"), ("up", "mlp.c_fc"), ("down", "mlp.c_proj")):
        _normed(table, f"layers/{ours}", layer + theirs)
    _normed(table, "layers/mlp_norm", layer + "ln_2")
    _normed(table, "norm", "transformer.ln_f")
    table["head"] = matrix("lm_head")
    return table


OPT = Family("opt", "OPTForCausalLM", _read_opt, _write_opt, _opt_names)
GPT2 = Family(
    "gpt2",
    "GPT2LMHeadModel",
    _read_gpt2,
    _write_gpt2,
    _gpt2_names,
    prefix="transformer.",
    # Buffers of the original release: the causal mask and its fill value.
    ignored=(r"attn\.bias$", r"attn\.masked_bias$"),
)
