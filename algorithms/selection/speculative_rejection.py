"""Speculative rejection (Sun et al. 2024, arXiv 2410.20290).

Start from as many responses as memory holds. Whenever they fill it, score the partial
responses and drop the fraction alpha with the lowest scores, so that the rest have room to
go on. The answer is the best completed response.

With M cache tokens for a prompt, b responses fill them at L = M // b tokens each, prompt
included, so the points of decision follow from M, the first width and alpha:

    b, L = b_0, M // b_0;  until L reaches the longest response:  b <- keep(b),  L <- M // b

alpha = 0 is best-of-N. `rule` says how many are kept:
  "count"     round((1 - alpha) b), halves to even, as the authors' code does;
  "quantile"  every score >= the alpha-quantile (linear interpolation), the algorithm as
              published: b - ceil(alpha (b - 1)) where scores differ. Widths are static here, so
              of scores tied at the cut those that come first fill that number.
`ranked` says what becomes of a response that has ended: True, it competes for a place in
every later cut (the authors' code); False, it competes in the cut of the round in which it
ended and in no other, and a cut keeps the stated share of those that began the round
running (the algorithm as published). Either way it is in the register and can be returned.

Deliberate differences from the authors' code: survivors keep their caches instead of being
prefilled again, nothing is decoded past an end token, and a completed response that is cut
in the round in which it ends is not lost. The schedule counts on every response going on, so
that the slots of those that end early stay unused. While a cut moves survivors to their new
slots, the old ones exist too: for that moment memory is up to (2 - alpha) M tokens.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, Protocol, runtime_checkable

import jax.numpy as jnp

from jaxdecode import population, register, struct
from jaxdecode.denoiser import Denoiser
from jaxdecode.lm import ModelCost
from jaxdecode.paper import Paper
from jaxdecode.population import Population, Stage
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.rows import Expander, check_start
from jaxdecode.scoring import Scorer
from jaxdecode.types import Array, Bool, Float, Int, Key

PAPER = Paper(
    slug="speculative_rejection",
    title="Fast Best-of-N Decoding via Speculative Rejection",
    authors=(
        "Hanshi Sun",
        "Momin Haider",
        "Ruiqi Zhang",
        "Huitao Yang",
        "Jiahao Qiu",
        "Ming Yin",
        "Mengdi Wang",
        "Peter Bartlett",
        "Andrea Zanette",
    ),
    year=2024,
    arxiv="2410.20290",
    venue="NeurIPS 2024",
    claim="the reward of best-of-N at 16-32x less compute",
    losslessness="not-applicable",
)

Rule = Literal["count", "quantile"]


def kept(width: int, alpha: float, rule: Rule) -> int:
    """How many of `width` responses survive a cut at rejection rate `alpha`."""
    if rule == "count":
        return round((1 - alpha) * width)
    # The quantile sits between order statistics floor and ceil of alpha (b - 1); the small
    # slack keeps a product such as 0.1 * 30 from being rounded up past its exact value.
    return width - math.ceil(alpha * (width - 1) - 1e-9)


def schedule(budget: int, width: int, alpha: float, longest: int, rule: Rule) -> list[Stage]:
    """The stages (width, tokens) of a budget of cache tokens.

    `longest` is the most tokens, prompt included, that a response can have. The last stage is
    the one that reaches it, or the one after which no response would be left or none cut.
    """
    stages = []
    while True:
        until = min(budget // width, longest)
        stages.append(Stage(width, until))
        survivors = kept(width, alpha, rule)
        if until == longest or survivors in (0, width):
            return stages
        width = survivors


@runtime_checkable
class Caching(Protocol):
    """Whatever keeps a cache: a language model, a reward model."""

    @property
    def cost(self) -> ModelCost: ...


def tokens_that_fit(nbytes: float, alpha: float, *models: Caching) -> int:
    """The budget M of a prompt whose caches, of generator and reward model, may take `nbytes`.

    Counts the moment of a cut at rate `alpha`, when they take 2 - alpha times as much.
    """
    each = (2 - alpha) * sum(model.cost.cache_bytes for model in models)
    if nbytes < each:
        raise ValueError(f"nbytes={nbytes:g} does not hold a single token, which takes {each:g}")
    return int(nbytes // each)


def first_width(budget: int, prompt: int, room: int) -> int:
    """The most responses to a prompt of `prompt` tokens that have `room` before the first cut."""
    if budget < prompt + room:
        raise ValueError(
            f"budget={budget} cache tokens hold no response to a prompt of {prompt} tokens with "
            f"room for {room}; raise it to {prompt + room}"
        )
    return budget // (prompt + room)


@struct.dataclass
class Cut:
    """One stage as it ended, for plots: correlations and the saw-tooth of memory."""

    sample: Int[Array, "B K"]
    score: Float[Array, "B K"]
    length: Int[Array, "B K"]
    running: Int[Array, "B"]
    cache_tokens: Int[Array, "B"]


@struct.dataclass
class History:
    """What happened, the trace of speculative rejection.

    Attributes:
      cuts: the stages in order.
      sample: which sample of its prompt was returned, -1 for none.
      score: its score.
    """

    cuts: tuple[Cut, ...]
    sample: Int[Array, "B"]
    score: Float[Array, "B"]


@struct.dataclass
class SpeculativeRejection:
    """Best-of-N that stops paying for responses as soon as they look bad.

    Attributes:
      generator: how responses are drawn.
      scorer: any score of a partial response: reward model, exact reward, likelihood.
      budget: static, cache tokens for each prompt (M), see `tokens_that_fit`.
      width: static, responses to start with (b_0), see `first_width`; responses of
        budget // width tokens, prompt included, must have room for one after the prompt.
      alpha: static, fraction rejected at each cut, in [0, 1).
      rule, ranked: see the module.
    """

    generator: Expander
    scorer: Scorer
    budget: int = struct.field(pytree_node=False)
    width: int = struct.field(pytree_node=False)
    alpha: float = struct.field(pytree_node=False, default=0.5)
    rule: Rule = struct.field(pytree_node=False, default="count")
    ranked: bool = struct.field(pytree_node=False, default=True)

    def __post_init__(self) -> None:
        if isinstance(getattr(self.generator, "model", None), Denoiser):
            raise ValueError(
                "generator: a canvas has all its places from the start, so that no memory grows "
                "until it is full and no cut makes room; use BestOfN"
            )
        if not 0 <= self.alpha < 1:
            raise ValueError(f"alpha={self.alpha} must lie in [0, 1): the fraction rejected")
        if self.width < 1:
            raise ValueError(f"width={self.width}: at least one response is needed")
        if self.rule not in ("count", "quantile"):
            raise ValueError(f"rule={self.rule!r} must be 'count' or 'quantile'")
        if self.budget < 2 * self.width:
            raise ValueError(
                f"budget={self.budget} cache tokens is too small for one stage of "
                f"width={self.width}: each response needs room for a prompt and one token; "
                f"raise the budget to {2 * self.width} or lower the width"
            )

    def check(self, prompt: Prompt) -> None:
        room = self.budget // self.width - 1
        check_start(self.generator, prompt, room)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        longest = prompt.tokens.shape[1] + self.generator.max_tokens
        stages = schedule(self.budget, self.width, self.alpha, longest, self.rule)
        alive = population.start(
            self.generator, self.scorer, key, prompt, self.width, stages[0].until
        )
        contends = jnp.ones_like(alive.sample, bool)
        reached, cuts = 0, []
        for stage in stages:
            if stage.width < alive.width:
                alive = self.cut(alive, contends, stage.width)
                running = alive.per_prompt(alive.rows.running)
                contends = jnp.ones_like(running) if self.ranked else running
            alive = population.advance(self.generator, alive, stage.until)
            window = min(stage.until - reached, self.generator.max_tokens)
            alive = population.evaluate(self.scorer, alive, window)
            reached = stage.until
            cuts.append(observe(alive))
        outcome = population.outcome(alive)
        best = register.chosen(outcome)
        history = History(cuts=tuple(cuts), sample=best.sample, score=best.score)
        return register.finish(self.generator, outcome, trace=history)

    def cut(self, alive: Population, contends: Bool[Array, "B K"], width: int) -> Population:
        """Reject all but the best of those that contend.

        Their number is known on the device only. `width` is what it comes to if all do; where
        fewer do, the places left over hold responses that run no further.
        """
        score = jnp.where(contends, alive.score, -jnp.inf)
        counts = [kept(count, self.alpha, self.rule) for count in range(alive.width + 1)]
        places = jnp.asarray(counts)[jnp.sum(contends, axis=1)]
        rank = jnp.argsort(jnp.argsort(-score, axis=1, stable=True), axis=1)
        rejected = (rank >= places[:, None]).reshape(-1) & alive.rows.running
        status = jnp.where(rejected, Status.BUDGET, alive.rows.status).astype(jnp.int8)
        alive = replace(alive, rows=replace(alive.rows, status=status))
        return population.select(alive, population.top(score, width))


def observe(alive: Population) -> Cut:
    """What a stage looked like when it ended."""
    return Cut(
        sample=alive.sample,
        score=alive.score,
        length=alive.per_prompt(alive.rows.length),
        running=jnp.sum(alive.per_prompt(alive.rows.running), axis=1),
        cache_tokens=jnp.sum(alive.per_prompt(alive.rows.cache.length), axis=1),
    )
