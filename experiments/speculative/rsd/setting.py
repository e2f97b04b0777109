"""The setting of the experiment on RSD: trees at equal depth, and at equal size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.rsd import rsd_c, rsd_s
from algorithms.speculative.spectr import spectr
from algorithms.speculative.verifiers.residual import Residual
from experiments.harness.report import Out, Seed
from experiments.speculative.trees import Pair, laws
from jaxdecode.sampling import draw_many
from jaxdecode.speculate import Speculator

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Config:
    """What is decoded.

    Attributes:
      prompts, max_tokens, batch: texts, their length, how many at a time.
      temperatures: of both models; the study of lengths is made at all, that of budgets at the
        first.
      lengths, width: draft lengths, and sequences (leaves of RSD-C) at each.
      shapes: by budget, the factors of RSD-C; SD has a chain of the budget, SpecTr and RSD-S
        the number of sequences that is named, of budget / sequences tokens.
      methods: which are run.
      target, draft, questions: folders of checkpoints and a file of questions, else the zoo.
    """

    prompts: int = 48
    max_tokens: int = 40
    batch: int = 48
    temperatures: tuple[float, ...] = (1.0, 0.3)
    lengths: tuple[int, ...] = (2, 4)
    width: int = 4
    shapes: tuple[tuple[int, Shape, int], ...] = ((6, (2, 1, 1), 2), (14, (2, 2, 2), 7))
    methods: tuple[str, ...] = ("SD", "SpecTr", "RSD-C", "RSD-S")
    target: str | None = None
    draft: str | None = None
    questions: Path | None = None
    seed: Seed = 0
    out: Out = None


Make = Callable[[Pair], Speculator]


def chain(pair: Pair, length: int) -> Speculator:
    """Speculative decoding with one draft."""
    generator = pair.generator
    drafter = Chain(pair.field.draft, length, generator.transform, generator.sampler)
    return Speculator(generator, drafter, Residual())


def at_length(width: int, length: int) -> dict[str, Make]:
    """Trees of one depth: `width` sequences each, but SD."""
    factors = (width, *[1] * (length - 1))
    return {
        "SD": lambda pair: chain(pair, length),
        "SpecTr": lambda pair: spectr(pair.generator, pair.field.draft, width, length),
        "RSD-C": lambda pair: rsd_c(pair.generator, pair.field.draft, factors),
        "RSD-S": lambda pair: rsd_s(pair.generator, pair.field.draft, width, length),
    }


def at_budget(budget: int, factors: Shape, sequences: int) -> dict[str, Make]:
    """Trees of one size; without RSD-C where its factors are no such tree.

    Raises:
      ValueError: if the shapes do not have the size.
    """
    if budget % sequences or int(np.sum(np.cumprod(factors))) != budget:
        raise ValueError(
            f"shapes: {factors} or {sequences} sequences do not make {budget} nodes; choose "
            "factors whose products sum to it, and a divisor"
        )
    length = budget // sequences
    return {
        "SD": lambda pair: chain(pair, budget),
        "SpecTr": lambda pair: spectr(pair.generator, pair.field.draft, sequences, length),
        "RSD-C": lambda pair: rsd_c(pair.generator, pair.field.draft, factors),
        "RSD-S": lambda pair: rsd_s(pair.generator, pair.field.draft, sequences, length),
    }


def studies(config: Config) -> list[tuple[dict[str, Any], Make]]:
    """What is run: the columns that identify it, and how it is made."""
    found: list[tuple[dict[str, Any], Make]] = []
    for temperature in config.temperatures:
        for length in config.lengths:
            for method, make in at_length(config.width, length).items():
                if method not in config.methods:
                    continue
                key = {"study": "length", "at": length, "method": method, "shape": config.width}
                found.append((key | {"temperature": temperature}, make))
    for budget, factors, sequences in config.shapes:
        for method, make in at_budget(budget, factors, sequences).items():
            if method not in config.methods:
                continue
            shape = {"SD": "chain", "RSD-C": "x".join(map(str, factors))}.get(
                method, f"{sequences} x {budget // sequences}"
            )
            key = {"study": "budget", "at": budget, "method": method, "shape": shape}
            found.append((key | {"temperature": config.temperatures[0]}, make))
    return found


def repeats(pair: Pair, width: int) -> float:
    """Different tokens among `width` independent draws of the draft, on average."""
    _, draft = laws(pair.field, pair.temperature, pair.temperature)
    keys = jax.random.split(jax.random.key(pair.seed), len(draft))
    tokens = np.asarray(draw_many(keys, jnp.log(draft), width))
    return float(np.mean([len(set(row)) for row in tokens.tolist()]))
