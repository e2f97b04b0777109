"""The end of a speculative round: what was accepted becomes text, cache and account."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxdecode.autoregress import Generator
from jaxdecode.cache import keep, put, truncate
from jaxdecode.draft import Draft, Verdict
from jaxdecode.drafter import Outcome
from jaxdecode.judge import Judge
from jaxdecode.lm import ModelOutput
from jaxdecode.logits import noted
from jaxdecode.result import Status
from jaxdecode.rows import Rows
from jaxdecode.types import Array, Bool, Int


def emit(
    generator: Generator,
    rows: Rows,
    active: Bool[Array, "R"],
    until: Int[Array, "R"],
    draft: Draft,
    verdict: Verdict,
    output: ModelOutput,
    judge: Judge,
) -> tuple[Rows, Outcome]:
    """Append what was accepted and the next token, up to where the text or the room ends."""
    depth = verdict.path.shape[1]
    order = jnp.arange(depth + 1)
    accepted = jnp.where(active, verdict.count, 0)
    usable = verdict.next >= 0
    bonus = active & usable
    found = accepted + bonus

    path = jnp.clip(verdict.path, 0, max(draft.nodes - 1, 0))
    if draft.nodes:
        tokens = jnp.take_along_axis(draft.tokens, path, axis=1)
    else:
        tokens = jnp.zeros_like(path)
    tokens = jnp.pad(tokens, ((0, 0), (0, 1)))
    tokens = put(tokens, accepted[:, None], jnp.where(usable, verdict.next, 0)[:, None])

    space = jnp.minimum(rows.tokens.shape[1] - rows.length, until - rows.total)
    count = jnp.clip(jnp.minimum(found, space), 0)
    slot = jnp.where(order < count[:, None], rows.length[:, None] + order, rows.tokens.shape[1])
    text = put(rows.tokens, slot, tokens)
    stops = jax.vmap(generator.stop, in_axes=(None, 0), out_axes=1)(
        text, rows.length + 1 + order[:, None]
    )
    stops &= order < count[:, None]
    ends = jnp.any(stops, axis=1)
    count = jnp.where(ends, jnp.argmax(stops, axis=1) + 1, count)
    slot = jnp.where(order >= count[:, None], rows.length[:, None] + order, rows.tokens.shape[1])
    text = put(text, jnp.where(active[:, None], slot, rows.tokens.shape[1]), jnp.zeros_like(slot))
    length = rows.length + count

    status = jnp.where(active & (length >= rows.tokens.shape[1]), Status.LENGTH, rows.status)
    status = jnp.where(ends, Status.EOS, status)
    lost = active & ~usable & ~ends & (count == found) & (status == Status.RUNNING)
    status = jnp.where(lost, Status.INVALID, status)

    # The logits before emitted token i are those of the root (i = 0) or of path node i - 1.
    before = jnp.pad(path + 1, ((0, 0), (1, 0)))
    raw = jnp.take_along_axis(output.logits, before[..., None], axis=1)
    logprob = jnp.take_along_axis(raw, tokens[..., None], axis=2)[..., 0]
    logprob -= jax.nn.logsumexp(raw, axis=2)
    emitted = order < count[:, None]

    def note(state, step):
        """What the transform and the meter remember, one token further."""
        token, logits, valid = step
        transform, meter = state
        transform = noted(generator.transform, transform, logits, token, valid)
        return (transform, generator.meter.observe(meter, logits, token, valid)), None

    steps = (tokens.T, jnp.moveaxis(raw, 1, 0), emitted.T)
    (transform, meter), _ = jax.lax.scan(note, (rows.transform, rows.meter), steps)

    if draft.shape.chain:
        cache = truncate(output.cache, output.cache.length + count)
    else:
        cache = keep(output.cache, before, count, draft.nodes + 1)
    newest = jnp.take_along_axis(tokens, jnp.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
    drafted = jnp.where(active, jnp.sum(draft.eligible, axis=1), 0)
    run = jnp.where(active[:, None], draft.valid, False)
    seen = jnp.sum(jnp.where(run, rows.total[:, None] + draft.shape.depth, 0), axis=1)
    passes = active.astype(jnp.int32)
    at = (jnp.arange(rows.usage.histogram.shape[1]) == accepted[:, None]) & active[:, None]
    usage = rows.usage.add(
        emitted=count,
        accepted=accepted,
        bonus=bonus.astype(jnp.int32),
        truncated=found - count,
        drafted=drafted,
        histogram=at.astype(jnp.int32),
        target_passes=passes,
        target_tokens=passes + jnp.sum(run, axis=1),
        attended=(jnp.where(active, rows.total, 0) + seen).astype(jnp.float32),
        draft_passes=draft.spent.passes,
        draft_tokens=draft.spent.tokens,
        flops=draft.spent.flops,
        invalid=lost.astype(jnp.int32),
    ).peak(jnp.where(active, rows.total + jnp.sum(run, axis=1), 0))
    outcome = Outcome(verdict, tokens, count, output.hidden, judge)
    return replace(
        rows,
        tokens=text,
        length=length,
        status=status.astype(jnp.int8),
        logprob=rows.logprob + jnp.sum(jnp.where(emitted, logprob, 0.0), axis=1),
        root=jnp.where(count > 0, newest, rows.root),
        cache=cache,
        transform=transform,
        meter=meter,
        usage=usage,
    ), outcome
