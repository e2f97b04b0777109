"""A draft model of nested sub-models: each token leaves where one is sure enough (Kavehzadeh et
al. 2024, arXiv:2407.01955).

Sub-model n is the first n layers with the one last norm and output matrix that all share. For
every draft token the residual stream goes down from sub-model to sub-model, and the first whose
largest probability exceeds its threshold draws the token; the last one always may. Its law is
the one that the verifier is told of. The layers skipped are caught up exactly when a later
token goes deeper: see `levels`.

One draft serves targets of any size: for a dear target higher thresholds pay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.speculative.drafters.chain import observed
from algorithms.speculative.drafters.levels import Depth, Levels, deepen, output_size
from jaxdecode import struct
from jaxdecode.draft import Draft, Shape, Spent
from jaxdecode.drafter import Now, Outcome
from jaxdecode.judge import stream
from jaxdecode.lm import LanguageModel, LayeredModel
from jaxdecode.logits import Identity, LogitsTransform
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Sampler, step_keys, weights
from jaxdecode.text import Text
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class Nesting:
    """State of the drafter.

    Attributes:
      text: prompt and output.
      levels: how far each sub-model has read it.
      transform: the transform's state.
      exits: i32[B, E], tokens that each sub-model has drafted so far.
    """

    text: Text
    levels: Levels
    transform: Any
    exits: Int[Array, "B E"]


@struct.dataclass
class Line:
    """A draft under way: `count` tokens drawn, on the rows that are `going` one more to come."""

    count: Int[Array, ""]
    going: Bool[Array, "B"]
    text: Text
    depth: Depth
    edits: Any
    exits: Int[Array, "B E"]
    tokens: Int[Array, "B N"]
    laws: Float[Array, "B N V"]
    valid: Bool[Array, "B N"]


@struct.dataclass
class Nested:
    """See the module.

    Attributes:
      model: the draft model, of the target's vocabulary.
      exits: static, the sub-models by their number of layers, ascending; the last has all.
      thresholds: f32[E] or a sequence: a sub-model draws if its largest probability, edited as
        drafts are, is above its own. That of the last is not used.
      length: static, the most tokens of a draft.
      transform, sampler: how it draws; with the target's own, acceptance is highest.
    """

    model: LayeredModel
    exits: tuple[int, ...] = struct.field(pytree_node=False)
    thresholds: Float[Array, "E"] | Sequence[float]
    length: int = struct.field(pytree_node=False)
    transform: LogitsTransform = Identity()
    sampler: Sampler = Categorical()

    drawn = True

    def __post_init__(self) -> None:
        if isinstance(self.length, int) and self.length < 1:
            raise ValueError(f"length={self.length}: a draft has at least one token")
        if not self.exits or self.exits[0] < 0 or list(self.exits) != sorted(set(self.exits)):
            raise ValueError(f"exits={self.exits}: numbers of layers, each more than the last")
        if isinstance(self.thresholds, np.ndarray | Sequence):
            given = np.asarray(self.thresholds)
            if given.shape != (len(self.exits),) or not ((given >= 0) & (given <= 1)).all():
                raise ValueError(
                    f"thresholds={given.tolist()}: one probability for each of the "
                    f"{len(self.exits)} exits"
                )
            object.__setattr__(self, "thresholds", jnp.asarray(given, jnp.float32))

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
    ) -> Nesting:
        segments, ahead = len(self.exits), room + self.length
        return Nesting(
            text=Text.of(prompt, ahead),
            levels=Levels.of(self.model, prompt, segments, ahead, capacity + self.length),
            transform=self.transform.init(prompt),
            exits=jnp.zeros((prompt.batch, segments), jnp.int32),
        )

    def law(
        self, text: Text, depth: Depth, edits: Any, rows: Bool[Array, "B"]
    ) -> tuple[Float[Array, "B V"], Int[Array, "B"], Depth]:
        """Edited logits behind the text, and which sub-model they are of, on these rows."""
        thresholds = jnp.asarray(self.thresholds)

        def leave(level: int, carry):
            logits, exit, open, depth = carry
            depth = deepen(self.model, self.exits, level, text, depth, open)
            edited = self.model.unembed(self.model.final(depth.stream))
            edited = self.transform.apply(edits, edited)
            total = jnp.sum(weights(edited), axis=1)  # the largest weight is 1
            sure = (total > 0) & (thresholds[level] * total < 1)
            leaves = open & (sure | (level == len(self.exits) - 1))
            flops = depth.spent.flops + 2.0 * output_size(self.model) * open
            depth = replace(depth, spent=replace(depth.spent, flops=flops))
            logits = jnp.where(leaves[:, None], edited, logits)
            return logits, jnp.where(leaves, level, exit), open & ~leaves, depth

        logits = jnp.zeros((rows.shape[0], self.vocab_size), jnp.float32)
        carry = (logits, jnp.zeros(rows.shape, jnp.int32), rows, depth)
        for level in range(len(self.exits)):
            carry = jax.lax.cond(
                jnp.any(carry[2]), lambda c, level=level: leave(level, c), lambda c: c, carry
            )
        logits, exit, _, depth = carry
        return logits, exit, depth

    def propose(self, target: LanguageModel, state: Nesting, now: Now) -> tuple[Draft, Nesting]:
        batch, keys = now.root.shape[0], stream(now.key, 0)
        limit = jnp.minimum(now.limit, self.length)

        def body(line: Line) -> Line:
            logits, exit, depth = self.law(line.text, line.depth, line.edits, line.going)
            step = jnp.full((batch,), line.count)
            token = self.sampler(step_keys(keys, step), logits)
            valid = line.going & (token >= 0)
            token = jnp.maximum(token, 0)
            going = valid & (line.count + 1 < limit)
            left = (exit[:, None] == jnp.arange(len(self.exits))) & valid[:, None]
            return Line(
                count=line.count + 1,
                going=going,
                text=line.text.append(token[:, None], going.astype(jnp.int32)),
                depth=depth,
                edits=self.transform.observe(line.edits, token, going),
                exits=line.exits + left,
                tokens=line.tokens.at[:, line.count].set(token),
                laws=line.laws.at[:, line.count].set(self.sampler.distribution(logits)),
                valid=line.valid.at[:, line.count].set(valid),
            )

        width = state.levels.streams.shape[3]
        line = Line(
            count=jnp.zeros((), jnp.int32),
            going=now.active & (limit > 0),
            text=state.text,
            depth=Depth(
                state.levels,
                jnp.zeros((batch, width), state.levels.streams.dtype),
                Spent.nothing(batch),
            ),
            edits=state.transform,
            exits=state.exits,
            tokens=jnp.zeros((batch, self.length), jnp.int32),
            laws=jnp.zeros((batch, self.length, self.vocab_size), jnp.float32),
            valid=jnp.zeros((batch, self.length), bool),
        )
        line = jax.lax.while_loop(lambda line: jnp.any(line.going), body, line)
        draft = Draft(
            tokens=line.tokens,
            shape=Shape.line(batch, self.length),
            valid=line.valid,
            spent=line.depth.spent,
            logq=jnp.log(line.laws),
            source=jnp.broadcast_to(jnp.arange(self.length), line.tokens.shape),
        )
        return draft, replace(state, levels=line.depth.levels, exits=line.exits)

    def commit(
        self, target: LanguageModel, state: Nesting, draft: Draft, outcome: Outcome
    ) -> Nesting:
        kept = state.text.length + jnp.minimum(outcome.count, outcome.verdict.count)
        return replace(
            state,
            text=state.text.append(outcome.tokens, outcome.count),
            levels=state.levels.back(kept),
            transform=observed(self.transform, state.transform, outcome.tokens, outcome.count),
        )
