"""The grid of policies: accuracy against places decided in a pass, question by question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from algorithms.diffusion.choosers import EntropyBounded, Factor, Threshold
from algorithms.diffusion.parallelbench import oracle
from experiments import zoo
from experiments.diffusion.parallelbench.setting import Config, Setting
from experiments.tasks.canvas.lists import OPERATIONS
from experiments.tasks.task import Example
from jaxdecode.autoregress import Generator
from jaxdecode.choose import Fixed, Top
from jaxdecode.guess import Chooser
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop

ADAPTIVE = ("threshold", "factor", "entropy bound")


@dataclass(frozen=True)
class Cell:
    """One setting of one policy: its name, its parameter, and the block it works in."""

    policy: str
    value: float
    block: int

    @property
    def key(self) -> str:
        return f"{self.policy} {self.value:g} in blocks of {self.block}"

    def chooser(self) -> Chooser:
        """Parameters are arrays, so that a policy's cells in a block share one program."""
        value = jnp.float32(self.value)
        match self.policy:
            case "threshold":
                return Threshold(value)
            case "factor":
                return Factor(value)
            case "entropy bound":
                return EntropyBounded(value)
        order: Any = "left" if self.policy == "left to right" else self.policy.split()[-1]
        return Top(Fixed(jnp.int32(self.value)), order)


def cells(config: Config) -> Iterator[Cell]:
    """Every cell; a step decides no more places than a block has."""
    whole = max(config.blocks)
    for block in config.blocks:
        counts = [k for k in config.counts if k <= block]
        for order in config.orders if block == whole else config.orders[:1]:
            yield from (Cell(f"top k, {order}", k, block) for k in counts)
        yield from (Cell("threshold", value, block) for value in config.thresholds)
    yield from (Cell("factor", value, whole) for value in config.factors)
    yield from (Cell("entropy bound", value, whole) for value in config.bounds)
    yield Cell("left to right", 1, whole)


def asked(setting: Setting) -> tuple[list[str], list[Example], Prompt]:
    """Operation and question of every row of the grid."""
    names, examples = [], []
    for name in OPERATIONS:
        some = setting.questions(name, setting.config.questions)
        names += [name] * len(some)
        examples += some
    return names, examples, setting.prompts(examples)


def measure(
    setting: Setting, cell: Cell, names: Sequence[str], examples: Sequence[Example], prompt: Prompt
) -> dict[str, Any]:
    """Which answers are right, and how many passes each took."""
    un = setting.unmasker(cell.chooser(), setting.config.canvas, cell.block)
    texts, passes = setting.answers(un, prompt)
    return {"right": judged(setting, names, examples, texts), "passes": passes.tolist()}


def judged(
    setting: Setting, names: Sequence[str], examples: Sequence[Example], texts: Sequence[str]
) -> list[bool]:
    return [
        setting.right(name, [example], [text])[0]
        for name, example, text in zip(names, examples, texts, strict=True)
    ]


def autoregressive(
    setting: Setting, names: Sequence[str], examples: Sequence[Example], prompt: Prompt
) -> list[bool]:
    """The twin's answers, one token a pass."""
    assert setting.config.twin is not None
    model, stop = zoo.load(setting.config.twin).model, Stop.of(setting.text.eos)
    rules = Generator(model, Identity(), Greedy(), stop, setting.config.canvas)
    texts, _ = setting.answers(rules, prompt)
    return judged(setting, names, examples, texts)


@dataclass(frozen=True)
class Grid:
    """All cells, measured.

    Attributes:
      cells: in the order of the arrays' first axis.
      right, passes: [cells, questions].
      places: of a canvas.
      used: i[questions], places that a right answer needs, its end token included.
      names: operation of every question.
    """

    cells: Sequence[Cell]
    right: NDArray[np.bool_]
    passes: NDArray[np.int64]
    places: int
    used: NDArray[np.int64]
    names: NDArray[np.str_]

    @classmethod
    def of(
        cls,
        rows: Mapping[Cell, dict[str, Any]],
        places: int,
        used: Sequence[int],
        names: Sequence[str],
    ) -> Grid:
        right = np.array([row["right"] for row in rows.values()])
        passes = np.array([row["passes"] for row in rows.values()])
        return cls(list(rows), right, passes, places, np.array(used), np.array(names))

    @property
    def speed(self) -> NDArray[np.float64]:
        """Places of the canvas in a pass, the paper's tokens per step, of every question."""
        return self.places / np.maximum(self.passes, 1)

    def of_questions(self, chosen: NDArray[np.int64]) -> Grid:
        """The same cells on some of the questions."""
        right, passes = self.right[:, chosen], self.passes[:, chosen]
        return Grid(self.cells, right, passes, self.places, self.used[chosen], self.names[chosen])

    def of_policy(self, policy: str, block: int) -> list[int]:
        return [i for i, c in enumerate(self.cells) if (c.policy, c.block) == (policy, block)]

    def curve(self, chosen: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean speed and accuracy of some cells, by rising speed."""
        speed, accuracy = self.speed[chosen].mean(axis=1), self.right[chosen].mean(axis=1)
        order = np.argsort(speed)
        return speed[order], accuracy[order]

    def oracle(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of all cells, each question choosing its own."""
        return oracle(self.speed, self.right)

    def rows(self) -> list[dict[str, Any]]:
        """One row a cell, with the accuracy of each operation."""
        table = []
        for index, cell in enumerate(self.cells):
            row = {"part": "grid", "policy": cell.policy, "value": cell.value, "block": cell.block}
            row |= {"tokens per step": float(self.speed[index].mean())}
            row |= {"of the answer": float((self.used / self.passes[index]).mean())}
            row |= {"accuracy": float(self.right[index].mean())}
            for name in (n for n in OPERATIONS if n in self.names):
                row[name] = float(self.right[index][self.names == name].mean())
            table.append(row)
        return table
