"""How likely a denoiser finds a text: three estimators, one exact for an order.

With A answer tokens, S a set of them that is hidden and ce(S) the sum over i in S of
-log p(x_i | the rest, S hidden), in nats:

    continuous   E over t ~ U(0, 1) of ce(S) / t, each token hidden with probability t
    counts       E over l ~ U{1..A}, S of size l, of (A / l) ce(S)
    in_order     sum over j of -log p(x_j | what comes before j in the order)

The first two are the same number, a bound on -log p(x) from above that is tight where the
conditionals agree with one law; the second varies less, since the integral of P(|S| = l) / t is
1 / l. The third is -log of what filling one place at a time in that order draws. Sources: LLaDA
(arXiv 2502.09992) for the strata of counts and for guidance, SMDM (2410.18514) for the chain.

A row is a text whose answer may be hidden: a prompt is what `answer` leaves out. The samples of a
row depend on its key alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdecode.denoiser import Denoiser
from jaxdecode.train.masked import counted, predictions, surprise
from jaxdecode.types import Array, Bool, Float, Int, Key


class Texts(NamedTuple):
    """R texts.

    Attributes:
      tokens: i32[R, T], without the mask.
      answer: bool[R, T], the tokens whose likelihood is asked for, within `length`.
      length: i32[R].
    """

    tokens: Int[Array, "R T"]
    answer: Bool[Array, "R T"]
    length: Int[Array, "R"]


def log_predictions(
    denoiser: Denoiser, texts: Texts, hidden: Bool[Array, "R T"], guidance: float = 0.0
) -> Float[Array, "R T V"]:
    """Log-probabilities with some tokens hidden, guided away from those without the prompt.

    Guidance w makes the logits u + (w + 1)(c - u), of which u has the whole prompt hidden too;
    with 0, which must be a Python number, it costs no second run.
    """
    masked = jnp.where(hidden, denoiser.mask_id, texts.tokens)
    found = predictions(denoiser, masked, texts.length)
    if guidance == 0:
        return found
    bare = jnp.where(texts.answer, masked, denoiser.mask_id)
    other = predictions(denoiser, bare, texts.length)
    apart = jnp.where(jnp.isfinite(found), found - other, 0.0)  # the mask's -inf - -inf
    return jax.nn.log_softmax(other + (guidance + 1) * apart, axis=-1)


def continuous(
    denoiser: Denoiser,
    keys: Key[Array, "R"],
    texts: Texts,
    samples: int = 128,
    guidance: float = 0.0,
) -> Float[Array, "R S"]:
    """Draws of ce(S) / t, whose mean over S samples estimates the bound, in nats.

    A draw that hides nothing is 0; one of a small t is large. The levels of a row cover (0, 1)
    evenly: one draw of each of S equal parts.
    """

    def hide(answer: Array, level: Array, noise: Array) -> tuple[Array, Array]:
        return answer & (noise < level[:, None]), level

    return _draws(denoiser, keys, texts, samples, guidance, hide, strata=True)


def counts(
    denoiser: Denoiser,
    keys: Key[Array, "R"],
    texts: Texts,
    samples: int = 128,
    guidance: float = 0.0,
    strata: bool = True,
) -> Float[Array, "R S"]:
    """Draws of (A / l) ce(S), in nats; with `strata` the counts l of a row cover 1..A evenly."""

    def hide(answer: Array, level: Array, noise: Array) -> tuple[Array, Array]:
        hidden, share = counted(answer, level, noise)
        return hidden, share[:, 0]

    return _draws(denoiser, keys, texts, samples, guidance, hide, strata)


def _draws(
    denoiser: Denoiser,
    keys: Array,
    texts: Texts,
    samples: int,
    guidance: float,
    hide: Callable[[Array, Array, Array], tuple[Array, Array]],
    strata: bool,
) -> Array:
    if samples < 1:
        raise ValueError(f"samples={samples}: at least one draw is needed")
    width = texts.tokens.shape[1]

    def noise_of(key: Array) -> tuple[Array, Array]:
        level, noise = jax.random.split(key)
        draws = jax.random.uniform(level, (samples,))
        if strata:
            draws = (draws + jnp.arange(samples)) / samples
        # A level of 0 hides nothing and weighs infinitely; no draw of a row may be that.
        draws = jnp.clip(draws, jnp.finfo(jnp.float32).tiny, 1 - 2.0**-24)
        return draws, jax.random.uniform(noise, (samples, width))

    levels, noises = jax.vmap(noise_of)(keys)

    def one(index: Array) -> Array:
        hidden, share = hide(texts.answer, levels[:, index], noises[:, index])
        found = log_predictions(denoiser, texts, hidden, guidance)
        total = jnp.sum(surprise(found, texts.tokens, hidden), axis=1)
        return jnp.where(hidden.any(axis=1), total / share, 0.0)

    return jax.lax.map(one, jnp.arange(samples)).T


def in_order(
    denoiser: Denoiser,
    texts: Texts,
    rank: Int[Array, "R T"] | None = None,
    guidance: float = 0.0,
) -> Float[Array, "R"]:
    """-log p of filling the answer one place at a time, in nats; as many runs as T places.

    `rank` numbers the answer's places from 0 in the order in which they are filled; left to
    right without it.
    """
    if rank is None:
        rank = jnp.cumsum(texts.answer, axis=1) - 1

    def step(total: Array, at: Array) -> tuple[Array, None]:
        hidden = texts.answer & (rank >= at)
        found = log_predictions(denoiser, texts, hidden, guidance)
        now = texts.answer & (rank == at)
        return total + jnp.sum(surprise(found, texts.tokens, now), axis=1), None

    zero = jnp.zeros(texts.tokens.shape[0], jnp.float32)
    return jax.lax.scan(step, zero, jnp.arange(texts.tokens.shape[1]))[0]
