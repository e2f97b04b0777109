"""A transformer small enough to compile in a second, and ragged texts to train it on."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from models.config import TransformerConfig
from models.parameters import parameters
from models.rope import Rope
from models.transformer import Transformer

VOCAB, WIDTH = 20, 12
CONFIG = TransformerConfig(
    vocab_size=VOCAB,
    hidden=8,
    mlp=12,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=4,
    rope=Rope(width=4),
)


def model() -> Transformer:
    rng = np.random.default_rng(0)
    shapes = {path: weight.shape for path, weight in parameters(CONFIG).items()}
    arrays = {path: jnp.float32(rng.normal(0, 0.3, shape)) for path, shape in shapes.items()}
    return Transformer(CONFIG, arrays=arrays)


def texts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, VOCAB, length).tolist() for length in lengths]


def masks(lengths: list[int], seed: int = 0) -> list[list[bool]]:
    """Some tokens of every text, its first among them: nothing can predict that one."""
    rng = np.random.default_rng(seed)
    return [[True, *(rng.random(length - 1) < 0.7).tolist()] for length in lengths]


def padded(lengths: list[int], seed: int = 0) -> dict[str, np.ndarray]:
    """The arguments of `next_token`, every text in a row of its own."""
    tokens = np.zeros((len(lengths), WIDTH), np.int32)
    loss_mask = np.zeros(tokens.shape, bool)
    for row, (text, mask) in enumerate(
        zip(texts(lengths, seed), masks(lengths, seed), strict=True)
    ):
        tokens[row, : len(text)], loss_mask[row, : len(text)] = text, mask
    return {"tokens": tokens, "loss_mask": loss_mask, "length": np.array(lengths, np.int32)}
