"""DRY: don't repeat yourself, a penalty that grows with the length of what is repeated."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.logits.transform import check_number
from jaxdecode.ngram.suffix import Suffix
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int

FAR = 80.0  # powers are bounded at exp(80), beyond which a float32 overflows


@struct.dataclass
class Dry:
    """Subtracts `multiplier` * `base` ^ (n - `allowed`) from a token's logit.

    n is the number of tokens at the end of the text that the token has followed before, in
    prompt or output, and n < `allowed` costs nothing. As introduced in text-generation-webui
    (#5677); the defaults are its.

    Attributes:
      multiplier, base: 0 or more, and 1 or more.
      max_tokens: static; output tokens remembered, to be at least what is generated.
      allowed: static, 1 or more.
      breakers: i32[E], tokens that matches do not reach across and that are never penalised,
        such as those of line ends and quotation marks; E may be 0.
    """

    multiplier: Float[Array, ""] | float
    max_tokens: int = struct.field(pytree_node=False)
    base: Float[Array, ""] | float = 1.75
    allowed: int = struct.field(pytree_node=False, default=2)
    breakers: Int[Array, "E"] = struct.field(default_factory=lambda: jnp.zeros((0,), jnp.int32))

    def __post_init__(self) -> None:
        check_number("multiplier", self.multiplier, 0.0, fix="; 0 is no penalty")
        check_number("base", self.base, 1.0)
        check_number("allowed", self.allowed, 1, fix="; 1 penalises every repeated pair")
        check_number("max_tokens", self.max_tokens, 1)

    @classmethod
    def of(
        cls,
        multiplier: float,
        max_tokens: int,
        breakers: Sequence[int] = (),
        base: float = 1.75,
        allowed: int = 2,
    ) -> Dry:
        """Breakers as a list of ids."""
        if any(token < 0 for token in breakers):
            raise ValueError(f"breakers={list(breakers)}: ids of tokens are 0 or more")
        return cls(multiplier, max_tokens, base, allowed, jnp.asarray(list(breakers), jnp.int32))

    def init(self, prompt: Prompt) -> Suffix:
        return Suffix.of(prompt, prompt.tokens.shape[1] + self.max_tokens, self.breakers)

    def apply(self, state: Suffix, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        over = state.before_all(logits.shape[1]) - self.allowed
        power = jnp.minimum(jnp.maximum(over, 0) * jnp.log(self.base), FAR)
        return logits - jnp.where(over >= 0, self.multiplier * jnp.exp(power), 0.0)

    def observe(self, state: Suffix, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Suffix:
        return state.append(token, active, self.breakers)
