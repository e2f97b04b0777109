"""What the experiment on planning runs on: problems, how programs are graded, and the decoders.

The generated problems are `experiments.tasks.programs`, written for by the zoo's model of that
name and run by the task's own interpreter, of a language in which nothing hangs. With a path to
HumanEval a published checkpoint writes Python, which the sandbox runs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from algorithms.search.beam_search import BeamSearch
from algorithms.search.pg_td import PlanningGuided
from algorithms.search.smcg_td import SequentialMonteCarlo
from algorithms.selection.best_of_n import BestOfN
from experiments.harness.report import Out, Seed
from experiments.inputs.sources import Codec, open_model
from experiments.tasks.graded import Graded
from experiments.tasks.human_eval import HumanEval
from experiments.tasks.programs import Programs, parse, passed, split_steps
from experiments.tasks.task import Example
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity, TopK
from jaxdecode.process_reward import StepFunction
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import LikelihoodScorer

Grade = tuple[float, float]  # shares of public and of hidden tests passed


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


class World(Protocol):
    """Problems, and a grade for every program."""

    def questions(self, count: int, seed: int) -> list[Example]: ...

    def grades(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Grade]: ...

    def size(self, text: str) -> float:
        """How long a program is, in units of which `typical` are many."""
        ...

    @property
    def typical(self) -> float: ...

    def comments(self, text: str) -> float:
        """The share of a program that explains it."""
        ...


@dataclass(frozen=True)
class Lists:
    """List programs; a program's size are its operations, and it cannot be commented."""

    task: Programs
    typical: float = 3.0

    def questions(self, count: int, seed: int) -> list[Example]:
        return self.task.sample(np.random.default_rng(seed), count, "test")

    def grades(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Grade]:
        return [
            (passed(text, parse(example.prompt)), passed(text, example.meta["hidden"]))
            for example, text in zip(examples, texts, strict=True)
        ]

    def size(self, text: str) -> float:
        return float(len(split_steps(text)))

    def comments(self, text: str) -> float:
        return 0.0


@dataclass(frozen=True)
class Functions:
    """Python functions; a program's size are its lines."""

    graded: Graded
    typical: float = 20.0

    def questions(self, count: int, seed: int) -> list[Example]:
        return self.graded.task.sample(np.random.default_rng(seed), count, "test")

    def grades(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Grade]:
        return self.graded.grades([example.prompt for example in examples], texts)

    def size(self, text: str) -> float:
        return float(len(self._lines(text)))

    def comments(self, text: str) -> float:
        lines = self._lines(text)
        return sum("#" in line for line in lines) / max(len(lines), 1)

    def _lines(self, text: str) -> list[str]:
        code = self.graded.task.extract(text) or ""
        return [line for line in code.splitlines() if line.strip()]


@dataclass
class Judge:
    """Rewards for texts on the host: the share of public tests passed, and a bonus.

    A program is run once for a problem. With a bonus the reward is (share + bonus * extra) /
    (1 + bonus), `extra` in [0, 1].

    Attributes:
      asked, run: rewards given, and programs that were run for them; `seconds` in here.
    """

    world: World
    examples: Sequence[Example]
    codec: Codec
    asked: int = 0
    run: int = 0
    seconds: float = 0.0
    known: dict[tuple[str, str], Grade] = field(default_factory=dict)

    def grades(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Grade]:
        """Of one program a problem, those not known yet run together."""
        pairs = [(example.prompt, text) for example, text in zip(examples, texts, strict=True)]
        new = {
            pair: example
            for pair, example in zip(pairs, examples, strict=True)
            if pair not in self.known
        }
        found = self.world.grades(list(new.values()), [text for _, text in new])
        self.known.update(zip(new, found, strict=True))
        self.asked, self.run = self.asked + len(pairs), self.run + len(new)
        return [self.known[pair] for pair in pairs]

    def reward(self, ids, tokens, lengths, short, commented) -> np.ndarray:
        """f32[R]; `ids` are places among the examples."""
        begun = time.perf_counter()
        texts = self.texts(tokens, lengths)
        grades = self.grades([self.examples[place] for place in ids.tolist()], texts)
        extra = [
            float(short) * math.exp(-self.world.size(text) / self.world.typical)
            + float(commented) * self.world.comments(text)
            for text in texts
        ]
        found = [
            (public + more) / (1 + float(short) + float(commented))
            for (public, _), more in zip(grades, extra, strict=True)
        ]
        self.seconds += time.perf_counter() - begun
        return np.array(found, np.float32)

    def texts(self, tokens, lengths) -> list[str]:
        rows = zip(tokens.tolist(), lengths.tolist(), strict=True)
        return [self.codec.decode(row[:length]) for row, length in rows]


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

    def rewards(self, first: int, short: float = 0.0, commented: float = 0.0) -> StepFunction:
        """Rewards of a batch that begins at problem `first`."""
        arguments = (jnp.int32(first), jnp.float32(short), jnp.float32(commented))
        return StepFunction(Partial(self.asking, *arguments))

    @cached_property
    def asking(self) -> Callable[..., Any]:
        """One object, so that all batches share their programs."""
        return partial(_ask, self.judge.reward, self.config.batch)

    def planner(self, first: int, short=0.0, commented=0.0, **options: Any) -> PlanningGuided:
        config = self.config
        settings: dict[str, Any] = {
            "branch": config.branch,
            "rollouts": config.rollouts,
            "generations": config.generations,
            "weight": config.weights[0],
        }
        rewards = self.rewards(first, short, commented)
        rules = (self.model, self.codec.stop(), rewards, config.max_tokens)
        return PlanningGuided(*rules, **settings | options)

    def swarm(self, first: int, particles: int) -> SequentialMonteCarlo:
        return SequentialMonteCarlo(self.drawing, self.rewards(first), particles)

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


def _ask(reward, batch, first, short, commented, prompt, prompt_length, tokens, length):
    """`reward` behind a callback, called once for all rows."""
    rows = length.shape[0]
    ids = first + jnp.arange(rows) // (rows // batch)
    shape = jax.ShapeDtypeStruct(length.shape, jnp.float32)
    given = (ids, tokens, length, short, commented)
    return jax.pure_callback(reward, shape, *given, vmap_method="sequential")
