"""Speculators for the conformance tests whose drafts come from heads: untrained, so garbage."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import numpy as np
from flax import nnx

from algorithms.speculative.clover import clover
from algorithms.speculative.drafters.kangaroo import Kangaroo as KangarooDrafter
from algorithms.speculative.drafters.ranked import Ranked
from algorithms.speculative.drafters.retrieval import Datastore
from algorithms.speculative.eagle import eagle, eagle2
from algorithms.speculative.kangaroo import kangaroo, kangaroo_tree
from algorithms.speculative.medusa import medusa
from algorithms.speculative.rasd import rasd
from algorithms.speculative.verifiers.match import Match
from algorithms.speculative.verifiers.typical import Typical
from jaxdecode.autoregress import Generator
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.speculate import Speculator
from jaxdecode.testing.enumerable import EnumerableLM
from models.heads.clover import Clover
from models.heads.eagle import Eagle
from models.heads.kangaroo import Kangaroo
from models.heads.medusa import Medusa
from models.presets import small


def noise(head, seed: int = 0):
    """A head with every weight drawn anew."""
    leaves, tree = jax.tree.flatten(head)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    drawn = [0.5 * jax.random.normal(k, w.shape) for w, k in zip(leaves, keys, strict=True)]
    return tree.unflatten(drawn)


@cache
def of_vocabulary(kind: str, vocab: int, width: int) -> Any:
    """A random head of each kind for an enumerable model."""
    config = small(vocab, hidden=width, layers=1, heads=2, kv_heads=1, mlp=8)
    rngs = nnx.Rngs(0)
    match kind:
        case "medusa":
            shapes = ((2, width, width), (2, width), (2, width, vocab))
            return noise(Medusa(*map(jax.numpy.zeros, shapes)), 1)
        case "clover":
            return noise(Clover(config, 3, rngs=rngs), 2)
        case "eagle":
            return noise(Eagle(config, rngs=rngs), 3)
        case "kangaroo":
            return noise(Kangaroo(config, 1, rngs=rngs), 4)
        case "bare kangaroo":
            return Kangaroo(config, 0, kind="none", rngs=rngs)
    raise ValueError(f"kind={kind!r} is unknown")


def head(kind: str, generator: Generator) -> Any:
    """The head for a generator's model."""
    model = generator.model
    assert isinstance(model, EnumerableLM)
    return of_vocabulary(kind, model.vocab_size, model.width)


def ranks(generator: Generator, draft: EnumerableLM) -> Speculator:
    """A fixed tree of six nodes from two heads."""
    tree = Ranked.of([(0,), (1,), (2,), (0, 0), (0, 1), (1, 0)])
    return medusa(generator, head("medusa", generator), tree)


def paths(generator: Generator, draft: EnumerableLM) -> Speculator:
    """A tree of at most five nodes from three heads."""
    return clover(generator, head("clover", generator), 5, 0.95, 0.1)


def features(generator: Generator, draft: EnumerableLM) -> Speculator:
    """A chain of estimated hidden states."""
    return eagle(generator, head("eagle", generator), 3)


def pool(generator: Generator, draft: EnumerableLM) -> Speculator:
    """The best six of a beam of three, three levels deep."""
    return eagle2(generator, head("eagle", generator), 3, 3, 6)


def hops(generator: Generator, draft: EnumerableLM) -> Speculator:
    """A chain behind the one layer there is, sampled where the target is."""
    return kangaroo(generator, head("kangaroo", generator), 3, 0.4)


def hops_matched(generator: Generator, draft: EnumerableLM) -> Speculator:
    """The most probable tokens of embeddings alone, never unsure."""
    adapter = head("bare kangaroo", generator)
    return Speculator(generator, KangarooDrafter(adapter, 3, threshold=0.0), Match())


def hop_tree(generator: Generator, draft: EnumerableLM) -> Speculator:
    """Trees of two nodes a level."""
    return kangaroo_tree(generator, head("kangaroo", generator), 3, 2, 0.3)


def fused(generator: Generator, draft: EnumerableLM) -> Speculator:
    """RASD, with retrieval from a random corpus."""
    documents = np.random.default_rng(5).integers(0, draft.vocab_size, (4, 30)).tolist()
    store = Datastore(Corpus.of(documents, draft.vocab_size), 6, 3, 3, 1)
    return rasd(generator, head("eagle", generator), store, 2, 2, 4, 5, 4)


def typical(generator: Generator, draft: EnumerableLM) -> Speculator:
    """Medusa as published: what is typical holds."""
    tree = Ranked.of([(0,), (1,), (2,), (0, 0), (0, 1), (1, 0)])
    return medusa(generator, head("medusa", generator), tree, Typical())
