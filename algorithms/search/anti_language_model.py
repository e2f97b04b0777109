"""Maximum mutual information against a language model (Li et al. 2016, arXiv:1510.03055):

    log p(y | x) - strength * log U(y),   U the model without the prompt

so that what would be said after anything is said less often. As published only the first tokens
of y are weighed, since U soon agrees with p. An edit of logits, for beams and samplers alike; U
reads the text so far anew for every token, which is not on the account of what uses it. Scores
may rise from token to token, so that a search does not stop before its last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import put
from jaxdecode.lm import LanguageModel, extend
from jaxdecode.logits.transform import check_number
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int


class Written(NamedTuple):
    """The first output tokens i32[R, N], and how many tokens there are, i32[R]."""

    tokens: Array
    count: Array


@struct.dataclass
class AntiLanguageModel:
    """Subtracts `strength` times log U from the logits of the first `tokens` output tokens.

    Attributes:
      model: U where it reads `begin` and the output alone.
      begin: i32[S], what a text begins with, S at least 1.
      strength: lambda, at least 0.
      tokens: static, N.
    """

    model: LanguageModel
    begin: Int[Array, "S"]
    strength: Float[Array, ""] | float
    tokens: int = struct.field(pytree_node=False)

    def __post_init__(self) -> None:
        check_number("strength", self.strength, 0.0)
        check_number("tokens", self.tokens, 1)

    @classmethod
    def of(
        cls, model: LanguageModel, begin: Sequence[int], strength: float, tokens: int
    ) -> AntiLanguageModel:
        if not begin:
            raise ValueError("begin=[]: a text without a begin token has no first prediction")
        return cls(model, jnp.asarray(list(begin), jnp.int32), strength, tokens)

    def init(self, prompt: Prompt) -> Written:
        rows = prompt.batch
        return Written(jnp.zeros((rows, self.tokens), jnp.int32), jnp.zeros((rows,), jnp.int32))

    def apply(self, state: Written, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        rows, begun = logits.shape[0], self.begin.shape[0]
        text = jnp.concatenate(
            [jnp.broadcast_to(self.begin, (rows, begun)), state.tokens[:, :-1]], axis=1
        )
        empty = self.model.init_cache(rows, text.shape[1])
        output = extend(self.model, text, empty, fresh=True)
        newest = begun - 1 + jnp.minimum(state.count, self.tokens - 1)
        ahead = jnp.take_along_axis(output.logits, newest[:, None, None], axis=1)[:, 0]
        weighed = logits - self.strength * jax.nn.log_softmax(ahead)
        return jnp.where((state.count < self.tokens)[:, None], weighed, logits)

    def observe(self, state: Written, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Written:
        at = jnp.where(active, state.count, self.tokens)[:, None]
        return Written(put(state.tokens, at, token[:, None]), state.count + active)
