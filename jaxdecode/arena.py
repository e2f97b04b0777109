"""Engine: select -> expand -> evaluate -> back up, all nodes in the slots of one cache.

    select     a strategy names up to K nodes to go on from, the same one several times or not
    expand     each grows a child, all lanes in one call of the model a token
    evaluate   the children get a reward, from a model with slots of its own or from the host
    back up    the strategy takes note

Rounds go on until the strategy has every row done, or their number is up. A search over a
frontier (A*), a tree whose values are passed upwards (Monte-Carlo), and a population whose
members are nodes (particles, beams over steps) differ in their strategy only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import put
from jaxdecode.lm import LanguageModel
from jaxdecode.logits import LogitsTransform
from jaxdecode.nodes import NONE, Arena, Fresh, insert, look, start
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.rows import where_rows
from jaxdecode.scoring import Spent
from jaxdecode.types import Array, Bool, Float, Int, Key


class Choice(NamedTuple):
    """What to go on from: parents i32[B, K] (NONE: idle), greedily or not, and who is done.

    `order` is what else a strategy tells its expander, leaves lead with B.
    """

    parents: Int[Array, "B K"]
    greedy: Bool[Array, "B"]
    done: Bool[Array, "B"]
    order: Any = ()


@runtime_checkable
class Expander(Protocol):
    """Grows children; `width` bounds the tokens of one, `depth` the pieces of a response."""

    @property
    def model(self) -> LanguageModel:
        """Runs the pieces."""
        ...

    @property
    def transform(self) -> LogitsTransform:
        """Edits the logits that pieces are drawn from."""
        ...

    @property
    def max_tokens(self) -> int:
        """L, the most tokens of a response."""
        ...

    @property
    def width(self) -> int: ...

    @property
    def depth(self) -> int: ...

    def grow(self, key: Key[Array, ""], arena: Arena, choice: Choice) -> tuple[Arena, Fresh]: ...


@runtime_checkable
class Evaluator(Protocol):
    """Rewards pieces; what is not finite makes a piece invalid. What it says of lanes that are not
    `alive`, or whose text is empty, is not looked at."""

    def init(self, arena: Arena) -> tuple[Any, Spent]:
        """State, and what reading the prompts cost, leaves lead with B."""
        ...

    def score(
        self, state: Any, arena: Arena, fresh: Fresh
    ) -> tuple[Float[Array, "B K"], Any, Spent]: ...


@runtime_checkable
class Strategy(Protocol):
    """Selection and backup. A note is a pytree whose leaves lead with B."""

    @property
    def lanes(self) -> int:
        """K, children a row can be asked for in one round."""
        ...

    def init(self, arena: Arena) -> Any: ...

    def select(
        self, key: Key[Array, ""], arena: Arena, note: Any, step: Int[Array, ""]
    ) -> tuple[Choice, Any]:
        """The parents of the next round, and the note as of now; `key` is the whole search's."""
        ...

    def backup(self, arena: Arena, note: Any, fresh: Fresh, child: Int[Array, "B K"]) -> Any:
        """`child` are the nodes that were made, NONE elsewhere; `arena.reward` has theirs."""
        ...


