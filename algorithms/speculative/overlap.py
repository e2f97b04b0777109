"""PEARL on two devices: the draft model runs on one while the target runs on the other.

In each step both programs are dispatched before either is waited for. What passes between the
devices is small: to the target the pending tokens with their laws and the guess behind them, to
the draft model the verdict and the next step's keys. The host waits once a step, to learn
whether a row is still running. Tokens and counts are those of the same speculator run as one
program on one device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from algorithms.speculative.drafters.parallel import Ahead, Parallel, Pending, asked, guessed
from jaxdecode import autoregress, struct
from jaxdecode.autoregress import Generator
from jaxdecode.draft import Guess, Spent, Verdict
from jaxdecode.drafter import Always, Now, Verifier
from jaxdecode.emission import emit
from jaxdecode.judge import Judge, stream
from jaxdecode.lm import ModelOutput
from jaxdecode.prompt import Prompt, check_prompt
from jaxdecode.result import Result
from jaxdecode.rows import Rows
from jaxdecode.sampling import step_keys
from jaxdecode.speculate import DRAFT, ROUND, VERIFY, Speculator, verify
from jaxdecode.types import Array, Bool, Int, Key


@struct.dataclass
class Call:
    """What the draft model needs to know of a step: its keys, and which rows take part."""

    key: Key[Array, "B"]
    active: Bool[Array, "B"]


@struct.dataclass
class News:
    """What became of a step, for the draft model."""

    verdict: Verdict
    tokens: Int[Array, "B Pp1"]
    count: Int[Array, "B"]


@dataclass(frozen=True)
class Overlap:
    """Runs a PEARL speculator on two devices; called like a decoder, but not to be traced.

    Attributes:
      speculator: see `algorithms.speculative.pearl`.
      target_device, draft_device: two of `jax.devices()`.
    Raises:
      ValueError: for a speculator that does not draft while it verifies, or a single device.
    """

    speculator: Speculator
    target_device: Any
    draft_device: Any

    def __post_init__(self) -> None:
        drafter = self.speculator.drafter
        if not isinstance(drafter, Parallel) or not (drafter.pre_verify and drafter.post_verify):
            raise ValueError(
                f"speculator: its drafter is {type(drafter).__name__}; only `Parallel` with both "
                "kinds of verification drafts beside every pass of the target"
            )
        if not isinstance(self.speculator.policy, Always):
            name = type(self.speculator.policy).__name__
            raise ValueError(f"speculator: its policy is {name}; windows have one length: Always")
        if self.target_device == self.draft_device:
            raise ValueError(
                f"draft_device={self.draft_device} is the target's too: nothing would overlap; "
                "give another device, or run the speculator as it is"
            )

    def check(self, prompt: Prompt) -> None:
        check_prompt(prompt, self.speculator.model.vocab_size)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        self.check(prompt)
        spec, here, there = self.speculator, self.target_device, self.draft_device
        assert isinstance(spec.drafter, Parallel)
        generator, verifier = jax.device_put((spec.generator, spec.verifier), here)
        drafter = jax.device_put(spec.drafter, there)
        rows, state = _begin(jax.device_put(spec, here), *jax.device_put((key, prompt), here))
        state, pending = jax.device_put(state, there), state.pending
        call, going = _call(generator, rows, pending)
        while bool(going):
            output = _look(generator, rows, pending)
            guess, spent, state = _draw(drafter, state, jax.device_put(call, there))
            told = jax.device_put((guess, spent), here)
            rows, news, call, going = _resolve(generator, verifier, rows, output, pending, *told)
            state = _learn(drafter, state, jax.device_put(news, there))
            pending = jax.device_put(state.pending, here)
        return autoregress.finish(generator, rows, trace=rows.meter)


@jax.jit
def _begin(spec: Speculator, key: Key[Array, ""], prompt: Prompt) -> tuple[Rows, Ahead]:
    """Read the prompts with both models."""
    rows = spec.start(key, prompt, 1, prompt.tokens.shape[1] + spec.max_tokens)
    return replace(rows, speculation=()), rows.speculation[0]


def _until(rows: Rows, pending: Pending) -> Int[Array, "B"]:
    return jnp.full_like(rows.length, rows.cache.capacity - pending.tokens.shape[1])


def _keys(rows: Rows) -> Key[Array, "B"]:
    return step_keys(stream(rows.key, ROUND), rows.length)


@jax.jit
def _call(generator: Generator, rows: Rows, pending: Pending) -> tuple[Call, Bool[Array, ""]]:
    """What the next step's draft needs, and whether there is a next step."""
    active = rows.running & (rows.total < _until(rows, pending))
    return Call(stream(_keys(rows), DRAFT), active), jnp.any(active)


@jax.jit
def _look(generator: Generator, rows: Rows, pending: Pending) -> ModelOutput:
    """The target on root and pending tokens."""
    active = rows.running & (rows.total < _until(rows, pending))
    draft = asked(pending, None, Spent.nothing(rows.length.shape[0]))
    return verify(generator.model, rows, draft, active)


@jax.jit
def _draw(drafter: Parallel, state: Ahead, call: Call) -> tuple[Guess, Spent, Ahead]:
    """The draft model on the next window."""
    zero = jnp.zeros(call.active.shape, jnp.int32)
    now = Now(
        root=zero,
        length=zero,
        emitted=zero,
        limit=jnp.full_like(zero, jnp.iinfo(jnp.int32).max),
        active=call.active,
        cache=state.line.follower.cache,
        transform=(),
        key=call.key,
    )
    window, after = drafter.draw(drafter.chain.model, state, now, 0)
    return guessed(state.pending, window), window.spent, after


@jax.jit
def _resolve(
    generator: Generator,
    verifier: Verifier,
    rows: Rows,
    output: ModelOutput,
    pending: Pending,
    guess: Guess,
    spent: Spent,
) -> tuple[Rows, News, Call, Any]:
    """Verify, emit, and say how to go on."""
    until = _until(rows, pending)
    active = rows.running & (rows.total < until)
    draft = asked(pending, guess, spent)
    judge = Judge(
        logits=output.logits,
        transform=generator.transform,
        sampler=generator.sampler,
        state=rows.transform,
        key=rows.key,
        step=rows.length,
        active=active,
    )
    verdict = verifier(stream(_keys(rows), VERIFY), judge, draft, draft.nodes)
    rows, outcome = emit(generator, rows, active, until, draft, verdict, output, judge)
    return rows, News(verdict, outcome.tokens, outcome.count), *_call(generator, rows, pending)


@jax.jit
def _learn(drafter: Parallel, state: Ahead, news: News) -> Ahead:
    return drafter.learn(state, news.verdict, news.tokens, news.count)
