"""Engine: a canvas of masks, filled block by block in any order within a block.

    while a row has an open place that matters:
        one pass of the denoiser over the canvas;  guess every place of the row's block
        chooser: which places get their guess now;  remasker: which are open again
        ending: what of the canvas need not be filled

The block of a row is that of its first open place, so rows go through their blocks, and stop,
on their own. With a cache, rows wait for one another where a block is entered, because that pass
is another program; what a row decides does not depend on it. An `Unmasker` is an expander as a
`Generator` is, and a row that is paused has the tokens its canvas has decided from the left.

The key of a guess is of row, place and tokens decided: equal canvases get the same guesses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.autoregress import Meter, NoMeter
from jaxdecode.cache import allocate, put, spread, truncate
from jaxdecode.canvas import Canvas, by_place, places
from jaxdecode.canvas_checks import check_parts
from jaxdecode.denoiser import Denoiser
from jaxdecode.ending import Ending, Finished
from jaxdecode.guess import Chooser, Guess, Remasker, Sight
from jaxdecode.judge import stream
from jaxdecode.logits import Identity, LogitsTransform
from jaxdecode.look import Frame, Looker, Seen
from jaxdecode.prompt import Prompt
from jaxdecode.remask import Keep
from jaxdecode.result import Status, Usage
from jaxdecode.rows import Rows, run_until, where_rows
from jaxdecode.sampling import Sampler, row_keys, step_keys
from jaxdecode.settle import settle
from jaxdecode.stop import StopRule
from jaxdecode.types import Array, Bool, Float, Int, Key

GUESS, CHOOSE, TOSS = 31, 32, 33


@struct.dataclass
class Unmasker:
    """A denoiser and the rules by which its canvas is filled; a drop-in for `Generator`.

    Attributes:
      denoiser: what guesses.
      chooser: which guesses become tokens in a step.
      sampler: draws a guess from edited logits; scores are read from the raw ones.
      stop: what ends a response.
      max_tokens: static, places behind the prompt; the most places to fill, where `infill`.
      block: static, places of a block; divides `max_tokens`.
      cache: static, what is kept between passes, see `jaxdecode.look`.
      ending: what of the canvas need not be filled.
      remasker: which tokens are given up again.
      transform: edits of the logits before a guess is drawn. It has read the prompt and is not
        told of tokens, which come in no order.
      meter: statistics of the raw logits behind each token returned; its state must add up.
      passes: the most a row makes, Status.BUDGET beyond; default 4 for every place, plus 64.
      refresh, halvings: static, see `Looker`.
      infill: static; the masks inside the prompt are to be filled, and nothing is appended; the
        result lists the tokens of those places in their order.
    Raises:
      ValueError: for parts that do not fit.
    """

    denoiser: Denoiser
    chooser: Chooser
    sampler: Sampler
    stop: StopRule
    max_tokens: int = struct.field(pytree_node=False)
    block: int = struct.field(pytree_node=False)
    cache: Literal["none", "prefix", "dual"] = struct.field(pytree_node=False, default="none")
    ending: Ending = Finished()
    remasker: Remasker = Keep()
    transform: LogitsTransform = Identity()
    meter: Meter = NoMeter()
    passes: Int[Array, ""] | int | None = None
    refresh: int | None = struct.field(pytree_node=False, default=None)
    halvings: int = struct.field(pytree_node=False, default=0)
    infill: bool = struct.field(pytree_node=False, default=False)

    @property
    def cache_growth(self) -> int:
        return 1  # see `Expander`

    @property
    def depth(self) -> int:
        return 0

    def __post_init__(self) -> None:
        check_parts(self)

    @property
    def model(self) -> Denoiser:
        return self.denoiser

    @property
    def looker(self) -> Looker:
        """How its passes are made."""
        shape = self.block, self.cache, self.refresh, self.max_tokens, self.halvings
        return Looker(self.denoiser, *shape, self.ending.lingers)

    def start(
        self,
        key: Key[Array, ""],
        prompt: Prompt,
        samples: int,
        capacity: int,
        first: Int[Array, ""] | int = 0,
    ) -> Rows:
        """See `Generator.start`: nothing is run yet, the prompt is part of the first pass."""
        index = jnp.tile(jnp.arange(samples), prompt.batch)
        prompts = spread(prompt, samples)
        rows = index.shape[0]
        cache = allocate(1, rows, 1, 1, 1)
        if self.cache != "none":
            cache = self.denoiser.model.init_cache(rows, capacity)
        usage = Usage.zeros(rows).add(prompt_tokens=jnp.where(index == 0, prompts.length, 0))
        size = self.denoiser.causal_blocks or 1
        canvas = Canvas.of(
            prompts,
            capacity,
            self.denoiser.mask_id,
            None if self.infill else self.max_tokens,
            0 * prompts.length if self.infill else prompts.length // size * size,
            chooser=self.chooser.init(rows, self.block),
            remasker=self.remasker.init(rows, self.block),
            meter=by_place(self.meter.init(rows * capacity), rows),
        )
        last = jnp.take_along_axis(prompts.tokens, prompts.length[:, None] - 1, axis=1)
        return Rows(
            tokens=jnp.zeros((rows, self.max_tokens), jnp.int32),
            length=jnp.zeros((rows,), jnp.int32),
            status=jnp.full((rows,), Status.RUNNING, jnp.int8),
            logprob=jnp.zeros((rows,), jnp.float32),
            root=last[:, 0],
            prompt_length=prompts.length,
            key=row_keys(key, prompts.id, first + index),
            cache=truncate(cache, canvas.limit),
            transform=self.transform.init(prompts),
            meter=self.meter.init(rows),
            usage=usage,
            speculation=canvas,
        )

    def room(self, rows: Rows, capacity: int) -> Rows:
        """The rows as they are: a canvas has all its places from the start."""
        return rows

    def advance(self, rows: Rows, until: Int[Array, "R"]) -> Rows:
        """Run until every row has ended, or has decided all places below `until`."""

        return run_until(rows, until, self.run_pass)

    def run_pass(self, rows: Rows, active: Bool[Array, "R"]) -> Rows:
        """One pass, for as many of the active rows as it serves; the others do not change."""
        rows, seen, sight = pass_over(self, rows, active)
        canvas, at = rows.speculation, places(rows.speculation.first, self.block)
        choice, chooser = self.chooser(canvas.chooser, sight)
        lost = seen.acting & jnp.any(sight.open & (sight.guess.token < 0), axis=1)
        acting = (seen.acting & ~lost)[:, None]
        accept = choice.accept & sight.open & acting
        canvas = canvas.observed(
            self.meter, self.denoiser.sound(sight.guess.law, choice.token), at, accept
        )
        canvas = canvas.decide(at, accept, choice.token, sight.guess.logprob(choice.token))
        done = (sight.done | accept) & acting
        again, remasker = self.remasker(
            canvas.remasker, sight, done, canvas.window(canvas.logprob, at)
        )
        canvas = canvas.reopen(at, again & done, self.denoiser.mask_id)
        ends = jnp.any(choice.token[..., None] == self.stop.eos, axis=-1)
        accepted = jnp.zeros(canvas.tokens.shape, bool)
        accepted = put(accepted, jnp.where(choice.sure & accept & ends, at, canvas.width), ends)
        act, limit = seen.acting, self.ending.cut(canvas.limit, accepted, seen.foreseen)
        canvas = replace(
            canvas,
            limit=jnp.where(act & ~lost, limit, canvas.limit),
            step=canvas.step + act,
            passes=canvas.passes + act,
            chooser=where_rows(act, chooser, canvas.chooser),
            remasker=where_rows(act, remasker, canvas.remasker),
        )
        return settled(self, rows, canvas, act, lost)


def settled(un: Unmasker, rows: Rows, canvas: Canvas, acting: Array, lost: Array) -> Rows:
    """See `settle`."""
    budget = 4 * un.max_tokens + 64 if un.passes is None else un.passes
    return settle(
        rows, canvas, acting, lost, un.stop, budget, closes=un.ending.closes, infill=un.infill
    )


def pass_over(un: Unmasker, rows: Rows, active: Bool[Array, "R"]) -> tuple[Rows, Seen, Sight]:
    """Run the denoiser once: the rows with what it cost and stored, and their blocks in sight."""
    canvas = rows.speculation.entering(un.block, active)
    at = places(canvas.first, un.block)

    def foresee(hidden: Array, frame: Frame) -> Float[Array, "R C"]:
        """The confidence of undecided places whose guess is an end."""
        here = places(frame.begin, frame.width)
        guess = read(un, rows, canvas, frame.standing(un.denoiser, hidden, here), here)
        ends = jnp.any(guess.token[..., None] == un.stop.eos, axis=-1)
        there = ends & canvas.window(canvas.open, here) & (here < frame.end[:, None])
        ahead = jnp.full(canvas.tokens.shape, -jnp.inf)
        return put(ahead, jnp.where(there, here, canvas.width), guess.confidence)

    seen = un.looker(canvas, rows.cache, active, foresee if un.ending.looks else None)
    filled = seen.acting & seen.filling
    canvas = replace(
        canvas,
        filled=jnp.where(filled, canvas.first, canvas.filled),
        held=jnp.where(filled, canvas.limit, canvas.held),
        age=jnp.where(filled, 1, canvas.age + seen.acting),
    )
    usage = rows.usage.add(
        target_passes=seen.acting.astype(jnp.int32),
        target_tokens=seen.tokens,
        attended=seen.attended,
    ).peak(jnp.where(seen.acting, canvas.limit, 0))
    sight = Sight(
        guess=read(un, rows, canvas, seen.hidden, at),
        open=canvas.window(canvas.open, at),
        done=canvas.window(canvas.done, at),
        place=canvas.first - rows.prompt_length,
        step=canvas.step,
        entered=canvas.entered,
        key=step_keys(stream(rows.key, CHOOSE), canvas.commits),
        coin=step_keys(stream(rows.key, TOSS), canvas.passes),
    )
    return replace(rows, speculation=canvas, cache=seen.cache, usage=usage), seen, sight


def read(
    un: Unmasker, rows: Rows, canvas: Canvas, hidden: Float[Array, "R T D"], at: Int[Array, "R T"]
) -> Guess:
    """The tokens that places would get from these hidden states."""
    logits = un.denoiser.logits(hidden)
    count, flat = at.shape[1], logits.reshape(-1, logits.shape[-1])
    keys = step_keys(stream(rows.key, GUESS), canvas.commits)
    keys = step_keys(jnp.repeat(keys, count), at.reshape(-1))
    edited = un.transform.apply(spread(rows.transform, count), flat)
    return Guess(un.sampler(keys, edited).reshape(at.shape), jax.nn.log_softmax(logits, axis=-1))
