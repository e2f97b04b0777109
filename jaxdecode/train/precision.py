"""Mixed precision: compute in bfloat16, learn in float32 (Micikevicius et al. 2018, arXiv
1710.03740).

The weights that are trained and the optimiser's state stay in float32; every step computes on a
copy of the weights in the narrow type, and the gradient comes back in float32. Small steps thus
add up that a narrow weight would round away. bfloat16 has float32's range and needs no scaling of
the loss. A model computes in its weights' type, with logits, norms and softmax in float32.
"""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def cast(tree: Tree, dtype: Any) -> Tree:
    """Floating weights in another type; `None` leaves them as they are."""

    def one(leaf: Any) -> Any:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return tree if dtype is None else jax.tree.map(one, tree)


def check(params: Any, compute: Any) -> None:
    """Refuse to train narrow weights where a wide master copy was asked for."""
    if compute is None:
        return
    if not jnp.issubdtype(compute, jnp.floating):
        raise ValueError(f"compute={compute}: a floating type such as 'bfloat16' is needed")
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype != jnp.float32:
            raise ValueError(
                f"model: {jax.tree_util.keystr(path)} is {leaf.dtype}, and what is trained in "
                f"mixed precision is float32; load float32 weights, or drop compute={compute}"
            )
