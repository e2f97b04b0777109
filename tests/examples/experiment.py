"""An experiment: at `experiments/selection/variety.py` it is `python -m experiments variety`."""

from dataclasses import dataclass

import numpy as np

from experiments.harness.report import Claim, Out, Report, Resumption, Seed, figure
from jaxdecode.decoder import decode
from tests.examples.scorer import BestOfN, Variety
from tests.examples.settings import generator, prompt


@dataclass(frozen=True)
class Config:
    sizes: tuple[int, ...] = (1, 4, 16)
    seed: Seed = 0
    out: Out = None


PRESETS = {"smoke": Config(sizes=(1, 4)), "cpu": Config()}


def run(config: Config) -> Report:
    def measure(size: int):
        found = decode(BestOfN(generator(), Variety(5), size), config.seed, prompt())
        return {"n": size, "score": float(np.mean(found.trace.score.max(axis=1)))}

    with Resumption(config) as finished:  # a killed run goes on from its last row
        rows = [finished.row(str(n), lambda n=n: measure(n)) for n in config.sizes]
    with figure(config.out and config.out / "figure.png") as (axis,):
        axis.plot(config.sizes, [row["score"] for row in rows])
        axis.set(xlabel="responses", ylabel="best score")
    scores = [row["score"] for row in rows]
    claim = Claim("scores rise with N", "rising", str(scores), scores == sorted(scores))
    return Report([claim], rows, seconds=finished.seconds)
