"""What completes the nodes of a search: texts by node, told apart by how they begin."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import put
from jaxdecode.lm import LanguageModel
from jaxdecode.nodes import Arena, look
from jaxdecode.result import Result, Status
from jaxdecode.types import Array, Bool, Float, Int


class Ahead(NamedTuple):
    """The k most probable tokens after each token of a text: themselves, P, log-probs.

    Place p is after p tokens. P is renormalised over the k.
    """

    actions: Int[Array, "... L k"]
    prior: Float[Array, "... L k"]
    cost: Float[Array, "... L k"]


class Text(NamedTuple):
    """A completed text; `ahead` is an `Ahead` where a search keeps one, else nothing."""

    tokens: Int[Array, "... L"]
    length: Int[Array, "..."]
    status: Int[Array, "..."]
    logprob: Float[Array, "..."]
    ahead: Any = ()


def beginning(
    text: Text, prefix: Int[Array, "B L"], length: Int[Array, "B"]
) -> tuple[Bool[Array, "B"], Int[Array, "B"]]:
    """Whether some node's completion begins with a text, and the first node whose does."""
    inside = jnp.arange(prefix.shape[1]) < length[:, None]
    same = jnp.all((text.tokens == prefix[:, None]) | ~inside[:, None], axis=2)
    same &= (text.length >= length[:, None]) & (text.status != Status.INVALID)
    return jnp.any(same, axis=1), jnp.argmax(same, axis=1).astype(jnp.int32)


def at_node(stored: Text, node: Int[Array, "B"]) -> Text:
    """The text of one node a row."""
    return jax.tree.map(lambda array: look(array, node[:, None])[:, 0], stored)


def noted(stored: Text, node: Int[Array, "B K"], said: Text) -> Text:
    """`stored` with the texts of K nodes a row; an index past the end is dropped."""
    return jax.tree.map(lambda array, new: put(array, node, new), stored, said)


@struct.dataclass
class Searched:
    """A trace.

    Attributes:
      note: the strategy's.
      tokens, length: what the nodes spell; node 0 is the prompt.
      reward: f32[B, N], of what completes them.
      nodes: i32[B], how many there are.
    """

    note: Any
    tokens: Int[Array, "B N L"]
    length: Int[Array, "B N"]
    reward: Float[Array, "B N"]
    nodes: Int[Array, "B"]


def best_text(model: LanguageModel, arena: Arena, text: Text, note: Any) -> Result:
    """The completed text of the highest reward as the result.

    The status is its own; EXHAUSTED where no text was rewarded, CAPACITY where the arena was full.
    The empty text is no candidate.
    """
    usable = (text.status != Status.INVALID) & (arena.status != Status.INVALID) & arena.made
    usable &= text.length > 0
    score = jnp.where(usable, arena.reward, -jnp.inf)
    best = at_node(text, jnp.argmax(score, axis=1))
    status = jnp.where(jnp.any(usable, axis=1), best.status, Status.EXHAUSTED)
    status = jnp.where(arena.full, Status.CAPACITY, status)
    return Result(
        tokens=best.tokens,
        length=best.length,
        logprob=best.logprob,
        status=status.astype(jnp.int8),
        usage=arena.usage.priced(model.cost),
        trace=Searched(note, arena.tokens, arena.length, arena.reward, arena.nodes),
    )
