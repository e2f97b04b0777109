"""The setting of the experiment on STAND: problems, and samples of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from experiments.harness.report import Out, Seed
from experiments.speculative.speculation import Field
from jaxdecode.logits import Temperature
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      problems, tuning: to measure on, and to fit the tree on.
      samples: N.
      max_tokens: of a solution.
      temperature: of the samples; `temperatures` those of the comparison of draws.
      capacity: contexts that a table has room for.
      explored, depth: of the tree whose accepted nodes are counted.
      chain: whether to measure chains of the likeliest tokens too.
    """

    problems: int = 10
    tuning: int = 10
    samples: int = 16
    max_tokens: int = 56
    temperature: float = 0.8
    temperatures: tuple[float, ...] = (0.05, 0.4, 1.2)
    capacity: int = 1 << 12
    explored: int = 200
    depth: int = 20
    chain: bool = True
    seed: Seed = 0
    out: Out = None


def sampled(field: Field, temperature: float):
    """The target at a temperature."""
    return field.generator(Categorical(), Temperature(temperature))


def trajectories(field: Field, samples: int) -> list[Prompt]:
    """All problems at once, with other draws for every sample."""
    whole = field.batches(len(field.prompts))[0]
    return [replace(whole, id=whole.id + 1000 * sample) for sample in range(samples)]
