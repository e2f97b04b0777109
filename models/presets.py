"""Shapes: the project's own small models, and published ones by name.

A published shape is for tracing without memory (`abstract`), costs and sharding plans; its
weights come with their own config, read by `models.checkpoints.load`.
"""

from __future__ import annotations

from models.config import TransformerConfig
from models.rope import Rope


def small(
    vocab_size: int,
    *,
    hidden: int = 256,
    layers: int = 6,
    heads: int | None = None,
    kv_heads: int | None = None,
    mlp: int | None = None,
    tied: bool = True,
    **switches,
) -> TransformerConfig:
    """A Llama-shaped model of the project's own.

    Defaults: heads of 32 dimensions, two query heads per key/value head, an MLP of 8/3 the
    width, in multiples of 32. With a vocabulary of 2048 tokens and tied embeddings, hidden x
    layers = 64 x 2 has 0.2 M parameters, 128 x 4 1.0 M, 192 x 6 2.8 M, 256 x 6 5.0 M.
    """
    heads = max(1, hidden // 32) if heads is None else heads
    if hidden % heads:
        raise ValueError(f"hidden={hidden} is not a multiple of heads={heads}")
    head_dim = hidden // heads
    return TransformerConfig(
        vocab_size=vocab_size,
        hidden=hidden,
        mlp=-(-hidden * 8 // 3 // 32) * 32 if mlp is None else mlp,
        layers=layers,
        heads=heads,
        kv_heads=max(1, heads // 2) if kv_heads is None else kv_heads,
        head_dim=head_dim,
        rope=switches.pop("rope", Rope(head_dim)),
        tied=tied,
        **switches,
    )


def _llama(vocab, hidden, mlp, layers, heads, kv, head_dim, theta, **switches):
    """The common pre-norm decoder in its published precision."""
    rope = switches.pop("rope", None) or Rope(head_dim, theta)
    switches = {"norm_eps": 1e-5, "dtype": "bfloat16"} | switches
    return TransformerConfig(vocab, hidden, mlp, layers, heads, kv, head_dim, rope=rope, **switches)


def _llama3(hidden, mlp, layers, heads, kv, head_dim, factor, **switches):
    rope = Rope(head_dim, 5e5, "llama3", factor=factor, original=8192)
    switches |= {"rope": rope, "max_positions": 131072}
    return _llama(128256, hidden, mlp, layers, heads, kv, head_dim, 5e5, **switches)


def _qwen2(vocab, hidden, mlp, layers, heads, kv, head_dim, **switches):
    switches |= {"qkv_bias": True, "norm_eps": 1e-6, "max_positions": 32768}
    return _llama(vocab, hidden, mlp, layers, heads, kv, head_dim, 1e6, **switches)


def _qwen3(hidden, mlp, layers, heads, **switches):
    switches |= {"qk_norm": True, "norm_eps": 1e-6, "max_positions": 40960}
    return _llama(151936, hidden, mlp, layers, heads, 8, 128, 1e6, **switches)


def _qwen3_moe(hidden, mlp, layers, heads, **switches):
    """Four key/value heads, and 8 of 128 experts for each token."""
    switches |= {"qk_norm": True, "norm_eps": 1e-6, "max_positions": 40960}
    switches |= {"experts": 128, "experts_per_token": 8}
    return _llama(151936, hidden, mlp, layers, heads, 4, 128, 1e6, **switches)


def _mixtral(vocab, hidden, mlp, layers, heads, max_positions):
    some = {"experts": 8, "experts_per_token": 2, "max_positions": max_positions}
    return _llama(vocab, hidden, mlp, layers, heads, 8, 128, 1e6, **some)


def _olmoe():
    """Of 1.3 billion parameters for each token."""
    norms = {"qk_norm": True, "whole_qk_norm": True, "max_positions": 4096}
    some = {"experts": 64, "experts_per_token": 8, "renormalize": False}
    return _llama(50304, 2048, 1024, 16, 16, 16, 128, 1e4, **norms, **some)


def _gemma(vocab, hidden, mlp, layers, heads, kv, head_dim, **switches):
    switches = {
        "norm": "rms_plus_one",
        "norm_eps": 1e-6,
        "activation": "gelu_tanh",
        "embed_scale": hidden**0.5,
        "tied": True,
        "max_positions": 8192,
    } | switches
    return _llama(vocab, hidden, mlp, layers, heads, kv, head_dim, 1e4, **switches)


def _gemma2(hidden, mlp, layers, heads, kv, head_dim, scalar=256):
    return _gemma(
        256000,
        hidden,
        mlp,
        layers,
        heads,
        kv,
        head_dim,
        output_norms=True,
        window=4096,
        sliding=tuple(i % 2 == 0 for i in range(layers)),
        query_scale=scalar**-0.5,
        attention_cap=50.0,
        logit_cap=30.0,
    )


def _gemma3(hidden, mlp, layers, heads, kv, window, factor):
    scaled = Rope(256, 1e6, "linear", factor) if factor > 1 else Rope(256, 1e6)
    return _gemma(
        262144,
        hidden,
        mlp,
        layers,
        heads,
        kv,
        256,
        output_norms=True,
        qk_norm=True,
        window=window,
        sliding=tuple((i + 1) % 6 != 0 for i in range(layers)),
        query_scale=256**-0.5,
        rope=scaled,
        rope_local=Rope(256, 1e4),
        max_positions=32768 if factor == 1 else 131072,
    )


def _smollm3():
    rotated = tuple((i + 1) % 4 != 0 for i in range(36))
    switches = {"rotated": rotated, "norm_eps": 1e-6, "max_positions": 65536, "tied": True}
    return _llama(128256, 2048, 11008, 36, 16, 4, 128, 5e6, **switches)


def _olmo2(hidden, mlp, layers, heads):
    switches = {"norm": "rms_wide", "input_norms": False, "output_norms": True, "qk_norm": True}
    switches |= {"whole_qk_norm": True, "norm_eps": 1e-6, "max_positions": 4096}
    return _llama(100352, hidden, mlp, layers, heads, heads, hidden // heads, 5e5, **switches)


def _granite(hidden, mlp, layers, heads, kv, score, residual, divisor, **switches):
    switches |= {"embed_scale": 12.0, "query_scale": score, "residual_scale": residual}
    switches |= {"logit_divisor": divisor, "max_positions": 131072}
    return _llama(49159, hidden, mlp, layers, heads, kv, hidden // heads, 1e7, **switches)


def _opt(hidden, layers, heads):
    return TransformerConfig(
        vocab_size=50272,
        hidden=hidden,
        mlp=4 * hidden,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        norm="layer",
        norm_eps=1e-5,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        position_offset=2,
        activation="relu",
        gated=False,
        tied=True,
        dtype="float16",
    )


def _gpt2(hidden, layers, heads):
    return TransformerConfig(
        vocab_size=50257,
        hidden=hidden,
        mlp=4 * hidden,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        norm="layer",
        norm_eps=1e-5,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        max_positions=1024,
        activation="gelu_tanh",
        gated=False,
        tied=True,
    )


LLAMA_2_7B = _llama(32000, 4096, 11008, 32, 32, 32, 128, 1e4, max_positions=4096)
LLAMA_3_2_1B = _llama3(2048, 8192, 16, 32, 8, 64, 32.0, tied=True)
LLAMA_3_2_3B = _llama3(3072, 8192, 28, 24, 8, 128, 32.0, tied=True)
LLAMA_3_1_8B = _llama3(4096, 14336, 32, 32, 8, 128, 8.0)
LLAMA_3_1_70B = _llama3(8192, 28672, 80, 64, 8, 128, 8.0)
TINYLLAMA_1B = _llama(32000, 2048, 5632, 22, 32, 4, 64, 1e4)
MISTRAL_7B = _llama(32000, 4096, 14336, 32, 32, 8, 128, 1e4, window=4096, max_positions=32768)
QWEN2_5_0_5B = _qwen2(151936, 896, 4864, 24, 14, 2, 64, tied=True)
QWEN2_5_1_5B = _qwen2(151936, 1536, 8960, 28, 12, 2, 128, tied=True)
QWEN2_5_3B = _qwen2(151936, 2048, 11008, 36, 16, 2, 128, tied=True)
QWEN2_5_7B = _qwen2(152064, 3584, 18944, 28, 28, 4, 128)
QWEN2_5_14B = _qwen2(152064, 5120, 13824, 48, 40, 8, 128)
QWEN3_0_6B = _qwen3(1024, 3072, 28, 16, tied=True)
QWEN3_1_7B = _qwen3(2048, 6144, 28, 16, tied=True)
QWEN3_4B = _qwen3(2560, 9728, 36, 32, tied=True)
QWEN3_8B = _qwen3(4096, 12288, 36, 32)
GEMMA_2B = _gemma(256000, 2048, 16384, 18, 8, 1, 256)
GEMMA_7B = _gemma(256000, 3072, 24576, 28, 16, 16, 256)
GEMMA_2_2B = _gemma2(2304, 9216, 26, 8, 4, 256)
GEMMA_2_9B = _gemma2(3584, 14336, 42, 16, 8, 256)
GEMMA_2_27B = _gemma2(4608, 36864, 46, 32, 16, 128, scalar=144)
GEMMA_3_1B = _gemma3(1152, 6912, 26, 4, 1, 512, 1.0)
GEMMA_3_4B = _gemma3(2560, 10240, 34, 8, 4, 1024, 8.0)
SMOLLM3_3B = _smollm3()
OLMO_2_1B = _olmo2(2048, 8192, 16, 16)
OLMO_2_7B = _olmo2(4096, 11008, 32, 32)
GRANITE_3_3_2B = _granite(2048, 8192, 40, 32, 8, 1 / 64, 0.22, 8.0, tied=True)
GRANITE_3_3_8B = _granite(4096, 12800, 40, 32, 8, 1 / 128, 0.22, 16.0, tied=True)
MIXTRAL_8X7B = _mixtral(32000, 4096, 14336, 32, 32, 32768)
MIXTRAL_8X22B = _mixtral(32768, 6144, 16384, 56, 48, 65536)
QWEN3_30B_A3B = _qwen3_moe(2048, 768, 48, 32)
QWEN3_235B_A22B = _qwen3_moe(4096, 1536, 94, 64)
OLMOE_1B_7B = _olmoe()
PHI_3_MINI_4K = _llama(32064, 3072, 8192, 32, 32, 32, 96, 1e4, window=2047, max_positions=4096)
OPT_125M = _opt(768, 12, 12)
OPT_1_3B = _opt(2048, 24, 32)
OPT_6_7B = _opt(4096, 32, 32)
GPT2 = _gpt2(768, 12, 12)
GPT2_MEDIUM = _gpt2(1024, 24, 16)
GPT2_LARGE = _gpt2(1280, 36, 20)
GPT2_XL = _gpt2(1600, 48, 25)
