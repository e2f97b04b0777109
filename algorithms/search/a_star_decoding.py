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

from algorithms.search.a_star_frontier import Frontier, Ledger
from jaxdecode import struct
from jaxdecode.arena import Evaluator, Search, finish
from jaxdecode.logits.transform import check_number
from jaxdecode.paper import Paper
from jaxdecode.process_reward import Aggregation, Judgement, check_aggregation
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
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

    def __post_init__(self) -> None:
        for name in ("children", "expansions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1 is needed")
        check_aggregation(self.aggregation)
        check_number("root", self.root, 0.0, 1.0)
        check_number("tokens", self.tokens, 1)

    @property
    def search(self) -> Search:
        """The search that a call runs."""
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
