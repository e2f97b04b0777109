"""Align a policy by any method, to a KL that is reached.

    ctrl      InfAlign-CTRL: the reward calibrated and transformed for the procedure that the
              policy will be deployed with, by policy gradient (`algorithms.alignment.infalign`)
    rloo      the reward as it is, REINFORCE with a leave-one-out baseline
    ppo       the same by proximal policy optimisation
    grpo      the same, standardised within each group
    dpo, ipo  pairs: one's own, or two base responses ranked by the reward
    bonbon    the best and the worst of N base responses
    sft       imitation of one's own preferred responses, or of the best of N base responses

    lm = open_session("path/to/model").using(temperature=1.0, max_tokens=64)
    short = lm.judge(lambda prompt, text: -len(text))
    prompts = [lm.tokenizer.encode_prompt(text) for text in texts]
    found = align(lm.generator, prompts, kl=0.5, scorer=short, procedure=BestOf(4))
    save(found.policy, "aligned", tokenizer=lm.tokenizer)           # models.export

Of the first four, beta is adapted while the policy learns, so that it is held at the target
(`algorithms.alignment.controlled`); the others are trained until they come to it. All are gone on
with while they are short of it, and one that went past it is brought back on the line to the base
(`algorithms.alignment.reach`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from algorithms.alignment.by_pairs import by_pairs
from algorithms.alignment.by_reward import by_reward
from algorithms.alignment.course import OWN, Aligned, Course, Watcher, best_of, silent, usual
from algorithms.alignment.methods import DRAWING, METHODS, PAIRED
from algorithms.alignment.optimising import Plan, check_prompts
from algorithms.alignment.pairs import Pair
from algorithms.alignment.procedures import Procedure
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder
from jaxdecode.scoring import Scorer
from jaxdecode.train.policy_gradient import check_sampling

__all__ = ["METHODS", "Aligned", "Pair", "Plan", "align", "check", "usual"]


def check(
    method: str,
    kl: float,
    prompts: Sequence[Sequence[int]],
    scorer: Scorer | None,
    pairs: Sequence[Pair],
    procedure: Any,
    plan: Plan,
) -> None:
    """Refuse what cannot be aligned, before any compute.

    Raises:
      ValueError: naming the argument, its value and what to do.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}: use one of {', '.join(METHODS)}")
    if not 0 < kl < float("inf"):
        raise ValueError(f"kl={kl}: the divergence to be reached is a positive number of nats")
    if scorer is None and (method not in OWN or not pairs):
        more = " or pairs" if method in OWN else ""
        raise ValueError(f"scorer: method {method!r} needs a reward{more}; pass one")
    if procedure is not None and method != "ctrl" and not hasattr(procedure, "samples"):
        raise ValueError(
            f"procedure={type(procedure).__name__}: only method 'ctrl' is aligned for one that has "
            "no samples; leave it out, or use 'ctrl'"
        )
    if method in DRAWING:
        check_prompts(prompts, plan)
    if _draws_base(method, pairs):
        if plan.samples < 2:
            raise ValueError(f"plan.samples={plan.samples}: base responses are compared; draw more")
        n = best_of(procedure)
        if method in ("bonbon", "sft") and n > plan.samples:
            raise ValueError(
                f"plan.samples={plan.samples} base responses, and the best of {n} is wanted; "
                f"draw {n} or more"
            )
    if method in PAIRED and plan.mesh is not None:
        raise ValueError(f"plan.mesh: method {method!r} trains on one device; leave it out")


def align(
    generator: Generator,
    prompts: Sequence[Sequence[int]],
    kl: float,
    method: str = "ctrl",
    scorer: Scorer | None = None,
    pairs: Sequence[Pair] = (),
    procedure: Procedure | Decoder | None = None,
    plan: Plan | None = None,
    folder: Path | None = None,
    watch: Watcher = silent,
) -> Aligned:
    """The aligned policy.

    Args:
      generator: the base policy and how it samples: temperature 1, no filter.
      prompts: as tokens.
      kl: the divergence from the base of whole responses, in nats, to be reached.
      method: one of `METHODS`.
      scorer: the reward; the methods of `OWN` do without one where there are pairs.
      pairs: one's own, for the methods of `OWN`.
      procedure: what the policy will be deployed with, one sample by default: a procedure, or a
        decoder over the base. Its `samples` are N of "bonbon" and "sft".
      plan: how much to draw and to learn; its learner is the method's. An optimizer whose
        schedule ends makes going on vain.
      folder: this run's own; responses and checkpoints are kept there, and a killed run goes on.
      watch: hears of every stage's progress.
    Raises:
      ValueError: as `check`; for other sampling rules, a reward that is not finite or the same
        for all responses, or a folder of another run.
    """
    plan = plan or Plan(optimizer=usual(1e-3, Plan.steps))
    check(method, kl, prompts, scorer, pairs, procedure, plan)
    check_sampling(generator)
    course = Course(generator, prompts, kl, method, scorer, pairs, procedure, plan, folder, watch)
    return by_reward(course) if method in DRAWING else by_pairs(course)


def _draws_base(method: str, pairs: Sequence[Pair]) -> bool:
    return method in DRAWING or method == "bonbon" or not pairs
