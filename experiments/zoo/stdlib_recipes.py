"""Models of the standard library's source: a target for speculation and its draft."""

from __future__ import annotations

from functools import cache

from experiments.tasks.batches import WindowBatches
from experiments.tasks.stdlib import StandardLibrary
from experiments.tasks.task import Split
from experiments.tasks.tokenizer import TaskTokenizer
from experiments.zoo import load
from experiments.zoo.distillation import distillation, worth
from experiments.zoo.recipe import Recipe, as_dict, held_out
from experiments.zoo.skills.drafts import Accepted
from experiments.zoo.skills.tokens import Nats, by_word
from jaxdecode.train.frozen import taught
from jaxdecode.train.losses import next_token
from models.presets import small
from models.transformer import Transformer

CORPUS = StandardLibrary()
VOCABULARY = 1024
WIDTH = 256


@cache
def learned() -> TaskTokenizer:
    """The family's tokenizer, from the train files of the running Python."""
    return CORPUS.tokenizer(VOCABULARY)


def shipped() -> TaskTokenizer:
    """The tokenizer that the target was trained with, whatever Python runs now."""
    return load("stdlib").tokenizer


def target_model() -> Transformer:
    """What the drafts and heads of the family serve."""
    return load("stdlib").model


def windows(codec: TaskTokenizer, split: Split, rows: int, seed: int) -> WindowBatches:
    """Windows of a split's files."""
    return WindowBatches(CORPUS.tokens(codec, split), codec, rows, WIDTH, seed)


def target() -> Recipe:
    """Deep and narrow, so that drafting pays on a CPU: its passes are bound by layers."""
    config = small(VOCABULARY, hidden=160, layers=8, heads=4, unroll=True)
    return Recipe(
        name="stdlib",
        kind="generator",
        about="the standard library's source, continued: a target to draft for",
        tokenizer=learned,
        create=lambda rngs: Transformer(config, rngs=rngs),
        loss=next_token,
        batches=lambda: as_dict(windows(learned(), "train", 8, 6)),
        score=held_out(next_token, lambda: as_dict(windows(learned(), "validation", 32, 7))),
        skills=Nats(
            lambda: as_dict(windows(learned(), "validation", 32, 7)),
            lambda: as_dict(windows(learned(), "train", 8, 6)),
            by_word(learned()),
            VOCABULARY,
        ),
        steps=3800,
        stored="float16",
    )


def draft() -> Recipe:
    """One layer: a pass costs little beside the target's eight."""
    config = small(VOCABULARY, hidden=96, layers=1)

    def text(split: Split, rows: int, seed: int):
        return as_dict(windows(shipped(), split, rows, seed))

    def held():
        return text("validation", 32, 7)

    return Recipe(
        name="stdlib-draft",
        kind="generator",
        about="one layer taught the distributions of `stdlib`, to draft for it",
        tokenizer=shipped,
        create=lambda rngs: Transformer(config, rngs=rngs),
        loss=distillation,
        batches=lambda: taught(text("train", 8, 8), target_model),
        score=worth(lambda: taught(held(), target_model), held),
        skills=Accepted(
            held_out(distillation, lambda: taught(held(), target_model)),
            lambda: text("train", 8, 8),
            VOCABULARY,
        ),
        steps=1200,
        peak=6e-3,
        stored="float16",
        target="stdlib",
    )
