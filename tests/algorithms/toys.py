"""Laws over three tokens, small enough to know what every rule of speculation must do."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.speculative.speculative import Speculative
from jaxdecode.autoregress import Generator
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.sampling import Categorical
from jaxdecode.speculate import Speculator
from jaxdecode.testing.statistics import p_value
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
    return jax.device_get(_run(Speculative(speculator), jax.random.key(seed), prompt))


def fit(result: Result) -> float:
    """p-value of the texts under the target of the bigram."""
    rows = np.asarray(TARGET_ROWS)
    law = rows[0][:, None, None] * rows[:, :, None] * rows[None]
    return p_value(result.tokens, law)


def per_round(result: Result) -> float:
    """Tokens that a pass of the target yields, those past the end of the text included."""
    usage = result.usage
    return float((usage.accepted + usage.bonus).sum() / usage.target_passes.sum())
