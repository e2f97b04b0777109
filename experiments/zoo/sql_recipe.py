"""A model that answers questions by queries, and reads what is said of its earlier answers."""

from __future__ import annotations

from experiments.tasks.batches import ExampleBatches
from experiments.tasks.refinement import Refinements, guess_query
from experiments.tasks.sql import Sql
from experiments.zoo.recipe import Recipe, as_dict, held_out
from experiments.zoo.skills.answers import Answers, counted, written
from jaxdecode.train.losses import next_token
from models.presets import small
from models.transformer import Transformer

TASK = Sql()


def agent() -> Recipe:
    """The same weights answer bare questions and questions with feedback."""
    codec, refined = TASK.tokenizer(), Refinements(TASK, guess_query)

    def stream(split, seed):
        return as_dict(ExampleBatches(refined, codec, 64, (80,), seed, split))

    return Recipe(
        name="sql",
        kind="generator",
        about="queries for questions that leave things open, with or without scored attempts",
        tokenizer=TASK.tokenizer,
        create=lambda rngs: Transformer(
            small(codec.vocab_size, hidden=96, layers=4, mlp=192), rngs=rngs
        ),
        loss=next_token,
        batches=lambda: stream("train", 10),
        score=held_out(next_token, lambda: stream("validation", 11)),
        skills=Answers(TASK, counted("open", "words left open"), codec, written(codec, 24)),
        steps=2400,
        stored="float16",
    )
