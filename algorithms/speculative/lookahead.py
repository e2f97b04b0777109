"""Lookahead decoding (Fu et al. 2024, arXiv:2402.02057) as a speculator, a base case."""

from __future__ import annotations

from algorithms.speculative.drafters.lookahead import Lookahead
from algorithms.speculative.verifiers.match import Match
from jaxdecode.autoregress import Generator
from jaxdecode.speculate import Speculator


def lookahead(
    generator: Generator, window: int = 15, size: int = 5, guesses: int = 15
) -> Speculator:
    """A window of 15 columns, 5-grams and 15 guesses, the published choice for 7B models."""
    drafter = Lookahead(generator.model.vocab_size, window, size, guesses)
    return Speculator(generator, drafter, Match())
