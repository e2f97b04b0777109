"""The setting of the experiment on AdaDec: tasks and the models that sit them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from experiments.harness.report import Out, Seed
from experiments.harness.resumption import fingerprint
from experiments.inputs.sources import Codec, Source, open_model
from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.batches import ExampleBatches
from experiments.tasks.human_eval import HumanEval, read
from experiments.tasks.programs import Programs, parse, passed
from experiments.tasks.task import Example
from experiments.tokens.adadec.styles import DIGITS, Styles
from experiments.tokens.exam import Exam
from experiments.zoo.recipe import as_dict
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.train.losses import next_token
from jaxdecode.train.optimizer import Optimizer
from models.presets import small
from models.tokenizer_files import load_tokenizer
from models.transformer import Transformer

KNOWN = ("programs", "arithmetic", "styles", "human_eval")


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      tasks: of "programs", "arithmetic", "styles" and "human_eval".
      generator: of human_eval, the folder of a published checkpoint.
      data, solved: of human_eval, the file of problems, and another in its format whose canonical
        solutions the threshold is learned from.
      questions: of each task; batch: decoded at a time.
      lessons: reference solutions that a threshold is learned from.
      branch, ahead: B and L.
      sweep: other L.
      steps: of training the model of styles.
    """

    tasks: tuple[str, ...] = ("programs", "arithmetic", "styles")
    generator: str = ""
    data: Path | None = None
    solved: Path | None = None
    questions: int = 400
    batch: int = 200
    lessons: int = 1024
    branch: int = 3
    ahead: int = 5
    sweep: tuple[int, ...] = (2, 9)
    steps: int = 1500
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        for task in self.tasks:
            if task not in KNOWN:
                raise ValueError(f"tasks={self.tasks}: {task!r} is none of {', '.join(KNOWN)}")
        if "human_eval" in self.tasks and (self.data is None or self.solved is None):
            raise ValueError(
                f"data={self.data}, solved={self.solved}: human_eval needs the file of problems "
                "and one of solved problems"
            )


@dataclass(frozen=True)
class Subject:
    """A task and the model that sits it.

    Attributes:
      exam: the questions.
      lessons: examples with reference solutions, of the training split.
      tokens: the most of an answer.
      line: text after which a line is over; "" where there are no lines.
    """

    name: str
    source: Source
    exam: Exam
    lessons: list[Example]
    tokens: int
    line: str = ""

    @property
    def generator(self) -> Generator:
        return Generator(self.source.model, Identity(), Greedy(), self.exam.stop, self.tokens)

    @cached_property
    def line_ends(self) -> Stop:
        """Tokens that hold a line break."""
        text = self.source.codec.text
        known = range(self.source.model.vocab_size)
        return Stop.of([t for t in known if self.line and self.line in text.decode([t])])


def right_program(example: Example, text: str) -> float:
    """Whether a program passes its public and its hidden pairs."""
    pairs = [*parse(example.prompt), *example.meta["hidden"]]
    return float(passed(text, pairs) == 1.0)


def subject(config: Config, name: str) -> Subject:
    """A task by name, with its model.

    Raises:
      ValueError: what is needed is not there.
    """
    rng = np.random.default_rng((config.seed, 7))

    def of(source: Source, task: Any, grade: Any, tokens: int, line: str = "") -> Subject:
        batch = min(config.batch, config.questions)
        exam = Exam(source.codec, task, grade, "test", config.questions, batch, config.seed)
        lessons = task.sample(rng, config.lessons, "train")
        return Subject(name, source, exam, lessons, tokens, line)

    match name:
        case "programs":
            return of(open_model("programs"), Programs(), right_program, 8)
        case "arithmetic":
            task = Arithmetic((2, 5))
            return of(open_model("arithmetic"), task, stated(task), 56, "\n")
        case "styles":
            return of(taught(config), Styles(), stated(Styles()), 2 * DIGITS)
        case _:
            assert config.data is not None and config.solved is not None
            task, source = HumanEval(config.data), open_model(config.generator)

            def grade(example: Example, text: str) -> float:
                return task.verify(example.prompt, text)

            found = of(source, task, grade, 512, "\n")
            return Subject(name, source, found.exam, read(config.solved), 512, "\n")


def stated(task: Arithmetic | Styles) -> Any:
    """Whether the answer that a text states is the example's."""

    def grade(example: Example, text: str) -> float:
        return float(task.extract(text) == example.meta["answer"])

    return grade


def taught(config: Config) -> Source:
    """A model of styles, trained here; of a run that was stopped the weights are kept."""
    codec = Styles().tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        codec.save(Path(folder))
        text = load_tokenizer(folder)
    stream = ExampleBatches(Styles(), codec, 64, (20,), config.seed)
    store = None
    if config.out is not None:
        store = Checkpoints(Path(config.out) / "trained" / fingerprint(config), config.steps)
    model = fit(
        Transformer(small(codec.vocab_size, hidden=64, layers=2), rngs=nnx.Rngs(config.seed)),
        next_token,
        as_dict(stream),
        Optimizer(3e-3, config.steps, warmup=config.steps // 20).build(),
        config.steps,
        store,
    )
    return Source("styles", model, Codec(text, codec), 64)
