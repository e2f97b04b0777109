"""A model that writes list programs from examples, and reads what is said of its earlier ones."""

from __future__ import annotations

from experiments.tasks.batches import ExampleBatches
from experiments.tasks.programs import Programs
from experiments.tasks.refinement import Refinements, guess_program
from experiments.zoo.recipe import Recipe, as_dict, held_out
from experiments.zoo.skills.answers import Answers, counted, written
from jaxdecode.train.losses import next_token
from models.presets import small
from models.transformer import Transformer

TASK = Programs()
WIDTHS = (36, 48, 64, 80)


def writer() -> Recipe:
    """The same weights answer bare problems and problems with feedback."""
    codec, refined = TASK.tokenizer(), Refinements(TASK, guess_program)

    def stream(split, seed):
        return as_dict(ExampleBatches(refined, codec, 64, WIDTHS, seed, split, pool=8))

    return Recipe(
        name="programs",
        kind="generator",
        about="list programs from examples of what they do, with or without scored attempts",
        tokenizer=TASK.tokenizer,
        create=lambda rngs: Transformer(
            small(codec.vocab_size, hidden=96, layers=4, heads=4, mlp=256), rngs=rngs
        ),
        loss=next_token,
        batches=lambda: stream("train", 14),
        score=held_out(next_token, lambda: stream("validation", 15)),
        skills=Answers(TASK, counted("operations", "operations"), codec, written(codec, 12)),
        steps=1000,
        hold=500,
        horizon=2600,
        stored="float16",
    )
