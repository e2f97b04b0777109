"""Models of the standard library's source: a target for speculation and its draft."""

from __future__ import annotations

from functools import cache

from experiments.tasks.batches import WindowBatches
from experiments.tasks.stdlib import StandardLibrary
from experiments.tasks.task import Split
from experiments.tasks.tokenizer import TaskTokenizer
from experiments.zoo.recipe import Recipe, as_dict, held_out
from jaxdecode.train.losses import next_token
from models.presets import small
from models.transformer import Transformer

CORPUS = StandardLibrary()
VOCABULARY = 1024
WIDTH = 256


@cache
def codec() -> TaskTokenizer:
    """The family's tokenizer, learned from the train files of the running Python."""
    return CORPUS.tokenizer(VOCABULARY)


def windows(split: Split, rows: int, seed: int) -> WindowBatches:
    """Windows of a split's files."""
    return WindowBatches(CORPUS.tokens(codec(), split), codec(), rows, WIDTH, seed)


def target() -> Recipe:
    """Deep and narrow, so that drafting pays on a CPU: its passes are bound by layers."""
    config = small(VOCABULARY, hidden=160, layers=8, heads=4, unroll=True)
    return Recipe(
        name="stdlib",
        kind="generator",
        about="the standard library's source, continued: a target to draft for",
        tokenizer=codec,
        create=lambda rngs: Transformer(config, rngs=rngs),
        loss=next_token,
        batches=lambda: as_dict(windows("train", 8, 6)),
        score=held_out(next_token, as_dict(windows("validation", 32, 7))),
        steps=3800,
        stored="float16",
    )
