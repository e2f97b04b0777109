"""Samplers that came out of practice: cuts by logits, exclusion of the top, bent laws.

Where a rule has no paper the program that introduced it is named; each is compared with
llama.cpp's on the same logits.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import entropy, struct
from jaxdecode.logits.masking import keep
from jaxdecode.logits.transform import (
    Identity,
    LogitsTransform,
    check_number,
    no_state,
    unchanged,
)
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class TopNSigma:
    """Keeps logits within `n` standard deviations of the largest.

    The deviation is that of the logits not excluded. A temperature scales logits and deviation
    alike: before or after this filter, the same tokens are kept. Tang et al. 2024,
    arXiv:2411.07641.
    """

    n: Float[Array, ""] | float

    init = no_state
    observe = unchanged

    def __post_init__(self) -> None:
        check_number("n", self.n, 0.0, fix="; leave TopNSigma out to keep every token")

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        there = ~jnp.isneginf(logits)
        count = jnp.maximum(jnp.sum(there, axis=1, keepdims=True), 1)
        mean = jnp.sum(jnp.where(there, logits, 0.0), axis=1, keepdims=True) / count
        square = jnp.where(there, jnp.square(logits - mean), 0.0)
        sigma = jnp.sqrt(jnp.sum(square, axis=1, keepdims=True) / count)
        return keep(logits >= jnp.max(logits, axis=1, keepdims=True) - self.n * sigma, logits)


@struct.dataclass
class ExcludeTop:
    """XTC: with some probability, excludes the top choices.

    Of the tokens of probability >= `threshold` only the least probable one is kept, with its
    ties, in a share `probability` of the steps; fewer than two leave the law as it is. As
    introduced in text-generation-webui (#6335). A threshold above 1/2 never finds two.

    The programs toss a coin at every step. Given the text the coins are independent, so that
    the next token follows the mixture

        (1 - probability) softmax(then(logits)) + probability softmax(then(xtc(logits))),

    which is what this returns: no randomness beyond the token's own draw, the same law, and a
    verifier can ask for it at every node. Greedy decoding takes the likeliest token of the mixture.
    What else is to be done after the coin belongs into `then` and not behind this transform, where
    it would edit the mixture.

    Attributes:
      threshold, probability: in [0, 1].
      then: edits that follow in either case, such as the temperature that llama.cpp applies last.
    """

    threshold: Float[Array, ""] | float
    probability: Float[Array, ""] | float
    then: LogitsTransform = Identity()

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, 0.0, 1.0)
        check_number("probability", self.probability, 0.0, 1.0, fix="; 0 changes nothing")

    def init(self, prompt: Prompt) -> Any:
        return self.then.init(prompt)

    def cut(self, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        """The logits where the coin excludes the top."""
        p = jax.nn.softmax(logits, axis=1)
        top = p >= self.threshold
        least = jnp.min(jnp.where(top, p, jnp.inf), axis=1, keepdims=True)
        return keep(~top | (p <= least), logits)

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        plain = jax.nn.log_softmax(self.then.apply(state, logits), axis=1)
        cut = jax.nn.log_softmax(self.then.apply(state, self.cut(logits)), axis=1)
        share = jnp.asarray(self.probability, jnp.float32)
        return jnp.logaddexp(plain + jnp.log1p(-share), cut + jnp.log(share))

    def observe(self, state: Any, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Any:
        return self.then.observe(state, token, active)


@struct.dataclass
class DynamicTemperature:
    """A temperature that rises with the entropy, from `low` to `high`.

        T = low + (high - low) (H / log n)^exponent,    n tokens that are not excluded

    As introduced in koboldcpp; `dynatemp_range` r around a temperature t in llama.cpp is
    low = t - r, high = t + r.
    """

    low: Float[Array, ""] | float
    high: Float[Array, ""] | float
    exponent: Float[Array, ""] | float = 1.0

    init = no_state
    observe = unchanged

    def __post_init__(self) -> None:
        check_number("low", self.low, 0.0, above=True, fix="; the lowest temperature")
        check_number("exponent", self.exponent, 0.0)
        if isinstance(self.low, int | float) and isinstance(self.high, int | float):
            check_number("high", self.high, self.low, fix="; the highest temperature")

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        count = jnp.sum(~jnp.isneginf(logits), axis=1, keepdims=True)
        most = jnp.log(jnp.maximum(count, 2).astype(jnp.float32))
        share = jnp.clip(entropy.nats(logits)[:, None] / most, 0.0, 1.0)
        bent = self.low + (self.high - self.low) * jnp.power(share, self.exponent)
        return jnp.where(count > 1, logits / bent, logits)


@struct.dataclass
class QuadraticSmoothing:
    """Bends the logits x, m the largest of them and d = x - m:

        x' = m - factor (3 - curve) / 2 d^2 + factor (curve - 1) / 2 d^3

    Tokens near the best come nearer, the tail is pushed away. As introduced in
    text-generation-webui (`smoothing_factor`, `smoothing_curve`).
    """

    factor: Float[Array, ""] | float
    curve: Float[Array, ""] | float = 1.0

    init = no_state
    observe = unchanged

    def __post_init__(self) -> None:
        check_number("factor", self.factor, 0.0, above=True, fix="; leave it out for none")
        fix = "; 1 is quadratic, 3 is cubic, elsewhere the order of tokens would turn"
        check_number("curve", self.curve, 1.0, 3.0, fix=fix)

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        top = jnp.max(logits, axis=1, keepdims=True)
        there = ~jnp.isneginf(logits)
        d = jnp.where(there, logits - top, 0.0)
        square, cube = (3 - self.curve) / 2, (self.curve - 1) / 2
        bent = top + self.factor * (cube * d**3 - square * d**2)
        return jnp.where(there, bent, logits)
