"""Several decoders on the same prompts, side by side: texts, costs, times."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.commands.generate.answers import Job
from experiments.commands.terminal import visible
from experiments.harness.progress import Progress
from jaxdecode.decoder import decode
from jaxdecode.prompt import Prompt


@dataclass(frozen=True)
class Lap:
    """What one decoder did.

    Attributes:
      texts: of the prompts, in their order.
      usage: means over the prompts, by the names of `jaxdecode.result.Usage`.
      first, seconds: the first run, compiling included, and the second, without.
    """

    texts: list[str]
    usage: dict[str, float]
    first: float
    seconds: float

    def row(self, plain: float) -> dict[str, str]:
        """The numbers as they are shown; `plain` is the first decoder's seconds."""
        usage = self.usage
        return {
            "tokens drawn": f"{usage['emitted']:.0f}",
            "passes": f"{usage['target_passes']:.0f}",
            "tokens judged": f"{usage['scorer_tokens']:.0f}",
            "GFLOPs": f"{usage['flops'] / 1e9:.1f}",
            "seconds": f"{self.seconds:.2f}",
            "times the first": f"{self.seconds / plain:.2f}",
            "first run, s": f"{self.first:.1f}",
        }


def lap(job: Job) -> Lap:
    """All prompts as one batch, twice: once to compile and once for the time."""
    ids = [request.number for request in job.requests]
    prompt = Prompt.of(job.tokens, ids)
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        result = jax.block_until_ready(decode(job.decoder, job.seed, prompt))
        taken.append(time.perf_counter() - start)
    result = jax.device_get(result)
    rows = range(len(job.requests))
    texts = [
        job.record(row, jax.tree.map(lambda x, row=row: x[row : row + 1], result))["text"]
        for row in rows
    ]
    usage = {name: float(np.mean(value)) for name, value in vars(result.usage).items()}
    return Lap(texts, usage, taken[0], taken[1])


def show(jobs: Mapping[Any, Job]) -> None:
    """Run every job and print what each wrote, cost and took. Means are over the prompts,
    seconds are for all of them together."""
    laps = {}
    with Progress("race", len(jobs)) as progress:
        for name, job in jobs.items():
            laps[name] = lap(job)
            progress.advance(note=str(name))
    plain = next(iter(laps.values())).seconds
    console = Console()
    for index, request in enumerate(next(iter(jobs.values())).requests):
        table = Table(title=visible(request.words), title_justify="left", show_lines=True)
        table.add_column("decoder")
        table.add_column("text", overflow="fold")
        for name, found in laps.items():
            table.add_row(str(name), visible(found.texts[index]))
        console.print(table, markup=False)
    table = Table(title="a prompt; seconds for all prompts together", title_justify="left")
    rows = {name: found.row(plain) for name, found in laps.items()}
    for column in ("decoder", *next(iter(rows.values()))):
        table.add_column(column, justify="left" if column == "decoder" else "right")
    for name, row in rows.items():
        table.add_row(str(name), *row.values())
    console.print(table)
