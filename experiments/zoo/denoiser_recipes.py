"""A denoiser of many small tasks, and its autoregressive twin of the same shape."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from experiments.tasks.batches import ExampleBatches
from experiments.tasks.canvas.canvases import EXACT, Canvases
from experiments.tasks.canvas.mixture import LISTS, LOOKUPS, MASK, Mixture, Spaced
from experiments.tasks.task import Example, Split
from experiments.zoo.recipe import Able, Recipe, as_dict, held_out
from experiments.zoo.skills.answers import Answers, Rules, written
from experiments.zoo.skills.skill import Skill, Skills
from jaxdecode.choose import Top
from jaxdecode.denoiser import Denoiser
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from jaxdecode.train.losses import next_token
from jaxdecode.train.masked import masked_tokens
from jaxdecode.unmask import Unmasker
from models.presets import small
from models.transformer import Transformer

TASK = Mixture()
EASY = Mixture(((LISTS, 0.88), (LOOKUPS, 0.12)))
CANVASES, SHORT, TEXTS = (15, 20, 26, 34, 50), (15, 19, 23), (16, 19, 24, 32)
ROWS, OPENING = 32, 700
TWIN_STEPS, ASKED = 2000, 20
STOP = Stop.of(TASK.tokenizer().eos_id)


def mask_id() -> int:
    """Of the family's vocabulary."""
    (token,) = TASK.tokenizer().encode(MASK)
    return token


@functools.cache
def _denoising() -> Callable[..., Any]:
    return functools.partial(masked_tokens, mask_id=mask_id(), form="counts")


def _create(rngs: nnx.Rngs) -> Transformer:
    shape = small(TASK.tokenizer().vocab_size, hidden=160, layers=4, kv_heads=5)
    return Transformer(shape, rngs=rngs)


def stream(split: Split, seed: int, opening: int = OPENING) -> Callable[[int], Mapping[str, Any]]:
    """Canvases of the mixture, the first `opening` of them short and without end tokens.

    What a place of the answer has to look for in the question is learned much sooner where the
    answer is all there is to fill.
    """
    codec = TASK.tokenizer()
    every = Canvases(TASK, codec, ROWS, CANVASES, seed, split)
    short = Canvases(EASY, codec, ROWS, SHORT, seed, split, sizes=((EXACT, 1.0),))
    return lambda step: (short if step < opening else every)(step)


def denoiser() -> Recipe:
    """Taught in the form of LLaDA's fine-tuning: the answer is hidden, the question never."""
    return Recipe(
        name="denoiser",
        kind="denoiser",
        about="a masked denoiser of list operations, look-ups and steps of arithmetic, its answers "
        "filled up with end tokens",
        tokenizer=TASK.tokenizer,
        create=_create,
        loss=_denoising(),
        batches=lambda: stream("train", 40),
        score=held_out(_denoising(), lambda: stream("validation", 43, opening=0)),
        skills=answers(
            lambda places: (
                lambda model: Unmasker(
                    Denoiser(model, mask_id()), Top(), Greedy(), STOP, places, places
                )
            )
        ),
        # Stopped while it still learned: what it was not yet right on, the card says.
        steps=7000,
        peak=2e-3,
        again=((6000, 1.5e-3),),
        stored="float16",
        mask_id=mask_id(),
    )


def twin() -> Recipe:
    """The same questions, answered from left to right."""
    codec = TASK.tokenizer()

    def texts(split: Split, seed: int) -> Callable[[int], Mapping[str, Any]]:
        return as_dict(ExampleBatches(TASK, codec, ROWS, TEXTS, seed, split, pool=8))

    return Recipe(
        name="denoiser-twin",
        kind="generator",
        about="the shape and the tasks of `denoiser`, autoregressive",
        tokenizer=TASK.tokenizer,
        create=_create,
        loss=next_token,
        batches=lambda: texts("train", 42),
        score=held_out(next_token, lambda: texts("validation", 44)),
        skills=answers(functools.partial(written, codec)),
        steps=TWIN_STEPS,
        peak=2e-3,
        stored="float16",
    )


def answers(rules: Callable[[int], Rules]) -> Able:
    """One token at a time, on a canvas of the places that the task takes, by operation or task."""

    def kind(example: Example) -> str:
        return example.meta.get("operation", example.meta["task"])

    def able(model: Any) -> Skills:
        of: dict[str, Skill] = {}
        for part, share in TASK.parts:
            places = 32 if isinstance(part, Spaced) else 16
            one = Mixture(((part, share),))
            drawn = ASKED * (10 if part is LISTS else 1)
            found = Answers(one, kind, TASK.tokenizer(), rules(places), drawn)(model)
            of |= found.of
        return dataclasses.replace(found, of=of)

    return able
