"""Trees chosen on the host, before the program runs, and what says how useful their nodes are.

Nodes stand level by level, siblings by rank.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxdecode.draft import ROOT, Draft
from jaxdecode.drafter import Outcome
from jaxdecode.types import Array, Bool


def likely_tree(priors: Sequence[float], nodes: int, depth: int, chain: int = 0) -> tuple[int, ...]:
    """The parents of the `nodes` likeliest paths, if a child of rank r holds with `priors[r]`.

    Args:
      depth: of the deepest path.
      chain: the path of first children to this depth is there whatever its likelihood.
    Raises:
      ValueError: unless priors decrease and lie in (0, 1), so that the paths are a tree.
    """
    prior = np.asarray(priors, float)
    if not len(prior) or prior.max() >= 1 or prior.min() <= 0 or (np.diff(prior) > 0).any():
        raise ValueError(f"priors={tuple(priors)}: falling probabilities within (0, 1) are needed")
    if nodes < 1 or depth < 1 or not 0 <= chain <= min(depth, nodes):
        raise ValueError(
            f"nodes={nodes}, depth={depth}, chain={chain}: a tree has nodes and levels, and a "
            "chain that fits"
        )
    kept = {(0,) * n for n in range(1, chain + 1)}
    heap: list[tuple[float, tuple[int, ...]]] = [(-p, (r,)) for r, p in enumerate(prior.tolist())]
    while len(kept) < nodes and heap:
        likelihood, path = heapq.heappop(heap)
        kept.add(path)
        if len(path) < depth:
            for rank, p in enumerate(prior.tolist()):
                heapq.heappush(heap, (likelihood * p, (*path, rank)))
    ordered = sorted(kept, key=lambda path: (len(path), path))
    number = {(): ROOT} | {path: place for place, path in enumerate(ordered)}
    return tuple(number[path[:-1]] for path in ordered)


def useful_tree(parents: Sequence[int], counts: Sequence[float], nodes: int) -> tuple[int, ...]:
    """The parents of the tree of the `nodes` nodes that were accepted most often.

    A node is accepted only where its parent is, so that the most accepted are a tree; of equal
    counts the shallower node stays, then the earlier. Siblings move up where one before them
    is dropped.

    Raises:
      ValueError: if a node was accepted more often than its parent.
    """
    above, count = np.asarray(parents), np.asarray(counts)
    depth = np.zeros(len(above), int)
    for node, parent in enumerate(above):
        depth[node] = 1 if parent == ROOT else depth[parent] + 1
        if parent != ROOT and count[node] > count[parent]:
            raise ValueError(
                f"counts[{node}]={count[node]} exceeds that of its parent, {count[parent]}: "
                "count accepted paths, not attempts"
            )
    kept = np.sort(np.lexsort((np.arange(len(above)), depth, -count))[:nodes])
    kept = kept[np.argsort(depth[kept], kind="stable")]
    number = {ROOT: ROOT} | {int(node): place for place, node in enumerate(kept)}
    return tuple(number[int(above[node])] for node in kept)


def on_path(draft: Draft, outcome: Outcome) -> Bool[Array, "B Np1"]:
    """Whether the root (on the rows that took part) and each node were accepted, and emitted."""
    path = outcome.verdict.path
    count = jnp.minimum(outcome.verdict.count, outcome.count)
    inside = jnp.arange(path.shape[1]) < count[:, None]
    nodes = jnp.arange(draft.nodes + 1) - 1
    hit = jnp.any((path[..., None] == nodes) & inside[..., None], axis=1)
    return hit | ((nodes == ROOT) & (outcome.count > 0)[:, None])
