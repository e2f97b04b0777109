"""The state of a search by beams, and how it begins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import Cache, resize, spread
from jaxdecode.extension import Beam
from jaxdecode.finished import Finished
from jaxdecode.lm import prefill
from jaxdecode.prompt import Prompt
from jaxdecode.result import Usage
from jaxdecode.sampling import row_keys
from jaxdecode.types import Array, Bool, Float, Int, Key


@struct.dataclass
class Search:
    """Everything the next step needs.

    Attributes:
      step: i32[], tokens that every open hypothesis holds.
      tokens: i32[B, G, W, L].
      score, total, logprob: f32[B, G, W], as in `Finished`; score is -inf where there is none.
      root: i32[B, K], newest tokens, not yet run.
      seen: bool[B, K, S], slots of the ancestors.
      transform: the edits' state of B * K rows.
      active: bool[B], prompts not done.
    """

    step: Int[Array, ""]
    prompt_length: Int[Array, "B"]
    tokens: Int[Array, "B G W L"]
    score: Float[Array, "B G W"]
    total: Float[Array, "B G W"]
    logprob: Float[Array, "B G W"]
    root: Int[Array, "B K"]
    key: Key[Array, "B"]
    cache: Cache
    seen: Bool[Array, "B K S"]
    transform: Any
    finished: Finished
    active: Bool[Array, "B"]
    usage: Usage


def start(beam: Beam, key: Key[Array, ""], prompt: Prompt, room: int) -> Search:
    """One hypothesis in each group, which is empty; `room` counts tokens a path has slots for."""
    generator, (batch, width) = beam.generator, prompt.tokens.shape
    read = prefill(generator.model, prompt, width)
    shape = (batch, beam.groups, beam.width)
    alone = jnp.broadcast_to(jnp.where(jnp.arange(beam.width) == 0, 0.0, -jnp.inf), shape)
    seen = prompt.length - 1
    usage = Usage.zeros(batch).add(
        prompt_tokens=prompt.length,
        target_tokens=seen,
        target_passes=(seen > 0).astype(jnp.int32),
        attended=seen * (seen + 1) / 2.0,
    )
    search = Search(
        step=jnp.zeros((), jnp.int32),
        prompt_length=prompt.length,
        tokens=jnp.zeros((*shape, generator.max_tokens), jnp.int32),
        score=alone,
        total=alone,
        logprob=alone,
        root=jnp.repeat(read.root[:, None], beam.beams, axis=1),
        key=row_keys(key, prompt.id, jnp.zeros_like(prompt.id)),
        cache=read.cache,
        seen=jnp.zeros((batch, beam.beams, width), bool),
        transform=generator.transform.init(spread(prompt, beam.beams)),
        finished=Finished.none(*shape, generator.max_tokens),
        active=jnp.ones((batch,), bool),
        usage=usage.peak(seen),
    )
    return with_room(beam, search, room - width, width)


def with_room(beam: Beam, search: Search, steps: int, width: int) -> Search:
    """The same search with slots for `steps` tokens of every hypothesis."""
    capacity = max(width - 1 + steps * beam.beams, width)
    more = capacity - search.cache.capacity
    return replace(
        search,
        cache=resize(search.cache, capacity),
        seen=jnp.pad(search.seen, ((0, 0), (0, 0), (0, more))),
    )
