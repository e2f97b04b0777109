"""The live oracle of encoder-decoders: tiny T5s of `transformers`, and what they compute.

Sizes differ from each other, heads together are wider than the residual stream, and sources are
longer than the farthest distance that has a bucket of its own. torch and transformers are imported
inside the functions: the stored fixtures are tested without them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY, START, END, OPENING = 101, 0, 98, 99
LEFT, RIGHT = 96, 97  # what a passage stands between
LENGTHS, ANSWERED, NEW = (30, 17, 6), 9, 5
FARTHEST, BUCKETS = 20, 8
TOLERANCE = 2e-5
# The first release, and version 1.1, whose head is another table.
VARIANTS: dict[str, dict[str, Any]] = {
    "t5": {"feed_forward_proj": "relu"},
    "t5_gated": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}


def config_of(variant: str) -> dict[str, Any]:
    """The stored config.json."""
    return {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "vocab_size": VOCABULARY,
        "d_model": 32,
        "d_kv": 12,
        "d_ff": 40,
        "num_layers": 2,
        "num_decoder_layers": 3,
        "num_heads": 3,
        "relative_attention_num_buckets": BUCKETS,
        "relative_attention_max_distance": FARTHEST,
        "layer_norm_epsilon": 1e-6,
        "is_encoder_decoder": True,
        "decoder_start_token_id": START,
        "pad_token_id": START,
        "eos_token_id": 1,
        **VARIANTS[variant],
    }


def build(variant: str, seed: int) -> Any:
    """A perturbed model whose weights are exact in bfloat16."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.T5Config(**config_of(variant))
    config._attn_implementation = "eager"
    model = transformers.T5ForConditionalGeneration(config).eval()
    if VARIANTS[variant].get("tie_word_embeddings") is False:
        model.lm_head.weight = torch.nn.Parameter(0.3 * torch.randn_like(model.shared.weight))
    for parameter in model.parameters():
        noisy = 0.6 * parameter.data + 0.15 * torch.randn_like(parameter)
        parameter.data = noisy.to(torch.bfloat16).float()
    return model


def store(variant: str, model: Any, folder: Path) -> None:
    """Its folder, with every name that the published files have."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    state = {k: v.to(torch.bfloat16).clone() for k, v in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config_of(variant), indent=1) + "\n")


def sources(seed: int) -> list[list[int]]:
    """Each with a passage, and the end of a text."""
    rng = np.random.default_rng(seed)
    found = []
    for length in LENGTHS:
        tokens = rng.integers(3, LEFT, length)
        tokens[[0, -2, -1]] = LEFT, RIGHT, 1
        found.append(tokens.tolist())
    return found


def expect(model: Any, seed: int) -> dict[str, np.ndarray]:
    """Logits of given answers, greedy continuations, and the score of every part of the passages,
    each source alone."""
    import torch

    rng = np.random.default_rng(seed + 1)
    answers = rng.integers(3, LEFT, (len(LENGTHS), ANSWERED)).astype(np.int32)
    answers[:, :2] = START, OPENING
    logits = np.zeros((*answers.shape, VOCABULARY), np.float32)
    greedy = np.zeros((len(LENGTHS), NEW), np.int32)
    most, margin = max(LENGTHS) - 3, np.inf
    scores = np.full((len(LENGTHS), most, most + 1), -np.inf, np.float64)

    def after(encoded: Any, said: list[list[int]]) -> Any:
        ids = torch.tensor(said, dtype=torch.long)
        hidden = encoded.last_hidden_state.expand(len(said), -1, -1)
        return model(encoder_outputs=(hidden,), decoder_input_ids=ids).logits

    with torch.no_grad():
        for row, source in enumerate(sources(seed)):
            encoded = model.encoder(input_ids=torch.tensor([source], dtype=torch.long))
            logits[row] = after(encoded, [answers[row].tolist()])[0].numpy()
            said = [START, OPENING]
            for step in range(NEW):
                last = after(encoded, [said])[0, -1]
                best = torch.topk(last, 2).values
                margin = min(margin, float(best[0] - best[1]))
                greedy[row, step] = int(last.argmax())
                said.append(int(last.argmax()))
            passage = source[1:-2]
            for first in range(len(passage)):
                for count in range(1, len(passage) - first + 1):
                    part = [*passage[first : first + count], END]
                    law = after(encoded, [[START, OPENING, *part[:-1]]])[0, 1:].double()
                    logp = torch.log_softmax(law, dim=-1)
                    scores[row, first, count] = float(logp[range(len(part)), part].sum())
    return {"answers": answers, "logits": logits, "greedy": greedy, "scores": scores,
            "margin": np.asarray(margin)}  # fmt: skip
