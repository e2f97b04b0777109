"""Engine: propose, verify, commit, for chains and trees of drafts alike.

    while a row runs:  draft = drafter.propose();  output = model(root + draft)
                       verdict = verifier(output, draft);  commit the accepted path

One pass of the target runs the root and all nodes of the draft; what it says at the nodes
decides how far the draft holds. A round emits the accepted tokens and one more, so a row
never does worse than one token a pass. The invariants are those of plain decoding, whose
`Rows` these are: `cache.length` is one less than the tokens seen. Whatever plain decoding
rows can do, these can: pause at a bound, be gathered, forked, pruned and run on.

A policy bounds the depth of the next draft from what became of earlier ones. Where it may
bound it to nothing, rounds without a draft follow in a loop of their own, at the price of plain
steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.autoregress import Generator, commit, fork
from jaxdecode.cache import Cache, resize, spread
from jaxdecode.draft import Draft, Shape, Spent
from jaxdecode.drafter import Always, Drafter, Now, Outcome, Policy, Searching, Verifier
from jaxdecode.emission import emit
from jaxdecode.judge import Judge, stream
from jaxdecode.lm import LanguageModel, LayeredModel, ModelOutput, extend, prefill, resume
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Rows
from jaxdecode.sampling import step_keys
from jaxdecode.types import Array, Bool, Int, Key
from jaxdecode.verify import alone, rested
from jaxdecode.whole import whole

ROUND, DRAFT, VERIFY = 21, 22, 23


@struct.dataclass
class Speculator:
    """A generator whose tokens are drafted first; a drop-in for `Generator`.

    Attributes:
      generator: what is to be emitted, and from which law.
      drafter, verifier, policy: see their protocols.
    Raises:
      ValueError: at once, for a pair that does not fit, with the reason.
    """

    generator: Generator
    drafter: Drafter
    verifier: Verifier
    policy: Policy = Always()

    def __post_init__(self) -> None:
        if reason := getattr(type(self.generator), "UNSPECULATED", None):
            raise ValueError(f"generator: {reason}")
        if not isinstance(self.generator, Generator):  # a tree transformation's stand-in
            return
        if self.drafter.nodes < 1:
            raise ValueError(f"drafter.nodes={self.drafter.nodes}: a draft has at least one token")
        own, wanted = self.drafter.vocab_size, self.generator.model.vocab_size
        if own is not None and own != wanted:
            raise ValueError(
                f"drafter: its vocabulary has {own} tokens, the target's has {wanted}; "
                "drafts must be made of the target's own tokens"
            )
        self.verifier.pair(self.drafter)

    @property
    def model(self) -> LanguageModel:
        return self.generator.model

    @property
    def max_tokens(self) -> int:
        return self.generator.max_tokens

    @property
    def may_rest(self) -> bool:
        """Whether there can be rounds without any draft."""
        return self.policy.rests or isinstance(self.drafter, Searching)

    @property
    def cache_growth(self) -> int:
        return self.generator.cache_growth

    @property
    def depth(self) -> int:
        return self.drafter.depth

    def start(
        self,
        key: Key[Array, ""],
        prompt: Prompt,
        samples: int,
        capacity: int,
        first: Int[Array, ""] | int = 0,
    ) -> Rows:
        """See `Generator.start`."""
        width, slack = prompt.tokens.shape[1], self.drafter.nodes
        read = prefill(self.model, prompt, width)
        rows = fork(self.generator, key, prompt, read, samples, capacity + slack, first, self.depth)
        room = width + self.max_tokens
        drafter = self.drafter.init(self.model, prompt, read.hidden, room, capacity)
        policy = self.policy.init(rows.length.shape[0])
        return replace(rows, speculation=(spread(drafter, samples), policy))

    def room(self, rows: Rows, capacity: int) -> Rows:
        """See `Generator.room`; the drafter's caches grow by as much."""
        more = capacity + self.drafter.nodes - rows.cache.capacity

        def wider(leaf: Any) -> Any:
            return resize(leaf, leaf.capacity + more) if isinstance(leaf, Cache) else leaf

        return jax.tree.map(wider, rows, is_leaf=lambda leaf: isinstance(leaf, Cache))

    def advance(self, rows: Rows, until: Int[Array, "R"]) -> Rows:
        """See `Generator.advance`."""
        until = jnp.minimum(until, rows.cache.capacity - self.drafter.nodes)

        def active(rows: Rows) -> Bool[Array, "R"]:
            return rows.running & (rows.total < until)

        def drafting(rows: Rows) -> Bool[Array, ""]:
            memory, policy = rows.speculation
            some = active(rows) & (self.policy.limit(policy) > 0)
            if isinstance(self.drafter, Searching):
                some &= self.drafter.finds(memory)
            return jnp.any(some)

        def running(rows: Rows) -> Bool[Array, ""]:
            return jnp.any(active(rows))

        def rest(before: Rows) -> Rows:
            rows = jax.lax.while_loop(
                lambda rows: running(rows) & ~drafting(rows),
                lambda rows: pause(self, rows, active(rows)),
                before,
            )
            rounds = rows.usage.target_passes - before.usage.target_passes
            histogram = rows.usage.histogram.at[:, 0].add(rounds)
            return replace(rows, usage=replace(rows.usage, histogram=histogram))

        def body(rows: Rows) -> Rows:
            rows = play(self, rows, active(rows), until)
            return rest(rows) if self.may_rest else rows

        return jax.lax.while_loop(running, body, rows)


