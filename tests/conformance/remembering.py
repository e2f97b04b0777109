"""Speculators for the conformance tests that draft from text, corpora and tables."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.speculative.drafters.aded import Adaptive
from algorithms.speculative.drafters.placeholders import Placeholders
from algorithms.speculative.drafters.prompt_lookup import PromptLookup
from algorithms.speculative.drafters.retrieval import Datastore, Retrieval
from algorithms.speculative.drafters.stand import Stand
from algorithms.speculative.drafters.token_recycling import tree_of
from algorithms.speculative.lookahead import lookahead
from algorithms.speculative.token_recycling import token_recycling
from algorithms.speculative.verifiers.match import Match
from algorithms.speculative.verifiers.redraw import Redraw
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode.autoregress import Generator
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.ngram.counts import Counts
from jaxdecode.ngram.laws import fold, likeliest
from jaxdecode.ngram.table import Table
from jaxdecode.speculate import Speculator
from jaxdecode.testing.enumerable import EnumerableLM


def recycled(generator: Generator, draft: EnumerableLM) -> Speculator:
    """A table of 3 successors, the draft model's at first."""
    table = jnp.argsort(-draft.unembed(draft.embed(jnp.arange(draft.vocab_size)[None]))[0], axis=1)
    return token_recycling(generator, table[:, :3].astype(jnp.int32), tree_of(".:3 0:2 1:1 00:1"))


def foreseen(generator: Generator, draft: EnumerableLM) -> Speculator:
    """Placeholders, for which a token of the vocabulary stands."""
    return Speculator(generator, Placeholders(4, 3, 0.3), Match())


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


def warmed(draft: EnumerableLM) -> Table:
    """What the draft model says after each token, as if the target had said it once."""
    vocab = draft.vocab_size
    laws = jax.nn.softmax(draft.unembed(draft.embed(jnp.arange(vocab)[None]))[0])

    def note(token, table: Table) -> Table:
        context = jnp.array([[-1, 0]]).at[0, 1].set(token)
        return fold(table, context, likeliest(laws[token][None], 4), jnp.array([True]), (2, 1))

    return jax.lax.fori_loop(0, vocab, note, Table.empty(1, 64, 2, 4))


def averaged(generator: Generator, draft: EnumerableLM, stochastic: bool = True) -> Speculator:
    """Averaged laws of at most 4 tokens after two or one, the draft model's at first."""
    drafter = Stand(
        generator.model.vocab_size,
        tree_of(".:3 0:2 1:1 00:1"),
        warmed(draft),
        stochastic,
        generator.transform,
        generator.sampler,
        orders=(2, 1),
        width=4,
    )
    return Speculator(generator, drafter, Residual() if stochastic else Match())


def averaged_chosen(generator: Generator, draft: EnumerableLM) -> Speculator:
    """The likeliest tokens of the same laws."""
    return averaged(generator, draft, stochastic=False)


def adapted(generator: Generator, draft: EnumerableLM) -> Speculator:
    """A short search over the trigrams of a random corpus."""
    documents = np.random.default_rng(4).integers(0, draft.vocab_size, (4, 30)).tolist()
    corpus = Counts.of(documents, draft.vocab_size, keep=4)
    drafter = Adaptive(corpus, iterations=8, length=3, top=5, nodes=6, window=6, capacity=64)
    return Speculator(generator, drafter, Match())


def redrawn(generator: Generator, draft: EnumerableLM) -> Speculator:
    """Retrieval under the published, biased sampling."""
    return Speculator(generator, retrieved(generator, draft).drafter, Redraw())
