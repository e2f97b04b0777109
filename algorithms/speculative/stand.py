"""STAND as a speculator: averaged n-gram laws, Gumbel-Top-k on a static tree, exact rejection.

    draft     q = the mean law of the longest known context; children of a node are drawn from
              q without replacement
    verify    accept x with probability min(1, p(x) / q(x)), else p <- max(p - q, 0), q loses x
    learn     the law at root and accepted nodes joins the mean of each of its contexts

Song et al. 2025, arXiv:2506.04708. The tree is to be fitted to counts of accepted nodes, as
`useful_tree` does; until there are counts it is that of the paths that are likely beforehand.
"""

from __future__ import annotations

from algorithms.speculative.drafters.stand import PAPER, Stand
from algorithms.speculative.drafters.static_trees import likely_tree
from algorithms.speculative.verifiers.match import Match
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode.autoregress import Generator
from jaxdecode.ngram.table import Table
from jaxdecode.speculate import Speculator

__all__ = ["PAPER", "first_tree", "stand"]

PRIORS = (0.65, 0.13, 0.06, 0.04, 0.03, 0.02, 0.015, 0.01, 0.008, 0.006)
"""Chances of the children of a node by rank, before anything was counted."""

NODES, DEPTH = 80, 13


def first_tree(nodes: int = 625, depth: int = 20) -> tuple[int, ...]:
    """The big tree whose accepted nodes are counted: likely paths, and one chain all the way."""
    return likely_tree(PRIORS, nodes, depth, chain=min(depth, nodes))


def stand(
    generator: Generator,
    tree: tuple[int, ...] | None = None,
    memory: Table | None = None,
    stochastic: bool = True,
    capacity: int = 1 << 15,
) -> Speculator:
    """The published method, or with `stochastic=False` its ablation to the likeliest tokens."""
    drafter = Stand(
        vocab_size=generator.model.vocab_size,
        tree=first_tree(NODES, DEPTH) if tree is None else tree,
        memory=memory,
        stochastic=stochastic,
        transform=generator.transform,
        sampler=generator.sampler,
        capacity=capacity,
    )
    return Speculator(generator, drafter, Residual() if stochastic else Match())
