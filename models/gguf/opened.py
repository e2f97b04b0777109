"""A GGUF file as a published checkpoint: its config.json, and its tensors as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.config import LIMITS
from models.families.fields import Fields
from models.gguf.config import config_of, rotary_sets
from models.gguf.container import Container
from models.gguf.names import ARCHITECTURES, LLAMA_EXPERTS, NAME, ROTARY
from models.safetensors import Entry


class Opened:
    """One file.

    Attributes:
      config: the config.json.
      entries: published name -> dtype, which is float32 for blocks, and shape.
    """

    def __init__(self, path: Path) -> None:
        self.container = container = Container(path)
        fields = Fields(container.metadata, str(path))
        kind = fields.text("general.architecture")
        if kind not in ARCHITECTURES:
            raise ValueError(
                f"{path}: general.architecture={kind!r} is not supported; known are "
                f"{', '.join(ARCHITECTURES)}"
            )
        if fields.integer("split.count", 1) > 1:
            raise ValueError(
                f"{path} is one part of several; join them first with llama.cpp: "
                "llama-gguf-split --merge FIRST_PART WHOLE"
            )
        mixed = fields.integer(f"{kind}.expert_count", 0) > 0
        self.architecture = LLAMA_EXPERTS if mixed and kind == "llama" else ARCHITECTURES[kind]
        factors = {name: container.read(name) for name in ROTARY if name in container.tensors}
        self._names: dict[str, tuple[str, int | None]] = {}
        self.entries: dict[str, Entry] = {}
        unknown = []
        for name, stored in container.tensors.items():
            theirs = self.architecture.published(name)
            if theirs is None:
                unknown += [] if name in ROTARY else [name]
                continue
            shape = stored.shape[::-1] if self._turned(name) else stored.shape
            if "{e}" not in theirs:
                self._names[theirs] = name, None
                self.entries[theirs] = Entry(stored.dtype, shape, stored.start)
                continue
            if len(shape) != 3 or shape[0] > LIMITS["experts"]:
                raise ValueError(f"{path}: {name} has shape {shape}; [experts, out, in] was meant")
            for expert in range(shape[0]):
                one = theirs.replace("{e}", str(expert))
                self._names[one] = name, expert
                self.entries[one] = Entry(stored.dtype, shape[1:], stored.start)
        if unknown:
            more = " and more" if len(unknown) > 4 else ""
            raise ValueError(f"{path}: unknown tensors {', '.join(unknown[:4])}{more} of {kind!r}")
        self.config = config_of(kind, fields, self._shape("token_embd.weight"), self._tied())
        self.config |= rotary_sets(self.config, factors, str(path))
        self.config["model_type"] = self.architecture.model_type
        for field, bias in (("attention_bias", "attn_output"), ("mlp_bias", "ffn_down")):
            self.config[field] = kind != "gpt2" and f"blk.0.{bias}.bias" in container.tensors

    def read(self, name: str) -> np.ndarray:
        """A tensor as the published checkpoint has it."""
        stored, expert = self._names[name]
        value = self.container.read(stored, expert)
        stem = _stem(stored)
        if self.architecture.interleaved and stem in ("attn_q", "attn_k"):
            heads = "num_attention_heads" if stem == "attn_q" else "num_key_value_heads"
            return halves(value, self.config[heads])
        if self.architecture.plus_one and stem.endswith("norm"):
            return value - np.ones((), value.dtype)
        return value.T if self._turned(stored) else value

    def _turned(self, name: str) -> bool:
        """Whether a matrix within a layer was turned by the converter."""
        return (
            self.architecture.turned
            and name.startswith("blk.")
            and (len(self.container.tensors[name].shape) == 2)
        )

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self.container.tensors:
            raise ValueError(f"{self.container.path}: tensor {name!r} is missing")
        return self.container.tensors[name].shape

    def _tied(self) -> bool:
        """Whether the head is the embedding table: absent, or the same bytes once more."""
        tensors, table, head = self.container.tensors, "token_embd.weight", "output.weight"
        if head not in tensors:
            return True
        if tensors[head].kind != tensors[table].kind or tensors[head].shape != tensors[table].shape:
            return False
        if not np.array_equal(self.container.raw(head), self.container.raw(table)):
            return False
        for name in [name for name, (stored, _) in self._names.items() if stored == head]:
            del self._names[name], self.entries[name]
        return True


def halves(value: np.ndarray, heads: int) -> np.ndarray:
    """Rows [heads * 2 n, ...] of interleaved pairs as n first halves, then n second ones."""
    if heads < 1 or value.shape[0] % (2 * heads):
        raise ValueError(f"{value.shape[0]} rows are not {heads} heads of pairs")
    pairs = value.reshape(heads, -1, 2, *value.shape[1:])
    return pairs.swapaxes(1, 2).reshape(value.shape)


def _stem(name: str) -> str:
    found = NAME.fullmatch(name)
    return found[2] if found else ""
