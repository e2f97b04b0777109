"""The losses of masked diffusion language models: tokens hidden at random, weighted by 1 / p.

With every token of a text hidden independently with probability t,

    L(x) = integral over t of (1 / t) E[ sum over hidden i of -log p(x_i | what is left) ]

bounds -log p(x) from above. Without the weight it is the loss of BERT, and bounds nothing. Two
forms of the same: pretraining divides by all tokens of the batch; fine-tuning hides nothing of
the prompt and divides in each row by the length of its answer, end tokens included, so that a
model learns to fill what is left with ends. Sources: LLaDA (arXiv 2502.09992), MDLM (2406.07524)
and SMDM (2410.18514) for the levels, Dream's released code for `cart`.
"""

from __future__ import annotations

from typing import Literal, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.denoiser import Denoiser
from jaxdecode.lm import LanguageModel
from jaxdecode.types import Array, Bool, Float, Int

LEAST = 1e-3
"""The smallest probability of hiding, so that no weight is infinite."""
Spread = Literal["independent", "shifted", "antithetic"]


@runtime_checkable
class Bidirectional(Protocol):
    """A model that runs whole sequences at once, told what sees what."""

    def forward(
        self,
        tokens: Int[Array, "B T"],
        valid: Bool[Array, "B T"] | None = None,
        *,
        position: Int[Array, "B T"] | None = None,
        block: Bool[Array, "B T T"] | None = None,
    ) -> tuple[Float[Array, "B T V"], Float[Array, "B T D"]]: ...


def levels(rng: np.random.Generator, rows: int, spread: Spread = "shifted") -> np.ndarray:
    """f32[rows] levels in [0, 1), each uniform; the rows of a batch cover the interval evenly.

    "shifted" adds row / rows to one draw, modulo 1 (SMDM); "antithetic" draws once in each of
    `rows` equal parts (MDLM); "independent" draws every row on its own (LLaDA).
    """
    place = np.arange(rows) / rows
    match spread:
        case "independent":
            found = rng.random(rows)
        case "shifted":
            found = (rng.random() + place) % 1.0
        case "antithetic":
            found = (rng.random(rows) / rows + place) % 1.0
        case _:
            raise ValueError(f"spread={spread!r}: use independent, shifted or antithetic")
    # A double just below 1 would round up to it.
    return np.minimum(found.astype(np.float32), np.nextafter(np.float32(1), np.float32(0)))


def predictions(
    denoiser: Denoiser, tokens: Int[Array, "B T"], length: Int[Array, "B"]
) -> Float[Array, "B T V"]:
    """Log-probabilities of the token at every place, from one run without a cache."""
    model = cast(Bidirectional, denoiser.model)
    place = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    _, hidden = model.forward(tokens, place < length[:, None], block=denoiser.visible(place, place))
    if denoiser.shift:
        hidden = jnp.concatenate([hidden[:, :1], hidden[:, :-1]], axis=1)
    return jax.nn.log_softmax(denoiser.logits(hidden).astype(jnp.float32), axis=-1)


def surprise(
    logprobs: Float[Array, "B T V"], tokens: Int[Array, "B T"], hidden: Bool[Array, "B T"]
) -> Float[Array, "B T"]:
    """-log p of the tokens that are hidden, in nats; 0 elsewhere."""
    chosen = jnp.take_along_axis(logprobs, tokens[..., None], axis=2)[..., 0]
    return jnp.where(hidden, -chosen, 0.0)


def masked_tokens(
    model: Bidirectional,
    tokens: Int[Array, "B T"],
    answer: Bool[Array, "B T"],
    length: Int[Array, "B"],
    level: Float[Array, "B"],
    noise: Float[Array, "B T"],
    *,
    mask_id: int,
    form: Literal["levels", "counts"] = "levels",
    per: Literal["row", "token"] = "row",
    weight: Literal["inverse", "cart"] = "inverse",
    shift: bool = False,
    causal_blocks: int | None = None,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Cross-entropy of the tokens that are hidden, weighted; in nats.

    Args:
      answer: tokens that may be hidden: all of a text, or in fine-tuning the answer with the end
        tokens behind it.
      level, noise: uniform draws.
      form: with "levels" a token is hidden where noise < p = (1 - e) level + e, e = 1e-3. With
        "counts" l of a row's A tokens are, those of the least noise, l uniform in 1..A, and p is
        l / A: the same integral at a lower variance, and no row without anything to learn.
      per: "row" is the mean over rows of the mean over a row's answer, "token" the mean over all
        that may be hidden.
      weight: "inverse" is 1 / p, which makes a bound of it; "cart" is Dream's.
    Metrics: `accuracy` of the hidden tokens, unweighted; with per="token" `weight`.
    """
    allowed = answer.sum(axis=1)
    if form == "levels":
        probability = ((1 - LEAST) * level + LEAST)[:, None]
        hidden = answer & (noise < probability)
    else:
        hidden, probability = counted(answer, level, noise)
    noised = jnp.where(hidden, mask_id, tokens)
    denoiser = Denoiser(cast(LanguageModel, model), mask_id, shift, causal_blocks)
    logprobs = predictions(denoiser, noised, length)
    loss = surprise(logprobs, tokens, hidden)
    valid = jnp.arange(tokens.shape[1]) < length[:, None]
    scale = 1 / probability if weight == "inverse" else cart(hidden, valid)
    right = hidden & (jnp.argmax(logprobs, axis=2) == tokens)
    metrics = {"accuracy": right.sum() / jnp.maximum(hidden.sum(), 1)}
    weighted = jnp.sum(loss * scale, axis=1)
    if per == "row":
        return jnp.mean(weighted / jnp.maximum(allowed, 1)), metrics
    total = allowed.sum().astype(jnp.float32)
    return weighted.sum() / jnp.maximum(total, 1.0), metrics | {"weight": total}


def counted(
    answer: Bool[Array, "B T"], level: Float[Array, "B"], noise: Float[Array, "B T"]
) -> tuple[Bool[Array, "B T"], Float[Array, "B 1"]]:
    """Hide floor(level A) + 1 of a row's A tokens; also the share that this is of them."""
    allowed = answer.sum(axis=1)
    count = jnp.minimum((level * allowed).astype(jnp.int32) + 1, allowed)
    order = jnp.argsort(jnp.where(answer, noise, jnp.inf), axis=1)
    rank = jnp.argsort(order, axis=1)
    return answer & (rank < count[:, None]), (count / jnp.maximum(allowed, 1))[:, None]


def cart(
    hidden: Bool[Array, "B T"], valid: Bool[Array, "B T"], p: float = 0.3
) -> Float[Array, "B T"]:
    """Dream's weights: w_i = sum over visible j of p (1 - p)^max(|i - j| - 1, 0) / 2.

    A hidden token near visible ones counts for more; no bound on the likelihood.
    """
    place = jnp.arange(hidden.shape[1])
    apart = jnp.maximum(jnp.abs(place[:, None] - place[None, :]) - 1, 0)
    near = 0.5 * p * (1 - p) ** apart
    return (valid & ~hidden).astype(jnp.float32) @ near
