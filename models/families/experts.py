"""Families whose MLPs are mixtures of experts: Mixtral, Qwen3-MoE, OLMoE.

Their attention is Mistral's, Qwen 3's, and one that normalises all queries, and keys, of a token
together. The shares of a token's experts sum to 1 in Mixtral, and elsewhere where
`norm_topk_prob` says so. A stack with MLPs of its own in some layers is refused.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from models.config import TransformerConfig
from models.families.family import Family, Source, matrix
from models.families.fields import Fields
from models.families.llama import (
    llama_names,
    read_common,
    whole_heads,
    window_of,
    write_llama,
    write_mistral,
)
from models.families.rope import read_rope

COUNTS = ("num_local_experts", "num_experts")
"""How many there are; each family has one of the names, and newer files of it the other."""


def _common(
    fields: Fields, experts: int, picked: int, theta: float = 1e4, eps: float = 1e-6
) -> dict[str, Any]:
    """What the three share; the numbers are a family's defaults."""
    whole_heads(fields)
    common = read_common(fields)
    name = next((name for name in COUNTS if fields.has(name)), COUNTS[0])
    experts = fields.size(name, "experts", experts)
    picked = fields.integer("num_experts_per_tok", picked)
    if not 1 <= picked <= experts:
        raise ValueError(
            f"{fields.where}: num_experts_per_tok={picked} must be in 1..{experts}, for there are "
            f"{name}={experts}"
        )
    return common | {
        "rope": read_rope(fields, common["head_dim"], common["max_positions"], theta),
        "norm_eps": fields.number("rms_norm_eps", eps),
        "activation": fields.activation("hidden_act", "silu"),
        "experts": experts,
        "experts_per_token": picked,
    }


def _read_mixtral(fields: Fields) -> TransformerConfig:
    common = _common(fields, 8, 2, theta=1e6, eps=1e-5)
    if "num_key_value_heads" not in fields.data:  # a null says as many as heads
        common["kv_heads"] = 8
    return TransformerConfig(**common, window=window_of(fields, 0))


def _read_qwen3_moe(fields: Fields) -> TransformerConfig:
    fields.refuse("decoder_sparse_step", 1)
    fields.refuse("mlp_only_layers", [])
    fields.refuse("use_sliding_window", False)  # of which layers, releases of the library disagree
    common = _common(fields, 128, 8)
    if "num_key_value_heads" not in fields.data:
        common["kv_heads"] = 4
    common["mlp"] = fields.size("moe_intermediate_size", "mlp", 768)
    bias = fields.flag("attention_bias", False)
    return TransformerConfig(
        **common,
        qk_norm=True,
        qkv_bias=bias,
        out_bias=bias,
        renormalize=fields.flag("norm_topk_prob", False),
    )


def _read_olmoe(fields: Fields) -> TransformerConfig:
    common, bias = _common(fields, 64, 8, eps=1e-5), fields.flag("attention_bias", False)
    fields.refuse("head_dim", common["hidden"] // common["heads"])  # its norms have that width
    return TransformerConfig(
        **common,
        qk_norm=True,
        whole_qk_norm=True,
        qkv_bias=bias,
        out_bias=bias,
        renormalize=fields.flag("norm_topk_prob", False),
    )


def _write_mixtral(config: TransformerConfig) -> dict[str, Any]:
    return write_mistral(config) | {
        "num_local_experts": config.experts,
        "num_experts_per_tok": config.experts_per_token,
    }


def _write_olmoe(config: TransformerConfig) -> dict[str, Any]:
    written = write_llama(config) | {
        "num_experts": config.experts,
        "num_experts_per_tok": config.experts_per_token,
        "norm_topk_prob": config.renormalize,
    }
    del written["mlp_bias"]
    return written


def _write_qwen3_moe(config: TransformerConfig) -> dict[str, Any]:
    return _write_olmoe(config) | {
        "moe_intermediate_size": config.mlp,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "use_sliding_window": False,
    }


def _names(config: TransformerConfig, block: str, **experts: str) -> dict[str, Source]:
    """Each expert's matrices are tensors of their own."""
    table, layer = llama_names(config), "model.layers.{i}." + block
    table["layers/router"] = matrix(layer + ".gate")
    for ours, theirs in experts.items():
        table[f"layers/{ours}"] = matrix(layer + ".experts.{e}." + theirs)
    return table


_mixtral_names = partial(_names, block="block_sparse_moe", gate="w1", up="w3", down="w2")
_plain_names = partial(_names, block="mlp", gate="gate_proj", up="up_proj", down="down_proj")

MIXTRAL = Family(
    "mixtral", "MixtralForCausalLM", _read_mixtral, _write_mixtral, _mixtral_names, reads=COUNTS
)
QWEN3_MOE = Family(
    "qwen3_moe",
    "Qwen3MoeForCausalLM",
    _read_qwen3_moe,
    _write_qwen3_moe,
    _plain_names,
    reads=COUNTS,
)
OLMOE = Family("olmoe", "OlmoeForCausalLM", _read_olmoe, _write_olmoe, _plain_names, reads=COUNTS)
