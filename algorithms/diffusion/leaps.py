"""An unmasker that proves several of its steps in one pass: the engine behind FreeDave.

enter a block:   one pass;  plan the next step, and rank what comes after it
leap:            one pass over the drafts of the plan;  decide the longest chain of them that
                 the steps after them confirm;  the step after the last is the next plan
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp

from algorithms.diffusion.drafts import Plan, scratch
from algorithms.diffusion.judging import accepted, judge
from jaxdecode import struct
from jaxdecode.autoregress import NoMeter
from jaxdecode.cache import resize
from jaxdecode.canvas import Canvas, places
from jaxdecode.denoiser import Denoiser
from jaxdecode.ending import EndOfText
from jaxdecode.guess import Order
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.remask import Keep
from jaxdecode.result import Usage
from jaxdecode.rows import Rows, run_until, where_rows
from jaxdecode.types import Array, Bool, Int, Key
from jaxdecode.unmask import Unmasker, pass_over, settled

PAPER = Paper(
    slug="freedave",
    title="Free Draft-and-Verification: Toward Lossless Parallel Decoding for Diffusion Large "
    "Language Models",
    authors=("Shutong Wu", "Jiawei Zhang"),
    year=2025,
    arxiv="2510.00294",
    venue="arXiv",
    claim="verifying the next steps of static decoding in one batch gives its exact output, in "
    "never more passes, at up to 3.78x its throughput (2.83x in the third version)",
    losslessness="exact",
)


@struct.dataclass
class Leaper:
    """An unmasker that decides several of its steps in one pass; a drop-in for it.

    Attributes:
      unmasker: whose steps are made.
      drafts: static, d: the most steps of one pass.
      rule: static; "exact" keeps the unmasker's states, "subset" is FreeDave++.
      order: static; what guesses beyond the step are ranked by, the chooser's own order.
      growth: static; places that each further draft decides, those of a step.
      layout: static; "tree", or "batch", where each draft is a row with a copy of the cache.
      turn: static; places that are filled before any behind them, None for the whole block.
    Raises:
      ValueError: for an unmasker whose steps depend on more than the canvas.
    """

    unmasker: Unmasker
    drafts: int = struct.field(pytree_node=False)
    rule: Literal["exact", "subset"] = struct.field(pytree_node=False, default="exact")
    order: Order = struct.field(pytree_node=False, default="confidence")
    growth: int = struct.field(pytree_node=False, default=1)
    layout: Literal["tree", "batch"] = struct.field(pytree_node=False, default="tree")
    turn: int | None = struct.field(pytree_node=False, default=None)

    cache_growth = 1  # see `Expander`

    def __post_init__(self) -> None:
        un = self.unmasker
        if not isinstance(un, Unmasker):  # a tree transformation's stand-in
            return
        if self.drafts < 1 or self.growth < 1:
            raise ValueError(
                f"drafts={self.drafts}, growth={self.growth}: a pass verifies at least the next "
                "step, which decides at least one place"
            )
        if self.rule not in ("exact", "subset") or self.layout not in ("tree", "batch"):
            raise ValueError(
                f"rule={self.rule!r} must be exact or subset, layout={self.layout!r} tree or batch"
            )
        for name, wanted in (("remasker", Keep), ("meter", NoMeter)):
            if not isinstance(getattr(un, name), wanted):
                raise ValueError(
                    f"unmasker.{name}={getattr(un, name)}: steps verified together leave it no "
                    f"state to read; use {wanted.__name__}(), or the unmasker alone"
                )
        if isinstance(un.ending, EndOfText) or un.refresh is not None:
            raise ValueError(
                "unmasker: a canvas that is cut, or a cache that is filled anew, between two steps "
                "changes what drafts were made from; use ending=Finished() and refresh=None"
            )
        if jax.tree.leaves(jax.eval_shape(lambda: un.chooser.init(1, un.block))):
            raise ValueError(
                f"unmasker.chooser: {type(un.chooser).__name__} remembers its steps, and a draft "
                "has none; use a chooser whose steps follow from the canvas"
            )

    @property
    def model(self) -> Denoiser:
        return self.unmasker.denoiser

    @property
    def max_tokens(self) -> int:
        return self.unmasker.max_tokens

    @property
    def infill(self) -> bool:
        """See `Unmasker`."""
        return self.unmasker.infill

    @property
    def depth(self) -> int:
        """The most places that a pass decides beyond those of one step."""
        return (self.drafts - 1) * self.growth

    def start(
        self,
        key: Key[Array, ""],
        prompt: Prompt,
        samples: int,
        capacity: int,
        first: Int[Array, ""] | int = 0,
    ) -> Rows:
        """See `Unmasker.start`; a cache gets room for the branches of a tree."""
        rows = self.unmasker.start(key, prompt, samples, capacity, first)
        count, room = rows.length.shape[0], rows.cache.capacity
        if self.layout == "tree":
            room += scratch(self.unmasker, self.drafts)
        usage = Usage.zeros(count, self.depth).add(prompt_tokens=rows.usage.prompt_tokens)
        plan = Plan.none(count, self.unmasker.block)
        canvas = replace(rows.speculation, drafts=plan)
        return replace(rows, cache=resize(rows.cache, room), usage=usage, speculation=canvas)

    def room(self, rows: Rows, capacity: int) -> Rows:
        return rows

    def advance(self, rows: Rows, until: Int[Array, "R"]) -> Rows:
        """See `Unmasker.advance`."""

        return run_until(rows, until, self.run_pass)

    def run_pass(self, rows: Rows, active: Bool[Array, "R"]) -> Rows:
        """See `Unmasker.run_pass`."""
        planned = active & rows.speculation.drafts.made
        made = jax.lax.cond(
            jnp.any(planned),
            lambda rows: leap(self, rows, planned),
            lambda rows: enter(self, rows, active),
            rows,
        )
        return settled(self.unmasker, *made)


Made = tuple[Rows, Canvas, Bool[Array, "R"], Bool[Array, "R"]]
"""Rows with what a pass cost, their new canvases, the rows that acted, and those lost in it."""


def enter(leaper: Leaper, rows: Rows, active: Bool[Array, "R"]) -> Made:
    """The pass that enters a block: nothing is decided, and rows get a plan."""
    un = leaper.unmasker
    rows, seen, sight = pass_over(un, rows, active)
    choice, _ = un.chooser(un.chooser.init(sight.open.shape[0], un.block), sight)
    usable = ~jnp.any(sight.open & (sight.guess.token < 0), axis=1)
    plan = Plan.of(choice, sight, leaper.order, leaper.turn or un.block, usable)
    canvas = rows.speculation
    canvas = replace(canvas, drafts=where_rows(seen.acting, plan, canvas.drafts))
    entered = seen.acting.astype(jnp.int32)
    histogram = rows.usage.histogram.at[:, 0].add(entered)
    rows = replace(rows, usage=replace(rows.usage, histogram=histogram))
    return rows, canvas, seen.acting, seen.acting & ~usable


def leap(leaper: Leaper, rows: Rows, acting: Bool[Array, "R"]) -> Made:
    """One pass over the drafts of the acting rows, and as many steps as it proves."""
    un, canvas = leaper.unmasker, rows.speculation
    plan, at = canvas.drafts, places(canvas.first, un.block)
    open = canvas.window(canvas.open, at)
    drafts = plan.drafts(open, leaper.drafts, leaper.growth) & acting[:, None, None]
    size = jnp.sum(drafts, axis=2)
    real = jnp.concatenate([acting[:, None], size[:, 1:] > size[:, :-1]], axis=1)
    live = real & (size < jnp.sum(open, axis=1)[:, None])
    ahead = judge(
        un, rows, drafts, live, leaper.order, leaper.turn or un.block, leaper.layout == "tree"
    )
    path, last = accepted(leaper.rule, drafts, real, live, ahead, plan.token)

    index = jnp.arange(leaper.drafts)
    before = path[:, :, None] & ~drafts  # states of the path in which a place was still open
    later = jnp.sum(before, axis=1)
    source = jnp.max(jnp.where(before, index[:, None], -1), axis=1)
    known = jnp.concatenate([plan.logprob[:, None], ahead.known], axis=1)
    logprob = jnp.take_along_axis(known, source[:, None] + 1, axis=1)[:, 0]
    final = jnp.take_along_axis(drafts, last[:, None, None], axis=1)[:, 0]
    made = jnp.take_along_axis(live, last[:, None], axis=1)[:, 0]
    following = jax.tree.map(
        lambda x: jnp.take_along_axis(x, last.reshape(-1, 1, *[1] * (x.ndim - 2)), axis=1)[:, 0],
        ahead.plan,
    )
    lost = acting & made & ~following.made
    following = replace(following, made=following.made & made)
    canvas = canvas.decide(at, final, plan.token, logprob, later)
    steps = jnp.sum(path, axis=1)
    canvas = replace(
        canvas,
        step=canvas.step + steps,
        passes=canvas.passes + steps,
        drafts=where_rows(acting, following, plan),
    )
    passed = jnp.any(live, axis=1)
    gained = jnp.where(passed, jnp.sum(final, axis=1) - size[:, 0], 0)
    hit = passed[:, None] & (gained[:, None] == jnp.arange(leaper.depth + 1))
    usage = rows.usage.add(
        target_passes=passed.astype(jnp.int32),
        target_tokens=ahead.tokens,
        attended=ahead.attended,
        drafted=jnp.where(passed, jnp.max(size, axis=1) - size[:, 0], 0),
        accepted=gained,
        bonus=-gained,
        histogram=hit.astype(jnp.int32),
    )
    usage = usage.peak(jnp.where(acting, canvas.limit + ahead.tokens, 0))
    return replace(rows, usage=usage), canvas, acting, lost
