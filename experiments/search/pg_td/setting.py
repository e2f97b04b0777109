"""What the experiment on planning runs on: problems, how programs are graded, and the decoders.

The generated problems are `experiments.tasks.programs`, written for by the zoo's model of that
name and run by the task's own interpreter, of a language in which nothing hangs. With a path to
HumanEval a published checkpoint writes Python, which the sandbox runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from algorithms.search.beam_search import BeamSearch
from algorithms.search.pg_td import PlanningGuided
from algorithms.search.smcg_td import SequentialMonteCarlo
from algorithms.selection.best_of_n import BestOfN
from experiments.harness.report import Out, Seed
from experiments.inputs.sources import Codec, open_model
from experiments.search.pg_td.judge import Functions, Judge, Lists, World
from experiments.tasks.graded import Graded
from experiments.tasks.human_eval import HumanEval
from experiments.tasks.programs import Programs
from experiments.tasks.task import Example
from jaxdecode.autoregress import Generator
from jaxdecode.host import HostEvaluator, HostJudge
from jaxdecode.logits import Identity, TopK
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import LikelihoodScorer


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator: a name in the zoo, or the folder of a published checkpoint.
      data: HumanEval's file, plain or gzipped; None for list programs.
      operations: fewest and most operations of a list program.
      questions, batch: how many, and how many at a time; a whole number of batches.
      generations: the most completions of a search, and samples of sampling; budgets are the
        powers of 2 up to it.
      rollouts: the most of a search; 6.5 for each completion is what the authors allow.
      branch: k, of every method that draws or branches.
      particles: n of the Monte-Carlo method, rising.
      beams: of beam search, rising.
      weights: c of the ablation; the first is the one that all else uses.
      branches: k of the ablation.
      bonus: what a short program, or one with comments, may earn on top.
      ablations: run those, and time the search.
      max_tokens: of a program.
    """

    generator: str = "programs"
    data: Path | None = None
    operations: tuple[int, int] = (1, 3)
    questions: int = 192
    batch: int = 96
    generations: int = 32
    rollouts: int = 208
    branch: int = 3
    particles: tuple[int, ...] = (4, 16)
    beams: tuple[int, ...] = (5,)
    weights: tuple[float, ...] = (4.0, 2.0)
    branches: tuple[int, ...] = (2,)
    bonus: float = 0.3
    ablations: bool = True
    max_tokens: int = 8
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        if self.questions % self.batch:
            raise ValueError(
                f"questions={self.questions}: not a whole number of batches of {self.batch}"
            )
        if self.generations < 2 or self.generations & (self.generations - 1):
            raise ValueError(f"generations={self.generations}: a power of 2 from 2 on is needed")
        for name in ("particles", "beams", "weights"):
            if not getattr(self, name):
                raise ValueError(f"{name}=(): at least one is needed")

    @property
    def budgets(self) -> list[int]:
        return [2**power for power in range(self.generations.bit_length())]


@dataclass(frozen=True)
class Setting:
    """What a configuration stands for: a model, a world, and the methods on them."""

    config: Config
    model: Any
    codec: Codec
    world: World

    @classmethod
    def of(cls, config: Config) -> Setting:
        source = open_model(config.generator)
        world: World = Lists(Programs(config.operations))
        if config.data is not None:
            world = Functions(Graded(HumanEval(config.data)))
        return cls(config, source.model, source.codec, world)

    @cached_property
    def examples(self) -> list[Example]:
        return self.world.questions(self.config.questions, self.config.seed)

    @cached_property
    def judge(self) -> Judge:
        return Judge(self.world, self.examples, self.codec)

    @cached_property
    def prompts(self) -> list[list[int]]:
        return [self.codec.prompt(example.prompt) for example in self.examples]

    def prompt(self, first: int, count: int | None = None) -> Prompt:
        """A batch of problems in the one width of all."""
        count = count or self.config.batch
        width = bucket(max(map(len, self.prompts)))
        return Prompt.of(
            self.prompts[first : first + count], list(range(first, first + count)), width
        )

    def rewards(self, short: float = 0.0, commented: float = 0.0) -> HostEvaluator:
        """Rewards of texts for the problems whose places are the prompts' ids."""
        given = (jnp.float32(short), jnp.float32(commented))
        return replace(self.asking, given=given).evaluator

    @cached_property
    def asking(self) -> HostJudge:
        """One judge, so that all batches and bonuses share their programs."""
        return HostJudge.of(self.judge.rewards, self.codec, batched=True, given=(0.0, 0.0))

    def planner(self, first: int, short=0.0, commented=0.0, **options: Any) -> PlanningGuided:
        config = self.config
        settings: dict[str, Any] = {
            "branch": config.branch,
            "rollouts": config.rollouts,
            "generations": config.generations,
            "weight": config.weights[0],
        }
        rewards = self.rewards(short, commented)
        rules = (self.model, self.codec.stop(), rewards, config.max_tokens)
        return PlanningGuided(*rules, **settings | options)

    def swarm(self, first: int, particles: int) -> SequentialMonteCarlo:
        return SequentialMonteCarlo(self.drawing, self.rewards(), particles)

    def samples(self, first: int) -> BestOfN:
        return BestOfN(self.drawing, LikelihoodScorer(), self.config.generations)

    def beam(self, first: int, beams: int) -> BeamSearch:
        plain = Generator(
            self.model, Identity(), Greedy(), self.codec.stop(), self.config.max_tokens
        )
        return BeamSearch(plain, beams)

    @cached_property
    def drawing(self) -> Generator:
        """The k most probable tokens at temperature 1."""
        transform, stop = TopK(self.config.branch), self.codec.stop()
        return Generator(self.model, transform, Categorical(), stop, self.config.max_tokens)


# The tree structure cache saves nothing on its own.
CACHES = {
    "none": {"reuse": False, "remember": False},
    "sequence only": {"reuse": True, "remember": False},
    "both": {},
}
Maker = Callable[[int], Any]  # the first problem of a batch -> a decoder


def drawn(here: Setting) -> dict[str, Maker]:
    """Name -> maker, of everything that is run."""
    config = here.config
    plan = here.planner
    makers: dict[str, Maker] = {"PG-TD": plan}
    for count in config.particles:
        makers[f"SMCG-TD, n={count}"] = partial(here.swarm, particles=count)
    makers["sampling"] = here.samples
    for count in config.beams:
        makers[f"beam search, b={count}"] = partial(here.beam, beams=count)
    makers["PG-TD, shorter"] = partial(plan, short=config.bonus)
    if config.data is not None:
        makers["PG-TD, commented"] = partial(plan, commented=config.bonus)
    if config.ablations:
        for name, caches in CACHES.items():
            # As many rollouts for all, however many completions they take.
            makers[f"PG-TD, caches: {name}"] = partial(plan, generations=2**30, **caches)
        makers["PG-TD, drawn completions"] = partial(plan, sampler=Categorical(), reuse=False)
        makers |= {f"PG-TD, {rule}": partial(plan, rule=rule) for rule in ("p-uct", "uct")}
        makers |= {f"PG-TD, c={c:g}": partial(plan, weight=c) for c in config.weights[1:]}
        makers |= {f"PG-TD, k={k}": partial(plan, branch=k) for k in config.branches}
    return makers


def alone(here: Setting) -> Setting:
    """The same with one problem at a time."""
    return replace(here, config=replace(here.config, batch=1))
