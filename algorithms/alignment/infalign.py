"""InfAlign-CTRL: calibrate, transform, optimise (Balashankar et al. 2024, arXiv 2412.19792).

    1. calibrate   C(x, y) = quantile of r(x, y) among K base responses to x
    2. transform   phi, the optimum for the procedure T and beta, or a given one
    3. optimise    max E[phi(C)] - beta KL(pi || pi_ref)  by policy gradient

so that T(pi) wins most often against T(pi_ref) at its KL. T is a calibrated procedure, or any
decoder. Best-of-N and worst-of-N by the very reward have their closed form. What any other decoder
does (speculative rejection, a vote by self-certainty, one's own) is estimated in step 2: it decodes
the training prompts with the base policy, and the quantiles of what it returns give its density g
(`algorithms.alignment.mixture`, which also says what that assumes). The fixed point with that g
takes the place of the closed form.

The paper's settings of the optimiser are not published; those here are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.alignment import base
from algorithms.alignment.calibration import CalibratedReward, Calibration, fingerprint
from algorithms.alignment.closed_form import closed_form
from algorithms.alignment.fixed_point import fixed_point
from algorithms.alignment.mixture import estimate
from algorithms.alignment.optimising import Plan, check_prompts, optimise
from algorithms.alignment.procedures import Procedure
from algorithms.alignment.transforms import Table, Transform, tabulate
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder, decode
from jaxdecode.distributed import primary
from jaxdecode.paper import Paper
from jaxdecode.responses import judge
from jaxdecode.scoring import Scorer
from jaxdecode.train.fit import Watcher
from jaxdecode.train.policy_gradient import check_sampling

PAPER = Paper(
    slug="infalign",
    title="InfAlign: Inference-aware language model alignment",
    authors=(
        "Ananth Balashankar",
        "Ziteng Sun",
        "Jonathan Berant",
        "Jacob Eisenstein",
        "Michael Collins",
        "Adrian Hutter",
        "Jong Lee",
        "Chirag Nagpal",
        "Flavien Prost",
        "Aradhana Sinha",
        "Ananda Theertha Suresh",
        "Ahmad Beirami",
    ),
    year=2024,
    arxiv="2412.19792",
    venue="ICML 2025",
    claim="a calibrated reward, transformed to suit the decoder, wins more often under best-of-N "
    "and worst-of-N than the reward itself at equal KL",
    losslessness="not-applicable",
)

NODES = 2001


def infalign(
    generator: Generator,
    scorer: Scorer,
    prompts: Sequence[Sequence[int]],
    beta: float,
    procedure: Procedure | Decoder | None = None,
    transform: Transform | None = None,
    plan: Plan | None = None,
    folder: Path | None = None,
    watch: Watcher | None = None,
) -> Any:
    """The aligned policy.

    Args:
      generator: the base policy and how it samples: temperature 1, no filter.
      scorer: the reward r.
      prompts: as tokens.
      beta: strength of the KL penalty, in units of the transform.
      procedure: what the policy will be deployed with.
      transform: phi, in place of the optimum for a procedure. One of the two is given.
      folder: this run's own; calibration and checkpoints are kept there, and a killed run goes
        on from there.
    Raises:
      ValueError: for other sampling rules, fewer prompts than a step takes, a reward that is not
        finite, a stored calibration or run made under other conditions, or not exactly one of
        procedure and transform.
    """
    if (procedure is None) == (transform is None):
        raise ValueError("procedure, transform: give exactly one of them")
    check_sampling(generator)
    plan = plan or Plan()
    check_prompts(prompts, plan)
    table = calibrate(generator, scorer, prompts, plan, folder)
    phi = transform or optimal(procedure, table, generator, scorer, prompts, beta, plan)
    table.warn(phi)
    scaled = beta * float(np.exp(-phi.log_scale))
    reward = CalibratedReward(scorer, table.quantiles, tabulate(phi, 2 * table.samples + 1))
    return optimise(generator, reward, prompts, scaled, plan, folder, watch)


def calibrate(
    generator: Generator,
    scorer: Scorer,
    prompts: Sequence[Sequence[int]],
    plan: Plan,
    folder: Path | None = None,
    watch: Callable[[int], None] = lambda done: None,
) -> Calibration:
    """Step 1; from the folder, as far as it was done. `watch` hears of prompts."""
    made = fingerprint(generator, scorer, prompts, plan.seed)
    stored = None if folder is None else folder / f"calibration-{plan.samples}.npz"
    if stored is not None and stored.is_file():
        return Calibration.load(stored, made)
    kept = None if folder is None else folder / "drawn"
    drawn = base.draw(
        generator, scorer, prompts, plan.samples, plan.seed, plan.batch, watch=watch, folder=kept
    )
    table = Calibration.of(drawn.reward, made)
    if stored is not None and primary():
        table.save(stored)
    return table


def optimal(
    procedure: Any,
    table: Calibration,
    generator: Generator,
    scorer: Scorer,
    prompts: Sequence[Sequence[int]],
    beta: float,
    plan: Plan,
) -> Table:
    """Step 2: the fixed point of a procedure, estimated first where it has no closed form."""
    known = closed_form(procedure, scorer, generator)
    if known is None:
        found = quantiles(procedure, table, scorer, prompts, plan)
        known = estimate(found, table.samples)
    return Table(jnp.asarray(fixed_point(known, beta, NODES).phi, jnp.float32))


def quantiles(
    decoder: Decoder,
    table: Calibration,
    scorer: Scorer,
    prompts: Sequence[Sequence[int]],
    plan: Plan,
) -> np.ndarray:
    """Quantiles of what a decoder over the base policy returns: f64[draws * P].

    Raises:
      ValueError: it returned a response without a finite reward.
    """
    found = []
    for draw in range(plan.draws):
        # Other responses than those of the table, which would know their own ranks.
        key = jax.random.fold_in(jax.random.key(plan.seed), draw + 1)
        for block, count in base.blocks(prompts, plan.batch):
            result = decode(decoder, key, block)
            reward = judge(scorer, block, result.tokens[:, None], result.length[:, None])[:, 0]
            found.append(np.asarray(table.quantiles(block.id, reward), np.float64)[:count])
    return np.concatenate(found)


def deployed(decoder: Any, policy: Any) -> Any:
    """A decoder with a `generator`, over another policy."""
    return replace(decoder, generator=replace(decoder.generator, model=policy))
