"""Speculators for the conformance tests that draft from text, corpora and tables."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from algorithms.speculative.drafters.prompt_lookup import PromptLookup
from algorithms.speculative.drafters.retrieval import Datastore, Retrieval
from algorithms.speculative.drafters.token_recycling import tree_of
from algorithms.speculative.lookahead import lookahead
from algorithms.speculative.token_recycling import token_recycling
from algorithms.speculative.verifiers.match import Match
from jaxdecode.autoregress import Generator
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.speculate import Speculator
from jaxdecode.testing.enumerable import EnumerableLM


def recycled(generator: Generator, draft: EnumerableLM) -> Speculator:
    """A table of 3 successors, the draft model's at first."""
    table = jnp.argsort(-draft.unembed(draft.embed(jnp.arange(draft.vocab_size)[None]))[0], axis=1)
    return token_recycling(generator, table[:, :3].astype(jnp.int32), tree_of(".:3 0:2 1:1 00:1"))


def looked_up(generator: Generator, draft: EnumerableLM) -> Speculator:
    """Chains of what followed in the text."""
    return Speculator(generator, PromptLookup(3, 2, whole=False), Match())


def retrieved(generator: Generator, draft: EnumerableLM) -> Speculator:
    """Trees from a random corpus."""
    documents = np.random.default_rng(4).integers(0, draft.vocab_size, (4, 30)).tolist()
    store = Datastore(Corpus.of(documents, draft.vocab_size), 6, 3, 3, 1)
    return Speculator(generator, Retrieval(store, 6), Match())


def looked_ahead(generator: Generator, draft: EnumerableLM) -> Speculator:
    """A window of 3 columns and trigrams."""
    return lookahead(generator, 3, 3, 2)
