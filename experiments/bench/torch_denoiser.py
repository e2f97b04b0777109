"""The simplest loop that fills a canvas, in torch: the peer of `unmask_bench`.

The model is LLaDA's as published, of a folder's config and tensors, every pass over the whole
canvas; the loop decides the surest open place of the block, once a pass. Nothing of torch is
imported until it is asked for; the `parity` extra installs it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

NEEDS = ("torch", "safetensors")


def missing() -> str | None:
    """What keeps the peer from running, or None."""
    absent = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if absent:
        return f"{' and '.join(absent)} not installed; pip install '.[parity]' brings the peer"
    return None


class TorchDenoiser:
    """A LLaDA folder in float32."""

    def __init__(self, folder: Path) -> None:
        """Open the checkpoint in `folder`.

        Raises:
          ValueError: for a folder of another family.
        """
        self._torch = importlib.import_module("torch")
        self.config = json.loads((folder / "config.json").read_text())
        if self.config["model_type"] != "llada":
            raise ValueError(f"{folder}: the peer is LLaDA's, not {self.config['model_type']}'s")
        load = importlib.import_module("safetensors.torch").load_file
        self._tensors = {
            name.removeprefix("model.transformer."): tensor.float()
            for path in sorted(folder.glob("*.safetensors"))
            for name, tensor in load(path).items()
        }

    def logits(self, tokens: Any) -> Any:
        """[B, T, V] of every place, the mask's at minus infinity."""
        torch, config, get = self._torch, self.config, self._tensors
        heads, shared = config["n_heads"], config["n_kv_heads"] or config["n_heads"]
        batch, length = tokens.shape
        size = config["d_model"] // heads
        turn = config["rope_theta"] ** (-torch.arange(0, size, 2) / size)
        angle = torch.outer(torch.arange(length), turn).repeat(1, 2)
        cos, sin = angle.cos(), angle.sin()

        def linear(name: str, x: Any) -> Any:
            return torch.nn.functional.linear(x, get[name + ".weight"], get.get(name + ".bias"))

        def norm(name: str, x: Any) -> Any:
            scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config["rms_norm_eps"])
            return x * scale * get[name + ".weight"]

        def split(x: Any, count: int) -> Any:
            return x.view(batch, length, count, size).transpose(1, 2)

        def rotated(x: Any) -> Any:
            one, other = x.chunk(2, dim=-1)
            return x * cos + torch.cat((-other, one), dim=-1) * sin

        x = get["wte.weight"][tokens]
        for index in range(config["n_layers"]):
            layer = f"blocks.{index}."
            y = norm(layer + "attn_norm", x)
            query = rotated(split(linear(layer + "q_proj", y), heads))
            key = rotated(split(linear(layer + "k_proj", y), shared))
            value = split(linear(layer + "v_proj", y), shared)
            key, value = (part.repeat_interleave(heads // shared, dim=1) for part in (key, value))
            mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
            x = x + linear(layer + "attn_out", mixed.transpose(1, 2).reshape(x.shape))
            y = norm(layer + "ff_norm", x)
            gate = torch.nn.functional.silu(linear(layer + "ff_proj", y))
            x = x + linear(layer + "ff_out", gate * linear(layer + "up_proj", y))
        head = "wte" if config["weight_tying"] else "ff_out"
        found = linear(head, norm("ln_f", x))
        found[..., config["mask_token_id"]] = -torch.inf
        return found

    def fill(self, tokens: np.ndarray, new: int, block: int, threads: int = 1) -> np.ndarray:
        """`new` tokens after each row of tokens [B, P], one place a pass, as i32[B, new]."""
        torch = self._torch
        torch.set_num_threads(threads)
        with torch.inference_mode():
            prompt = torch.as_tensor(tokens, dtype=torch.long)
            empty = torch.full((len(tokens), new), self.config["mask_token_id"])
            canvas, rows = torch.cat([prompt, empty], dim=1), torch.arange(len(tokens))
            for first in range(tokens.shape[1], canvas.shape[1], block):
                here = canvas[:, first : first + block]
                for _ in range(here.shape[1]):
                    laws = self.logits(canvas)[:, first : first + block].softmax(dim=-1)
                    confidence, guess = laws.max(dim=-1)
                    confidence[here != self.config["mask_token_id"]] = -1.0
                    place = confidence.argmax(dim=1)
                    here[rows, place] = guess[rows, place]
            return canvas[:, tokens.shape[1] :].numpy().astype(np.int32)
