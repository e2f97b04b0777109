"""A plan: what is to run where, and what was found for every mesh."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from experiments.commands.plan import compiler, fit
from experiments.commands.plan.decode import Decoding, Guess
from experiments.commands.plan.fit import Fit
from experiments.commands.plan.job import Job
from experiments.commands.plan.named import config_of, within
from experiments.commands.plan.options import (
    LOOKED_UP,
    LOOKUP,
    WRITTEN,
    Options,
    lines_of,
    model_of,
)
from experiments.commands.plan.topology import Topology, topology_of
from experiments.commands.plan.train import Training
from models.config import TransformerConfig
from models.parameters import count


@dataclass(frozen=True)
class Plan:
    """What was found.

    Attributes:
      fits: for every mesh that was tried.
      best: the fastest that fits.
      refused: why nothing does; None where something does.
      compiled: what the compiler says of the best mesh; None if it was not asked.
      notes: what a reader should know of the numbers.
    """

    options: Options
    topology: Topology
    config: TransformerConfig
    job: Job
    fits: list[Fit]
    best: Fit | None
    refused: str | None
    compiled: dict[str, Any] | None
    notes: list[str]


def planned(options: Options) -> Plan:
    """The plan of a command line.

    Raises:
      ValueError: naming the option, its value and what would do.
    """
    o, topology = options, topology_of(options.topology)
    if o.compile:
        compiler.check(topology)
    config = config_of("model", o.model, o.dtype)
    job = job_of(o, config, topology.chip.platform)
    chosen = (
        fit.meshes(topology, job, o.batch)
        if o.mesh is None
        else [fit.split_of(o.mesh, topology, job, o.batch)]
    )
    found = [fit.fit(job, split, topology.chip, o.batch, o.spare) for split in chosen]
    best, refused, compiled, notes = fit.best(found), None, None, []
    if best is None:
        refused = fit.refusal(found, job, topology, o.batch, o.spare)
    elif o.compile:
        assert isinstance(job, Decoding)
        compiled, notes = compiler.estimated(job, best, topology, o.batch)
    return Plan(o, topology, config, job, found, best, refused, compiled, notes)


def job_of(o: Options, config: TransformerConfig, platform: str) -> Job:
    """What is to run.

    Raises:
      ValueError: for models that cannot be found, or lengths that they cannot read.
    """
    length, reward = o.prompt_tokens + o.max_tokens, model_of(o.reward)
    judge = None if reward is None else config_of("reward", reward, o.dtype)
    if judge is not None:
        judge = replace(judge, tied=True)  # it makes no logits
    drafter = None
    if o.draft not in (None, LOOKUP):
        drafter = config_of("draft", o.draft, o.dtype)
        if drafter.vocab_size != config.vocab_size:
            raise ValueError(
                f"--draft {o.draft}: it has {drafter.vocab_size} tokens and --model {o.model} "
                f"{config.vocab_size}; drafts must be made of the model's own"
            )
        if count(drafter) >= count(config):
            raise ValueError(f"--draft {o.draft} is no smaller than --model {o.model}")
    for option, model in (("model", config), ("draft", drafter), ("reward", judge)):
        if model is not None and model.bound is not None and length > model.bound:
            raise ValueError(
                f"--prompt-tokens {o.prompt_tokens} and --max-tokens {o.max_tokens} are {length} "
                f"tokens, and --{option} reads {model.bound} at most"
            )
    config = within(config, length)
    drafter = None if drafter is None else within(drafter, length)
    judge = None if judge is None else within(judge, length)
    if o.recipe is not None:
        numbers = o.prompt_tokens, o.max_tokens, o.recipe, o.group
        return Training(config, platform, *numbers, reward=judge, parts=o.parts, fsdp=o.fsdp)
    guess = None
    if o.draft is not None:
        assert o.acceptance is not None
        usual = LOOKED_UP if drafter is None else WRITTEN
        guess = Guess(drafter, o.draft_tokens or usual, o.acceptance)
    lines = lines_of(o)
    wave = o.wave or lines
    numbers = o.prompt_tokens, o.max_tokens, o.decoder, wave, lines // wave
    return Decoding(config, platform, *numbers, guess=guess, judge=judge)
