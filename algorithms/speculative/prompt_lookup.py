"""Prompt lookup decoding (Saxena 2023) as a speculator, a base case of many papers."""

from __future__ import annotations

from algorithms.speculative.drafters.prompt_lookup import PromptLookup
from algorithms.speculative.verifiers.match import Match
from jaxdecode.autoregress import Generator
from jaxdecode.speculate import Speculator


def prompt_lookup(generator: Generator, length: int = 10) -> Speculator:
    """Chains of `length` tokens that followed the newest 3, 2 or 1 tokens before."""
    return Speculator(generator, PromptLookup(length), Match())
