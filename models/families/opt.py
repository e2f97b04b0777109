"""OPT and GPT-2: layer norms with biases, learned positions, no gate."""

from __future__ import annotations

from typing import Any

from models.config import TransformerConfig
from models.families.family import Family, Source, linears, matrix, vector
from models.families.fields import Fields

ACTIVATION_NAMES = {"relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu"}


def _shared(fields: Fields, hidden: int, heads: int) -> dict[str, Any]:
    if heads < 1 or hidden % heads:
        raise ValueError(f"{fields.where}: {heads} heads do not divide the width {hidden}")
    return {
        "hidden": hidden,
        "heads": heads,
        "kv_heads": heads,
        "head_dim": hidden // heads,
        "vocab_size": fields.integer("vocab_size"),
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
    hidden = fields.integer("hidden_size")
    return TransformerConfig(
        **_shared(fields, hidden, fields.integer("num_attention_heads")),
        mlp=fields.integer("ffn_dim"),
        layers=fields.integer("num_hidden_layers"),
        norm_eps=1e-5,
        pre_norm=fields.flag("do_layer_norm_before", True),
        max_positions=fields.integer("max_position_embeddings"),
        position_offset=2,
        activation=fields.activation("activation_function", "relu"),
        embed_width=fields.integer("word_embed_proj_dim", hidden),
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
    hidden = fields.integer("n_embd")
    return TransformerConfig(
        **_shared(fields, hidden, fields.integer("n_head")),
        mlp=fields.integer("n_inner", 4 * hidden),
        layers=fields.integer("n_layer"),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        max_positions=fields.integer("n_positions"),
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
