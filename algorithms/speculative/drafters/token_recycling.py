"""Token recycling: the tokens that a pass ranked below its choice are the drafts of later ones.

Luo et al. 2024, arXiv:2408.08696. A table holds K successors for every token. A draft walks it
from the root through a fixed tree, the child of rank r being the r-th successor; afterwards
the successors of every token that was run are replaced by the K most probable tokens there,
whether or not it was accepted.

The published scatter leaves open which of several nodes with one token has the last word;
here it is a rule (`winner`). Only its greedy decoding was published; Match is exact for
sampling too. Prompts do not fill the table, as in the published code.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.speculative.drafters.static_trees import on_path
from jaxdecode import struct
from jaxdecode.draft import ROOT, Draft, Shape, Spent, depth_of
from jaxdecode.drafter import Now, Outcome
from jaxdecode.lm import LanguageModel
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import likeliest
from jaxdecode.shared import Shared
from jaxdecode.types import Array, Bool, Float, Int

PAPER = Paper(
    slug="token_recycling",
    title="Turning Trash into Treasure: Accelerating Inference of Large Language Models with "
    "Token Recycling",
    authors=(
        "Xianzhen Luo",
        "Yixuan Wang",
        "Qingfu Zhu",
        "Zhiming Zhang",
        "Xuanyu Zhang",
        "Qing Yang",
        "Dongliang Xu",
    ),
    year=2024,
    arxiv="2408.08696",
    venue="ACL 2025",
    claim="A table of each token's last top-8 successors, walked through a fixed tree of 80 "
    "nodes, doubles the speed of decoding without training.",
    losslessness="exact",
)

BRANCHES = """
    .:8
    0:8 1:4 2:3 3:2 4:1 5:1 6:1 7:1
    00:8 01:3 02:2 03:1 04:1 05:1 06:1 07:1 10:2 11:1 20:1 30:1 40:1 50:1
    000:5 001:2 002:1 003:1 004:1 010:1 020:1 100:1 200:1 300:1
    0000:3 0001:1 0002:1 0010:1 0100:1 1000:1
    00000:2 00010:1
