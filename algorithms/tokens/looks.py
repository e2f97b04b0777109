"""Continuing the likeliest next tokens a little, to choose among them.

The continuations of a row's candidates are lanes over its cache: the first call runs the
candidates themselves, so that the chosen one's keys, values and next law are there already.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.cache import Cache, put, spread
from jaxdecode.lanes import Lanes
from jaxdecode.logits import noted
from jaxdecode.rows import Rows
from jaxdecode.sampling import argmax
from jaxdecode.stop import StopRule
from jaxdecode.types import Array, Bool, Float, Int


class Look(NamedTuple):
    """What a look found: the token of each row; whether it was run, then its next law, and the
    cache with it behind the prefix; and what it took."""

    token: Int[Array, "R"]
    ran: Bool[Array, "R"]
    logits: Float[Array, "R V"]
    cache: Cache
    passes: Int[Array, "R"]
    tokens: Int[Array, "R"]
    attended: Float[Array, "R"]


class _Ahead(NamedTuple):
    """Continuations under way, one for each candidate."""

    step: Int[Array, ""]
    lanes: Lanes
    token: Int[Array, "RK"]
    text: Int[Array, "RK W"]
    length: Int[Array, "RK"]
    edits: Any
    done: Bool[Array, "RK"]
    total: Float[Array, "RK"]
    count: Int[Array, "RK"]
    first: Float[Array, "R K V"]


@struct.dataclass
class Lookahead:
    """Chooses the candidate of the highest mean log-probability, its continuation's with it.

    Attributes:
      generator: its law is looked along, and its rules end a continuation.
      line: also ends one.
      branch: static, candidates.
      ahead: static, the most tokens of a continuation.
    """

    generator: Generator
    line: StopRule
    branch: int = struct.field(pytree_node=False)
    ahead: int = struct.field(pytree_node=False)

    def __call__(
        self,
        rows: Rows,
        cache: Cache,
        raw: Float[Array, "R V"],
        edited: Float[Array, "R V"],
        pause: Bool[Array, "R"],
    ) -> Look:
        """Continue the candidates of the rows that pause, whose roots `cache` holds."""
        count, (batch, vocab) = self.branch, edited.shape
        value, candidate = jax.lax.top_k(edited, count)
        logp = jnp.take_along_axis(jax.nn.log_softmax(edited), candidate, axis=1)
        usable = jnp.isfinite(value) & pause[:, None]
        token = candidate.reshape(-1)
        text, length, edits, said = spread((rows.tokens, rows.length, rows.transform, raw), count)
        text = jnp.pad(text, ((0, 0), (0, self.ahead + 1)))
        text = put(text, length[:, None], token[:, None])
        here = _Ahead(
            step=jnp.zeros((), jnp.int32),
            lanes=Lanes.over(cache, count, count * max(self.ahead, 1)),
            token=token,
            text=text,
            length=length + 1,
            edits=noted(self.generator.transform, edits, said, token, usable.reshape(-1)),
            done=self._ended(text, length + 1) | ~usable.reshape(-1),
            total=logp.reshape(-1),
            count=jnp.zeros((batch * count,), jnp.int32),
            first=jnp.zeros((batch, count, vocab), jnp.float32),
        )
        here = jax.lax.while_loop(
            lambda here: (here.step < self.ahead) & jnp.any(~here.done), self._longer, here
        )
        score = (here.total / (here.count + 1)).reshape(batch, count)
        score = jnp.where(usable & ~jnp.isnan(score), score, -jnp.inf)
        choice = jnp.argmax(score, axis=1)[:, None]
        chosen = jnp.take_along_axis(candidate, choice, axis=1)[:, 0]
        # What ended with the candidate itself, as by a line break, was not run.
        ran = pause & (jnp.take_along_axis(here.lanes.depth, choice, axis=1)[:, 0] > 0)
        return Look(
            token=jnp.where(jnp.isfinite(jnp.max(score, axis=1)), chosen, -1),
            ran=ran,
            logits=jnp.take_along_axis(here.first, choice[..., None], axis=1)[:, 0],
            cache=here.lanes.adopt(choice[:, 0], ran),
            passes=here.lanes.passes,
            tokens=here.lanes.tokens,
            attended=here.lanes.attended,
        )

    def _ended(self, text: Int[Array, "RK W"], length: Int[Array, "RK"]) -> Bool[Array, "RK"]:
        return self.generator.stop(text, length) | self.line(text, length)

    def _longer(self, here: _Ahead) -> _Ahead:
        """One greedy token more in every lane that has not ended."""
        batch, count, vocab = here.first.shape
        going = ~here.done
        shape = (batch, count, 1)
        logits, lanes = here.lanes.run(
            self.generator.model, here.token.reshape(shape), going.reshape(shape)
        )
        raw = logits[:, :, 0].reshape(-1, vocab)
        edited = self.generator.transform.apply(here.edits, raw)
        token = argmax(edited)
        gain = jnp.take_along_axis(jax.nn.log_softmax(edited), token[:, None], axis=1)[:, 0]
        text = put(
            here.text, jnp.where(going, here.length, here.text.shape[1])[:, None], token[:, None]
        )
        length = here.length + going
        return _Ahead(
            step=here.step + 1,
            lanes=lanes,
            token=token,
            text=text,
            length=length,
            edits=noted(self.generator.transform, here.edits, raw, token, going),
            done=here.done | self._ended(text, length),
            total=here.total + jnp.where(going, jnp.where(token < 0, jnp.nan, gain), 0.0),
            count=here.count + going,
            first=jnp.where(here.step == 0, logits[:, :, 0], here.first),
        )
