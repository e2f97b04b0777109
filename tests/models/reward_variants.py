"""The tiny reward models of the parity tests, and what `transformers` makes of them.

The library knows two of the heads; the others are put on its backbones here, in torch, from
their published descriptions. Torch is imported inside the functions: the stored fixtures are
tested without it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY, PAD, EOS, TAG, GOOD, BAD = 61, 0, 2, 5, 7, 9
LENGTHS, WIDTH = (17, 11, 4), 17
SHARED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 48,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": EOS,
}
LLAMA = SHARED | {"intermediate_size": 24, "num_key_value_heads": 2}
# Its table is narrower than its hidden states, which reach the head through a projection.
OPT = SHARED | {"ffn_dim": 24, "word_embed_proj_dim": 12, "do_layer_norm_before": False}


@dataclass(frozen=True)
class RewardVariant:
    """A backbone by the library's names, and a head.

    `head` is "sequence" or "token" for the library's own, "deep" or "summary" for those built
    here, "language" for a language model that judges by two tokens.
    """

    name: str
    family: str
    head: str
    labels: int
    arguments: dict[str, Any]


VARIANTS = (
    RewardVariant("llama_sequence", "Llama", "sequence", 1, LLAMA),
    RewardVariant("qwen2_pad_is_eos", "Qwen2", "sequence", 1, LLAMA | {"pad_token_id": EOS}),
    RewardVariant("opt_sequence", "OPT", "sequence", 1, OPT),
    RewardVariant("gemma2_token", "Gemma2", "token", 2, LLAMA | {"head_dim": 8}),
    RewardVariant("qwen2_deep", "Qwen2", "deep", 2, LLAMA),
    RewardVariant("qwen2_summary", "Qwen2", "summary", 1, LLAMA),
    RewardVariant("mistral_language", "Mistral", "language", 2, LLAMA),
)


def rows(variant: RewardVariant, seed: int) -> np.ndarray:
    """i32[B, T]: texts of ragged length with tags in them, then tokens that must not be seen.

    Where padding is an end token, texts end with one or two of them; the last is nothing else.
    """
    draws = np.random.default_rng(seed)
    tokens = draws.integers(10, VOCABULARY, (len(LENGTHS), WIDTH)).astype(np.int32)
    tokens[:, 3::4] = TAG
    if variant.arguments["pad_token_id"] == EOS:
        for row, length in enumerate(LENGTHS):
            tokens[row, length - 1 - row % 2 : length] = EOS
        tokens[-1, : LENGTHS[-1]] = EOS
    return tokens


def build(variant: RewardVariant, seed: int) -> Any:
    """The model in float32, every parameter perturbed, its weights exact in bfloat16."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = getattr(transformers, variant.family + "Config")(**variant.arguments)
    config._attn_implementation = "eager"
    config.num_labels = variant.labels
    kinds = {"sequence": "ForSequenceClassification", "token": "ForTokenClassification"}
    kind = kinds.get(variant.head, "ForCausalLM")
    model = getattr(transformers, variant.family + kind)(config).eval()
    hidden = config.hidden_size
    if variant.head == "deep":
        model.score = torch.nn.Sequential(
            torch.nn.Linear(hidden, hidden),
            torch.nn.ReLU(),
            torch.nn.Linear(hidden, variant.labels),
        )
    if variant.head == "summary":
        model.v_head = torch.nn.Module()
        model.v_head.summary = torch.nn.Linear(hidden, 1)
    for parameter in model.parameters():
        parameter.data = (parameter.data + 0.15 * torch.randn_like(parameter)).bfloat16().float()
    model.tie_weights()
    return model


def store(variant: RewardVariant, model: Any, folder: Path) -> None:
    """A published folder in bfloat16."""
    import copy

    import torch
    from safetensors.torch import save_file

    saved = copy.deepcopy(model).to(torch.bfloat16)
    if variant.head in ("sequence", "token", "language"):
        saved.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        return
    folder.mkdir(parents=True)
    save_file(saved.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    name = variant.family + ("ForProcessRewardModel" if variant.head == "deep" else "ForPrmModel")
    config = saved.config.to_dict() | {"architectures": [name]}
    for field in ("id2label", "label2id"):
        config.pop(field, None)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def outputs(variant: RewardVariant, model: Any, ids: Any, mask: Any = None) -> Any:
    """[B, T, C]: what the head says at every token, by the library's own backbone."""
    if variant.head == "token":
        return model(ids, attention_mask=mask).logits
    if variant.head == "language":
        return model(ids, attention_mask=mask).logits[..., [GOOD, BAD]]
    hidden = model.base_model(ids, attention_mask=mask).last_hidden_state
    if variant.head == "summary":
        return model.v_head.summary(hidden)
    return model.score(hidden)


def expect(variant: RewardVariant, model: Any, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs at every token of each row alone; pooled scores alone and padded on either side."""
    import torch

    out = np.zeros((*tokens.shape, variant.labels), np.float32)
    found = {"tokens": tokens, "outputs": out}
    alone: list[float] = []
    with torch.no_grad():
        for row, length in enumerate(LENGTHS):
            ids = torch.tensor(tokens[row : row + 1, :length], dtype=torch.long)
            out[row, :length] = outputs(variant, model, ids)[0].numpy()
            if variant.head == "sequence":
                alone.append(model(ids).logits[0, 0].item())
        if variant.head == "sequence":
            found["alone"] = np.asarray(alone, np.float32)
            for side in ("left", "right"):
                ids, mask = padded(tokens, variant.arguments["pad_token_id"], side)
                logits = model(torch.tensor(ids), attention_mask=torch.tensor(mask)).logits
                found[side] = logits[:, 0].numpy()
    return found


def padded(tokens: np.ndarray, pad: int, side: str) -> tuple[np.ndarray, np.ndarray]:
    """The same texts with real padding on one side, and the mask of what is text."""
    ids = np.full(tokens.shape, pad, np.int64)
    mask = np.zeros(tokens.shape, np.int64)
    for row, length in enumerate(LENGTHS):
        where = slice(0, length) if side == "right" else slice(WIDTH - length, WIDTH)
        ids[row, where], mask[row, where] = tokens[row, :length], 1
    return ids, mask
