"""Engine: one token per pass, for any number of rows.

    while a row runs:  logits = model(root);  root = sampler(transform(logits));  append

A row's draws depend on the seed, its example id, its sample id and the step alone.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.appending import append
from jaxdecode.cache import resize, spread, truncate
from jaxdecode.denoiser import refuse_denoiser
from jaxdecode.lm import LanguageModel, ModelOutput, Prefill, extend, prefill
from jaxdecode.logits import LogitsTransform
from jaxdecode.meter import Meter, NoMeter, measure
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status, Usage
from jaxdecode.rows import Expander, Rows, run_until
from jaxdecode.sampling import Sampler, row_keys, step_keys
from jaxdecode.stop import StopRule
from jaxdecode.types import Array, Bool, Int, Key
from jaxdecode.whole import on_whole_rows


@struct.dataclass
class Generator:
    """A model and the rules by which it emits tokens.

    Attributes:
      model: the language model.
      transform: edits of the logits before a token is drawn.
      sampler: draws a token from edited logits.
      stop: what ends a row.
      max_tokens: static, the most tokens a row emits.
      meter: statistics of the raw logits to keep on the way.
      cache_growth: static; the cache starts this many times smaller than the worst case
        needs and grows as the longest row does. Attention reads every slot, so a cache far
        wider than the text costs more than the model; each size is one more loop to compile.
    """

    model: LanguageModel
    transform: LogitsTransform
    sampler: Sampler
    stop: StopRule
    max_tokens: int = struct.field(pytree_node=False)
    meter: Meter = NoMeter()
    cache_growth: int = struct.field(pytree_node=False, default=1)

    def __post_init__(self) -> None:
        refuse_denoiser(self.model)
        for name in ("max_tokens", "cache_growth"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{name}={value}: at least 1 is needed")

    @property
    def depth(self) -> int:
        """Draft tokens that one pass of the model can accept."""
        return 0

    def start(
        self,
        key: Key[Array, ""],
        prompt: Prompt,
        samples: int,
        capacity: int,
        first: Int[Array, ""] | int = 0,
    ) -> Rows:
        """Prefill every prompt once and fork it into `samples` rows, prompt by prompt.

        Row b * samples + k is sample first + k of prompt b. `capacity` counts the tokens that
        a row has room for, prompt included.
        """
        # The shared prefill needs only the prompt's slots; the rows get theirs after the fork.
        read = prefill(self.model, prompt, prompt.tokens.shape[1])
        return fork(self, key, prompt, read, samples, capacity, first)

    def room(self, rows: Rows, capacity: int) -> Rows:
        """The same rows with room for `capacity` tokens, prompt included."""
        return replace(rows, cache=resize(rows.cache, capacity))

    def advance(self, rows: Rows, until: Int[Array, "R"]) -> Rows:
        """Run until every row has ended or its prompt and output fill `until` tokens.

        A row that reaches `until` pauses and stays RUNNING. `until` is bounded by the room.
        """
        until = jnp.minimum(until, rows.cache.capacity)

        return run_until(rows, until, functools.partial(step, self))


def fork(
    generator: Generator,
    key: Key[Array, ""],
    prompt: Prompt,
    read: Prefill,
    samples: int,
    capacity: int,
    first: Int[Array, ""] | int = 0,
    depth: int = 0,
) -> Rows:
    """Fork every prompt that was read into `samples` rows, prompt by prompt.

    Row b * samples + k is sample first + k of prompt b. `capacity` counts slots per row,
    `depth` the draft tokens that one pass can accept.
    """
    batch, width = prompt.tokens.shape
    cache, root, _ = read
    cache = resize(cache, min(width, capacity))
    index = jnp.tile(jnp.arange(samples), batch)
    rows = batch * samples
    prompts, cache, root = spread((prompt, cache, root), samples)
    charged = index == 0  # the prompt is run once, and charged once
    seen = jnp.where(charged, prompts.length - 1, 0)
    usage = Usage.zeros(rows, depth).add(
        prompt_tokens=jnp.where(charged, prompts.length, 0),
        target_tokens=seen,
        target_passes=(seen > 0).astype(jnp.int32),
        attended=seen * (seen + 1) / 2.0,
    )
    return Rows(
        tokens=jnp.zeros((rows, generator.max_tokens), jnp.int32),
        length=jnp.zeros((rows,), jnp.int32),
        status=jnp.full((rows,), Status.RUNNING, jnp.int8),
        logprob=jnp.zeros((rows,), jnp.float32),
        root=root,
        prompt_length=prompts.length,
        key=row_keys(key, prompts.id, first + index),
        cache=resize(cache, capacity),
        transform=generator.transform.init(prompts),
        meter=generator.meter.init(rows),
        usage=usage.peak(prompts.length - 1),
    )


def step(generator: Generator, rows: Rows, active: Bool[Array, "R"]) -> Rows:
    """Emit one token on every active row; the others do not change."""
    output = extend(generator.model, rows.root[:, None], rows.cache, valid=active[:, None])

    def look(raw, state, keys, *rest):
        drawn = generator.sampler(keys, generator.transform.apply(state, raw))
        return drawn, measure(generator.meter, raw, drawn, *rest)

    keys, rest = step_keys(rows.key, rows.length), (rows.root, active, rows.meter)
    told = on_whole_rows(look, output.logits[:, 0], rows.transform, keys, *rest)
    return commit(generator, rows, active, output, *told)


def commit(
    generator: Generator,
    rows: Rows,
    active: Bool[Array, "R"],
    output: ModelOutput,
    drawn: Int[Array, "R"],
    measured: tuple[Array, Any] | None = None,
) -> Rows:
    """Emit the token `drawn` after the root, which `output` comes of; -1 for an unusable row."""
    seen = jnp.where(active, rows.total, 0)
    rows = append(generator, rows, active, output.logits[:, 0], drawn, measured)
    return replace(
        rows,
        cache=truncate(output.cache, output.cache.length + active),
        usage=rows.usage.add(
            target_passes=active.astype(jnp.int32),
            target_tokens=active.astype(jnp.int32),
            attended=seen.astype(jnp.float32),
        ).peak(seen),
    )


def capacities(generator: Expander, width: int) -> list[int]:
    """Cache sizes to run through: equal shares of the output, the last one sufficient."""
    share = -(-generator.max_tokens // generator.cache_growth)
    ends = range(share, generator.max_tokens + share, share)
    return [width + min(end, generator.max_tokens) for end in ends]


def generate(generator: Expander, key: Key[Array, ""], prompt: Prompt, samples: int = 1) -> Rows:
    """Decode every prompt `samples` times to the end; the whole of plain sampling."""
    sizes = capacities(generator, prompt.tokens.shape[1])
    rows = generator.start(key, prompt, samples, sizes[0])
    for size in sizes:
        rows = generator.room(rows, size)
        rows = generator.advance(rows, jnp.full_like(rows.length, size))
    return rows


def finish(generator: Expander, rows: Rows, trace: Any = None) -> Result:
    """Rows that ran as a result of their own."""
    return Result(
        tokens=rows.tokens,
        length=rows.length,
        logprob=rows.logprob,
        status=rows.status,
        usage=rows.usage.priced(generator.model.cost),
        trace=trace,
    )
