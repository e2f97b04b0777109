"""The tiny denoisers of the parity tests: config.json, and how the canvas is read.

As in `tests.models.variants`, noise is added to every parameter, the sizes differ from each
other, and sequences are longer than two blocks. `code` is the published module that computed
the stored logits; None where none was at hand, and then only the naive double of
`tests.models.denoiser_reference` holds the variant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.families.family import Canvas

VOCABULARY, MASK, LENGTHS = 101, 97, (24, 17, 6)
TOLERANCE = 2e-5


@dataclass(frozen=True)
class Variant:
    """`config` is the stored config.json; `canvas` what must be read from it."""

    name: str
    config: dict[str, Any]
    canvas: Canvas
    code: tuple[str, str] | None


def _llada(**extra: Any) -> dict[str, Any]:
    return {
        "model_type": "llada",
        "architectures": ["LLaDAModelLM"],
        "d_model": 32,
        "n_heads": 4,
        "n_kv_heads": 2,
        "n_layers": 2,
        "mlp_hidden_size": 48,
        "activation_type": "silu",
        "block_type": "llama",
        "block_group_size": 1,
        "layer_norm_type": "rms",
        "layer_norm_with_affine": True,
        "rms_norm_eps": 1e-5,
        "rope": True,
        "rope_full_precision": True,
        "rope_theta": 500000.0,
        "alibi": False,
        "attention_layer_norm": False,
        "input_emb_norm": False,
        "include_bias": False,
        "include_qkv_bias": False,
        "bias_for_layer_norm": False,
        "scale_logits": False,
        "max_sequence_length": 64,
        "vocab_size": VOCABULARY,
        "embedding_size": VOCABULARY,
        "weight_tying": False,
        "mask_token_id": MASK,
        "attention_dropout": 0.0,
        "residual_dropout": 0.0,
        "embedding_dropout": 0.0,
        "init_device": "cpu",
        "flash_attention": False,
    } | extra


def _qwen(kind: str, architecture: str, **extra: Any) -> dict[str, Any]:
    return {
        "model_type": kind,
        "architectures": [architecture],
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_act": "silu",
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
        "mask_token_id": MASK,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    } | extra


VARIANTS = (
    Variant(
        "llada",
        _llada(),
        Canvas(MASK, longest=64),
        ("modeling_llada", "LLaDAModelLM"),
    ),
    Variant(
        "llada_biased",
        _llada(include_qkv_bias=True, weight_tying=True, n_kv_heads=None, mlp_hidden_size=40),
        Canvas(MASK, longest=64),
        ("modeling_llada", "LLaDAModelLM"),
    ),
    Variant(
        "dream",
        _qwen("Dream", "DreamModel"),
        Canvas(MASK, shift=True, longest=64),
        ("modeling_dream", "DreamModel"),
    ),
    Variant(
        "sdar",
        _qwen("sdar", "SDARForCausalLM", head_dim=16, block_size=4, attention_bias=False)
        | {"fuse_cross_entropy": False},
        Canvas(MASK, causal_blocks=4, longest=64),
        ("modeling_sdar", "SDARForCausalLM"),
    ),
    Variant(
        "fast_dllm",
        _qwen("Fast_dLLM_Qwen", "Fast_dLLM_QwenForCausalLM", bd_size=8, tie_word_embeddings=True),
        Canvas(MASK, shift=True, causal_blocks=8, longest=64),
        None,
    ),
)
