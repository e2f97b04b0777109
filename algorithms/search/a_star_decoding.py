"""A*-decoding: best-first search over steps, ordered by cost so far and promise (Chatziveroglou
2025, arXiv 2505.13672).

A node is a response so far, r its process reward, an edge one more step:

    h(s) = 1 - r(s),   g(s') = g(s) + max(0, r(s) - r(s')),   f = g + h
    pop the open node with the least f over the whole frontier; if it is complete return it,
    else draw k steps from it and open all of them

g remembers every fall of the reward along the path and refunds no rise, so that f is g + 1 - r.
f need not rise along a path: h is not consistent for this cost, and nothing is proved optimal.
The prompt has no reward; `root` is its h, 1 unless said otherwise, so that first steps cost
nothing. Ties go to the larger r, then the deeper node, then the older.

When the budget is up, the best complete node by f is returned; where there is none the open
node with the least f is completed greedily, which is beyond the budget and is counted.
`frontier=False` chooses among the children of the last node only, and so never turns back;
`costs=False` leaves g out: best-first search. Both are ablations.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.arena import Choice, Evaluator, Search, finish
from jaxdecode.cache import put
from jaxdecode.frontier import least
from jaxdecode.logits.transform import check_number
from jaxdecode.nodes import NONE, Arena, Fresh, look
from jaxdecode.paper import Paper
from jaxdecode.process_reward import Aggregation, Judgement, aggregate, check_aggregation
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.rows import check_start
from jaxdecode.steps import StepSampler
from jaxdecode.types import Array, Bool, Float, Int, Key

PAPER = Paper(
    slug="a_star_decoding",
    title="A*-Decoding: Token-Efficient Inference Scaling",
    authors=("Giannis Chatziveroglou",),
    year=2025,
    arxiv="2505.13672",
    venue="arXiv",
    claim="the accuracy of best-of-N and particle filtering with up to 3x fewer tokens and 30 % "
    "fewer passes of the process reward model",
    losslessness="not-applicable",
)

UNBOUNDED = 2**30


@struct.dataclass
class Ledger:
    """What A* knows of its nodes, and its trace.

    Attributes:
      score: f32[B, N], r, combined along the path.
      cost: f32[B, N], g.
      popped: i32[B, E], nodes in the order in which they were popped, NONE beyond.
      pops: i32[B], how many.
      answer: i32[B], the complete node that was popped; NONE before.
      chain: i32[B], the node under greedy completion; NONE for none.
    """

    score: Float[Array, "B N"]
    cost: Float[Array, "B N"]
    popped: Int[Array, "B E"]
    pops: Int[Array, "B"]
    answer: Int[Array, "B"]
    chain: Int[Array, "B"]


@struct.dataclass
class Frontier:
    """The strategy: see the module. Attributes as those of `AStar`."""

    children: int = struct.field(pytree_node=False)
    expansions: int = struct.field(pytree_node=False)
    aggregation: Aggregation = struct.field(pytree_node=False)
    frontier: bool = struct.field(pytree_node=False)
    costs: bool = struct.field(pytree_node=False)
    root: Float[Array, ""] | float
    tokens: Int[Array, ""] | int

    @property
    def lanes(self) -> int:
        return self.children

    def init(self, arena: Arena) -> Ledger:
        batch, nodes = arena.depth.shape
        none = jnp.full((batch,), NONE, jnp.int32)
        return Ledger(
            score=jnp.ones((batch, nodes), jnp.float32),
            cost=jnp.zeros((batch, nodes), jnp.float32),
            popped=jnp.full((batch, self.expansions + 1), NONE, jnp.int32),
            pops=none + 1,
            answer=none,
            chain=none,
        )

    def promise(self, arena: Arena, note: Ledger) -> tuple[Array, tuple[Array, ...]]:
        """r of every node, and the keys by which the frontier is ordered."""
        score = jnp.where(arena.depth == 0, 1.0 - self.root, note.score)
        return score, (note.cost + (1.0 - score), -score, -arena.depth)

    def select(
        self, key: Key[Array, ""], arena: Arena, note: Ledger, step: Int[Array, ""]
    ) -> tuple[Choice, Ledger]:
        _, keys = self.promise(arena, note)
        complete = arena.made & (arena.status == Status.EOS)
        leaf = arena.made & ~arena.grown
        going = leaf & (arena.status == Status.RUNNING)
        opened = leaf & (complete | going)
        if not self.frontier:
            parent = jnp.take_along_axis(
                arena.path, jnp.maximum(arena.depth - 1, 0)[..., None], axis=2
            )[..., 0]
            last = jnp.take_along_axis(note.popped, jnp.maximum(note.pops - 1, 0)[:, None], 1)
            opened &= (parent == last) | (note.pops[:, None] == 0)
        node = least(opened, *keys)
        over = (note.pops >= self.expansions) | (arena.usage.emitted >= self.tokens)
        found = ~over & (node >= 0) & (look(arena.status, node[:, None])[:, 0] == Status.EOS)
        # A completion under way goes on; a new one begins where the budget left no answer.
        closing = over & ~jnp.any(complete, axis=1)
        under_way = look(arena.status, note.chain[:, None])[:, 0] == Status.RUNNING
        chain = jnp.where((note.chain >= 0) & under_way, note.chain, least(going, *keys))
        chain = jnp.where(closing & ~self._closed(arena, note), chain, note.chain)
        done = found | jnp.where(over, ~closing | self._closed(arena, note), node < 0)
        done |= closing & (chain < 0)
        lanes = jnp.arange(self.children)
        alone = jnp.where(lanes == 0, chain[:, None], NONE)
        parents = jnp.where(closing[:, None], alone, node[:, None])
        popping = ~over & (node >= 0)
        place = jnp.where(popping, note.pops, note.popped.shape[1])
        note = replace(
            note,
            popped=put(note.popped, place[:, None], node[:, None]),
            pops=note.pops + popping,
            answer=jnp.where(found, node, note.answer),
            chain=chain,
        )
        return Choice(
            jnp.broadcast_to(parents, (node.shape[0], self.children)), closing, done
        ), note

    def _closed(self, arena: Arena, note: Ledger) -> Bool[Array, "B"]:
        """Whether a greedy completion has come to its end."""
        status = look(arena.status, note.chain[:, None])[:, 0]
        return (note.chain >= 0) & ((status == Status.EOS) | (status == Status.LENGTH))

    def backup(self, arena: Arena, note: Ledger, fresh: Fresh, child: Int[Array, "B K"]) -> Ledger:
        before = look(self.promise(arena, note)[0], fresh.parent)
        score = aggregate(
            self.aggregation,
            look(note.score, fresh.parent),
            look(arena.reward, child),
            look(arena.depth, child),
        )
        fall = jnp.maximum(0.0, before - score) if self.costs else jnp.zeros_like(score)
        at = jnp.where(child >= 0, child, arena.depth.shape[1])
        closing = (note.chain >= 0) & (note.chain == fresh.parent[:, 0])
        return replace(
            note,
            score=put(note.score, at, score),
            cost=put(note.cost, at, look(note.cost, fresh.parent) + fall),
            chain=jnp.where(closing, child[:, 0], note.chain),
        )

    def answer(self, arena: Arena, note: Ledger) -> Int[Array, "B"]:
        """The node to return: see the module; 0 where no step could be taken."""
        _, keys = self.promise(arena, note)
        made = arena.made & (arena.depth > 0)
        best = least(made & (arena.status == Status.RUNNING), *keys)
        for status in (Status.LENGTH, Status.EOS):
            found = least(made & (arena.status == status), *keys)
            best = jnp.where(found >= 0, found, best)
            if status == Status.LENGTH:
                best = jnp.where(self._closed(arena, note), note.chain, best)
        return jnp.maximum(jnp.where(note.answer >= 0, note.answer, best), 0)


@struct.dataclass
class Findings:
    """The trace of A*: what it knew in the end.

    Attributes:
      ledger: scores, costs and the order of pops, by node.
      reward, length, status, depth: of the nodes, [B, N]; `nodes` of them were made.
      rounds, slots: i32[B], rounds that grew nodes, and the slots that they took.
      capped: i32[B], steps that no delimiter ended.
      outside: i32[B], rewards outside [0, 1].
      full: bool[B], the arena was too small.
    """

    ledger: Ledger
    reward: Float[Array, "B N"]
    length: Int[Array, "B N"]
    status: Int[Array, "B N"]
    depth: Int[Array, "B N"]
    nodes: Int[Array, "B"]
    rounds: Int[Array, "B"]
    slots: Int[Array, "B"]
    capped: Int[Array, "B"]
    outside: Int[Array, "B"]
    full: Bool[Array, "B"]


@struct.dataclass
class AStar:
    """A*-decoding of every prompt.

    Attributes:
      steps: how steps are drawn; with `distinct`, copies of a sibling are not opened.
      evaluator: process rewards of steps.
      children: static, k.
      expansions: static, the most nodes that are expanded.
      tokens: the most tokens that are drawn before the search ends, completion apart.
      aggregation: static, how the rewards of a path combine into r.
      root: h of the prompt, in [0, 1].
      frontier, costs: static, see the module.
      slots: static, of the arena; None for what the worst case needs.
    """

    steps: StepSampler
    evaluator: Evaluator
    children: int = struct.field(pytree_node=False, default=4)
    expansions: int = struct.field(pytree_node=False, default=32)
    tokens: Int[Array, ""] | int = UNBOUNDED
    aggregation: Aggregation = struct.field(pytree_node=False, default="last")
    root: Float[Array, ""] | float = 1.0
    frontier: bool = struct.field(pytree_node=False, default=True)
    costs: bool = struct.field(pytree_node=False, default=True)
    slots: int | None = struct.field(pytree_node=False, default=None)

    def __post_init__(self):
        for name in ("children", "expansions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1 is needed")
        check_aggregation(self.aggregation)
        check_number("root", self.root, 0.0, 1.0)
        check_number("tokens", self.tokens, 1)

    @property
    def search(self) -> Search:
        strategy = Frontier(
            self.children,
            self.expansions,
            self.aggregation,
            self.frontier,
            self.costs,
            self.root,
            self.tokens,
        )
        rounds = self.expansions + self.steps.depth + 1
        # The most of a completion are `depth` rounds, in which one lane makes a node.
        nodes = 1 + self.children * rounds
        slots = self.children * self.steps.width * rounds if self.slots is None else self.slots
        return Search(self.steps, self.evaluator, strategy, rounds, nodes, slots)

    def check(self, prompt: Prompt) -> None:
        check_start(self.steps.generator, prompt)
        _ = self.search  # may refuse

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        search = self.search
        arena, note, judged = search.run(key, prompt)
        assert isinstance(search.strategy, Frontier) and isinstance(judged, Judgement)
        trace = Findings(
            ledger=note,
            reward=arena.reward,
            length=arena.length,
            status=arena.status,
            depth=arena.depth,
            nodes=arena.nodes,
            rounds=arena.rounds,
            slots=arena.used,
            capped=arena.capped,
            outside=judged.outside,
            full=arena.full,
        )
        return finish(self.steps.model, arena, search.strategy.answer(arena, note), trace)
