"""The tiny checkpoints of the parity tests: one per family and per switch that matters.

Each is made by the `transformers` library from a config, with noise added to every parameter:
default initialisation hides a forgotten norm weight or bias. The dimensions differ from each
other, sequences are three windows long, and soft caps are small enough to bite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

VOCABULARY, LONGEST, LENGTHS = 101, 24, (24, 17, 6)
PROMPTS, NEW = (12, 10), 12  # greedy continuations
TOLERANCE = 2e-5  # of logits up to 5 in float32


@dataclass(frozen=True)
class Variant:
    """`transformers` classes by name, the config's arguments, and how it is stored.

    `spelling` are fields of the stored config.json to replace by an older spelling; None
    removes a field.
    """

    name: str
    config: str
    model: str
    arguments: dict[str, Any]
    dtype: str = "bfloat16"
    shard: str = "1GB"
    spelling: dict[str, Any] = field(default_factory=dict)


def _llama(**extra: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    } | extra


def _scaled(**parameters: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": 10000.0} | parameters}


def _opt(**extra: Any) -> dict[str, Any]:
    kept = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"}
    kept |= {"max_position_embeddings", "pad_token_id", "bos_token_id", "eos_token_id"}
    common = {name: value for name, value in _llama().items() if name in kept}
    return common | {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0} | extra


_GEMMA3 = _llama(
    num_hidden_layers=7,
    intermediate_size=40,
    head_dim=8,
    sliding_window=8,
    query_pre_attn_scalar=11,
)
_LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.2, 1.5, 2.0],
    "long_factor": [1.5, 2.5, 4.0, 7.0],
}

VARIANTS = (
    Variant("llama", "LlamaConfig", "LlamaForCausalLM", _llama(rms_norm_eps=1e-5), "float32"),
    Variant(
        "llama_biased",
        "LlamaConfig",
        "LlamaForCausalLM",
        _llama(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=16),
    ),
    Variant(
        "llama_llama3",
        "LlamaConfig",
        "LlamaForCausalLM",
        _llama(
            head_dim=16,
            **_scaled(
                rope_type="llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=32,
            ),
        ),
    ),
    Variant(
        "llama_linear",
        "LlamaConfig",
        "LlamaForCausalLM",
        _llama(**_scaled(rope_type="linear", factor=4.0)),
        spelling={
            "rope_parameters": None,
            "rope_theta": 10000.0,
            "rope_scaling": {"type": "linear", "factor": 4.0},
        },
    ),
    Variant(
        "llama_dynamic",
        "LlamaConfig",
        "LlamaForCausalLM",
        _llama(max_position_embeddings=16, **_scaled(rope_type="dynamic", factor=2.0)),
    ),
    Variant(
        "llama_yarn",
        "LlamaConfig",
        "LlamaForCausalLM",
        _llama(
            head_dim=16,
            **_scaled(rope_type="yarn", factor=4.0, original_max_position_embeddings=512),
        ),
    ),
    Variant("mistral", "MistralConfig", "MistralForCausalLM", _llama(sliding_window=8)),
    Variant(
        "mistral_full",
        "MistralConfig",
        "MistralForCausalLM",
        _llama(sliding_window=None, head_dim=16),
        "float16",
    ),
    Variant(
        "qwen2",
        "Qwen2Config",
        "Qwen2ForCausalLM",
        _llama(tie_word_embeddings=True),
        # As the released files have it: a window that is switched off.
        spelling={"sliding_window": 8, "use_sliding_window": False, "layer_types": None},
    ),
    Variant(
        "qwen2_sliding",
        "Qwen2Config",
        "Qwen2ForCausalLM",
        _llama(use_sliding_window=True, sliding_window=8, max_window_layers=1),
        shard="20KB",
        spelling={"layer_types": None},
    ),
    Variant("qwen3", "Qwen3Config", "Qwen3ForCausalLM", _llama(head_dim=16), "float32"),
    Variant("gemma", "GemmaConfig", "GemmaForCausalLM", _llama(head_dim=16)),
    Variant(
        "gemma2",
        "Gemma2Config",
        "Gemma2ForCausalLM",
        _llama(
            head_dim=16,
            sliding_window=8,
            query_pre_attn_scalar=11,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=3.0,
        ),
    ),
    Variant("gemma3", "Gemma3TextConfig", "Gemma3ForCausalLM", _GEMMA3),
    Variant(
        "gemma3_linear",
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        _GEMMA3
        | {
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 200000.0, "factor": 8.0},
            }
        },
        spelling={
            "rope_parameters": None,
            "layer_types": None,
            "_sliding_window_pattern": None,
            "sliding_window_pattern": 6,
            "rope_theta": 200000.0,
            "rope_local_base_freq": 5000.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    Variant(
        "gemma3_multimodal",
        "Gemma3Config",
        "Gemma3ForConditionalGeneration",
        {
            "text_config": _GEMMA3,
            "vision_config": {
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 1,
                "image_size": 4,
                "patch_size": 2,
            },
            "mm_tokens_per_image": 4,
            "image_token_index": VOCABULARY - 1,
            "boi_token_index": VOCABULARY - 2,
            "eoi_token_index": VOCABULARY - 3,
        },
    ),
    Variant(
        "phi3",
        "Phi3Config",
        "Phi3ForCausalLM",
        _llama(
            sliding_window=8,
            **_scaled(rope_type="default", partial_rotary_factor=0.5),
        ),
    ),
    Variant(
        "phi3_longrope",
        "Phi3Config",
        "Phi3ForCausalLM",
        _llama(original_max_position_embeddings=8, **_scaled(**_LONGROPE)),
        spelling={
            "rope_parameters": None,
            "rope_theta": 10000.0,
            "rope_scaling": _LONGROPE | {"type": "su", "rope_type": None},
        },
    ),
    Variant(
        "smollm3",
        "SmolLM3Config",
        "SmolLM3ForCausalLM",
        _llama(num_hidden_layers=4, mlp_bias=True),
        spelling={"no_rope_layers": None},
    ),
    Variant(
        "smollm3_sliding",
        "SmolLM3Config",
        "SmolLM3ForCausalLM",
        _llama(
            no_rope_layers=[1, 0],
            use_sliding_window=True,
            sliding_window=8,
            attention_bias=True,
            tie_word_embeddings=False,
        ),
        spelling={"layer_types": None},
    ),
    Variant("olmo2", "Olmo2Config", "Olmo2ForCausalLM", _llama(attention_bias=True)),
    Variant(
        "granite",
        "GraniteConfig",
        "GraniteForCausalLM",
        _llama(
            embedding_multiplier=12.0,
            attention_multiplier=0.2,
            residual_multiplier=0.22,
            logits_scaling=8.0,
            tie_word_embeddings=True,
        ),
    ),
    Variant(
        "mixtral",
        "MixtralConfig",
        "MixtralForCausalLM",
        _llama(intermediate_size=20, num_local_experts=4, sliding_window=8, head_dim=16),
    ),
    Variant(
        "qwen3_moe",
        "Qwen3MoeConfig",
        "Qwen3MoeForCausalLM",
        _llama(
            moe_intermediate_size=12,
            num_experts=8,
            num_experts_per_tok=3,
            norm_topk_prob=True,
            head_dim=16,
        ),
        spelling={"num_local_experts": None, "num_experts": 8},
    ),
    Variant(
        "qwen3_moe_biased",
        "Qwen3MoeConfig",
        "Qwen3MoeForCausalLM",
        _llama(
            moe_intermediate_size=12,
            num_experts=5,
            num_experts_per_tok=2,
            attention_bias=True,
            tie_word_embeddings=True,
            head_dim=8,
        ),
    ),
    Variant(
        "olmoe",
        "OlmoeConfig",
        "OlmoeForCausalLM",
        _llama(intermediate_size=12, num_experts=6, num_experts_per_tok=4),
    ),
    Variant("opt", "OPTConfig", "OPTForCausalLM", _opt()),
    Variant(
        "opt_post",
        "OPTConfig",
        "OPTForCausalLM",
        _opt(do_layer_norm_before=False, word_embed_proj_dim=20, tie_word_embeddings=True),
    ),
    Variant(
        "gpt2",
        "GPT2Config",
        "GPT2LMHeadModel",
        {
            "vocab_size": VOCABULARY,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 64,
            "n_inner": 48,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    ),
)
