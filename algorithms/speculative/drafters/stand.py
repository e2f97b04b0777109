"""Stochastic adaptive n-gram drafting: averages of what the target said after the same n-gram.

Song et al. 2025, arXiv:2506.04708. For every context of 4, 3, 2 and 1 tokens that occurred, a
table holds the mean of the laws that the target drew from there, cut to the 10 likeliest
tokens. A draft fills a fixed tree level by level: the law of the longest context that is known,
normalised, and from it as many tokens without replacement as the node has children, in the
order of their Gumbel-perturbed log-probabilities. The samples of a prompt share the table.

What the paper leaves open is chosen so: a law is stored after temperature and top-p, as it was
drawn from; prompts are learned from, rejected nodes are not. Noise is made fresh each round.
No code was published.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.speculative.drafters.filling import fill, inner_nodes
from algorithms.speculative.drafters.static_trees import on_path
from jaxdecode import struct
from jaxdecode.draft import ROOT, Draft, Shape, Spent, at, check_parents, depth_of
from jaxdecode.drafter import Now, Outcome
from jaxdecode.lm import LanguageModel
from jaxdecode.logits import Identity, LogitsTransform
from jaxdecode.ngram.laws import fold, likeliest
from jaxdecode.ngram.table import FREE, Table
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Sampler
from jaxdecode.shared import Shared
from jaxdecode.text import Text
from jaxdecode.types import Array, Float, Int

PAPER = Paper(
    slug="stand",
    title="Accelerated Test-Time Scaling with Model-Free Speculative Sampling",
    authors=(
        "Woomin Song",
        "Saket Dingliwal",
        "Sai Muralidhar Jayanthi",
        "Bhavana Ganesh",
        "Jinwoo Shin",
        "Aram Galstyan",
        "Sravan Babu Bodapati",
    ),
    year=2025,
    arxiv="2506.04708",
    venue="EMNLP 2025",
    claim="Drafts sampled from averaged next-token laws of n-grams, shared by all samples of a "
    "problem, cut the time of sampling 16 solutions by 60-65%.",
    losslessness="exact",
)

NOISE = 1


@struct.dataclass
class Known:
    """What the drafter remembers.

    Attributes:
      text: of the rows.
      table: of the prompts: what the target said after each context.
      hits: i32[B, N], how often each node of the tree was accepted.
    """

    text: Text
    table: Shared
    hits: Int[Array, "B N"]


@struct.dataclass
class Stand:
    """Drafts from averaged laws.

    Attributes:
      vocab_size: static.
      tree: static, parents of the nodes; siblings take the tokens in the order of the draws.
      memory: one table to start from, or one for each prompt, as in the trace of `Learning`;
        None for an empty one.
      stochastic: static; draw the children, or take the likeliest tokens (to be verified by
        `Match`), an ablation.
      transform, sampler: the generator's, for the laws of the prompt; None to leave prompts out.
      orders: static, lengths of contexts, falling.
      width: static, K, tokens of a stored law.
      capacity: static, contexts that the table has room for.
    """

    vocab_size: int = struct.field(pytree_node=False)
    tree: tuple[int, ...] = struct.field(pytree_node=False)
    memory: Table | None = None
    stochastic: bool = struct.field(pytree_node=False, default=True)
    transform: LogitsTransform = Identity()
    sampler: Sampler | None = Categorical()
    orders: tuple[int, ...] = struct.field(pytree_node=False, default=(4, 3, 2, 1))
    width: int = struct.field(pytree_node=False, default=10)
    capacity: int = struct.field(pytree_node=False, default=1 << 15)

    replacement = False

    def __post_init__(self) -> None:
        check_parents(np.array(self.tree))
        if not self.tree or not self.orders or min(self.orders) < 1 or self.width < 1:
            raise ValueError(
                f"tree of {len(self.tree)} nodes, orders={self.orders}, width={self.width}: give "
                "a tree, contexts of at least one token, and laws of at least one"
            )
        most = max(self.tree.count(parent) for parent in self.tree)
        if most > self.width:
            raise ValueError(
                f"tree: a node has {most} children, and a law width={self.width} tokens; store "
                "more or branch less"
            )
        if list(self.orders) != sorted(set(self.orders), reverse=True):
            raise ValueError(f"orders={self.orders}: name the longest context first, each once")

    @property
    def drawn(self) -> bool:
        return self.stochastic

    @property
    def nodes(self) -> int:
        return len(self.tree)

    @property
    def depth(self) -> int:
        return depth_of(np.array(self.tree))

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Known:
        batch, size = prompt.batch, max(self.orders)
        if self.memory is None:
            table = Table.empty(batch, self.capacity, size, self.width)
        else:
            table = jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape[1:])), self.memory)
        text, sampler = Text.of(prompt, room), self.sampler
        hits = jnp.zeros((batch, self.nodes), jnp.int32)
        if sampler is None:
            return Known(text, Shared(table), hits)
        edits = self.transform.init(prompt)
        zero = jnp.zeros((batch,), jnp.int32)

        def read(place, table: Table) -> Table:
            raw = target.unembed(hidden[:, place])
            law = sampler.distribution(self.transform.apply(edits, raw))
            newest = text.window(zero + place + 1 - size, size)
            valid = place + 1 < prompt.length
            return fold(table, newest, likeliest(law, self.width), valid, self.orders)

        table = jax.lax.fori_loop(0, jnp.max(prompt.length) - 1, read, table)
        return Known(text, Shared(table), hits)

    def propose(self, target: LanguageModel, state: Known, now: Now) -> tuple[Draft, Known]:
        batch = now.root.shape[0]
        inner = inner_nodes(self.tree)
        noise = None
        if self.stochastic:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, NOISE))(now.key)
            places = (len(inner), self.width)
            noise = jax.vmap(lambda key: jax.random.gumbel(key, places))(keys)
        newest = state.text.last(max(self.orders))
        tree = fill(
            self.tree, state.table.value, self.orders, newest, now.active, noise, self.vocab_size
        )
        source = np.searchsorted(inner, np.array(self.tree))
        draft = Draft(
            tokens=jnp.maximum(tree.tokens[:, 1:-1], 0),
            shape=Shape.fixed(np.array(self.tree), batch),
            valid=tree.valid[:, 1:-1],
            spent=Spent.nothing(batch),
            logq=tree.logq,
            source=jnp.broadcast_to(source, (batch, self.nodes)) if self.stochastic else None,
        )
        return draft, state

    def commit(self, target: LanguageModel, state: Known, draft: Draft, outcome: Outcome) -> Known:
        table = state.table.value
        path, count = outcome.verdict.path, outcome.count
        batch, size = count.shape[0], max(self.orders)
        prompts, steps = table.count.shape[0], path.shape[1] + 1
        judge, order = outcome.judge, jnp.arange(steps)

        def hear(carry):
            """The law that emitted token `step` was drawn from."""
            step, edits, tokens, values = carry
            node = jnp.where(step > 0, at(path, jnp.full_like(count, step - 1)), ROOT)
            law = judge.law(edits, node)
            token, value = likeliest(law, self.width)
            edits = judge.observe(edits, node, outcome.tokens[:, step], step < count)
            return step + 1, edits, tokens.at[:, step].set(token), values.at[:, step].set(value)

        blank = jnp.full((batch, steps, self.width), FREE)
        carry = (jnp.zeros((), jnp.int32), judge.state, blank, jnp.zeros(blank.shape))
        carry = jax.lax.while_loop(lambda c: c[0] < jnp.max(count), hear, carry)
        line = jnp.concatenate([state.text.last(size), outcome.tokens], axis=1)
        newest = line[:, order[:, None] + jnp.arange(size)]  # [B, steps, n], up to each place

        # The observations of a prompt's rows, row by row, one after the other.
        valid = (order < count[:, None]).reshape(prompts, -1)
        turn = jnp.argsort(~valid, axis=1, stable=True)
        total = jnp.sum(valid, axis=1)
        notes = [x.reshape(prompts, -1, x.shape[2]) for x in (newest, *carry[2:])]

        def note(step, table: Table) -> Table:
            place = turn[:, step, None, None]
            context, *law = (jnp.take_along_axis(x, place, axis=1)[:, 0] for x in notes)
            return fold(table, context, (law[0], law[1]), step < total, self.orders)

        table = jax.lax.fori_loop(0, jnp.max(total), note, table)
        hits = state.hits + on_path(draft, outcome)[:, 1:] if draft.nodes else state.hits
        return Known(state.text.append(outcome.tokens, count), Shared(table), hits)
