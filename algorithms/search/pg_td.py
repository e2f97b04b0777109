"""Planning-guided decoding: Monte-Carlo tree search over tokens, with the transformer as prior
and as roll-out policy (Zhang et al. 2023, arXiv 2303.05510).

A state is a text, an action its next token, one of the k most probable, with priors P
renormalised over the k. A rollout descends from the prompt by `tree.Selection`, until an edge
that was never taken or a text that has ended; makes the node behind that edge, completes it
greedily, has the completed text rewarded; and adds 1 to N of every node on the path and of every
edge, whose Q is the largest reward that came back over it. The best completed text is returned,
the first of equals.

Nodes live in an arena, one token each. Two caches save what the model does and change nothing
else. A completion that begins with a new node's text is that node's too (`reuse`, the sequence
cache): a generation is a completion that the model wrote, and this is none. Of every completion
the k next tokens at all its places are kept (`remember`, the tree structure cache): a node that
shares it needs not even be run for its children's priors. Without the sequence cache a new
node's completion runs the node itself, and the other cache has nothing to save.

The reward is asked for once a rollout and all prompts, and may be a program behind a host
callback. Deliberate differences from the authors' code: a text that is full without an end token
is rewarded as it stands, and there is one completion a leaf, greedy, or drawn by `sampler` among
the k most probable tokens, which no other node may share.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import jax
import jax.numpy as jnp

from algorithms.search.completion import Completion, Order
from algorithms.search.texts import Ahead, Text, at_node, beginning, best_text, noted
from algorithms.search.tree import Bandit, Selection, Tree, back_up
from jaxdecode import struct
from jaxdecode.arena import Choice, Evaluator, Search
from jaxdecode.cache import put
from jaxdecode.lm import LanguageModel
from jaxdecode.logits.transform import check_number
from jaxdecode.nodes import NONE, Arena, Fresh, look
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt, check_prompt
from jaxdecode.result import Result, Status
from jaxdecode.rows import where_rows
from jaxdecode.sampling import Greedy, Sampler
from jaxdecode.stop import StopRule
from jaxdecode.types import Array, Float, Int, Key

PAPER = Paper(
    slug="pg_td",
    title="Planning with Large Language Models for Code Generation",
    authors=(
        "Shun Zhang",
        "Zhenfang Chen",
        "Yikang Shen",
        "Mingyu Ding",
        "Joshua B. Tenenbaum",
        "Chuang Gan",
    ),
    year=2023,
    arxiv="2303.05510",
    venue="ICLR",
    claim="Tree search over tokens under public tests passes more hidden tests than beam search, "
    "sampling with filtering and a Monte-Carlo decoder at equally many completions.",
    losslessness="not-applicable",
)


@struct.dataclass
class Planner:
    """The strategy: see the module. Attributes as those of `PlanningGuided`."""

    selection: Selection
    branch: int = struct.field(pytree_node=False)
    rollouts: int = struct.field(pytree_node=False)
    reuse: bool = struct.field(pytree_node=False)
    remember: bool = struct.field(pytree_node=False)
    generations: Int[Array, ""] | int
    goal: Float[Array, ""] | float

    @property
    def lanes(self) -> int:
        return 1

    def init(self, arena: Arena) -> Tree:
        return Tree.start(arena, self.branch, self.rollouts)

    def select(
        self, key: Key[Array, ""], arena: Arena, note: Tree, step: Int[Array, ""]
    ) -> tuple[Choice, Tree]:
        opening = arena.nodes == 1
        node, edge = self.selection.descend(arena, note)
        place = jnp.maximum(edge, 0)[:, None]

        def taken(array: Array) -> Array:
            return jnp.take_along_axis(look(array, node[:, None])[:, 0], place, axis=1)[:, 0]

        token = jnp.where(opening, arena.root, taken(note.edges.actions))
        length = look(arena.length, node[:, None])[:, 0] + 1
        prefix = look(arena.tokens, node[:, None])[:, 0]
        prefix = put(prefix, length[:, None] - 1, token[:, None])
        found, first = beginning(note.text, prefix, length)
        hit = found & self.reuse & ~opening
        known = jnp.where(hit, first, NONE)
        revisits = ~opening & (edge < 0)
        judged = arena.made & (note.text.length > 0)  # not the empty text
        best = jnp.max(jnp.where(judged, arena.reward, -jnp.inf), axis=1)
        done = (note.generations >= self.generations) | (best >= self.goal)
        order = Order(
            token=token,
            logprob=jnp.where(opening, 0.0, taken(note.edges.cost)),
            complete=~hit & ~opening,
            idle=hit & self.remember,
            known=hit,
            text=at_node(note.text, known),
        )
        parents = jnp.where(opening, 0, jnp.where(revisits, NONE, node))
        note = replace(
            note,
            leaf=jnp.where(revisits, node, NONE),
            edge=put(note.edge, arena.nodes[:, None], place),
            known=known,
        )
        return Choice(parents[:, None], opening & False, done, order), note

    def backup(self, arena: Arena, note: Tree, fresh: Fresh, child: Int[Array, "B K"]) -> Tree:
        new, opening = child[:, 0] >= 0, fresh.parent[:, 0] == 0
        count, rows = arena.depth.shape[1], jnp.arange(child.shape[0])
        node = jnp.where(new, child[:, 0], count)[:, None]
        shared, own = note.known >= 0, fresh.note
        other = at_node(note.text, note.known)
        said: Text = where_rows(shared, other, own)
        # A node that was run knows its own edges; one that was not has them from the text.
        run = fresh.size[:, 0] > 0
        place = jnp.minimum(look(arena.length, child), own.tokens.shape[1] - 1)[..., None]
        edges: Ahead = jax.tree.map(
            lambda ahead: jnp.take_along_axis(ahead, place, axis=1),
            where_rows(run, own.ahead, other.ahead),
        )
        leaf = jnp.where(new, child[:, 0], note.leaf)
        running = look(arena.status, leaf[:, None])[:, 0] == Status.RUNNING
        wrote = new & ~opening & ~shared & running
        generations = note.generations + wrote
        visits, counts, value = back_up(arena, note, leaf, ~opening)
        parent = jnp.where(new & ~opening, fresh.parent[:, 0], count)
        edge = look(note.edge, child)[:, 0]
        ordinal = jnp.where(opening, self.rollouts, jnp.sum(note.trail >= 0, axis=1))
        return replace(
            note,
            visits=visits,
            edges=jax.tree.map(lambda all, one: put(all, node, one), note.edges, edges),
            count=counts,
            value=value,
            child=note.child.at[rows, parent, edge].set(child[:, 0], mode="drop"),
            text=noted(
                note.text,
                jnp.where(opening[:, None], count, node),
                jax.tree.map(lambda leaf: leaf[:, None], said),
            ),
            leaf=leaf,
            trail=put(note.trail, ordinal[:, None], leaf[:, None]),
            generations=generations,
            when=put(note.when, node, generations[:, None]),
            looked=note.looked + run,
        )


@struct.dataclass
class PlanningGuided:
    """Planning-guided transformer decoding of every prompt; the trace is
    `Searched`, its note the `Tree`.

    Attributes:
      model: prior and roll-out policy.
      stop: ends a text.
      evaluator: the reward of completed texts, in [0, 1]: the share of public tests passed.
      max_tokens: static, of a text.
      branch: static, k.
      rollouts: static, the most of them, those that cost nothing included.
      reuse, remember: static, the sequence cache and the tree structure cache.
      sampler: draws completions among the k most probable tokens.
      rule: static, see `tree`.
      nodes: static, of the arena; None for what `rollouts` may need. A search that wants more
        ends with status CAPACITY and the best so far.
      weight, base: c and c_base.
      generations: the most completions that the model writes.
      goal: a reward that ends the search; inf uses the whole budget, as the authors do.
    """

    model: LanguageModel
    stop: StopRule
    evaluator: Evaluator
    max_tokens: int = struct.field(pytree_node=False)
    branch: int = struct.field(pytree_node=False, default=3)
    rollouts: int = struct.field(pytree_node=False, default=64)
    reuse: bool = struct.field(pytree_node=False, default=True)
    remember: bool = struct.field(pytree_node=False, default=True)
    sampler: Sampler = Greedy()
    rule: Bandit = struct.field(pytree_node=False, default="p-ucb")
    nodes: int | None = struct.field(pytree_node=False, default=None)
    weight: Float[Array, ""] | float = 4.0
    base: Float[Array, ""] | float = 10.0
    generations: Int[Array, ""] | int = 2**30
    goal: Float[Array, ""] | float = math.inf

    def __post_init__(self) -> None:
        for name in ("max_tokens", "branch", "rollouts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1 is needed")
        if self.rule not in get_args(Bandit):
            raise ValueError(f"rule={self.rule!r}: use one of {', '.join(get_args(Bandit))}")
        if self.reuse and not isinstance(self.sampler, Greedy):
            raise ValueError(
                f"sampler={type(self.sampler).__name__} with reuse=True: only greedy completions "
                "can be shared; pass reuse=False"
            )
        check_number("weight", self.weight, 0.0)
        check_number("base", self.base, 0.0, above=True)

    def check(self, prompt: Prompt) -> None:
        if self.branch > self.model.vocab_size:
            raise ValueError(
                f"branch={self.branch} exceeds the vocabulary of {self.model.vocab_size}"
            )
        limit = self.model.max_positions
        check_prompt(prompt, self.model.vocab_size, limit and limit - self.max_tokens)

    @property
    def planner(self) -> Planner:
        """What the arena is searched by."""
        caches = (self.reuse, self.remember)
        selection = Selection(self.rule, self.weight, self.base)
        bounds = (self.generations, self.goal)
        return Planner(selection, self.branch, self.rollouts, *caches, *bounds)

    @property
    def search(self) -> Search:
        expander = Completion(self.model, self.stop, self.max_tokens, self.branch, self.sampler)
        nodes = self.nodes or self.rollouts + 3
        slots = nodes + self.max_tokens
        return Search(expander, self.evaluator, self.planner, self.rollouts + 1, nodes, slots)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        arena, tree, _ = self.search.run(key, prompt)
        return best_text(self.model, arena, tree.text, tree)
