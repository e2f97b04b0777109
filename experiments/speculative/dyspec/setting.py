"""The setting of the experiment on DySpec: trees of every kind, and what they are estimated by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.dyspec import DRAFT_TEMPERATURE, dyspec, dyspec_threshold
from algorithms.speculative.sequoia import positional, sequoia
from algorithms.speculative.shapes import Shapes
from algorithms.speculative.specinfer import specinfer
from algorithms.speculative.verifiers.residual import Residual
from experiments.harness.report import Out, Seed
from experiments.speculative.speculation import Field
from experiments.speculative.trees import Pair, laws, logits, summary
from jaxdecode.logits import Temperature
from jaxdecode.sampling import Categorical
from jaxdecode.speculate import Speculator
from jaxdecode.types import Array, Float

METHODS = ("chain", "SpecInfer", "Sequoia", "DySpec", "DySpec, threshold")
RATIOS = (5, 20, 200, 2000)
EDGES = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0])
CHILDREN = 16  # siblings whose chances Sequoia knows
COLD = 1e-3  # stands for temperature 0 where a law is needed
LONGEST = 8  # tokens of an independent sequence, and of the chain


@dataclass(frozen=True)
class Config:
    """What is decoded.

    Attributes:
      prompts, max_tokens, batch: texts, their length, how many at a time.
      budgets: nodes of a tree, ascending.
      temperatures: of the target; at the first all budgets are run, at others the largest.
      methods: which are run.
      target, draft, questions: folders of checkpoints and a file of questions, else the zoo.
    """

    prompts: int = 48
    max_tokens: int = 40
    batch: int = 48
    budgets: tuple[int, ...] = (8, 32)
    temperatures: tuple[float, ...] = (0.6, 0.0)
    methods: tuple[str, ...] = METHODS
    target: str | None = None
    draft: str | None = None
    questions: Path | None = None
    seed: Seed = 0
    out: Out = None


accepted_by_rank = jax.jit(positional, static_argnums=3)


def chances(pair: Pair) -> tuple[float, ...]:
    """Sequoia's positional acceptance at the places of a field's prompts."""
    target, draft = laws(pair.field, pair.temperature or COLD, DRAFT_TEMPERATURE)
    found = accepted_by_rank(jax.random.key(pair.seed), target, draft, CHILDREN)
    return tuple(np.asarray(found, float).tolist())


def speculators(
    config: Config, pair: Pair, calibration: Field, budget: int
) -> dict[str, Speculator]:
    """All methods with `budget` nodes, the chain and independent sequences with at most that."""
    generator, draft = pair.generator, pair.field.draft
    drafting = (Temperature(DRAFT_TEMPERATURE), Categorical())
    length = min(LONGEST, max(budget // 2, 1))
    factors = (budget // length, *[1] * (length - 1))
    line = Chain(draft, min(LONGEST, budget), *drafting)
    found = {
        "chain": Speculator(generator, line, Residual()),
        "SpecInfer": specinfer(generator, draft, factors, *drafting),
        "DySpec": dyspec(generator, draft, budget),
        "DySpec, threshold": dyspec_threshold(generator, draft, budget, levels=2 * LONGEST),
    }
    if "Sequoia" in config.methods:
        shape = Shapes.of(
            chances(replace(pair, field=calibration)), budget + 1, 2 * LONGEST
        ).parents(budget + 1)
        found["Sequoia"] = sequoia(generator, draft, shape, *drafting)
    return {name: found[name] for name in config.methods}


def measure(pair: Pair, speculator: Speculator) -> dict[str, Any]:
    """Counts, and whether drafts are deeper for the prompts of which more is accepted."""
    found = pair.counts(speculator)
    depth, yields = found.draft_passes / found.passes, found.emitted / found.passes
    varies = depth.std() > 1e-6 and yields.std() > 1e-6
    return summary(found) | {
        "depth follows yield": float(np.corrcoef(depth, yields)[0, 1]) if varies else None
    }


@partial(jax.jit, static_argnames="prompts")
def binned(
    target: Float[Array, "M V"], draft: Float[Array, "M V"], temperature: Any, prompts: int
) -> tuple[Float[Array, "P bins"], Float[Array, "P bins"], Float[Array, "P bins"]]:
    """By prompt and draft probability q, of the logits of both: sums of q, min(p, q) and p q."""
    p, q = jax.nn.softmax(target / temperature), jax.nn.softmax(draft / DRAFT_TEMPERATURE)
    place = jnp.digitize(q, EDGES[1:-1]).reshape(prompts, -1)
    count = jax.vmap(lambda at, x: jnp.bincount(at, x, length=len(EDGES) - 1))
    first, second, third = (
        count(place, x.reshape(prompts, -1)) for x in (q, jnp.minimum(p, q), p * q)
    )
    return first, second, third


def estimate(pair: Pair) -> list[dict[str, Any]]:
    """Acceptance, and the target's probability, of tokens drawn by the draft, by draft
    probability; expectations over the draw and not samples."""
    found = binned(*logits(pair.field), pair.temperature or COLD, len(pair.field.prompts))
    *each, last = map(np.asarray, found)
    (weight, accepted), wanted = (x.sum(axis=0) for x in each), last.sum(axis=0)
    return [
        {
            "method": "one draft",
            "temperature": pair.temperature,
            "draft probability": f"{EDGES[i]:g}..{EDGES[i + 1]:g}",
            "middle": float((EDGES[i] + EDGES[i + 1]) / 2),
            "share of drafts": float(weight[i] / weight.sum()),
            "acceptance": float(accepted[i] / weight[i]),
            "target probability": float(wanted[i] / weight[i]),
            "by prompt": {"weight": each[0][:, i], "accepted": each[1][:, i]},
        }
        for i in range(len(EDGES) - 1)
        if weight[i] > 0
    ]
