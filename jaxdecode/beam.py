"""Engine: beams, any number of groups of them, in one pass of the model a token.

    while a prompt is open:  logits = model(K newest tokens)
        group by group:      rank the extensions; those that end are finished, W go on

All K = G * W hypotheses of a prompt share one row of the cache: step t writes its K tokens
into slots of their own and each sees the prompt and its ancestors, by a mask [B, K, S] that is
gathered where others copy the cache. The prompt is held, and read, once.

Hypotheses that end are entered in `Finished`, a pool for each group, and never lost. With
`spare` candidates W hypotheses go on beside those that end; without, each group takes its W
best extensions, and one that ends leaves its place to a child of the others one step later.
Scores are sums of edited log-probabilities that are not normalised again, so that a
constraint leaves those of what it permits as they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.autoregress import capacities
from jaxdecode.beam_state import Search, start, with_room
from jaxdecode.cache import gather
from jaxdecode.extension import Beam, Chosen, Front, choose, placed
from jaxdecode.finished import Finished
from jaxdecode.lm import View
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.rows import where_rows
from jaxdecode.sampling import step_keys
from jaxdecode.types import Array, Bool, Float, Int, Key
from jaxdecode.whole import whole


def search(beam: Beam, key: Key[Array, ""], prompt: Prompt) -> Search:
    """Run every prompt to its end."""
    width = prompt.tokens.shape[1]
    sizes = capacities(beam.generator, width)
    found = start(beam, key, prompt, sizes[0])
    for size in sizes:
        found = with_room(beam, found, size - width, width)
        found = jax.lax.while_loop(
            lambda s, bound=size - width: jnp.any(s.active) & (s.step < bound),
            lambda s: step(beam, s),
            found,
        )
    return found


def step(beam: Beam, search: Search) -> Search:
    """One token more on every hypothesis."""
    generator, (batch, beams) = beam.generator, search.root.shape
    grouped = search.score.shape
    runs = search.active[:, None] & jnp.isfinite(search.score).reshape(batch, beams)
    first = search.prompt_length - 1
    view = View(
        position=jnp.broadcast_to((first + search.step)[:, None], search.root.shape),
        start=first + search.step * beams,
        prefix=first,
        valid=runs,
        block=jnp.broadcast_to(jnp.eye(beams, dtype=bool), (batch, beams, beams)),
        beyond=search.seen,
    )
    output = generator.model(search.root, search.cache, view)
    capacity = search.cache.capacity
    seen = search.seen | (view.slot(capacity)[..., None] == jnp.arange(capacity))
    raw = jax.nn.log_softmax(whole(output.logits), axis=2).reshape(batch * beams, -1)
    edited = generator.transform.apply(search.transform, raw)
    lost = runs & jnp.isnan(jnp.max(edited, axis=1)).reshape(runs.shape)
    raw, edited = raw.reshape(*grouped, -1), edited.reshape(*grouped, -1)
    chosen = expand(beam, search, edited)

    score, text, ends = (placed(chosen, x) for x in (chosen.score, chosen.text, chosen.ends))
    parent, token = placed(chosen, chosen.parent), placed(chosen, chosen.token)
    row = (jnp.arange(beam.groups)[:, None] * beam.width + parent).reshape(batch, beams)
    goes = search.active[:, None, None] & jnp.isfinite(score) & ~ends
    total = jnp.take_along_axis(search.total, parent, 2) + at(edited, parent, token)
    logprob = jnp.take_along_axis(search.logprob, parent, 2) + at(raw, parent, token)
    transform = gather(search.transform, row)
    entering = entered(beam, search, chosen, edited, raw)
    finished = where_rows(search.active, search.finished.merged(entering), search.finished)
    score = jnp.where(goes, score, -jnp.inf)
    emitted = jnp.sum(chosen.goes | jnp.isfinite(entering.rank), axis=(1, 2))
    emitted = jnp.where(search.active, emitted, 0)
    count = jnp.sum(runs, axis=1)
    seen = jnp.take_along_axis(seen, row[..., None], axis=1)
    return replace(
        search,
        step=search.step + 1,
        tokens=text,
        score=score,
        total=total,
        logprob=logprob,
        root=token.reshape(batch, beams),
        cache=output.cache,
        seen=seen,
        transform=generator.transform.observe(transform, token.reshape(-1), goes.reshape(-1)),
        finished=finished,
        active=search.active & ~done(beam, search.step + 1, score, finished),
        usage=search.usage.add(
            emitted=emitted,
            bonus=emitted,
            target_passes=search.active.astype(jnp.int32),
            target_tokens=count,
            attended=(count * (first + search.step + 1)).astype(jnp.float32),
            invalid=jnp.sum(lost, axis=1),
        ).peak(jnp.where(search.active, first + search.step * beams + count, 0)),
    )


def expand(beam: Beam, search: Search, logp: Float[Array, "B G W V"]) -> Chosen:
    """The candidates of every group, [B, G, ...], each group aware of those before it."""
    batch, groups, width = search.score.shape
    keys = step_keys(search.key, jnp.broadcast_to(search.step, (batch,)))

    def one(carry: tuple[Array, Array], group: Int[Array, ""]) -> tuple[Any, Chosen]:
        texts, counted = carry

        def own(array: Array) -> Array:
            return jax.lax.dynamic_index_in_dim(array, group, axis=1, keepdims=False)

        front = Front(
            step=search.step,
            group=group,
            key=step_keys(keys, jnp.broadcast_to(group, (batch,))),
            score=own(search.score),
            total=own(search.total),
            logp=own(logp),
            tokens=own(search.tokens),
            others=texts.reshape(batch, groups * width, -1),
            counted=counted.reshape(batch, groups * width),
            candidates=min(beam.candidates, logp.shape[3]),
        )
        chosen = choose(beam, front)
        took = jnp.isfinite(chosen.score) & (~chosen.ends | beam.end_counts)
        texts = texts.at[:, group].set(placed(chosen, chosen.text))
        return (texts, counted.at[:, group].set(placed(chosen, took))), chosen

    carry = (search.tokens, jnp.zeros((batch, groups, width), bool))
    _, chosen = jax.lax.scan(one, carry, jnp.arange(groups))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), chosen)


def at(values: Float[Array, "B G W V"], parent: Array, token: Array) -> Float[Array, "B G C"]:
    """The values of tokens after hypotheses."""
    batch, groups = (jnp.arange(n) for n in values.shape[:2])
    return values[batch[:, None, None], groups[:, None], parent, token]


def entered(
    beam: Beam, search: Search, chosen: Chosen, logp: Float[Array, "B G W V"], raw: Array
) -> Finished:
    """The candidates that finish in this step; at the last one all that go on do, too."""
    length = search.step + 1
    last = length == chosen.text.shape[3]
    if beam.leading:
        enters = (chosen.ends | last) & (jnp.arange(beam.candidates) < beam.width)
    else:
        enters = chosen.ends | (last & chosen.goes)
    enters &= jnp.isfinite(chosen.score)

    def summed(before: Float[Array, "B G W"], values: Float[Array, "B G W V"]) -> Array:
        own = jnp.take_along_axis(before, chosen.parent, axis=2)
        return own + at(values, chosen.parent, chosen.token)

    return Finished(
        rank=jnp.where(enters, chosen.score / beam.penalty(length), -jnp.inf),
        score=chosen.score,
        total=summed(search.total, logp),
        logprob=summed(search.logprob, raw),
        tokens=chosen.text,
        length=jnp.full_like(chosen.token, length),
        status=jnp.where(chosen.ends, Status.EOS, Status.LENGTH).astype(jnp.int8),
    )


def done(
    beam: Beam, length: Int[Array, ""], score: Float[Array, "B G W"], finished: Finished
) -> Bool[Array, "B"]:
    """Prompts whose open hypotheses, of `length` tokens, cannot or need not be run on."""
    best, longest = jnp.max(score, axis=2), finished.tokens.shape[3]
    match beam.stopping:
        case "exact":
            closed = finished.worst >= beam.penalty.attainable(best, length + 1, longest)
            closed &= beam.falling
        case "first":
            closed = finished.full
        case "heuristic":
            closed = finished.worst >= best / beam.penalty(length)
        case "never":
            closed = jnp.zeros(best.shape, bool)
    return jnp.all(closed | ~jnp.isfinite(best), axis=1) | (length >= longest)


def finish(beam: Beam, search: Search, key: Float[Array, "B G W"]) -> Result:
    """The finished hypothesis with the largest key; the trace lists all of them (`Listed`).

    Where none is finished the result is empty: EXHAUSTED if the edits left nothing to go on
    with, INVALID if the model gave no usable logits.
    """
    listed = search.finished.listed(key)
    nothing = jnp.where(search.usage.invalid > 0, Status.INVALID, Status.EXHAUSTED)
    there = listed.there[:, 0]
    return Result(
        tokens=listed.tokens[:, 0],
        length=listed.length[:, 0],
        logprob=jnp.where(there, listed.logprob[:, 0], 0.0),
        status=jnp.where(there, listed.status[:, 0], nothing).astype(jnp.int8),
        usage=search.usage.priced(beam.generator.model.cost),
        trace=listed,
    )
