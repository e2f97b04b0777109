"""The training of `align`: a plan from the options, and the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from algorithms.alignment.align import Aligned, Plan, align, usual
from algorithms.alignment.course import OWN
from experiments.commands.align.given import Given, adapters
from experiments.commands.align.options import SEVERAL, Options
from experiments.commands.align.rewards import Rewards
from experiments.commands.align.stages import Stages

SMALL = 10_000_000  # weights up to which all of them move as adapters do
RATES = 1e-3, 2e-5  # for adapters and small models, and for the others
DRAWN = 8  # prompts that base responses are drawn to together


def plan(options: Options, model: Any, mesh: Mesh | None = None) -> Plan:
    """How much to draw and to learn."""
    o, size = options, sum(leaf.size for leaf in jax.tree.leaves(model))
    rate = o.rate or RATES[0 if o.lora or size <= SMALL else 1]
    return Plan(
        samples=o.base_samples,
        prompts=o.batch,
        group=o.group,
        steps=o.train_steps,
        optimizer=usual(rate, o.train_steps),
        batch=DRAWN,
        seed=o.seed,
        lora=adapters(o.lora) if o.lora else None,
        mesh=mesh,
    )


def train(given: Given, rewards: Rewards, stages: Stages, out: Path) -> Aligned:
    """The aligned policy; a run that was killed goes on."""
    o = given.options
    counts = o.method in ("ctrl", "bonbon", "sft") and (o.method == "ctrl" or o.decoder in SEVERAL)
    return align(
        given.generator,
        given.tokens["train"],
        o.kl,
        o.method,
        rewards.reward,
        given.pairs if o.method in OWN else (),
        given.deployed(rewards.reward)(given.source.model) if counts else None,
        plan(o, given.source.model, given.mesh),
        out / "training",
        stages,
    )