"""
"""Children of every inner node of the published tree; a node is named by the ranks of its path."""


def tree_of(branches: str) -> tuple[int, ...]:
    """The parents of a tree given as above, its nodes ordered by depth, then by path."""
    parents: list[int] = []
    number = {".": ROOT}
    for item in branches.split():
        name, count = item.split(":")
        for rank in range(int(count)):
            number[name.strip(".") + str(rank)] = len(parents)
            parents.append(number[name])
    return tuple(parents)


TREE = tree_of(BRANCHES)


@cache
def ranks(tree: tuple[int, ...]) -> np.ndarray:
    """The place of each node among its siblings."""
    return np.array([tree[:node].count(above) for node, above in enumerate(tree)], np.int32)


@cache
def levels(tree: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """The nodes of each depth."""
    depth: list[int] = []
    for above in tree:
        depth.append(1 if above == ROOT else depth[above] + 1)
    return tuple(np.flatnonzero(np.array(depth) == d + 1) for d in range(max(depth)))


@struct.dataclass
class Recycled:
    """What the drafter remembers.

    Attributes:
      root: i32[B].
      table: i32[prompts, V, K], the successors of every token, the most probable first; the
        rows of a prompt share one table.
      hits: i32[B, N], how often each node of the tree was accepted.
    """

    root: Int[Array, "B"]
    table: Shared
    hits: Int[Array, "B N"]


@struct.dataclass
class Recycler:
    """Drafts by walking a table of successors.

    Attributes:
      table: i32[V, K] to start from, or i32[prompts, V, K] with one for each prompt; all zero
        is a cold start, that of a finished run (in the trace of `Learning`) a hot one.
      tree: static, parents of the nodes; siblings stand in the order of their ranks.
      winner: static; which of the nodes that hold one token is recycled: the "last" or the
        "first" of the draft, or the last of those accepted, where one was ("accepted").
      lazy: static; recycle root and accepted nodes only, an ablation.
    """

    table: Int[Array, "*P V K"]
    tree: tuple[int, ...] = struct.field(pytree_node=False, default=TREE)
    winner: Literal["last", "first", "accepted"] = struct.field(pytree_node=False, default="last")
    lazy: bool = struct.field(pytree_node=False, default=False)

    drawn = False

    def __post_init__(self) -> None:
        if self.winner not in ("last", "first", "accepted"):
            raise ValueError(f"winner={self.winner!r}: choose 'last', 'first' or 'accepted'")
        most = int(ranks(self.tree).max()) + 1 if self.tree else 0
        shape = getattr(self.table, "shape", None)
        if shape is not None and len(shape) in (2, 3) and most > shape[-1]:
            raise ValueError(
                f"table: {shape[-1]} successors a token, and the tree takes {most}; "
                "give a wider table or a narrower tree"
            )
        if shape is not None and len(shape) in (2, 3) and shape[-1] > shape[-2]:
            raise ValueError(
                f"table: {shape[-1]} successors a token of a vocabulary of {shape[-2]}; give a "
                "narrower table and tree"
            )

    @property
    def nodes(self) -> int:
        return len(self.tree)

    @property
    def depth(self) -> int:
        return depth_of(np.array(self.tree))

    @property
    def vocab_size(self) -> int:
        return self.table.shape[-2]

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Recycled:
        table = jnp.broadcast_to(self.table, (prompt.batch, *self.table.shape[-2:]))
        last = jnp.take_along_axis(prompt.tokens, prompt.length[:, None] - 1, axis=1)[:, 0]
        hits = jnp.zeros((prompt.batch, self.nodes), jnp.int32)
        return Recycled(last, Shared(table), hits)

    def propose(self, target: LanguageModel, state: Recycled, now: Now) -> tuple[Draft, Recycled]:
        batch = now.root.shape[0]
        table, rank = state.table.value, ranks(self.tree)
        owner = (jnp.arange(batch) // (batch // table.shape[0]))[:, None]
        tokens = now.root[:, None]  # the root, then the nodes
        for nodes in levels(self.tree):
            above = tokens[:, np.array(self.tree)[nodes] + 1]
            tokens = jnp.concatenate([tokens, table[owner, above, rank[nodes]]], axis=1)
        draft = Draft(
            tokens=tokens[:, 1:],
            shape=Shape.fixed(np.array(self.tree), batch),
            valid=jnp.broadcast_to(now.active[:, None], (batch, self.nodes)),
            spent=Spent.nothing(batch),
        )
        return draft, state

    def commit(
        self, target: LanguageModel, state: Recycled, draft: Draft, outcome: Outcome
    ) -> Recycled:
        table = state.table.value
        tokens = jnp.concatenate([state.root[:, None], draft.tokens], axis=1)
        _, best = likeliest(outcome.judge.logits, table.shape[2], "table: successors")
        accepted = on_path(draft, outcome)
        run = jnp.pad(draft.valid, ((0, 0), (1, 0)), constant_values=True)
        run &= (outcome.count > 0)[:, None] & (accepted | (not self.lazy))
        table = recycle(table, tokens, best.astype(jnp.int32), run, accepted, self.winner)
        last = jnp.clip(outcome.count - 1, 0)[:, None]
        newest = jnp.take_along_axis(outcome.tokens, last, axis=1)[:, 0]
        root = jnp.where(outcome.count > 0, newest, state.root)
        hits = state.hits + accepted[:, 1:] if draft.nodes else state.hits
        return Recycled(root, Shared(table), hits)


def recycle(
    table: Int[Array, "P V K"],
    tokens: Int[Array, "B N"],
    best: Int[Array, "B N K"],
    run: Bool[Array, "B N"],
    accepted: Bool[Array, "B N"],
    winner: str,
) -> Int[Array, "P V K"]:
    """Replace the successors of the tokens that were run; the B rows are P prompts' in turn."""
    prompts, vocab, width = table.shape
    order = jnp.broadcast_to(jnp.arange(tokens.size // prompts), (prompts, tokens.size // prompts))
    grouped = jnp.where(run, tokens, vocab).reshape(order.shape)
    early = accepted.reshape(order.shape) & (winner == "accepted")
    turn = -order if winner == "first" else order
    token, _, _, place = jax.lax.sort((grouped, early.astype(jnp.int32), turn, order), num_keys=3)
    final = jnp.pad(token[:, 1:] != token[:, :-1], ((0, 0), (0, 1)), constant_values=True)
    chosen = jnp.take_along_axis(best.reshape(prompts, -1, width), place[..., None], axis=1)
    at = (jnp.arange(prompts)[:, None], jnp.where(final, token, vocab))
    return table.at[at].set(chosen, mode="drop")
