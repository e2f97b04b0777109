"""A larger target that writes the same text: the model with MLPs of more units, that say nothing.

A small model sits in a CPU's cache, where a pass over five tokens costs almost twice a pass over
one: it is bound by arithmetic. The passes of models worth speculating for are bound by the
memory that their weights are read from, and there further tokens are nearly free. The added
units are computed like any others, from random weights, and their output weights are zero. So
what is drafted and accepted stays what it was, and what a pass costs is that of the larger model.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from models.transformer import Transformer, arrays_of


def widened(model: Transformer, mlp: int) -> Transformer:
    """The same function with `mlp` units in every MLP, its layers written out.

    Raises:
      ValueError: for fewer units than the model has, or MLPs with biases.
    """
    config = model.config
    if mlp < config.mlp or config.mlp_bias:
        raise ValueError(f"mlp={mlp}: give at least the model's {config.mlp}; biases are not known")
    arrays, more = dict(arrays_of(model)), mlp - config.mlp
    random = np.random.default_rng(0)
    for name in ("layers/gate", "layers/up"):
        if name in arrays:
            old = arrays[name]
            new = random.normal(scale=config.hidden**-0.5, size=(*old.shape[:2], more))
            arrays[name] = jnp.concatenate([old, jnp.asarray(new, old.dtype)], axis=2)
    down = arrays["layers/down"]
    arrays["layers/down"] = jnp.pad(down, ((0, 0), (0, more), (0, 0)))
    return Transformer(replace(config, mlp=mlp), arrays=arrays).unstacked()
