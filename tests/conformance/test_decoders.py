"""Every decoder keeps what every decoder must."""

import functools
from typing import Any

import pytest

from algorithms.sampling.autoregressive import Autoregressive
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Temperature, TopP, chain
from jaxdecode.sampling import Categorical, Greedy
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


# One row for every decoder: the arguments of its `Subject`.
ROWS: dict[str, dict[str, Any]] = {
    "autoregressive": {
        "make": sampling,
        "roomier": functools.partial(sampling, cache_growth=1),
    },
    "autoregressive, greedy": {"make": lambda *rules: Autoregressive(greedy(*rules))},
}


@pytest.mark.parametrize("name", ROWS)
def test_conformance(name) -> None:
    """One test a decoder, so that its compiled programs are made in one process."""
    subject = Subject(**ROWS[name])
    for check in CHECKS:
        check(subject)
