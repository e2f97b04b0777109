"""Planning-guided decoding: Monte-Carlo tree search over tokens, with the transformer as prior
and as roll-out policy (Zhang et al. 2023, arXiv 2303.05510).

A state is a text, an action its next token, one of the k most probable, with priors P
renormalised over the k. A rollout

    descends from the prompt by argmax of P-UCB, until an edge that was never taken or a text
    that has ended,
        Q(s, a) + beta(s) P(a | s) sqrt(log N(s)) / (1 + N(s, a)),
        beta(s) = log((N(s) + c_base + 1) / c_base) + c,
    makes the node behind that edge, completes it greedily, has the completed text rewarded,
    and adds 1 to N of every node on the path and of every edge; N begins at 1.

Q is the largest reward that came back over the edge, 0 before. The best completed text is
returned, the first of equals.

Nodes live in an arena: one token each, run once; a completion is run in the slots that follow
and leaves nothing behind. Completions are greedy, so that one that begins with a new node's
text is that node's too (`reuse`, the sequence cache): nothing is run but the node's own token,
which its children's priors need. The reward is asked for once a rollout and all prompts, and
may be a program behind a host callback. Deliberate differences from the authors' code: a text
that is full without an end token is rewarded as it stands, and there is one completion a leaf.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from algorithms.search.completion import Completion, Order, Outlook
from jaxdecode import struct
from jaxdecode.arena import Choice, Evaluator, Search
from jaxdecode.cache import put
from jaxdecode.lm import LanguageModel
from jaxdecode.logits.transform import check_number
from jaxdecode.nodes import NONE, Arena, Fresh, look
from jaxdecode.prompt import Prompt, check_prompt
from jaxdecode.result import Result, Status
from jaxdecode.rows import where_rows
from jaxdecode.stop import StopRule
from jaxdecode.types import Array, Float, Int, Key

TOP = 1  # the node of the prompt's last token, the root of the tree


@struct.dataclass
class Tree:
    """What the search knows of its nodes, and its trace.

    Attributes:
      visits: f32[B, N], N(s).
      actions, prior, cost: of a node's k edges, [B, N, k]; see `Outlook`.
      count, value: f32[B, N, k], N(s, a) and Q(s, a).
      child: i32[B, N, k], the node behind an edge, NONE before.
      edge: i32[B, N], by which of its parent's edges a node is reached.
      text, length, status, logprob: of every node's completion.
      leaf: i32[B], the node that was last evaluated; `trail` i32[B, R] those of all rollouts.
      known: i32[B], the node whose completion the new one shares; NONE for none.
      generations: i32[B], completions that the model wrote.
    """

    visits: Float[Array, "B N"]
    actions: Int[Array, "B N k"]
    prior: Float[Array, "B N k"]
    cost: Float[Array, "B N k"]
    count: Float[Array, "B N k"]
    value: Float[Array, "B N k"]
    child: Int[Array, "B N k"]
    edge: Int[Array, "B N"]
    text: Int[Array, "B N L"]
    length: Int[Array, "B N"]
    status: Int[Array, "B N"]
    logprob: Float[Array, "B N"]
    leaf: Int[Array, "B"]
    trail: Int[Array, "B R"]
    known: Int[Array, "B"]
    generations: Int[Array, "B"]


@struct.dataclass
class Planner:
    """The strategy: see the module. Attributes as those of `PlanningGuided`."""

    branch: int = struct.field(pytree_node=False)
    rollouts: int = struct.field(pytree_node=False)
    reuse: bool = struct.field(pytree_node=False)
    weight: Float[Array, ""] | float
    base: Float[Array, ""] | float
    generations: Int[Array, ""] | int

    @property
    def lanes(self) -> int:
        return 1

    def init(self, arena: Arena) -> Tree:
        batch, nodes = arena.depth.shape
        edges = jnp.zeros((batch, nodes, self.branch), jnp.float32)
        none = jnp.full((batch,), NONE, jnp.int32)
        return Tree(
            visits=jnp.ones((batch, nodes), jnp.float32),
            actions=edges.astype(jnp.int32),
            prior=edges,
            cost=edges,
            count=edges,
            value=edges,
            child=edges.astype(jnp.int32) + NONE,
            edge=jnp.zeros((batch, nodes), jnp.int32),
            text=jnp.zeros_like(arena.tokens),
            length=jnp.zeros_like(arena.length),
            status=jnp.full((batch, nodes), Status.INVALID, jnp.int32),
            logprob=jnp.zeros((batch, nodes), jnp.float32),
            leaf=none,
            trail=jnp.full((batch, self.rollouts), NONE, jnp.int32),
            known=none,
            generations=none + 1,
        )

    def scores(self, note: Tree, node: Int[Array, "B"]) -> Float[Array, "B k"]:
        """P-UCB of a node's edges."""

        def at(array: Array) -> Array:
            return look(array, node[:, None])[:, 0]

        visits = at(note.visits)[:, None]
        beta = jnp.log((visits + self.base + 1) / self.base) + self.weight
        explore = beta * at(note.prior) * jnp.sqrt(jnp.log(visits)) / (1 + at(note.count))
        return at(note.value) + explore

    def descend(self, arena: Arena, note: Tree) -> tuple[Array, Array]:
        """The node where a rollout leaves the tree, and by which edge; NONE where the text ends."""

        def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            node, edge, going = carry
            best = jnp.argmax(self.scores(note, node), axis=1).astype(jnp.int32)
            child = look(note.child, node[:, None])[:, 0]
            child = jnp.take_along_axis(child, best[:, None], axis=1)[:, 0]
            node, edge = jnp.where(going & (child >= 0), child, node), jnp.where(going, best, edge)
            on = look(arena.status, node[:, None])[:, 0] == Status.RUNNING
            edge = jnp.where(going & ~on, NONE, edge)
            return node, edge, going & (child >= 0) & on

        start = jnp.full_like(note.leaf, TOP)
        carry = (start, jnp.zeros_like(start), jnp.ones_like(start, bool))
        node, edge, _ = jax.lax.while_loop(lambda carry: jnp.any(carry[2]), step, carry)
        return node, edge

    def select(
        self, key: Key[Array, ""], arena: Arena, note: Tree, step: Int[Array, ""]
    ) -> tuple[Choice, Tree]:
        opening = arena.nodes == 1
        node, edge = self.descend(arena, note)
        place = jnp.maximum(edge, 0)[:, None]

        def taken(array: Array) -> Array:
            return jnp.take_along_axis(look(array, node[:, None])[:, 0], place, axis=1)[:, 0]

        token = jnp.where(opening, arena.root, taken(note.actions))
        begun = look(arena.length, node[:, None])[:, 0]
        prefix = look(arena.tokens, node[:, None])[:, 0]
        prefix = put(prefix, begun[:, None], token[:, None])
        inside = jnp.arange(prefix.shape[1]) <= begun[:, None]
        same = jnp.all((note.text == prefix[:, None]) | ~inside[:, None], axis=2)
        same &= (note.length > begun[:, None]) & (note.status != Status.INVALID)
        hit = jnp.any(same, axis=1) & self.reuse & ~opening
        known = jnp.where(hit, jnp.argmax(same, axis=1), NONE).astype(jnp.int32)
        revisits = ~opening & (edge < 0)
        spent = note.generations >= self.generations
        order = Order(
            token=token,
            complete=~hit & ~opening,
            known=known,
            text=look(note.text, known[:, None])[:, 0],
            length=look(note.length, known[:, None])[:, 0],
            logprob=jnp.where(opening, 0.0, taken(note.cost)),
        )
        parents = jnp.where(opening, 0, jnp.where(revisits, NONE, node))
        note = replace(
            note,
            leaf=jnp.where(revisits, node, NONE),
            edge=put(note.edge, arena.nodes[:, None], jnp.maximum(edge, 0)[:, None]),
            known=known,
        )
        return Choice(parents[:, None], opening & False, spent, order), note

    def backup(self, arena: Arena, note: Tree, fresh: Fresh, child: Int[Array, "B K"]) -> Tree:
        said: Outlook = fresh.note
        new, opening = child[:, 0] >= 0, fresh.parent[:, 0] == 0
        count = arena.depth.shape[1]
        node = jnp.where(new, child[:, 0], count)[:, None]
        rows = jnp.arange(node.shape[0])
        shared = note.known >= 0

        def told(stored: Array, own: Array) -> Array:
            """By node, with the new node's: its own, or that of the text which it shares."""
            other = look(stored, note.known[:, None])[:, 0]
            value = where_rows(shared, other, own)
            return put(stored, jnp.where(opening[:, None], count, node), value[:, None])

        parent = jnp.where(new & ~opening, fresh.parent[:, 0], count)
        edge = look(note.edge, child)[:, 0]
        link = note.child.at[rows, parent, edge].set(child[:, 0], mode="drop")
        leaf = jnp.where(new, child[:, 0], note.leaf)
        reward = look(arena.reward, leaf[:, None])[:, 0]
        path = look(arena.path, leaf[:, None])[:, 0]
        walked = (path > 0) & ~opening[:, None]
        visited = jnp.where(walked, path, count)
        below = jnp.where(walked[:, 1:] & (path[:, 1:] > TOP), path[:, :-1], count)
        by = look(note.edge, path[:, 1:])
        at = (rows[:, None], below, by)
        running = look(arena.status, leaf[:, None])[:, 0] == Status.RUNNING
        wrote = new & ~opening & ~shared & running
        ordinal = jnp.where(opening, self.rollouts, jnp.sum(note.trail >= 0, axis=1))
        return replace(
            note,
            visits=note.visits.at[rows[:, None], visited].add(1.0, mode="drop"),
            actions=put(note.actions, node, said.actions[:, None]),
            prior=put(note.prior, node, said.prior[:, None]),
            cost=put(note.cost, node, said.cost[:, None]),
            count=note.count.at[at].add(1.0, mode="drop"),
            value=note.value.at[at].max(reward[:, None], mode="drop"),
            child=link,
            text=told(note.text, said.text),
            length=told(note.length, said.length),
            status=told(note.status, said.status),
            logprob=told(note.logprob, said.logprob),
            leaf=leaf,
            trail=put(note.trail, ordinal[:, None], leaf[:, None]),
            generations=note.generations + wrote,
        )


