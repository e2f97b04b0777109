"""A denoiser of many small tasks, and its autoregressive twin of the same shape."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from experiments.tasks.canvases import EXACT, Canvases
from experiments.tasks.mixture import LISTS, LOOKUPS, MASK, Mixture
from experiments.tasks.task import Split
from jaxdecode.train.masked import masked_tokens
from models.presets import small
from models.transformer import Transformer

TASK = Mixture()
EASY = Mixture(((LISTS, 0.88), (LOOKUPS, 0.12)))
CANVASES, SHORT, TEXTS = (15, 20, 26, 34, 48, 84), (15, 19, 23), (14, 18, 24, 40)
ROWS, OPENING = 64, 800


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


def stream(split: Split, seed: int) -> Callable[[int], Mapping[str, Any]]:
    """Canvases of the mixture, the first `OPENING` of them short and without end tokens.

    What a place of the answer has to look for in the question is learned much sooner where the
    answer is all there is to fill.
    """
    codec = TASK.tokenizer()
    every = Canvases(TASK, codec, ROWS, CANVASES, seed, split)
    short = Canvases(EASY, codec, ROWS, SHORT, seed, split, sizes=((EXACT, 1.0),))
    return lambda step: (short if step < OPENING else every)(step)
