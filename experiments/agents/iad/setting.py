"""What the experiment on IAD runs on: a task, its verifier, and an agent that is asked in writing.

The generated tasks are `experiments.tasks.sql` and `experiments.tasks.programs`, models of the zoo
their agents. With a path to HumanEval the agent is a published checkpoint and programs run in the
sandbox.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from algorithms.agents.agent import Attempt, Review, Verdict, Verifier
from experiments.agents.iad.agents import ModelAgent, Remembered
from experiments.harness.report import Out, Seed
from experiments.inputs.sources import Codec, open_model
from experiments.tasks import refinement
from experiments.tasks.human_eval import HumanEval
from experiments.tasks.programs import Programs, parse, passed
from experiments.tasks.programs import run as run_list
from experiments.tasks.sql import Sql
from experiments.tasks.task import Example
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Temperature
from jaxdecode.prompt import bucket
from jaxdecode.sampling import Categorical

ASK = "Complete the Python function below. Answer with the whole function in one code block.\n\n"
BETTER = "\n\nWrite a better answer: keep what makes the best good, avoid what makes the worst bad."


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator: a name in the zoo, or the folder of a published checkpoint.
      data: HumanEval's file, plain or gzipped; None for generated SQL.
      questions: test questions.
      open_parts: fewest and most words of an SQL question that are left open.
      rounds, samples: T and K of IAD; best-of-N has N = T K.
      sigmas: noise of the verifier, rising from the smallest above 0.
      batch: questions decoded at a time.
      max_tokens, temperature: of an answer.
      longest: prompt tokens with all feedback.
      writer: the model of a second task, list programs; None for none. Its verifier runs the
        public tests, its scores are shares of the hidden ones.
      problems: of those.
      operations: fewest and most operations of theirs.
      program_tokens, program_longest: as `max_tokens` and `longest`.
    """

    generator: str = "sql"
    data: Path | None = None
    questions: int = 600
    open_parts: tuple[int, int] = (2, 6)
    rounds: int = 6
    samples: int = 4
    sigmas: tuple[float, ...] = (0.1, 0.2, 0.4)
    batch: int = 100
    max_tokens: int = 20
    temperature: float = 1.0
    longest: int = 64
    writer: str | None = "programs"
    problems: int = 400
    operations: tuple[int, int] = (1, 3)
    program_tokens: int = 8
    program_longest: int = 80
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        if self.rounds < 3:
            raise ValueError(f"rounds={self.rounds}: feedback shows from 3 on")
        if not self.sigmas or min(self.sigmas) <= 0 or list(self.sigmas) != sorted(self.sigmas):
            raise ValueError(f"sigmas={self.sigmas}: give one or more above 0, rising")

    @property
    def calls(self) -> int:
        return self.rounds * self.samples


@dataclass(frozen=True)
class Setting:
    """What a configuration stands for."""

    config: Config
    model: Any
    codec: Codec
    task: Sql | HumanEval | Programs

    @classmethod
    def of(cls, config: Config) -> Setting:
        task = Sql(config.open_parts) if config.data is None else HumanEval(config.data)
        source = open_model(config.generator)
        return cls(config, source.model, source.codec, task)

    @classmethod
    def programs(cls, config: Config) -> Setting:
        """The second task: list programs, asked of `config.writer`."""
        if config.writer is None:
            raise ValueError("writer=None: there is no second task; name a model of the zoo")
        source = open_model(config.writer)
        config = replace(
            config,
            questions=config.problems,
            max_tokens=config.program_tokens,
            longest=config.program_longest,
        )
        return cls(config, source.model, source.codec, Programs(config.operations))

    @property
    def agent(self) -> ModelAgent:
        config, task = self.config, self.task
        generator = Generator(
            model=self.model,
            transform=Temperature(config.temperature),
            sampler=Categorical(),
            stop=self.codec.stop(),
            max_tokens=config.max_tokens,
        )
        agent = ModelAgent(
            generator,
            self.codec,
            write_code,
            seed=config.seed,
            batch=config.batch,
            longest=config.longest,
        )
        if not isinstance(task, HumanEval):
            width = bucket(config.longest)
            agent = replace(agent, write=write_plain, read=task.extract, width=width)
        return agent

    @cached_property
    def remembered(self) -> Remembered:
        """The agent, for all arms."""
        return Remembered(self.agent)

    @property
    def verify(self) -> Verifier:
        """The exact verifier, which is the metric too where no tests are hidden."""
        match self.task:
            case Sql():
                return Queries(self.task)
            case Programs():
                return run_public
            case _:
                return Code(self.task)

    def score(self, example: Example, text: str) -> float:
        """What an answer is worth."""
        if isinstance(self.task, Programs):
            return passed(text, example.meta["hidden"])
        return self.task.verify(example.prompt, text)

    def questions(self) -> list[Example]:
        rng = np.random.default_rng(self.config.seed)
        return self.task.sample(rng, self.config.questions, "test")


@dataclass(frozen=True)
class Queries:
    """Scores a query by its rows; raises for one that gives none."""

    task: Sql

    def __call__(self, prompt: str, text: str) -> Verdict:
        answer = self.task.run(prompt, text)
        if answer.status != "ok":
            raise ValueError(f"{answer.status}: {answer.error}")
        return Verdict(self.task.verify(prompt, text))


def run_public(prompt: str, text: str) -> Verdict:
    """The share of a prompt's pairs that a list program gets right; raises for what is none."""
    run_list(text, [])
    return Verdict(passed(text, parse(prompt)))


@dataclass(frozen=True)
class Code:
    """1 for a program that passes its tests; else 0, and the end of what Python said."""

    task: HumanEval

    def __call__(self, prompt: str, text: str) -> Verdict:
        right, run = self.task.judge(prompt, text)
        return Verdict(float(right), "" if right else f"{run.status}: {run.stderr[-400:]}".strip())


def write_plain(review: Review) -> str:
    """As the zoo's models learned to read it."""

    def scored(attempt: Attempt | None) -> refinement.Scored | None:
        return None if attempt is None else (attempt.text, attempt.score)

    return refinement.review(review.prompt, scored(review.best), scored(review.worst))


def write_code(review: Review) -> str:
    """As one would ask a model that chats."""
    parts = [ASK + review.prompt]
    for name, attempt in (("best", review.best), ("worst", review.worst)):
        if attempt is not None:
            told = f" It failed with:\n{attempt.critique}" if attempt.critique else ""
            code = attempt.text
            shown = code if "```" in code else f"```python\n{code}\n```"
            parts.append(f"\n\nThe {name} answer so far, score {attempt.score:g}:\n{shown}{told}")
    return "".join([*parts, BETTER if review.best is not None else ""])
