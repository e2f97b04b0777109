"""Laws over three tokens, small enough to know what every rule of speculation must do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.autoregress import Generator
from jaxdecode.draft import Draft, Shape, Spent
from jaxdecode.drafter import Drafter, Now, Verifier
from jaxdecode.judge import Judge
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.sampling import Categorical, draw_many, gumbel_top_k, row_keys, step_keys
from jaxdecode.speculate import Speculator
from jaxdecode.testing.statistics import p_value
from jaxdecode.types import Array
from tests.markov import MarkovLM, generator

DRAFT_ROWS = ((0.6, 0.3, 0.1), (0.2, 0.5, 0.3), (0.3, 0.3, 0.4))
TARGET_ROWS = ((0.2, 0.3, 0.5), (0.4, 0.4, 0.2), (0.1, 0.7, 0.2))
LENGTH = 3


def markov(rows: Sequence[Sequence[float]]) -> MarkovLM:
    """The model with these laws after each token; one row stands for all."""
    table = np.asarray(rows)
    table = np.broadcast_to(table, (table.shape[1], table.shape[1]))
    with np.errstate(divide="ignore"):
        return MarkovLM(jnp.asarray(np.log(table), jnp.float32))


DRAFT, TARGET = markov(DRAFT_ROWS), markov(TARGET_ROWS)


def emitting(target: MarkovLM = TARGET, max_tokens: int = LENGTH) -> Generator:
    return generator(target, max_tokens, Categorical())


@jax.jit
def _run(decoder, key, prompt):
    return decoder(key, prompt)


def sample(speculator: Speculator, count: int, seed: int = 1) -> Result:
    """`count` texts after token 0."""
    prompt = Prompt.of([[0]] * count, list(range(count)), 1)
    return jax.device_get(_run(Autoregressive(speculator), jax.random.key(seed), prompt))


def fit(result: Result) -> float:
    """p-value of the texts under the target of the bigram."""
    rows = np.asarray(TARGET_ROWS)
    law = rows[0][:, None, None] * rows[:, :, None] * rows[None]
    return p_value(result.tokens, law)


def per_round(result: Result) -> float:
    """Tokens that a pass of the target yields, those past the end of the text included."""
    usage = result.usage
    return float((usage.accepted + usage.bonus).sum() / usage.target_passes.sum())


def grow(drafter: Drafter, count: int, seed: int = 0) -> Draft:
    """`count` drafts after token 0."""
    prompt = Prompt.of([[0]] * count, list(range(count)), 1)
    zero = jnp.zeros((count,), jnp.int32)

    @jax.jit
    def run(drafter, key):
        state = drafter.init(TARGET, prompt, jnp.zeros((count, 0, 3)), 8, 8)
        now = Now(
            root=zero,
            length=zero,
            emitted=zero,
            limit=zero + 99,
            active=zero == 0,
            cache=TARGET.init_cache(count, 1),
            transform=(),
            key=row_keys(key, prompt.id, zero),
        )
        return drafter.propose(TARGET, state, now)[0]

    return jax.device_get(run(drafter, jax.random.key(seed)))


@partial(jax.jit, static_argnames="count")
def one_level(
    verifier: Verifier, target: Array, draft: Array, count: int, keys: Array, replacement: Array
) -> tuple[Array, Array, Array]:
    """`count` children of every root, drawn from one law; with or without replacement.

    Returns the tokens drawn, how many were accepted, and the token emitted, for each key.
    """
    batch = len(keys)
    zero = jnp.zeros((batch,), jnp.int32)
    logq = jnp.broadcast_to(jnp.log(draft), (batch, len(draft)))
    drawing = step_keys(keys, zero)
    distinct = gumbel_top_k(drawing, logq, count).index
    tokens = jnp.where(replacement, draw_many(drawing, logq, count), distinct)
    judge = Judge(
        logits=jnp.broadcast_to(jnp.log(target), (batch, count + 1, len(target))),
        transform=Identity(),
        sampler=Categorical(),
        state=(),
        key=keys,
        step=zero,
        active=zero == 0,
    )
    children = Draft(
        tokens=tokens,
        shape=Shape.grown(jnp.full((batch, count), -1, jnp.int32), 1),
        valid=jnp.ones((batch, count), bool),
        spent=Spent.nothing(batch),
        logq=logq[:, None],
        source=jnp.zeros((batch, count), jnp.int32),
    )
    verdict = verifier(step_keys(keys, zero + 1), judge, children, 1)
    first = jnp.take_along_axis(tokens, verdict.path, axis=1)[:, 0]
    return tokens, verdict.count, jnp.where(verdict.count > 0, first, verdict.next)
