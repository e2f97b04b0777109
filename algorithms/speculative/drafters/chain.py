"""A small model drafts one token after the other.

Each round it reads on to the root and draws up to `length` tokens, every one from its own
edited law, which is kept for the verifier. The stop rule may end a draft early; it looks only
at tokens that were drawn before, so that the law of the output is untouched.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import Cache, truncate
from jaxdecode.draft import Draft, Shape, Spent
from jaxdecode.drafter import Now, Outcome
from jaxdecode.follower import CHUNK, Follower, catch_up, charge, rewind
from jaxdecode.judge import stream
from jaxdecode.lm import LanguageModel, extend
from jaxdecode.logits import Identity, LogitsTransform
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Sampler, step_keys
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class Evidence:
    """What a stop rule sees after a token was drawn.

    Attributes:
      index: i32[], tokens drawn before this one.
      law: f32[B, V], what it was drawn from.
      token: i32[B].
      hidden: f32[B, D], the drafter's final hidden state before it, after the last-but-one
        token was read: that of the root for index 0.
    """

    index: Int[Array, ""]
    law: Float[Array, "B V"]
    token: Int[Array, "B"]
    hidden: Float[Array, "B D"]


@runtime_checkable
class Halt(Protocol):
    """Ends a draft early."""

    def init(self, rows: int) -> Any:
        """State at the root."""
        ...

    def __call__(self, state: Any, evidence: Evidence) -> tuple[Any, Bool[Array, "B"]]:
        """Whether the token just drawn is the last; it is verified all the same."""
        ...


@struct.dataclass
class Never:
    """Drafts to the full length."""

    def init(self, rows: int) -> Any:
        return ()

    def __call__(self, state: Any, evidence: Evidence) -> tuple[Any, Bool[Array, "B"]]:
        return state, jnp.zeros(evidence.token.shape, bool)


@struct.dataclass
class Line:
    """A draft under way: `count` tokens drawn, on the rows that are `going` one more to come."""

    count: Int[Array, ""]
    going: Bool[Array, "B"]
    cache: Cache
    edits: Any
    halting: Any
    tokens: Int[Array, "B N"]
    laws: Float[Array, "B N V"]
    valid: Bool[Array, "B N"]
    spent: Spent


def observed(
    transform: LogitsTransform, state: Any, tokens: Int[Array, "B T"], count: Int[Array, "B"]
) -> Any:
    """A transform's state `count` of these tokens further."""

    def note(state, step):
        token, index = step
        return transform.observe(state, token, index < count), None

    order = jnp.arange(tokens.shape[1])[:, None]
    return jax.lax.scan(note, state, (tokens.T, order))[0]


@struct.dataclass
class Remembered:
    """State of the drafter: its reading, its transform's state, and the last draft's slots."""

    follower: Follower
    transform: Any
    stood: Int[Array, "B"]
    ran: Bool[Array, "B N"]

    @staticmethod
    def of(
        model: LanguageModel,
        transform: LogitsTransform,
        prompt: Prompt,
        room: int,
        capacity: int,
        nodes: int,
    ) -> Remembered:
        """Before the first draft, of at most `nodes` nodes, after `prompt`."""
        return Remembered(
            follower=Follower.of(model, prompt, room, capacity + nodes),
            transform=transform.init(prompt),
            stood=prompt.length,
            ran=jnp.zeros((prompt.batch, nodes), bool),
        )

    def learn(self, transform: LogitsTransform, draft: Draft, outcome: Outcome) -> Remembered:
        """What a round emitted, read by follower and transform."""
        cache = rewind(self.follower.cache, self.stood, draft, outcome, self.ran)
        edits = observed(transform, self.transform, outcome.tokens, outcome.count)
        follower = replace(self.follower, cache=cache).committed(outcome)
        return replace(self, follower=follower, transform=edits)


