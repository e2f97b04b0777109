"""Aligning by losses on pairs, of one's own or of base responses, until a KL is reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from algorithms.alignment import reach
from algorithms.alignment.course import OWN, Aligned, Course
from algorithms.alignment.optimising import adapted
from algorithms.alignment.pairs import Extremes, Given, terms_near
from algorithms.alignment.reach import Place
from jaxdecode.train.checkpoints import Checkpoints, kept
from jaxdecode.train.fit import fit
from jaxdecode.train.lora import merged
from jaxdecode.train.preferences import PairTerms, pair_loss

STRENGTHS = 3  # times at most that a loss is made stronger, each time twice
LOOKS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # shares of the steps after which the KL is looked at


def by_pairs(course: Course) -> Aligned:
    """Losses on pairs: stronger ones, from the base on, where one does not lead far enough."""
    c, plan = course, course.plan
    rows, model = max(1, plan.prompts * plan.group // 2), c.generator.model
    batches = _batches(course, rows)
    looks = sorted({max(1, round(plan.steps * share)) for share in LOOKS})
    place, seen = Place(model, 0.0, 0), []
    several = STRENGTHS if c.method != "sft" else 1
    for strength in range(several):
        where = None if c.folder is None else c.folder / f"{c.method}-{strength}"
        later = None if c.folder is None else c.folder / f"{c.method}-{strength + 1}"
        if later is not None and later.is_dir():
            continue  # this one was found too weak
        stream = batches(2.0**strength)

        def train(steps: int, stream: Any = stream, where: Path | None = where) -> Any:
            c.watch("training", 0 if where is None else min(kept(where), steps), steps, {})
            return merged(
                fit(
                    adapted(model, plan),
                    pair_loss,
                    stream,
                    plan.optimizer,
                    steps,
                    None if where is None else Checkpoints(where, c.save),
                    c.trained(steps),
                    c.told_every,
                    accumulate=plan.accumulate,
                    compute=plan.compute,
                )
            )

        begun = 0 if where is None else kept(where)
        last = strength == several - 1
        place, seen = reach.reach(model, train, looks, c.kl, c.measure, begun, last, c.at)
        if place.kl >= (1 - reach.SHARE) * c.kl:
            break
    return c.told(place, seen, None)


def _batches(course: Course, rows: int) -> Callable[[float], Any]:
    """Strength -> pairs for a loss that goes further the larger it is."""
    c, plan, n = course, course.plan, course.best_of
    if c.pairs and c.method in OWN:
        made = Given.of(c.generator.model, c.pairs, PairTerms(), rows, plan.seed, plan.batch)
        return lambda strength: replace(made, terms=terms_near(c.method, c.kl, n, strength))
    found, samples = c.drawn(), 2 if c.method in ("dpo", "ipo") else n
    made = Extremes(c.prompts, found, PairTerms(), samples, rows, plan.seed)
    return lambda strength: replace(made, terms=terms_near(c.method, c.kl, n, strength))
