"""The setting of ParallelBench: the denoiser, its twin, and the questions they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np

from experiments import zoo
from experiments.harness.report import Out, Seed
from experiments.tasks.canvas.lists import OPERATIONS, Lists
from experiments.tasks.canvas.mixture import LISTS
from experiments.tasks.canvas.parallel_bench import ParallelBench
from experiments.tasks.task import Example
from jaxdecode.decoder import decode
from jaxdecode.denoiser import Denoiser
from jaxdecode.ending import Whole
from jaxdecode.guess import Chooser, Order
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy, Sampler
from jaxdecode.stop import Stop
from jaxdecode.unmask import Unmasker
from models.denoisers import load_denoiser
from models.text import Tokenizer
from models.tokenizer_files import load_tokenizer

Law = Literal["copy", "replace_random", "shuffle"]
ORDERED: tuple[Order, ...] = ("confidence", "margin", "entropy", "random")
MEASURED = ("copy", "replace_index", "replace_random", "shuffle")
"""Operations whose answers are as long as the question's list, with one right answer or many."""


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      denoiser: a name in the zoo, or the folder of a published denoiser.
      twin: an autoregressive model of the zoo that reads the same questions, such as one made by
        the recipe `denoiser-twin`; None for none.
      data: folder of ParallelBench's published files, for a denoiser that reads English; None for
        the zoo's lists of symbols.
      items: length of the lists whose accuracies are known in closed form.
      steps: places decided at a time on those lists.
      laws: operations whose known law an ideal model decodes.
      trials: rows of a known law, per number of places.
      asked: questions of each operation there, put to the denoiser.
      questions: of each operation, in the grid of policies.
      canvas: places of an answer in the grid.
      blocks: of the canvas.
      orders: of the policies that decide a fixed number of places, in the largest block.
      counts, thresholds, factors, bounds: of the grid.
      squares: rows of the law of Latin squares, 0 for none.
    """

    denoiser: str = "denoiser"
    twin: str | None = None
    data: Path | None = None
    items: int = 6
    steps: tuple[int, ...] = (1, 2, 3, 6)
    laws: tuple[Law, ...] = get_args(Law)
    trials: int = 1000
    asked: int = 60
    questions: int = 16
    canvas: int = 16
    blocks: tuple[int, ...] = (4, 16)
    orders: tuple[Order, ...] = ORDERED
    counts: tuple[int, ...] = (1, 2, 4, 8, 16)
    thresholds: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    factors: tuple[float, ...] = (0.7, 1.0, 1.3, 1.6, 1.9)
    bounds: tuple[float, ...] = (0.01, 0.1, 0.3, 1.0)
    squares: int = 400
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        for name in ("items", "trials", "asked", "questions", "canvas"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1 is needed")
        if not all((self.orders, self.counts, self.thresholds, self.laws)):
            raise ValueError("orders, counts, thresholds and laws: each needs a member to compare")
        wrong = [b for b in self.blocks if b < 1 or self.canvas % b]
        if wrong or not self.blocks:
            raise ValueError(f"blocks={self.blocks}: each divides canvas={self.canvas}")
        if not self.steps or not all(1 <= k <= self.items for k in self.steps):
            raise ValueError(f"steps={self.steps}: pass 1 to items={self.items}")
        if self.steps[0] != 1 or self.steps[-1] != self.items:
            raise ValueError(f"steps={self.steps}: one at a time first, all {self.items} last")
        if self.data is not None and self.denoiser in zoo.names():
            raise ValueError(
                f"data={self.data}: the zoo's {self.denoiser} reads no English; pass the folder of "
                "a published denoiser as `denoiser`"
            )


@dataclass(frozen=True)
class Setting:
    """What a configuration stands for."""

    config: Config
    denoiser: Denoiser
    text: Tokenizer

    @classmethod
    def of(cls, config: Config) -> Setting:
        if config.denoiser in zoo.names():
            shipped = zoo.load(config.denoiser)
            if shipped.card["kind"] != "denoiser":
                raise ValueError(f"{config.denoiser} is a {shipped.card['kind']}, no denoiser")
            return cls(config, shipped.model, load_tokenizer(shipped.folder))
        if not Path(config.denoiser).is_dir():
            known = ", ".join(n for n in zoo.names() if zoo.load(n).card["kind"] == "denoiser")
            raise ValueError(f"denoiser={config.denoiser!r} is neither a folder nor one of {known}")
        text = load_tokenizer(config.denoiser)
        return cls(config, load_denoiser(config.denoiser), text)

    @cached_property
    def tasks(self) -> dict[str, Lists | ParallelBench]:
        """Operation -> its questions."""
        if self.config.data is None:
            return {
                name: Lists((name,), LISTS.lengths, LISTS.symbols, LISTS.places)
                for name in OPERATIONS
            }
        folder = self.config.data / "waiting_line"
        return {name: ParallelBench(folder / f"{name}.jsonl") for name in OPERATIONS}

    def questions(self, operation: str, count: int, length: int | None = None) -> list[Example]:
        """Test questions, of one length where that is given."""
        task = self.tasks[operation]
        rng = np.random.default_rng((self.config.seed, OPERATIONS.index(operation)))
        if length is None or isinstance(task, ParallelBench):
            return task.sample(rng, count, "test")
        same = Lists((operation,), (length, length), task.symbols, task.places)
        return same.sample(rng, count, "test")

    def prompts(self, examples: Sequence[Example], width: int | None = None) -> Prompt:
        """Their prompts as the denoiser reads them; of one bucket, unless a width is given, so that
        operations share their programs."""
        if self.config.data is None:
            rows = [self.text.encode(example.prompt) for example in examples]
            rows = [row[:-1] if row[-1] in self.text.eos else row for row in rows]
        else:
            rows = [
                self.text.encode_chat(
                    [{"role": role, "content": said} for role, said in example.meta["messages"]],
                    add_generation_prompt=True,
                )
                for example in examples
            ]
        return Prompt.of(rows, width=width)

    def unmasker(
        self, chooser: Chooser, places: int, block: int, sampler: Sampler | None = None
    ) -> Unmasker:
        """Fills `places` to the last; they are all of the answer where no end token may stop it.

        A row that left off at its end would seem to fill its canvas in fewer passes than it makes.
        """
        stop = Stop.of(self.text.eos if places == self.config.canvas else ())
        drawn = sampler or Greedy()
        return Unmasker(self.denoiser, chooser, drawn, stop, places, block, ending=Whole())

    def answers(self, un: Any, prompt: Prompt, seed: int = 0) -> tuple[list[str], np.ndarray]:
        """Texts, and the passes of each row."""
        key = jax.random.fold_in(jax.random.key(self.config.seed), seed)
        result = jax.device_get(decode(Autoregressive(un), key, prompt))
        rows = zip(result.tokens, result.length, strict=True)
        texts = [self.text.decode(row[:count].tolist()) for row, count in rows]
        return texts, np.asarray(result.usage.target_passes)

    def right(
        self, operation: str, examples: Sequence[Example], texts: Sequence[str]
    ) -> list[bool]:
        task = self.tasks[operation]
        return [
            task.verify(example.prompt, text.strip()) == 1
            for example, text in zip(examples, texts, strict=True)
        ]
