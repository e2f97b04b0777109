"""A row of the embedding table for a token that stands for others and is never said."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from models.transformer import Transformer, arrays_of


def with_placeholder(model: Transformer) -> tuple[Transformer, int]:
    """The model with one row more, the mean of the others, and the row's id.

    The id is beyond the vocabulary, which stays as it is: the model gives logits for tokens
    alone. Where rows pad the table already, the first of them is taken, and made the mean.
    """
    config, arrays, pad = model.config, arrays_of(model), model.vocab_size
    grow = config.rows == pad
    for name, axis in (("embedding", 0), ("head", 1)):
        if name not in arrays:
            continue
        table = jnp.moveaxis(arrays[name], axis, 0)
        known = table[:pad]
        new = jnp.mean(known.astype(jnp.float32), axis=0, keepdims=True).astype(table.dtype)
        rest = table[pad + 1 :]
        arrays[name] = jnp.moveaxis(jnp.concatenate([known, new, rest]), 0, axis)
    if grow:
        config = dataclasses.replace(config, rows=config.rows + 1)
    return Transformer(config, arrays=arrays), pad


def learned_placeholder(model: Any, token: int | None) -> int:
    """The id of a placeholder that a `Transformer` was trained with.

    Raises:
      ValueError: it is no row beyond the vocabulary; such a row cannot have been learned.
    """
    first, rows = model.vocab_size, model.config.rows
    if token is None or not first <= token < rows:
        beyond = f"{first}..{rows - 1}" if rows > first else "none in this model"
        raise ValueError(
            f"placeholder={token}: a placeholder is a row of the embedding table beyond the "
            f"vocabulary of {first} tokens ({beyond}), which the model learned to say lexical "
            "units from; without such training it says nothing"
        )
    return token
