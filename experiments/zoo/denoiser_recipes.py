"""A denoiser of many small tasks, and its autoregressive twin of the same shape."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flax import nnx

from experiments.tasks.batches import ExampleBatches
from experiments.tasks.canvases import Canvases
from experiments.tasks.mixture import MASK, Mixture
from experiments.zoo.recipe import Recipe, as_dict
from jaxdecode.train.losses import next_token
from jaxdecode.train.masked import masked_tokens
from models.presets import small
from models.transformer import Transformer

TASK = Mixture()
CANVASES, TEXTS = (14, 17, 21, 26, 34, 48, 84), (14, 18, 24, 40)
ROWS = 32


def mask_id() -> int:
    """Of the family's vocabulary."""
    (token,) = TASK.tokenizer().encode(MASK)
    return token


@functools.cache
def _denoising() -> Callable[..., Any]:
    return functools.partial(masked_tokens, mask_id=mask_id(), form="counts")


def _create(rngs: nnx.Rngs) -> Transformer:
    shape = small(TASK.tokenizer().vocab_size, hidden=160, layers=4, kv_heads=5)
    return Transformer(shape, rngs=rngs)


def stream(split, seed: int) -> Canvases:
    """Canvases of the mixture."""
    return Canvases(TASK, TASK.tokenizer(), ROWS, CANVASES, seed, split)
