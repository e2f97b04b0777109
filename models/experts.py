"""Mixtures of experts: a router picks some of a layer's MLPs for every token.

Shazeer et al. 2017 (arXiv:1701.06538), as Mixtral has it (Jiang et al. 2024, arXiv:2401.04088).
No expert has a capacity and no token is dropped, so that a row never depends on its neighbours.

There are several ways to compute the same; the target and the number of tokens decide, by what is
read of the weights and what is multiplied. `picked` fetches the experts of each token, `every`
runs all experts on all tokens, and `grouped` and `ragged` run each expert on the tokens that
picked it: in blocks, or by an operation that TPUs have and that multiplies everything elsewhere.
A token's share of an expert multiplies what goes into the last product, so that an expert that
was not picked adds an exact zero.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxdecode.target import PARTS, ROWS, Target
from jaxdecode.types import Array, Float, Int
from models.config import TransformerConfig
from models.layers import Weights, activate

Way = Literal["picked", "every", "grouped", "ragged"]
NAMES: tuple[str, ...] = ("router", "gate", "up", "down")
COPIES = 3
"""A fetched expert is read, written and read again, where `every` reads it once."""
IDLE = {"cpu": 2, "gpu": 128, "tpu": 128}
"""Tokens that one pass over weights multiplies in the time that it takes to read them."""
BLOCK = (8, 128)
"""Tokens that an expert takes at a time, at least and at most."""


def mix(
    config: TransformerConfig, weights: Weights, x: Float[Array, "B T D"], target: Target
) -> Float[Array, "B T D"]:
    """The sum of each token's picked experts by their shares.

    On a mesh every device routes the tokens of its rows and holds a part of every expert's width.

    Args:
      weights: router [D, E], gate and up [E, D, F], down [E, F, D].
    """
    rows, width = target.axis(ROWS, x.shape[0]), target.axis(PARTS, config.mlp)

    def part(x, *arrays):
        tokens = x.reshape(-1, x.shape[-1])
        inner = dict(zip(NAMES, arrays, strict=True))
        choice, share = route(config, inner["router"], tokens)
        run = WAYS[way_of(config, len(tokens), target)]
        out = run(config, inner, tokens, choice, share).reshape(x.shape)
        return out if width is None else jax.lax.psum(out, width)

    wide, tall = PartitionSpec(None, None, width), PartitionSpec(None, width)
    specs = (PartitionSpec(rows), PartitionSpec(), wide, wide, tall)
    whole = target.per_device(part, specs, PartitionSpec(rows))
    return whole(x, *(weights[name] for name in NAMES))


def route(
    config: TransformerConfig, router: Float[Array, "D E"], x: Float[Array, "N D"]
) -> tuple[Int[Array, "N K"], Float[Array, "N K"]]:
    """The experts of each token, likeliest first, and their shares in float32."""
    logits = jnp.einsum("nd,de->ne", x, router, preferred_element_type=jnp.float32)
    share, choice = jax.lax.top_k(jax.nn.softmax(logits), config.experts_per_token)
    if config.renormalize:
        share = share / jnp.sum(share, axis=-1, keepdims=True)
    return choice, share


def way_of(config: TransformerConfig, tokens: int, target: Target) -> Way:
    """Which way of computing so many tokens reads and multiplies least."""
    if tokens * config.experts_per_token * COPIES <= config.experts:
        return "picked"
    if tokens <= IDLE[target.platform]:
        return "every"
    return "ragged" if target.platform == "tpu" else "grouped"


def picked(
    config: TransformerConfig,
    weights: Weights,
    x: Float[Array, "N D"],
    choice: Int[Array, "N K"],
    share: Float[Array, "N K"],
) -> Float[Array, "N D"]:
    """Fetch the experts of each token."""
    own = {name: jnp.take(weights[name], choice, axis=0, mode="clip") for name in NAMES[1:]}
    x = jnp.broadcast_to(x[:, None], (*choice.shape, x.shape[1]))
    gate, up = (jnp.einsum("nkd,nkdf->nkf", x, own[name]) for name in ("gate", "up"))
    return jnp.einsum("nkf,nkfd->nd", _inner(config, gate, up, share), own["down"])


def every(
    config: TransformerConfig,
    weights: Weights,
    x: Float[Array, "N D"],
    choice: Int[Array, "N K"],
    share: Float[Array, "N K"],
) -> Float[Array, "N D"]:
    """Run all experts on all tokens; most shares are zero."""
    each = jax.nn.one_hot(choice, config.experts, dtype=share.dtype, axis=0)  # [E, N, K]
    share = jnp.sum(each * share, axis=-1)
    x = jnp.broadcast_to(x, (config.experts, *x.shape))
    gate, up = (jnp.einsum("end,edf->enf", x, weights[name]) for name in ("gate", "up"))
    return jnp.einsum("enf,efd->nd", _inner(config, gate, up, share), weights["down"])


def grouped(
    config: TransformerConfig,
    weights: Weights,
    x: Float[Array, "N D"],
    choice: Int[Array, "N K"],
    share: Float[Array, "N K"],
) -> Float[Array, "N D"]:
    """Run each expert on the tokens that picked it, in blocks of tokens.

    Pairs of token and expert are laid out by expert, each expert's from the beginning of a block
    of its own. There are at most N K / block full blocks and one begun for each expert; blocks
    that are left over are skipped.
    """
    pairs, experts = choice.size, config.experts
    block = min(max(pairs // experts, BLOCK[0]), BLOCK[1])
    blocks = min(pairs, pairs // block + experts)
    expert = choice.reshape(-1)
    order = jnp.argsort(expert, stable=True)
    count = jnp.bincount(expert, length=experts)
    last = jnp.cumsum(-(-count // block))  # of each expert: where its blocks end
    rank = jnp.zeros_like(expert).at[order].set(jnp.arange(pairs, dtype=expert.dtype))
    rank = rank - (jnp.cumsum(count) - count)[expert]
    place = (last - -(-count // block))[expert] * block + rank
    token = jnp.zeros(blocks * block, jnp.int32).at[place].set(jnp.arange(pairs) // choice.shape[1])
    shares = jnp.zeros(blocks * block, share.dtype).at[place].set(share.reshape(-1))
    owner = jnp.minimum(jnp.searchsorted(last, jnp.arange(blocks), side="right"), experts - 1)

    def compute(part):
        x, share, expert = part
        gate, up = x @ weights["gate"][expert], x @ weights["up"][expert]
        return _inner(config, gate, up, share) @ weights["down"][expert]

    def step(used, part):
        out = jax.lax.cond(used < last[-1], compute, lambda part: jnp.zeros_like(part[0]), part)
        return used + 1, out

    parts = (x[token].reshape(blocks, block, -1), shares.reshape(blocks, block), owner)
    _, out = jax.lax.scan(step, jnp.int32(0), parts)
    out = out.reshape(blocks * block, -1)[place.reshape(choice.shape)]
    return jnp.sum(out.astype(jnp.float32), axis=1).astype(x.dtype)


def ragged(
    config: TransformerConfig,
    weights: Weights,
    x: Float[Array, "N D"],
    choice: Int[Array, "N K"],
    share: Float[Array, "N K"],
) -> Float[Array, "N D"]:
    """Run each expert on the tokens that picked it, one behind another."""
    order = jnp.argsort(choice.reshape(-1), stable=True)
    count = jnp.bincount(choice.reshape(-1), length=config.experts)
    rows = x[order // choice.shape[1]]
    gate, up = (jax.lax.ragged_dot(rows, weights[name], count) for name in ("gate", "up"))
    inner = _inner(config, gate, up, share.reshape(-1)[order])
    out = jax.lax.ragged_dot(inner, weights["down"], count)
    out = jnp.zeros_like(out).at[order].set(out).reshape(*choice.shape, -1)
    return jnp.sum(out.astype(jnp.float32), axis=1).astype(x.dtype)


def _inner(config: TransformerConfig, gate: Array, up: Array, share: Array) -> Array:
    """act(gate) * up * share; exactly zero where the share is, whatever the rest may be."""
    share = share[..., None]
    wide = (activate(config.activation, gate) * up).astype(jnp.float32)
    return jnp.where(share > 0, wide * share, 0).astype(gate.dtype)


WAYS = {"picked": picked, "every": every, "grouped": grouped, "ragged": ragged}
