"""Rewards of steps: where they come from, and how those of a path combine.

A process reward is the probability that a response is still right, in [0, 1]. One that is not
finite makes its step invalid; one outside is moved to the nearest bound, and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import jax.numpy as jnp
from jax.tree_util import Partial

from jaxdecode import struct
from jaxdecode.cache import Cache, spread, truncate
from jaxdecode.lm import View, extend
from jaxdecode.nodes import Arena, Fresh
from jaxdecode.scoring import RewardModel, Spent, check_function, one_each
from jaxdecode.types import Array, Float, Int

Aggregation = Literal["last", "min", "prod", "mean"]


def check_aggregation(value: str) -> None:
    """Refuse a rule that is none."""
    if value not in get_args(Aggregation):
        raise ValueError(f"aggregation={value!r}: use one of {', '.join(get_args(Aggregation))}")


def aggregate(rule: Aggregation, before: Array, reward: Array, steps: Array) -> Float[Array, "..."]:
    """The score of a path of `steps` steps from that of all but its last, and the last's reward.

    `before` is to be 1 where there is none, which "min" and "prod" start from.
    """
    match rule:
        case "last":
            return reward
        case "min":
            return jnp.minimum(before, reward)
        case "prod":
            return before * reward
        case "mean":
            return (before * (steps - 1) + reward) / jnp.maximum(steps, 1)


def bounded(reward: Array) -> tuple[Array, Array]:
    """Rewards in [0, 1], and which of them were outside; what is not finite stays."""
    outside = jnp.isfinite(reward) & ((reward < 0) | (reward > 1))
    return jnp.where(outside, jnp.clip(reward, 0.0, 1.0), reward), outside


@struct.dataclass
class Judgement:
    """State of an evaluator of steps.

    Attributes:
      outside: i32[B], rewards that lay outside [0, 1].
      cache: of the reward model, P slots for the prompt and X for nodes; None without one.
    """

    outside: Int[Array, "B"]
    cache: Cache | None = None


@struct.dataclass
class ProcessReward:
    """A reward model that reads every step once, in an arena of its own.

    The reward is read at the last token of the step, with all steps before it in sight.

    Attributes:
      model: shares the generator's vocabulary.
      width: static, the most tokens of a step, as the expander has it.
    """

    model: RewardModel
    width: int = struct.field(pytree_node=False)

    def init(self, arena: Arena) -> tuple[Judgement, Spent]:
        prompt, slots = arena.prompt, arena.owner.shape[1]
        batch, width = prompt.tokens.shape
        valid = jnp.arange(width) < prompt.length[:, None]
        empty = self.model.init_cache(batch, width + slots)
        cache = extend(self.model, prompt.tokens, empty, valid=valid, fresh=True).cache
        nothing = jnp.zeros((batch,), jnp.int32)
        spent = Spent.reading(self.model.cost, nothing, prompt.length)
        return Judgement(nothing, truncate(cache, prompt.length)), spent

    def score(
        self, state: Judgement, arena: Arena, fresh: Fresh
    ) -> tuple[Float[Array, "B K"], Judgement, Spent]:
        assert state.cache is not None
        batch, lanes = fresh.parent.shape
        width = arena.prompt.tokens.shape[1]
        count = self.width * lanes
        time, lane = jnp.arange(count) // lanes, jnp.arange(count) % lanes
        size = jnp.where(fresh.alive, fresh.size, 0)
        begun = fresh.length - fresh.size
        at = jnp.minimum(begun[..., None] + jnp.arange(self.width), fresh.tokens.shape[2] - 1)
        pieces = jnp.take_along_axis(fresh.tokens, at, axis=2)  # [B, K, W]
        tokens = jnp.swapaxes(pieces, 1, 2).reshape(batch, count)
        longest = jnp.max(fresh.size, axis=1, initial=0)
        view = View(
            position=arena.prompt.length[:, None] + begun[:, lane] + time,
            # The slots were taken when the step became a node.
            start=width + arena.used - lanes * longest,
            prefix=state.cache.length,
            valid=time < size[:, lane],
            block=jnp.broadcast_to(
                (lane[:, None] == lane) & (time[:, None] >= time), (batch, count, count)
            ),
            beyond=jnp.pad(fresh.sees[:, lane], ((0, 0), (0, 0), (width, 0))),
        )
        output = self.model(tokens, state.cache, view)
        end = jnp.maximum(size - 1, 0) * lanes + jnp.arange(lanes)
        outputs = jnp.take_along_axis(output.logits, end[..., None], axis=1)
        reward, outside = bounded(self.model.reward(outputs))
        spent = Spent.reading(self.model.cost, arena.prompt.length[:, None] + begun, size)
        spent = Spent(*(jnp.sum(n, axis=1) for n in (spent.passes, spent.tokens, spent.flops)))
        counted = state.outside + jnp.sum(outside & fresh.alive, axis=1)
        return reward, replace(state, outside=counted, cache=output.cache), spent


@struct.dataclass
class StepFunction:
    """A function of the response so far: exact rewards, rules, programs behind a host callback.

    Attributes:
      function: as that of `jaxdecode.scoring.FunctionScorer`; called once a round with all lanes
        of all rows. It counts as one pass for every step. The arguments that a `Partial` holds
        are leaves.
    """

    function: Callable[..., Float[Array, "R"]]

    def __post_init__(self) -> None:
        if type(self.function) is not object:  # as a tree transformation may put there
            check_function(self.function)
        if not isinstance(self.function, Partial) and callable(self.function):
            object.__setattr__(self, "function", Partial(self.function))

    def init(self, arena: Arena) -> tuple[Judgement, Spent]:
        batch = arena.prompt.batch
        return Judgement(jnp.zeros((batch,), jnp.int32)), Spent.nothing(batch)

    def score(
        self, state: Judgement, arena: Arena, fresh: Fresh
    ) -> tuple[Float[Array, "B K"], Judgement, Spent]:
        batch, lanes = fresh.parent.shape
        prompt = spread(arena.prompt, lanes)
        tokens, length = fresh.outlook or (fresh.tokens, fresh.length)
        rows = tokens.reshape(batch * lanes, -1)
        found = self.function(prompt.tokens, prompt.length, rows, length.reshape(-1))
        found = one_each(found, batch * lanes)
        reward, outside = bounded(found.reshape(batch, lanes))
        passes = jnp.sum(fresh.alive, axis=1, dtype=jnp.int32)
        spent = replace(Spent.nothing(batch), passes=passes)
        counted = state.outside + jnp.sum(outside & fresh.alive, axis=1)
        return reward, replace(state, outside=counted), spent