@struct.dataclass
class Chain:
    """A draft model that draws `length` tokens in a row.

    Attributes:
      model: the draft model, of the target's vocabulary.
      length: static, the most tokens of a draft.
      transform, sampler: how it draws; with the target's own, acceptance is highest.
      halt: see `Halt`.
      stride: static, tokens that it reads at once to make up for rounds without a draft; worth
        its compilation under a policy that rests.
    """

    model: LanguageModel
    length: int = struct.field(pytree_node=False)
    transform: LogitsTransform = Identity()
    sampler: Sampler = Categorical()
    halt: Halt = Never()
    stride: int = struct.field(pytree_node=False, default=CHUNK)

    drawn = True

    def __post_init__(self) -> None:
        if isinstance(self.length, int) and self.length < 1:
            raise ValueError(f"length={self.length}: a draft has at least one token")

    @property
    def nodes(self) -> int:
        return self.length

    @property
    def depth(self) -> int:
        return self.length

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Remembered:
        return Remembered.of(self.model, self.transform, prompt, room, capacity, self.length)

    def propose(
        self, target: LanguageModel, state: Remembered, now: Now
    ) -> tuple[Draft, Remembered]:
        going = now.active & (now.limit > 0)
        standing = catch_up(self.model, state.follower, going, self.stride)
        stood, batch = standing.cache.length, now.root.shape[0]
        keys = stream(now.key, 0)

        def draw(line: Line, logits: Array, hidden: Array) -> Line:
            """Append a token drawn from `logits`."""
            edited = self.transform.apply(line.edits, logits)
            law = self.sampler.distribution(edited)
            token = self.sampler(step_keys(keys, jnp.full_like(stood, line.count)), edited)
            valid = line.going & (token >= 0)
            token = jnp.maximum(token, 0)
            evidence = Evidence(line.count, law, token, hidden)
            halting, last = self.halt(line.halting, evidence)
            going = valid & ~last & (line.count + 1 < jnp.minimum(now.limit, self.length))
            return replace(
                line,
                count=line.count + 1,
                going=going,
                edits=self.transform.observe(line.edits, token, going),
                halting=halting,
                tokens=line.tokens.at[:, line.count].set(token),
                laws=line.laws.at[:, line.count].set(law),
                valid=line.valid.at[:, line.count].set(valid),
            )

        def body(line: Line) -> Line:
            token = line.tokens[:, line.count - 1, None]
            output = extend(self.model, token, line.cache, valid=line.going[:, None])
            reads = line.going.astype(jnp.int32)
            length = line.cache.length + reads
            spent = charge(line.spent, self.model, reads, reads * length)
            line = replace(line, cache=truncate(output.cache, length), spent=spent)
            return draw(line, output.logits[:, 0], output.hidden[:, 0])

        line = Line(
            count=jnp.zeros((), jnp.int32),
            going=going,
            cache=standing.cache,
            edits=state.transform,
            halting=self.halt.init(batch),
            tokens=jnp.zeros((batch, self.length), jnp.int32),
            laws=jnp.zeros((batch, self.length, standing.logits.shape[1]), jnp.float32),
            valid=jnp.zeros((batch, self.length), bool),
            spent=standing.spent,
        )
        line = draw(line, standing.logits, standing.hidden)
        line = jax.lax.while_loop(lambda line: jnp.any(line.going), body, line)
        draft = Draft(
            tokens=line.tokens,
            shape=Shape.line(batch, self.length),
            valid=line.valid,
            spent=line.spent,
            logq=jnp.log(line.laws),
            source=jnp.broadcast_to(jnp.arange(self.length), line.tokens.shape),
        )
        ran = jnp.arange(self.length) < (line.cache.length - stood)[:, None]
        follower = replace(state.follower, cache=line.cache)
        return draft, replace(state, follower=follower, stood=stood, ran=ran)

    def commit(
        self, target: LanguageModel, state: Remembered, draft: Draft, outcome: Outcome
    ) -> Remembered:
        return state.learn(self.transform, draft, outcome)
