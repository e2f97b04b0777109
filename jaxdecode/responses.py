"""Finished responses, whoever drew them, as rows that a scorer can judge."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdecode.cache import allocate, spread
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status, Usage
from jaxdecode.rows import Rows
from jaxdecode.scoring import Scorer
from jaxdecode.types import Array, Float, Int


def as_rows(
    prompt: Prompt,
    tokens: Int[Array, "R L"],
    length: Int[Array, "R"],
    logprob: Float[Array, "R"] | None = None,
) -> Rows:
    """K responses to each of B prompts, prompt by prompt, as rows that have ended.

    They have nothing to be run further with: no cache, and no state of a meter.
    """
    rows = length.shape[0]
    prompts = spread(prompt, rows // prompt.batch)
    last = jnp.take_along_axis(tokens, jnp.maximum(length - 1, 0)[:, None], axis=1)[:, 0]
    newest = jnp.take_along_axis(prompts.tokens, prompts.length[:, None] - 1, axis=1)[:, 0]
    return Rows(
        tokens=tokens,
        length=length,
        status=jnp.full((rows,), Status.EOS, jnp.int8),
        logprob=jnp.zeros((rows,), jnp.float32) if logprob is None else logprob,
        root=jnp.where(length > 0, last, newest),
        prompt_length=prompts.length,
        key=jax.random.split(jax.random.key(0), rows),
        cache=allocate(1, rows, 1, 1, 1),
        transform=(),
        meter=(),
        usage=Usage.zeros(rows),
    )


def score(scorer: Scorer, prompt: Prompt, rows: Rows) -> Float[Array, "R"]:
    """What the scorer says of rows that it has not seen before, B * K of them."""
    state, _ = scorer.init(prompt, rows.length.shape[0] // prompt.batch)
    return scorer.score(state, prompt, rows, rows.tokens.shape[1])[0].astype(jnp.float32)


@jax.jit
def judge(
    scorer: Scorer, prompt: Prompt, tokens: Int[Array, "B K L"], length: Int[Array, "B K"]
) -> Float[Array, "B K"]:
    """The scores of K responses to each prompt, as one compiled program."""
    rows = as_rows(prompt, tokens.reshape(-1, tokens.shape[2]), length.reshape(-1))
    return score(scorer, prompt, rows).reshape(length.shape)
