"""What a search returns that ends with several responses a prompt."""

from __future__ import annotations

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.arena import finish
from jaxdecode.cache import put
from jaxdecode.lm import LanguageModel
from jaxdecode.nodes import NONE, Arena, Fresh, look
from jaxdecode.process_reward import Aggregation, Judgement, aggregate
from jaxdecode.result import Result, Status
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class FinalResponses:
    """The K responses a search ended with: a pool to vote in, see `self_certainty.Voting`.

    Attributes:
      tokens, length, status, logprob: of each.
      score: f32[B, K], -inf where the response was lost.
      best: i32[B], the one returned.
      nodes: i32[B], nodes that were made, the prompt's included.
      capped: i32[B], steps that no delimiter ended.
      outside: i32[B], rewards outside [0, 1].
      full: bool[B], the arena was too small.
    """

    tokens: Int[Array, "B K L"]
    length: Int[Array, "B K"]
    status: Int[Array, "B K"]
    logprob: Float[Array, "B K"]
    score: Float[Array, "B K"]
    best: Int[Array, "B"]
    nodes: Int[Array, "B"]
    capped: Int[Array, "B"]
    outside: Int[Array, "B"]
    full: Bool[Array, "B"]


def scored(
    arena: Arena,
    score: Float[Array, "B N"],
    rule: Aggregation,
    fresh: Fresh,
    child: Int[Array, "B K"],
) -> Float[Array, "B N"]:
    """`score` by node, with those of new children; the prompt's is 1."""
    at = jnp.where(child >= 0, child, score.shape[1])
    before, reward = look(score, fresh.parent), look(arena.reward, child)
    return put(score, at, aggregate(rule, before, reward, look(arena.depth, child)))


def standing(
    arena: Arena, score: Float[Array, "B N"], node: Int[Array, "B K"]
) -> tuple[Int[Array, "B K"], Float[Array, "B K"]]:
    """Status and score of nodes; INVALID and -inf where there is none or its reward is lost."""
    status = jnp.where(node >= 0, look(arena.status, node), Status.INVALID)
    return status, jnp.where(status == Status.INVALID, -jnp.inf, look(score, node))


def final_responses(
    model: LanguageModel,
    arena: Arena,
    judged: Judgement,
    node: Int[Array, "B K"],
    score: Float[Array, "B K"],
    best: Int[Array, "B"],
) -> Result:
    """The best of several responses as the result, and all of them as its trace."""
    lost = node < 0
    length = jnp.where(lost, 0, look(arena.length, node))
    chosen = jnp.take_along_axis(node, best[:, None], axis=1)[:, 0]
    trace = FinalResponses(
        tokens=jnp.where(lost[..., None], 0, look(arena.tokens, node)),
        length=length,
        status=jnp.where(lost, Status.INVALID, look(arena.status, node)),
        logprob=jnp.where(lost, 0.0, look(arena.logprob, node)),
        score=score,
        best=jnp.where(jnp.isfinite(jnp.max(score, axis=1)), best, NONE),
        nodes=arena.nodes,
        capped=arena.capped,
        outside=judged.outside,
        full=arena.full,
    )
    return finish(model, arena, jnp.maximum(chosen, 0), trace)
