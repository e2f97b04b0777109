"""A naive double of the published denoisers: float64, one head and one query at a time.

Written from the description of the formats, by their own tensor names; it shares nothing with
`models`. `mistake` plants one of the usual faults, which the parity tests must catch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

MISTAKES = ("causal", "shift", "theta", "tiled", "norms", "gate", "blocks")
Tensors = Mapping[str, np.ndarray]


def logits(
    config: Mapping[str, Any], tensors: Tensors, tokens: np.ndarray, mistake: str | None = None
) -> np.ndarray:
    """f64[T, V] of one row as the model gives them, before any shift."""
    llada = config["model_type"] == "llada"
    names = _llada if llada else _qwen
    heads = config["n_heads" if llada else "num_attention_heads"]
    shared = config["n_kv_heads" if llada else "num_key_value_heads"] or heads
    width = config["d_model" if llada else "hidden_size"]
    layers = config["n_layers" if llada else "num_hidden_layers"]
    head = config.get("head_dim") or width // heads
    eps = 0.1 if mistake == "norms" else config["rms_norm_eps"]
    theta = 1e3 if mistake == "theta" else config["rope_theta"]
    get = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    x = get[names("embedding", 0)][tokens]
    seen = visible(config, len(tokens), mistake)
    for i in range(layers):

        def part(what: str, y: np.ndarray, i: int = i) -> np.ndarray:
            name = names(what, i)
            out = y @ get[name + ".weight"].T
            return out + get[name + ".bias"] if name + ".bias" in get else out

        h = norm(x, get[names("attention_norm", i)], eps)
        q = part("q", h).reshape(len(x), heads, head)
        k = part("k", h).reshape(len(x), shared, head)
        v = part("v", h).reshape(len(x), shared, head)
        if config["model_type"] == "sdar":
            q = norm(q, get[names("q_norm", i)], eps)
            k = norm(k, get[names("k_norm", i)], eps)
        mixed = np.zeros((len(x), heads, head))
        for j in range(heads):
            of = j % shared if mistake == "tiled" else j // (heads // shared)
            keys = [rotate(k[s, of], s, theta) for s in range(len(x))]
            for t in range(len(x)):
                query = rotate(q[t, j], t, theta)
                scores = np.array([query @ keys[s] for s in range(len(x))]) / np.sqrt(head)
                scores[~seen[t]] = -np.inf
                weight = np.exp(scores - scores.max())
                mixed[t, j] = weight @ v[:, of] / weight.sum()
        x = x + part("o", mixed.reshape(len(x), -1))
        h = norm(x, get[names("mlp_norm", i)], eps)
        gate, up = part("gate", h), part("up", h)
        gate, up = (up, gate) if mistake == "gate" else (gate, up)
        x = x + part("down", gate / (1 + np.exp(-gate)) * up)
    x = norm(x, get[names("norm", 0)], eps)
    tied = config["weight_tying" if llada else "tie_word_embeddings"]
    return x @ get[names("embedding" if tied else "head", 0)].T


def read(config: Mapping[str, Any], found: np.ndarray, mistake: str | None = None) -> np.ndarray:
    """Logits of the place itself, of a model that may say them one place before."""
    shifted = config["model_type"] in ("Dream", "Fast_dLLM_Qwen")
    if shifted == (mistake == "shift"):
        return found
    return np.concatenate([found[:1], found[:-1]])


def visible(config: Mapping[str, Any], count: int, mistake: str | None) -> np.ndarray:
    t, s = np.mgrid[:count, :count]
    if mistake == "causal":
        return s <= t
    size = config.get("block_size", config.get("bd_size"))
    if size is None:
        return np.ones((count, count), bool)
    size = size * 2 if mistake == "blocks" else size
    return s // size <= t // size


def norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return weight * x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)


def rotate(x: np.ndarray, position: int, theta: float) -> np.ndarray:
    half = len(x) // 2
    angle = position * theta ** (-np.arange(half) / half)
    a, b = x[:half], x[half:]
    return np.concatenate(
        [a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)]
    )


def _llada(what: str, layer: int) -> str:
    outside = {"embedding": "wte.weight", "norm": "ln_f.weight", "head": "ff_out.weight"}
    inside = {"attention_norm": "attn_norm.weight", "mlp_norm": "ff_norm.weight"}
    inside |= {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "attn_out"}
    inside |= {"gate": "ff_proj", "up": "up_proj", "down": "ff_out"}
    if what in outside:
        return "model.transformer." + outside[what]
    return f"model.transformer.blocks.{layer}.{inside[what]}"


def _qwen(what: str, layer: int) -> str:
    outside = {"embedding": "model.embed_tokens.weight", "norm": "model.norm.weight"}
    outside |= {"head": "lm_head.weight"}
    inside = {"attention_norm": "input_layernorm.weight"}
    inside |= {"mlp_norm": "post_attention_layernorm.weight"}
    inside |= {x: f"self_attn.{x}_proj" for x in "qkvo"}
    inside |= {x: f"self_attn.{x}.weight" for x in ("q_norm", "k_norm")}
    inside |= {x: f"mlp.{x}_proj" for x in ("gate", "up", "down")}
    return outside[what] if what in outside else f"model.layers.{layer}.{inside[what]}"