@struct.dataclass
class Search:
    """What a search is made of.

    Attributes:
      expander, evaluator, strategy: see their protocols.
      rounds: static, the most of them.
      nodes: static, N with the prompt's; a row stops where the next round might need more.
      slots: static, X for the tokens of nodes; likewise. A round takes as many tokens as its
        longest piece has, for each lane.
    """

    expander: Expander
    evaluator: Evaluator
    strategy: Strategy
    rounds: int = struct.field(pytree_node=False)
    nodes: int = struct.field(pytree_node=False)
    slots: int = struct.field(pytree_node=False)

    def __post_init__(self) -> None:
        lanes = self.strategy.lanes
        for name, least in (("rounds", 1), ("nodes", 1 + lanes), ("slots", self.need)):
            value = getattr(self, name)
            if isinstance(value, int) and value < least:
                raise ValueError(
                    f"{name}={value}: one round of {lanes} lanes needs {least}; raise it"
                )

    @property
    def need(self) -> int:
        """Slots that one round may take."""
        return self.strategy.lanes * self.expander.width

    def run(self, key: Key[Array, ""], prompt: Prompt) -> tuple[Arena, Any, Any]:
        """The arena, the strategy's note and the evaluator's state when all is done."""
        own = self.expander
        arena = start(
            own.model, own.transform, prompt, own.max_tokens, own.depth, self.nodes, self.slots
        )
        state, spent = self.evaluator.init(arena)
        carry = _Carry(
            step=jnp.zeros((), jnp.int32),
            running=jnp.ones((prompt.batch,), bool),
            arena=charge(arena, spent),
            note=self.strategy.init(arena),
            state=state,
        )
        carry = jax.lax.while_loop(
            lambda carry: jnp.any(carry.running) & (carry.step < self.rounds),
            lambda carry: self._round(key, carry),
            carry,
        )
        return carry.arena, carry.note, carry.state

    def _round(self, key: Key[Array, ""], carry: _Carry) -> _Carry:
        arena, running, lanes = carry.arena, carry.running, self.strategy.lanes
        choice, note = self.strategy.select(key, arena, carry.note, carry.step)
        running &= ~choice.done
        room = (arena.nodes + lanes <= self.nodes) & (arena.used + self.need <= self.slots)
        arena = replace(arena, full=arena.full | (running & ~room))
        running &= room
        parents = jnp.where(running[:, None], choice.parents, NONE)
        arena, fresh = self.expander.grow(key, arena, choice._replace(parents=parents))
        arena, child = insert(arena, fresh)
        # The empty text is where texts begin, and none itself: nobody is asked what it is worth.
        written = (fresh.outlook or (fresh.tokens, fresh.length))[1] > 0
        asked = replace(fresh, alive=fresh.alive & written)
        reward, state, spent = self.evaluator.score(carry.state, arena, asked)
        arena = reward_nodes(charge(arena, spent), child, jnp.where(written, reward, 0.0))
        after = self.strategy.backup(arena, note, fresh, child)
        return _Carry(
            step=carry.step + 1,
            running=running,
            arena=arena,
            note=where_rows(running, after, where_rows(carry.running, note, carry.note)),
            state=state,
        )


@struct.dataclass
class _Carry:
    step: Int[Array, ""]
    running: Bool[Array, "B"]
    arena: Arena
    note: Any
    state: Any


def charge(arena: Arena, spent: Spent) -> Arena:
    """Put what an evaluator spent on the account."""
    usage = arena.usage.add(
        scorer_passes=spent.passes, scorer_tokens=spent.tokens, flops=spent.flops
    )
    return replace(arena, usage=usage)


def reward_nodes(arena: Arena, child: Int[Array, "B K"], reward: Float[Array, "B K"]) -> Arena:
    """Enter rewards; a node without a finite one is invalid, never gone on from, and counted."""
    at = jnp.where(child >= 0, child, arena.depth.shape[1])
    lost = (child >= 0) & ~jnp.isfinite(reward)
    status = jnp.where(lost, Status.INVALID, look(arena.status, child))
    return replace(
        arena,
        reward=put(arena.reward, at, jnp.where(lost, 0.0, reward)),
        status=put(arena.status, at, status),
        usage=arena.usage.add(invalid=jnp.sum(lost, axis=1)),
    )


def finish(model: LanguageModel, arena: Arena, node: Int[Array, "B"], trace: Any) -> Result:
    """The response of one node a row as the result.

    The status is the response's own. Where the arena was full it is CAPACITY, where a response
    is not complete BUDGET, and where nothing usable could be reached EXHAUSTED.
    """
    at = node[:, None]

    def pick(array: Array) -> Array:
        return look(array, at)[:, 0]

    status = pick(arena.status)
    status = jnp.where(status == Status.RUNNING, Status.BUDGET, status)
    status = jnp.where(node > 0, status, Status.EXHAUSTED)
    status = jnp.where(arena.full, Status.CAPACITY, status)
    return Result(
        tokens=pick(arena.tokens),
        length=pick(arena.length),
        logprob=pick(arena.logprob),
        status=status.astype(jnp.int8),
        usage=arena.usage.priced(model.cost),
        trace=trace,
    )
