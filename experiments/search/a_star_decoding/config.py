"""The settings of the experiment on A*-decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.harness.report import Out, Seed


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator, judge: names in the zoo, or folders of published checkpoints.
      data: folder with GSM8K's train.jsonl and test.jsonl; None for arithmetic.
      operations: fewest and most operations of an arithmetic question.
      questions, batch: how many, and how many at a time; a whole number of batches.
      samples: of best-of-N and the votes; sizes are the powers of 2 up to it.
      repetitions: subsets for each smaller N.
      particles: N of particle filtering, rising.
      children: k of A*; claims on one k are on the one in the middle.
      expansions: the most of A*.
      ablations: run A* without costs and without a frontier, particle Gibbs, beams and DVTS too,
        and time A*.
      exact: measure A* and the baselines under an exact reward, too; arithmetic alone has one.
      noises: deviations of the noise on an exact reward's logit.
      delimiter: text that ends a step.
      width, depth, max_tokens: tokens of a step, steps of a response, tokens of a response.
    """

    generator: str = "arithmetic"
    judge: str = "arithmetic-steps"
    data: Path | None = None
    operations: tuple[int, int] = (2, 5)
    questions: int = 96
    batch: int = 32
    samples: int = 32
    repetitions: int = 20
    particles: tuple[int, ...] = (2, 4, 8, 16)
    children: tuple[int, ...] = (2, 4, 8)
    expansions: int = 16
    ablations: bool = True
    exact: bool = True
    noises: tuple[float, ...] = (3.0,)
    delimiter: str = "\n"
    width: int = 10
    depth: int = 7
    max_tokens: int = 58
    temperature: float = 0.8
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        if self.questions % self.batch:
            raise ValueError(
                f"questions={self.questions}: not a whole number of batches of {self.batch}"
            )
        if self.samples < 2 or self.samples & (self.samples - 1):
            raise ValueError(f"samples={self.samples}: a power of 2 from 2 on is needed")
        if len(self.particles) < 2 or not self.children:
            raise ValueError(
                f"particles={self.particles} and children={self.children}: a curve needs two "
                "numbers of particles, and A* one of children"
            )

        if self.data is not None and (self.exact or self.noises):
            raise ValueError("exact and noises: only arithmetic has an exact reward of steps")

    @property
    def sizes(self) -> list[int]:
        return [2**power for power in range(self.samples.bit_length())]

    @property
    def main(self) -> int:
        """The k that claims on one k are on."""
        return self.children[len(self.children) // 2]
