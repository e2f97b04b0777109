"""Speculators for the conformance tests whose drafts come from heads: untrained, so garbage."""

from __future__ import annotations

from functools import cache

import jax
from flax import nnx

from algorithms.speculative.clover import clover
from algorithms.speculative.drafters.ranked import Ranked
from algorithms.speculative.medusa import medusa
from jaxdecode.autoregress import Generator
from jaxdecode.speculate import Speculator
from jaxdecode.testing.enumerable import EnumerableLM
from models.heads.clover import Clover
from models.heads.medusa import Medusa
from models.presets import small


def noise(head, seed: int = 0):
    """A head with every weight drawn anew."""
    leaves, tree = jax.tree.flatten(head)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    drawn = [0.5 * jax.random.normal(k, w.shape) for w, k in zip(leaves, keys, strict=True)]
    return tree.unflatten(drawn)


@cache
def of_vocabulary(kind: str, vocab: int, width: int):
    """A random head of each kind for an enumerable model."""
    config = small(vocab, hidden=width, layers=1, heads=2, kv_heads=1, mlp=8)
    rngs = nnx.Rngs(0)
    match kind:
        case "medusa":
            shapes = ((2, width, width), (2, width), (2, width, vocab))
            return noise(Medusa(*map(jax.numpy.zeros, shapes)), 1)
        case "clover":
            return noise(Clover(config, 3, rngs=rngs), 2)
    raise ValueError(f"kind={kind!r} is unknown")


def head(kind: str, generator: Generator):
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