@struct.dataclass
class PlanningGuided:
    """Planning-guided transformer decoding of every prompt; the trace is the `Tree`.

    Attributes:
      model: prior and roll-out policy.
      stop: ends a text.
      evaluator: the reward of completed texts, in [0, 1]: the share of public tests passed.
      max_tokens: static, of a text.
      branch: static, k.
      rollouts: static, the most of them, those that cost nothing included.
      reuse: static, the sequence cache.
      weight, base: c and c_base.
      generations: the most completions that the model writes.
    """

    model: LanguageModel
    stop: StopRule
    evaluator: Evaluator
    max_tokens: int = struct.field(pytree_node=False)
    branch: int = struct.field(pytree_node=False, default=3)
    rollouts: int = struct.field(pytree_node=False, default=64)
    reuse: bool = struct.field(pytree_node=False, default=True)
    weight: Float[Array, ""] | float = 4.0
    base: Float[Array, ""] | float = 10.0
    generations: Int[Array, ""] | int = 2**30

    def __post_init__(self):
        for name in ("max_tokens", "branch", "rollouts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1 is needed")
        check_number("weight", self.weight, 0.0)
        check_number("base", self.base, 0.0, above=True)

    def check(self, prompt: Prompt) -> None:
        if self.branch > self.model.vocab_size:
            raise ValueError(
                f"branch={self.branch} exceeds the vocabulary of {self.model.vocab_size}"
            )
        limit = self.model.max_positions
        check_prompt(prompt, self.model.vocab_size, limit and limit - self.max_tokens)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        rules = (self.reuse, self.weight, self.base, self.generations)
        planner = Planner(self.branch, self.rollouts, *rules)
        expander = Completion(self.model, self.stop, self.max_tokens, self.branch)
        nodes, slots = self.rollouts + 3, self.rollouts + self.max_tokens + 2
        search = Search(expander, self.evaluator, planner, self.rollouts + 1, nodes, slots)
        arena, tree, _ = search.run(key, prompt)
        usable = (tree.status != Status.INVALID) & (arena.status != Status.INVALID) & arena.made
        score = jnp.where(usable, arena.reward, -jnp.inf)
        best = jnp.argmax(score, axis=1)[:, None]

        def pick(array: Array) -> Array:
            return look(array, best)[:, 0]

        status = jnp.where(jnp.any(usable, axis=1), pick(tree.status), Status.EXHAUSTED)
        return Result(
            tokens=pick(tree.text),
            length=pick(tree.length),
            logprob=pick(tree.logprob),
            status=status.astype(jnp.int8),
            usage=arena.usage.priced(self.model.cost),
            trace=(tree, arena.reward, arena.nodes),
        )
