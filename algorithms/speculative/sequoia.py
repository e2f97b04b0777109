"""Sequoia: a static tree chosen for the draft model and the machine (Chen et al. 2024,
arXiv:2402.12374).

    P = positional(...)                      how often the k-th child is accepted, measured once
    shape = Shapes.of(P, size, levels)       the tree with the most accepted tokens
    draft     siblings without replacement, on uniformly where a law runs out of tokens
    verify    recursive rejection sampling
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from algorithms.speculative.drafters.fixed import Fixed
from algorithms.speculative.drafters.tree import Tree
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode.autoregress import Generator
from jaxdecode.draft import Draft, Shape, Spent
from jaxdecode.judge import Judge
from jaxdecode.lm import LanguageModel
from jaxdecode.logits import Identity, LogitsTransform
from jaxdecode.sampling import Categorical, Sampler, gumbel_top_k, step_keys
from jaxdecode.speculate import Speculator
from jaxdecode.types import Array, Float, Key
from jaxdecode.verify import recurse


def sequoia(
    generator: Generator,
    draft: LanguageModel,
    parents: tuple[int, ...],
    transform: LogitsTransform | None = None,
    sampler: Sampler | None = None,
) -> Speculator:
    """`parents` as `Shapes.parents` returns them; the draft is edited and sampled as the target
    is, unless said otherwise."""
    drafter = Tree(
        draft,
        Fixed(parents, fill=True),
        transform or generator.transform,
        sampler or generator.sampler,
    )
    return Speculator(generator, drafter, Residual())


def positional(
    key: Key[Array, ""], target: Float[Array, "B V"], draft: Float[Array, "B V"], width: int
) -> Float[Array, "width"]:
    """P of `Shapes`: in how many of B places, with these laws of target and draft, the k-th of
    `width` children is the one accepted."""
    batch = len(target)
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(batch))
    zero = jnp.zeros((batch,), jnp.int32)
    children = gumbel_top_k(step_keys(keys, zero), jnp.log(draft), width)
    verdict = recurse(
        step_keys(keys, zero + 1),
        Judge(
            logits=jnp.broadcast_to(jnp.log(target)[:, None], (batch, width + 1, target.shape[1])),
            transform=Identity(),
            sampler=Categorical(),
            state=(),
            key=keys,
            step=zero,
            active=zero == 0,
        ),
        Draft(
            tokens=children.index,
            shape=Shape.grown(jnp.full((batch, width), -1, jnp.int32), 1),
            valid=jnp.isfinite(children.perturbed),
            spent=Spent.nothing(batch),
            logq=jnp.log(draft)[:, None],
            source=jnp.zeros((batch, width), jnp.int32),
        ),
        depth=1,
        replacement=False,
    )
    accepted = (verdict.path == jnp.arange(width)) & (verdict.count > 0)[:, None]
    return jnp.mean(accepted, axis=0)
