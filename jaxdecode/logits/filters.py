"""Temperature, and the filters that cut the tail of a distribution.

Every filter reads the distribution it is handed: after a temperature the tempered one, after
another filter the renormalised one. Every filter leaves at least one token to a row that has
one.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import entropy, struct
from jaxdecode.logits.masking import keep
from jaxdecode.logits.threshold import mass_threshold, rank_threshold
from jaxdecode.logits.transform import check_number, no_state, unchanged
from jaxdecode.types import Array, Bool, Float, Int


def relative(logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
    """Probabilities divided by the row's largest."""
    top = jnp.max(logits, axis=1, keepdims=True)
    return jnp.exp(logits - jnp.where(jnp.isneginf(top), 0.0, top))


def best(logits: Float[Array, "R V"]) -> Bool[Array, "R V"]:
    """The most probable token of every row, and its ties."""
    return logits == jnp.max(logits, axis=1, keepdims=True)


@struct.dataclass
class Temperature:
    """Divides the logits by `temperature` > 0."""

    rises = False

    temperature: Float[Array, ""] | float

    init = no_state
    observe = unchanged

    def __post_init__(self) -> None:
        fix = "; use Greedy for deterministic decoding"
        check_number("temperature", self.temperature, 0.0, above=True, fix=fix)

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        return logits / self.temperature


@struct.dataclass
class TopK:
    """Keeps the `k` >= 1 most probable tokens, and the ties of the last of them."""

    rises = False

    k: Int[Array, ""] | int

    init = no_state
    observe = unchanged

    def __post_init__(self) -> None:
        check_number("k", self.k, 1, fix="; leave TopK out to keep every token")

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        return keep(rank_threshold(logits, self.k), logits)


@struct.dataclass
class TopP:
    """Nucleus: the smallest set of most probable tokens with a mass of at least `p`.

    p = 0 keeps the most probable token and p = 1 keeps all. Holtzman et al. 2020,
    arXiv:1904.09751.
    """

    rises = False

    p: Float[Array, ""] | float

    init = no_state
    observe = unchanged

    def __post_init__(self) -> None:
        check_number("p", self.p, 0.0, 1.0, fix="; 1 keeps every token")

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        # At p = 1 rounding must not cost the tokens too small to change a sum.
        kept = mass_threshold(logits, relative(logits), self.p) | (jnp.asarray(self.p) >= 1.0)
        return keep(kept, logits)


@struct.dataclass
class MinP:
    """Keeps tokens at least `p` times as probable as the best. Nguyen et al. 2024,
    arXiv:2407.01082."""

    rises = False

    p: Float[Array, ""] | float

    init = no_state
    observe = unchanged

    def __post_init__(self) -> None:
        check_number("p", self.p, 0.0, 1.0, fix="; 0 keeps every token")

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        return keep(relative(logits) >= self.p, logits)


@struct.dataclass
class Typical:
    """The smallest set of mass >= `mass` whose surprise is nearest to the entropy.

    The token that crosses the mass is kept; the most probable one may be dropped. Meister et
    al. 2023, arXiv:2202.00666.
    """

    rises = False

    mass: Float[Array, ""] | float

    init = no_state
    observe = unchanged

    def __post_init__(self) -> None:
        fix = "; 1 keeps every token"
        check_number("mass", self.mass, 0.0, 1.0, above=True, fix=fix)

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        logprob = jax.nn.log_softmax(logits, axis=1)
        distance = jnp.abs(logprob + entropy.of(logprob)[:, None])
        kept = mass_threshold(-distance, relative(logits), self.mass)
        return keep(kept | (jnp.asarray(self.mass) >= 1.0), logits)


@struct.dataclass
class Epsilon:
    """Keeps tokens of probability >= `epsilon`, or the best where there is none. Hewitt et
    al. 2022, arXiv:2210.15191."""

    rises = False

    epsilon: Float[Array, ""] | float

    init = no_state
    observe = unchanged

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, 0.0, 1.0, fix="; 0 keeps every token")

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        return keep((jax.nn.softmax(logits, axis=1) >= self.epsilon) | best(logits), logits)


@struct.dataclass
class Eta:
    """Keeps tokens of probability >= min(epsilon, sqrt(epsilon) * exp(-entropy)), or the best
    where there is none. Hewitt et al. 2022, arXiv:2210.15191."""

    rises = False

    epsilon: Float[Array, ""] | float

    init = no_state
    observe = unchanged

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, 0.0, 1.0, fix="; 0 keeps every token")

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        logprob = jax.nn.log_softmax(logits, axis=1)
        adapted = jnp.sqrt(self.epsilon) * jnp.exp(-entropy.of(logprob)[:, None])
        cut = jnp.minimum(self.epsilon, adapted)
        return keep((jnp.exp(logprob) >= cut) | best(logits), logits)
