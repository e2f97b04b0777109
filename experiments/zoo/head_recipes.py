"""Heads and adapters that draft for `stdlib`, each trained as its paper has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from experiments.tasks.task import Split
from experiments.zoo import load
from experiments.zoo.foresight import foreseen
from experiments.zoo.recipe import Recipe, as_dict, held_out
from experiments.zoo.skills.drafts import Accepted, Foreseen
from experiments.zoo.stdlib_recipes import VOCABULARY, shipped, target_model, windows
from jaxdecode.train.foresight import acceptance
from jaxdecode.train.frozen import Lesson, taught
from models.heads.acceptance import AcceptanceHead
from models.heads.clover import Clover
from models.heads.eagle import Eagle
from models.heads.kangaroo import Kangaroo
from models.heads.medusa import Medusa

REJECTION = 6.0  # as many times a rejected draft weighs as an accepted one
foresight = partial(acceptance, rejection=REJECTION)


def _head(
    name: str,
    about: str,
    start: Callable[..., Any],
    lesson: Lesson,
    peak: float,
    exits: int = 1,
    **settings: Any,
) -> Recipe:
    """A head of `stdlib`; `start` makes it from the target and its settings."""

    def lessons(split: Split, rows: int, seed: int):
        noise = seed if lesson.noise and split == "train" else None
        return taught(as_dict(windows(shipped(), split, rows, seed)), target_model, noise)

    return Recipe(
        name=f"stdlib-{name}",
        kind="head",
        about=about,
        tokenizer=shipped,
        create=lambda rngs: start(target_model(), rngs=rngs, **settings),
        loss=lesson,
        batches=lambda: lessons("train", 8, 10),
        score=held_out(lesson, lambda: lessons("validation", 32, 7)),
        skills=Accepted(
            held_out(Lesson(soft=1.0, layers=lesson.layers), lambda: lessons("validation", 32, 7)),
            lambda: as_dict(windows(shipped(), "train", 8, 10)),
            VOCABULARY,
            exits,
        ),
        steps=500,
        peak=peak,
        stored="float16",
        target="stdlib",
    )


def medusa() -> Recipe:
    """Two heads: an output matrix each is most of what they weigh."""
    about = "two Medusa heads for `stdlib`: the second and third token from one hidden state"
    return _head("medusa", about, Medusa.of, Lesson(hard=1.0, decay=0.8), 2e-3, 2, count=2)


def clover() -> Recipe:
    about = "three Clover heads for `stdlib`, each told what was guessed before it"
    return _head("clover", about, Clover.of, Lesson(hard=1.0, decay=0.8), 2e-3, 3, count=3)


def eagle() -> Recipe:
    """The laws weigh as much as the features, where the paper has a tenth: in a run this short
    the features alone are not yet near enough for the output matrix to read."""
    about = "an EAGLE layer that drafts the hidden states of `stdlib`"
    return _head("eagle", about, Eagle.of, Lesson(feature=1.0, soft=1.0, noise=51.2), 3e-3)


def kangaroo() -> Recipe:
    about = "a Kangaroo adapter by which `stdlib` exits after two of its eight layers"
    return _head("kangaroo", about, Kangaroo.of, Lesson(soft=1.0, layers=(2,)), 3e-3, layers=2)


def foreseeing() -> Recipe:
    """Reads the draft's hidden states, so the draft is what it is bound to."""

    def lessons(split: Split, pool: int, seed: int):
        def draft_model():
            return load("stdlib-draft").model

        return foreseen(windows(shipped(), split, 16, seed), target_model, draft_model, pool)

    return Recipe(
        name="stdlib-acceptance",
        kind="head",
        about="foresees which tokens of `stdlib-draft` `stdlib` will accept, for SpecDec++",
        tokenizer=shipped,
        create=lambda rngs: AcceptanceHead.of(load("stdlib-draft").model, rngs=rngs),
        loss=foresight,
        batches=lambda: lessons("train", 40, 11),
        score=held_out(foresight, lambda: lessons("validation", 4, 12)),
        skills=Foreseen(held_out(foresight, lambda: lessons("validation", 4, 12)), REJECTION),
        steps=300,
        peak=1e-3,
        stored="float16",
        target="stdlib-draft",
    )
