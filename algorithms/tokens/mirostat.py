"""Mirostat: truncation that holds the surprise of a text at a target.

    S(x) = -log2 p(x),   p the law before the truncation
    mu <- mu - rate (S(x) - target),   mu = 2 target at first

`Mirostat` (version 2) keeps tokens with S <= mu, `MirostatTopK` (version 1) the k likeliest, where
k is the rank at which a Zipf law of the exponent seen at the head has the surprise mu:

    s = sum t_i b_i / sum t_i^2,  t_i = ln((i + 1) / i),  b_i = ln(p(i) / p(i + 1)),  i < m
    k = (e 2^mu / (1 - V^-e))^(1/s),  e = s - 1

Source: Basu et al. 2021, arXiv 2007.14966. Whatever the model, the surprise of T tokens is on
average target + (mu_0 - mu_T) / (rate T): control holds as long as mu stays bounded, which it does
for targets between the surprise of greedy text and that of sampled text (`reachable`). mu is a
row's own, moves on the tokens that it emits alone, and follows the accepted path under speculation.

p is the law that the transform is handed: behind a temperature, the tempered one cuts and is
measured, both. The published program adds 1 to k; `variant="llama.cpp"` is what that library does
instead: k is rounded down, and S is that of the truncated law, renormalised, so that text comes
out more surprising than the target, by -log2 of the mass that is kept.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.logits.masking import keep
from jaxdecode.logits.threshold import rank_threshold
from jaxdecode.logits.transform import check_number
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int

PAPER = Paper(
    slug="mirostat",
    title="Mirostat: A Neural Text Decoding Algorithm that Directly Controls Perplexity",
    authors=(
        "Sourya Basu",
        "Govardana Sachitanandam Ramachandran",
        "Nitish Shirish Keskar",
        "Lav R. Varshney",
    ),
    year=2021,
    arxiv="2007.14966",
    venue="ICLR 2021",
    claim="Feedback on the truncation keeps the cross-entropy of a text at a chosen target, "
    "whatever its length, where fixed truncation drifts into repetition or incoherence.",
    losslessness="not-applicable",
)
Variant = Literal["paper", "llama.cpp"]
LEAST = 1e-3  # of the exponent: an exactly flat head has none


@struct.dataclass
class Mirostat:
    """Version 2: keeps tokens with a surprise of at most mu, or the single most probable one.

    Attributes:
      target: bits a token, tau.
      rate: eta; 1 as published, 0.1 in most programs.
      start: mu before the first token; None for 2 * target.
      most: what mu may rise to. It has no bound as published, and grows on a predictable text
        until a burst of sampling follows.
      variant: static, see the module.
    """

    target: Float[Array, ""] | float
    rate: Float[Array, ""] | float = 1.0
    start: Float[Array, ""] | float | None = None
    most: Float[Array, ""] | float = math.inf
    variant: Variant = struct.field(pytree_node=False, default="paper")

    def __post_init__(self) -> None:
        check_rules(self)

    def init(self, prompt: Prompt) -> Float[Array, "R"]:
        return first_bound(self, prompt)

    def apply(self, state: Float[Array, "R"], logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        within = surprises(logits) <= state[:, None]
        alone = jnp.arange(logits.shape[1]) == jnp.argmax(logits, axis=1)[:, None]
        none = ~jnp.any(within & ~jnp.isneginf(logits), axis=1, keepdims=True)
        return keep(jnp.where(none, alone, within), logits)

    def hear(
        self,
        state: Float[Array, "R"],
        logits: Float[Array, "R V"],
        token: Int[Array, "R"],
        active: Bool[Array, "R"],
    ) -> Float[Array, "R"]:
        return moved(self, state, logits, token, active)

    def observe(self, state: Any, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Any:
        raise ValueError(DEAF)


@struct.dataclass
class MirostatTopK:
    """Version 1: keeps the k most probable tokens, ties included.

    Attributes:
      target, rate, start, most, variant: see `Mirostat`.
      head: static, m, how many of the most probable tokens the exponent is read from.
    """

    target: Float[Array, ""] | float
    rate: Float[Array, ""] | float = 1.0
    start: Float[Array, ""] | float | None = None
    most: Float[Array, ""] | float = math.inf
    head: int = struct.field(pytree_node=False, default=100)
    variant: Variant = struct.field(pytree_node=False, default="paper")

    def __post_init__(self) -> None:
        check_rules(self)
        check_number("head", self.head, 2, fix="; two tokens make one ratio")

    def init(self, prompt: Prompt) -> Float[Array, "R"]:
        return first_bound(self, prompt)

    def apply(self, state: Float[Array, "R"], logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        vocab = logits.shape[1]
        k = jnp.exp2(log_rank(exponent(logits, self.head), state, vocab))
        whole = jnp.floor(k) if self.variant == "llama.cpp" else jnp.round(k)
        return keep(rank_threshold(logits, jnp.clip(whole, 1, vocab).astype(jnp.int32)), logits)

    def hear(
        self,
        state: Float[Array, "R"],
        logits: Float[Array, "R V"],
        token: Int[Array, "R"],
        active: Bool[Array, "R"],
    ) -> Float[Array, "R"]:
        return moved(self, state, logits, token, active)

    def observe(self, state: Any, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Any:
        raise ValueError(DEAF)


DEAF = (
    "transform: Mirostat moves by how probable a token was, and whoever reads this text has no "
    "logits to tell. A drafter may draft without it, since drafts from any law leave the output's "
    "law untouched: give it another transform. Beam searches and merged texts have no token drawn "
    "from the law: choose a sampler there"
)


def surprises(logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
    """-log2 p of every token."""
    return -jax.nn.log_softmax(logits, axis=1) / math.log(2)


def first_bound(rules: Mirostat | MirostatTopK, prompt: Prompt) -> Float[Array, "R"]:
    """mu before the first token."""
    start = 2 * rules.target if rules.start is None else rules.start
    return jnp.broadcast_to(jnp.asarray(start, jnp.float32), (prompt.batch,))


def moved(
    rules: Mirostat | MirostatTopK,
    state: Float[Array, "R"],
    logits: Float[Array, "R V"],
    token: Int[Array, "R"],
    active: Bool[Array, "R"],
) -> Float[Array, "R"]:
    """mu after a token on the active rows; on the others it stays."""
    law = logits if rules.variant == "paper" else rules.apply(state, logits)
    surprise = jnp.take_along_axis(surprises(law), token[:, None], axis=1)[:, 0]
    bound = state - rules.rate * (surprise - rules.target)
    return jnp.where(active, jnp.minimum(bound, rules.most), state)


def exponent(logits: Float[Array, "R V"], head: int) -> Float[Array, "R"]:
    """The Zipf exponent s of the `head` most probable tokens, by least squares."""
    # The barrier keeps the slices below from turning the selection into a sort on a CPU, which
    # takes a hundred times as long.
    top = jax.lax.optimization_barrier(jax.lax.top_k(logits, min(head, logits.shape[1]))[0])
    rank = jnp.arange(1, top.shape[1], dtype=jnp.float32)
    there = ~jnp.isneginf(top[:, 1:])  # an excluded token has no ratio
    t = jnp.where(there, jnp.log1p(1 / rank), 0.0)
    b = jnp.where(there, top[:, :-1] - jnp.where(there, top[:, 1:], 0.0), 0.0)
    square = jnp.sum(t * t, axis=1)
    return jnp.sum(t * b, axis=1) / jnp.where(square > 0, square, 1.0)


def log_rank(s: Float[Array, "R"], mu: Float[Array, "R"], vocab: int) -> Float[Array, "R"]:
    """log2 of the rank k at which a Zipf law of exponent s has the surprise mu, in [0, log2 V]."""
    s = jnp.maximum(s, LEAST)
    x = (s - 1) * math.log(vocab)
    small = jnp.abs(x) < 1e-3
    safe = jnp.where(small, 1.0, x)
    ratio = jnp.where(small, 1 + x / 2, safe / -jnp.expm1(-safe))  # of e ln V / (1 - V^-e)
    rank = (mu + jnp.log2(ratio / math.log(vocab))) / s
    return jnp.clip(rank, 0.0, math.log2(vocab))


def reachable(floor: float, ceiling: float, target: float) -> None:
    """Refuse a target outside what a model's greedy and sampled texts have, in bits a token.

    Raises:
      ValueError: telling what is reachable.
    """
    if not floor <= target <= ceiling:
        side = f"below greedy text's {floor:.2f}" if target < floor else "above sampled text's"
        raise ValueError(
            f"target={target} bits a token is {side}{'' if target < floor else f' {ceiling:.2f}'}: "
            f"truncation alone reaches {floor:.2f} to {ceiling:.2f} here"
        )


def check_rules(rules: Mirostat | MirostatTopK) -> None:
    """Refuse numbers that control nothing."""
    check_number("target", rules.target, 0.0, fix="; bits a token")
    check_number("rate", rules.rate, 0.0, above=True, fix="; at 0 nothing is controlled")
    if rules.variant not in ("paper", "llama.cpp"):
        raise ValueError(f"variant={rules.variant!r} must be 'paper' or 'llama.cpp'")
