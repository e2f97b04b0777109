"""The live oracle: tiny `transformers` models, their files and what they compute.

Needs torch and transformers, which are imported inside the functions: the stored fixtures are
tested without them.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.models.variants import LENGTHS, LONGEST, NEW, PROMPTS, VOCABULARY, Variant


def build(variant: Variant, seed: int) -> Any:
    """A perturbed model in float32 whose weights are exact in the dtype they are stored in."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = getattr(transformers, variant.config)(**variant.arguments)
    config._attn_implementation = "eager"
    model = getattr(transformers, variant.model)(config).eval()
    for parameter in model.parameters():
        noisy = parameter.data + 0.15 * torch.randn_like(parameter)
        parameter.data = noisy.to(getattr(torch, variant.dtype)).float()
    model.tie_weights()
    return model


def store(variant: Variant, model: Any, folder: Path) -> None:
    """Save in the variant's dtype, sharding and spelling."""
    import torch

    saved = copy.deepcopy(model).to(getattr(torch, variant.dtype))
    saved.save_pretrained(folder, max_shard_size=variant.shard)
    (folder / "generation_config.json").unlink(missing_ok=True)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config = {k: v for k, v in (config | variant.spelling).items() if v is not None}
    path.write_text(json.dumps(config, indent=1) + "\n")


def tokens(seed: int) -> np.ndarray:
    """Rows whose padding is hostile: real tokens that must not be seen."""
    draws = np.random.default_rng(seed)
    return draws.integers(3, VOCABULARY - 5, (len(LENGTHS), LONGEST)).astype(np.int32)


def expect(model: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Logits of every row alone and unpadded, and greedy continuations of two prompts.

    A copy of the model serves each row: the library's dynamic rotary tables remember the
    longest sequence they have seen.
    """
    import torch

    logits = np.zeros((*rows.shape, VOCABULARY), np.float32)
    greedy = np.zeros((len(PROMPTS), NEW), np.int32)
    margin = np.inf
    with torch.no_grad():
        for row, length in enumerate(LENGTHS):
            ids = torch.tensor(rows[row : row + 1, :length], dtype=torch.long)
            logits[row, :length] = copy.deepcopy(model)(ids).logits[0].numpy()
        for row, length in enumerate(PROMPTS):
            fresh = copy.deepcopy(model)
            ids, past = torch.tensor(rows[row : row + 1, :length], dtype=torch.long), None
            for step in range(NEW):
                out = fresh(ids, past_key_values=past, use_cache=True)
                past, last = out.past_key_values, out.logits[0, -1]
                best = torch.topk(last, 2).values
                margin = min(margin, float(best[0] - best[1]))
                ids = last.argmax().reshape(1, 1)
                greedy[row, step] = int(ids)
    return {"tokens": rows, "logits": logits, "greedy": greedy, "margin": np.asarray(margin)}