def play(spec: Speculator, rows: Rows, active: Bool[Array, "R"], until: Int[Array, "R"]) -> Rows:
    """One round: emit at least one token on every active row; the others do not change."""
    generator, model = spec.generator, spec.model
    memory, policy = rows.speculation
    keys = step_keys(stream(rows.key, ROUND), rows.length)
    limit = jnp.where(active, spec.policy.limit(policy), 0)
    now = Now(
        root=rows.root,
        length=rows.cache.length,
        emitted=rows.length,
        limit=limit,
        active=active,
        cache=rows.cache,
        transform=rows.transform,
        key=stream(keys, DRAFT),
    )
    draft, memory = spec.drafter.propose(model, memory, now)
    draft = draft.limited(limit)
    output = verify(model, rows, draft, active)
    judge = hear(generator, rows, output, active)
    verdict = spec.verifier(stream(keys, VERIFY), judge, draft, spec.drafter.depth)
    silent = limit == 0
    if isinstance(spec.drafter, Searching):
        silent |= ~jnp.any(draft.eligible, axis=1)
    if spec.may_rest:
        verdict = rested(verdict, judge, silent)
    rows, outcome = emit(generator, rows, active, until, draft, verdict, output, judge)
    memory = spec.drafter.commit(model, memory, draft, outcome)
    longest = jnp.max(jnp.where(draft.eligible, draft.shape.depth, 0), axis=1, initial=0)
    if isinstance(spec.drafter, Searching):  # finding nothing says nothing of drafts
        policy = spec.policy.update(policy, longest, verdict.count, active & ~silent)
        policy = spec.policy.rest(policy, active & silent)
    else:
        policy = spec.policy.update(policy, longest, verdict.count, active)
    return replace(rows, speculation=(memory, policy))


def pause(spec: Speculator, rows: Rows, active: Bool[Array, "R"]) -> Rows:
    """One round without a draft: a step of plain decoding, which drafter and policy see.

    The histogram is left to the loop around it."""
    memory, policy = rows.speculation
    output = extend(spec.model, rows.root[:, None], rows.cache, valid=active[:, None])
    judge = hear(spec.generator, rows, output, active)
    verdict = alone(judge)
    after = commit(spec.generator, rows, active, output, verdict.next)
    count = after.length - rows.length
    outcome = Outcome(verdict, after.root[:, None], count, output.hidden, judge)
    memory = spec.drafter.commit(spec.model, memory, nothing(count.shape[0]), outcome)
    policy = spec.policy.rest(policy, active)
    return replace(after, speculation=(memory, policy))


def hear(generator: Generator, rows: Rows, output: ModelOutput, active: Bool[Array, "R"]) -> Judge:
    """What the target says in a round, to be judged by the generator's rules."""
    return Judge(
        logits=whole(output.logits),
        transform=generator.transform,
        sampler=generator.sampler,
        state=rows.transform,
        key=rows.key,
        step=rows.length,
        active=active,
    )


def nothing(batch: int) -> Draft:
    """A draft of no nodes."""
    return Draft(
        tokens=jnp.zeros((batch, 0), jnp.int32),
        shape=Shape.line(batch, 0),
        valid=jnp.zeros((batch, 0), bool),
        spent=Spent.nothing(batch),
    )


def verify(model: LanguageModel, rows: Rows, draft: Draft, active: Bool[Array, "R"]) -> ModelOutput:
    """The target on root and nodes; what drafting has begun is finished."""
    batch, count = draft.tokens.shape
    valid = jnp.concatenate([active[:, None], draft.valid & active[:, None]], axis=1)
    zero = jnp.zeros((batch, 1), jnp.int32)
    depth = jnp.concatenate([zero, draft.shape.depth], axis=1)
    block = None
    if draft.shape.seen is not None:
        block = jnp.zeros((batch, count + 1, count + 1), bool).at[:, :, 0].set(True)
        block = block.at[:, 1:, 1:].set(draft.shape.seen)
    if draft.begun is not None:
        begun, layered = draft.begun, cast(LayeredModel, model)
        return resume(
            layered, begun.hidden, begun.cache, begun.layers, depth=depth, block=block, valid=valid
        )
    tokens = jnp.concatenate([rows.root[:, None], draft.tokens], axis=1)
    return extend(model, tokens, rows.cache, depth=depth, block=block, valid=valid)
