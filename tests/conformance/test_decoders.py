"""Every decoder keeps what every decoder must."""

import functools
from typing import Any

import jax.numpy as jnp
import pytest

from algorithms.sampling.autoregressive import Autoregressive
from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.self_certainty import SelfCertainty, Voting
from algorithms.selection.speculative_rejection import SpeculativeRejection
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Temperature, TopP, chain
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import FunctionScorer
from jaxdecode.stop import Stop
from jaxdecode.testing.conformance import CHECKS, Subject
from jaxdecode.testing.enumerable import EnumerableLM


def sampler(model: EnumerableLM, stop: Stop, max_tokens: int, cache_growth: int = 1) -> Generator:
    """Tempered nucleus sampling, the generator of most rows."""
    transform = chain(Temperature(0.9), TopP(0.95))
    return Generator(model, transform, Categorical(), stop, max_tokens, cache_growth=cache_growth)


def greedy(model: EnumerableLM, stop: Stop, max_tokens: int) -> Generator:
    return Generator(model, Temperature(0.7), Greedy(), stop, max_tokens)


def sampling(model, stop, max_tokens, cache_growth=3):
    return Autoregressive(sampler(model, stop, max_tokens, cache_growth))


def worth(prompt, prompt_length, tokens, length):
    """A reward that reads every emitted token and the prompt's length."""
    inside = jnp.arange(tokens.shape[1]) < length[:, None]
    total = jnp.sum(jnp.where(inside, (7 * tokens + 3) % 5, 0), axis=1)
    return total + 0.01 * prompt_length


def best_of_n(model, stop, max_tokens, wave=None):
    scorer = FunctionScorer(worth)
    return BestOfN(sampler(model, stop, max_tokens), scorer, samples=4, wave=wave)


def speculative_rejection(model, stop, max_tokens):
    scorer = FunctionScorer(worth)
    return SpeculativeRejection(sampler(model, stop, max_tokens), scorer, budget=40, width=6)


def self_certainty(model, stop, max_tokens):
    return SelfCertainty(sampler(model, stop, max_tokens), samples=4)


def first_token(tokens, length):
    """An answer that some responses share."""
    return tokens[:, 0]


def voting(model, stop, max_tokens):
    return Voting(self_certainty(model, stop, max_tokens), first_token)


# One row for every decoder: the arguments of its `Subject`.
ROWS: dict[str, dict[str, Any]] = {
    "autoregressive": {
        "make": sampling,
        "roomier": functools.partial(sampling, cache_growth=1),
    },
    "autoregressive, greedy": {"make": lambda *rules: Autoregressive(greedy(*rules))},
    "best_of_n": {"make": best_of_n, "pooled": True},
    "best_of_n, in waves": {"make": functools.partial(best_of_n, wave=2), "pooled": True},
    "speculative_rejection": {
        "make": speculative_rejection,
        "pooled": True,
        "shapes": ("alpha",),
    },
    "self_certainty": {"make": self_certainty, "pooled": True},
    "self_certainty, voting": {"make": voting, "pooled": True},
}


@pytest.mark.parametrize("name", ROWS)
def test_conformance(name) -> None:
    """One test a decoder, so that its compiled programs are made in one process."""
    subject = Subject(**ROWS[name])
    for check in CHECKS:
        check(subject)
