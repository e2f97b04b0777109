"""How hypotheses are extended: the rules of a search by beams, and a group's choice.

A ranker scores every extension of a group's hypotheses, knowing what earlier groups have chosen
in the same step, and the best of them are its candidates.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.finished import LengthPenalty
from jaxdecode.logits.transform import rises
from jaxdecode.stop import Stop
from jaxdecode.types import Array, Bool, Float, Int, Key

Stopping = Literal["exact", "first", "heuristic", "never"]


@struct.dataclass
class Front:
    """The hypotheses of one group that are about to be extended, and what others have chosen.

    Attributes:
      step: i32[], tokens that each holds.
      group: i32[], which one, counted from 0.
      key: the prompts' keys of this step and group.
      score, total: f32[B, W], of the search, and summed log-probability; -inf: no hypothesis.
      logp: f32[B, W, V], edited log-probabilities of the next token.
      tokens: i32[B, W, L].
      others: i32[B, G * W, L], hypotheses of all groups; the earlier ones are one token ahead.
      counted: bool[B, G * W], those of earlier groups that have taken a token in this step.
      candidates: static, the most extensions of one hypothesis that can be taken.
    """

    step: Int[Array, ""]
    group: Int[Array, ""]
    key: Key[Array, "B"]
    score: Float[Array, "B W"]
    total: Float[Array, "B W"]
    logp: Float[Array, "B W V"]
    tokens: Int[Array, "B W L"]
    others: Int[Array, "B M L"]
    counted: Bool[Array, "B M"]
    candidates: int = struct.field(pytree_node=False)


@runtime_checkable
class Ranker(Protocol):
    """Scores every extension of every hypothesis of a group; NaN and -inf are never taken."""

    def falling(self, rising: bool | Bool[Array, ""]) -> bool | Bool[Array, ""]:
        """Whether no extension ever scores above what it extends; `rising` says that edited
        log-probabilities may be above 0. A search that stops for it asks, and a ranker without
        this method is taken to have scores that rise."""
        ...

    def __call__(self, front: Front) -> Float[Array, "B W V"]: ...


@struct.dataclass
class Likeliest:
    """The log-probability of the hypothesis and its extension."""

    def falling(self, rising: bool | Bool[Array, ""]) -> bool | Bool[Array, ""]:
        return jnp.logical_not(rising)

    def __call__(self, front: Front) -> Float[Array, "B W V"]:
        return front.score[..., None] + front.logp


@struct.dataclass
class Beam:
    """The rules of a search.

    Attributes:
      generator: model, edits, end rules and room; its sampler is not used.
      ranker: what extensions are ordered by.
      penalty: how finished hypotheses of different length compare.
      width: static, W hypotheses of each group.
      groups: static, G.
      stopping: static, when a prompt is done: "exact", no open hypothesis can enter a full pool
        any more, which scores that may rise (see `falling`) never allow to say; "first", the
        pool is full; "heuristic", no open one is better than its worst as they stand; "never",
        at the maximum of tokens.
      spare: static, see the module.
      leading: static; only one of the W best extensions may end.
      end_counts: whether the token of a hypothesis that ends counts for later groups.
    """

    generator: Generator
    ranker: Ranker
    penalty: LengthPenalty
    width: int = struct.field(pytree_node=False)
    groups: int = struct.field(pytree_node=False, default=1)
    stopping: Stopping = struct.field(pytree_node=False, default="exact")
    spare: bool = struct.field(pytree_node=False, default=True)
    leading: bool = struct.field(pytree_node=False, default=False)
    end_counts: bool | Bool[Array, ""] = True

    @property
    def beams(self) -> int:
        """K, hypotheses of a prompt."""
        return self.groups * self.width

    @property
    def falling(self) -> bool | Bool[Array, ""]:
        """Whether scores can only fall, whatever a hypothesis is extended by."""
        asked = getattr(self.ranker, "falling", None)
        return False if asked is None else asked(rises(self.generator.transform))

    @property
    def candidates(self) -> int:
        """Extensions a group looks at: enough for W that go on, whatever ends."""
        stop = self.generator.stop
        # Of another rule's ends there may be more: a place then stays empty for a step.
        others = stop.sequences.shape[0] if isinstance(stop, Stop) else 1
        ends = stop.eos.shape[0] + others
        count = self.width * (1 + ends) if self.spare else self.width
        return min(count, self.width * self.generator.model.vocab_size)


@struct.dataclass
class Chosen:
    """C candidates of a group, best first: [B, C]; `ends` and `goes` say what becomes of them,
    `places` [B, W] which of them stand in the group's places."""

    parent: Int[Array, "B C"]
    token: Int[Array, "B C"]
    score: Float[Array, "B C"]
    text: Int[Array, "B C L"]
    ends: Bool[Array, "B C"]
    goes: Bool[Array, "B C"]
    places: Int[Array, "B W"]


def choose(beam: Beam, front: Front) -> Chosen:
    """The best extensions of one group; ties go to the first hypothesis, then token."""
    score = beam.ranker(front)
    usable = jnp.isfinite(front.score)[..., None] & ~jnp.isnan(score)
    best, token = jax.lax.top_k(jnp.where(usable, score, -jnp.inf), front.candidates)
    return pick(beam, front.tokens, front.step, best, token)


def pick(
    beam: Beam,
    texts: Int[Array, "B W L"],
    step: Int[Array, ""],
    score: Float[Array, "B W N"],
    token: Int[Array, "B W N"],
) -> Chosen:
    """The best of N extensions of each hypothesis, which are in falling order."""
    batch, width, each = score.shape
    count = min(beam.candidates, width * each)
    best, index = jax.lax.top_k(score.reshape(batch, -1), count)
    token = jnp.take_along_axis(token.reshape(batch, -1), index, axis=1)
    parent = index // each
    text = jnp.take_along_axis(texts, parent[..., None], axis=1)
    text = text.at[:, :, step].set(token)
    there = jnp.isfinite(best)
    length = jnp.full((batch * count,), step + 1)
    ends = beam.generator.stop(text.reshape(batch * count, -1), length).reshape(best.shape)
    ends &= there
    goes = there & ~ends
    return Chosen(
        parent=parent,
        token=token,
        score=best,
        text=text,
        ends=ends,
        goes=goes & (jnp.cumsum(goes, axis=1) <= width),
        places=jax.lax.top_k(jnp.where(ends, -jnp.inf, best), width)[1],
    )


def placed(chosen: Chosen, array: Array) -> Array:
    """Of what there is of each candidate that of those in the places, [..., W, ...]."""
    places = chosen.places
    places = places.reshape(*places.shape, *[1] * (array.ndim - places.ndim))
    return jnp.take_along_axis(array, places, axis=chosen.places.ndim - 1)
