"""An experiment: at `experiments/selection/variety.py` it is `python -m experiments variety`."""

from dataclasses import dataclass

from experiments.harness.judging.claim import Claim, above
from experiments.harness.report import Out, Report, Resumption, Seed, figure
from experiments.harness.statistics import difference
from jaxdecode.decoder import decode
from tests.examples.scorer import BestOfN, Variety
from tests.examples.settings import generator, prompt


@dataclass(frozen=True)
class Config:
    sizes: tuple[int, ...] = (1, 4, 16)
    seed: Seed = 0
    out: Out = None


PRESETS = {"smoke": Config(sizes=(1, 4)), "cpu": Config()}


def claims(config: Config, rows: list[dict]) -> list[Claim]:
    """From what is recorded alone: a statistic over prompts, the mark, and its side."""
    gain = difference(rows[-1]["scores"], rows[0]["scores"], "tokens")
    return [Claim.tested("scores rise with N", "rising", above(gain, "0 tokens"))]


def run(config: Config) -> Report:
    def measure(size: int):
        found = decode(BestOfN(generator(), Variety(5), size), config.seed, prompt())
        return {"n": size, "scores": found.trace.score.max(axis=1)}

    with Resumption(config) as finished:  # a killed run goes on from its last row
        rows = [finished.row(str(n), lambda n=n: measure(n)) for n in config.sizes]
    with figure(config.out and config.out / "figure.png") as (axis,):
        axis.plot(config.sizes, [sum(row["scores"]) / len(row["scores"]) for row in rows])
    return Report.of(claims, config, rows, seconds=finished.seconds)
