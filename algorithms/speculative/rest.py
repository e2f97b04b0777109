"""REST (He et al. 2023, arXiv:2311.08252) as a speculator, a base case of many papers."""

from __future__ import annotations

from algorithms.speculative.drafters.retrieval import Datastore, Retrieval
from algorithms.speculative.verifiers.match import Match
from jaxdecode.autoregress import Generator
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.speculate import Speculator


def rest(generator: Generator, corpus: Corpus, nodes: int = 64, matches: int = 64) -> Speculator:
    """Trees of at most `nodes` prefixes of what follows `matches` occurrences in a corpus."""
    return Speculator(generator, Retrieval(Datastore(corpus, matches), nodes), Match())
