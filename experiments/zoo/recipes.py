"""The models that ship, and how each is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import nnx

from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.batches import ExampleBatches, PreferenceBatches
from experiments.tasks.dialog import Dialog
from experiments.tasks.tokenizer import TaskTokenizer
from experiments.zoo import (
    denoiser_recipes,
    head_recipes,
    load,
    program_recipe,
    sql_recipe,
    stdlib_recipes,
    step_recipes,
)
from experiments.zoo.distillation import distillation, worth
from experiments.zoo.recipe import Recipe, as_dict, held_out
from experiments.zoo.skills.answers import Answers, counted, written
from experiments.zoo.skills.drafts import Accepted
from experiments.zoo.skills.judges import Pairs
from experiments.zoo.skills.tokens import Nats, by_place
from jaxdecode.train.frozen import taught
from jaxdecode.train.losses import bradley_terry, next_token
from models.presets import small
from models.rewards import RewardModel
from models.transformer import Transformer

# Long replies: early decisions pay when most of a response lies behind them.
DIALOG = Dialog(typical=360, longest=500)
DIALOG_WIDTHS = (256, 320, 384, 448, 520)
ARITHMETIC = Arithmetic()


def _language(codec: TaskTokenizer, hidden: int, layers: int) -> Callable[[nnx.Rngs], Transformer]:
    return lambda rngs: Transformer(
        small(codec.vocab_size, hidden=hidden, layers=layers), rngs=rngs
    )


def _pairs(stream: PreferenceBatches) -> Callable[[int], Mapping[str, Any]]:
    def batch(step: int) -> dict[str, np.ndarray]:
        chosen, rejected = stream(step)
        return {
            "chosen": chosen.tokens,
            "chosen_length": chosen.length,
            "rejected": rejected.tokens,
            "rejected_length": rejected.length,
        }

    return batch


def _dialog() -> Recipe:
    def stream(split, seed):
        return as_dict(
            ExampleBatches(DIALOG, DIALOG.tokenizer(), 16, DIALOG_WIDTHS, seed, split, pool=16)
        )

    return Recipe(
        name="dialog",
        kind="generator",
        about="long replies to short questions, of a quality that shows gradually",
        tokenizer=DIALOG.tokenizer,
        create=_language(DIALOG.tokenizer(), hidden=96, layers=2),
        loss=next_token,
        batches=lambda: stream("train", 0),
        score=held_out(next_token, lambda: stream("validation", 1)),
        skills=Nats(
            lambda: stream("validation", 1),
            lambda: stream("train", 0),
            by_place(8, 64),
            DIALOG.tokenizer().vocab_size,
        ),
        steps=1600,
        peak=4e-3,
    )


def _dialog_reward() -> Recipe:
    codec = DIALOG.tokenizer()

    def stream(split, seed):
        def draw(rng, count):
            return DIALOG.preferences(rng, count, split)

        return _pairs(PreferenceBatches(draw, codec, 12, DIALOG_WIDTHS[-1:], seed))

    return Recipe(
        name="dialog-reward",
        kind="reward",
        about="Bradley-Terry reward model on pairs of full replies",
        tokenizer=DIALOG.tokenizer,
        create=lambda rngs: RewardModel.create(
            small(codec.vocab_size, hidden=64, layers=2), rngs=rngs
        ),
        loss=bradley_terry,
        batches=lambda: stream("train", 2),
        score=held_out(bradley_terry, lambda: stream("validation", 3)),
        skills=Pairs(DIALOG, DIALOG_WIDTHS[-1]),
        steps=400,
        peak=2e-3,
    )


def _solving() -> Answers:
    codec = ARITHMETIC.tokenizer()
    return Answers(ARITHMETIC, counted("operations", "operations"), codec, written(codec, 64))


def _arithmetic() -> Recipe:
    def stream(split, seed):
        return as_dict(ExampleBatches(ARITHMETIC, ARITHMETIC.tokenizer(), 64, (96,), seed, split))

    return Recipe(
        name="arithmetic",
        kind="generator",
        about="multi-step arithmetic with every step written out, right about half the time",
        tokenizer=ARITHMETIC.tokenizer,
        create=_language(ARITHMETIC.tokenizer(), hidden=128, layers=4),
        loss=next_token,
        batches=lambda: stream("train", 4),
        score=held_out(next_token, lambda: stream("validation", 5)),
        skills=_solving(),
        # Stopped early on purpose: the trained-out model makes no mistakes to choose among.
        steps=680,
    )


def _arithmetic_small() -> Recipe:
    """Of the family's tokenizer and task, so that the two can take turns in one text."""

    def stream(split, seed):
        return as_dict(ExampleBatches(ARITHMETIC, ARITHMETIC.tokenizer(), 32, (96,), seed, split))

    return Recipe(
        name="arithmetic-small",
        kind="generator",
        about="a small brother of `arithmetic`: right where little is to be carried",
        tokenizer=ARITHMETIC.tokenizer,
        create=_language(ARITHMETIC.tokenizer(), hidden=64, layers=2),
        loss=next_token,
        batches=lambda: stream("train", 13),
        score=held_out(next_token, lambda: stream("validation", 5)),
        skills=_solving(),
        steps=2000,
        peak=6e-3,
        stored="float16",
    )


def _arithmetic_draft() -> Recipe:
    def stream(split, seed):
        codec = ARITHMETIC.tokenizer()
        return as_dict(ExampleBatches(ARITHMETIC, codec, 32, (96,), seed, split))

    def lessons(split, seed):
        return taught(stream(split, seed), lambda: load("arithmetic").model)

    return Recipe(
        name="arithmetic-draft",
        kind="generator",
        about="one layer taught the distributions of `arithmetic`, to draft for it",
        tokenizer=ARITHMETIC.tokenizer,
        create=_language(ARITHMETIC.tokenizer(), hidden=48, layers=1),
        loss=distillation,
        batches=lambda: lessons("train", 9),
        score=worth(lambda: lessons("validation", 5), lambda: stream("validation", 5)),
        skills=Accepted(
            held_out(distillation, lambda: lessons("validation", 5)),
            lambda: stream("train", 9),
            ARITHMETIC.tokenizer().vocab_size,
        ),
        steps=800,
        peak=6e-3,
        stored="float16",
        target="arithmetic",
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "denoiser": denoiser_recipes.denoiser,
    "denoiser-twin": denoiser_recipes.twin,
    "dialog": _dialog,
    "dialog-reward": _dialog_reward,
    "arithmetic": _arithmetic,
    "arithmetic-small": _arithmetic_small,
    "arithmetic-draft": _arithmetic_draft,
    "arithmetic-steps": step_recipes.arithmetic_steps,
    "programs": program_recipe.writer,
    "sql": sql_recipe.agent,
    "stdlib": stdlib_recipes.target,
    "stdlib-acceptance": head_recipes.foreseeing,
    "stdlib-clover": head_recipes.clover,
    "stdlib-draft": stdlib_recipes.draft,
    "stdlib-eagle": head_recipes.eagle,
    "stdlib-kangaroo": head_recipes.kangaroo,
    "stdlib-medusa": head_recipes.medusa,
}
