"""InfAlign: align a policy for the best or the worst of N, instead of for one sample.

Claim (Balashankar et al. 2024, arXiv 2412.19792): a reward calibrated to its quantile and
transformed to suit the decoder wins more often, at equal KL, than the same reward as it is or
distillation of best-of-N: by 8-12 % under best-of-N and 4-9 % under worst-of-N; and calibration
alone is best for the standard win rate.

    python -m experiments.infalign --preset cpu

Three parts. `analytic`: win rates against KL on the continuum, with no model. `tables`: exact
policies on 200 tables of 64 responses whose reward scale differs by prompt, and, `hacked`, on
tables whose reward likes a spurious feature that the judge does not. `trained`: the zoo's
dialog generator writes the first words of replies and is aligned by every method, at three
strengths each, to a learned reward whose scale differs by prompt over two decades; held-out prompts
are judged by that reward, which also chooses within best-of-4 and worst-of-4, and by the known
reward. Every trained policy is to lie below the analytic frontier. Methods are compared at equal
KL, by interpolation between the base policy and their own runs; intervals are 95 %, over prompts.
About eight minutes on two cores, nearly all of it 27 short runs of training; --config.methods
chooses fewer, or "log" as well, which is BOND without imitation. To expect at KL 0.5: exp(10) wins
0.77 under best-of-4, 11 points more than the raw reward and 2 more than IPO; -exp(-10) wins 0.84
under worst-of-4, 10 points more than raw; the frontier is at 0.87 and 0.95.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algorithms.alignment.procedures import BestOf, Procedure, Single, WorstOf
from experiments.infalign_figure import draw
from experiments.infalign_theory import curves, frontier, hacked, heteroscedastic
from experiments.infalign_training import World, methods
from experiments.progress import Progress
from experiments.report import Claim, Journal, Out, Report, Seed, run_main

KINDS = ("standard", "best", "worst")
DRAWS = 1000  # of the bootstrap


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator, reward: names in the zoo, or folders of published checkpoints.
      input: prompts, one a line or JSON lines, half to train on; None for the dialog task.
      judge: a reward model by name or folder; None for the dialog task's known reward.
      methods: which to train.
      kls: KL in nats that each method aims at.
      n: of best-of-N and worst-of-N.
      prompts, judged: to train on, and held out.
      samples, drawn: base responses to each (K), and responses to each held-out prompt (M).
      batch, group, steps, rate: prompts of a step, responses to each, steps, learning rate.
      max_tokens: of a response.
      sizes: N of the analytic curves.
      curve: KLs of the analytic curves.
      tables, outcomes: of the tabular part.
      bonus, share: of the spurious feature in its rewards, in standard deviations and responses.
    """

    generator: str = "dialog"
    reward: str = "dialog-reward"
    input: Path | None = None
    judge: str | None = None
    methods: tuple[str, ...] = (
        "raw",
        "identity",
        "exp(10)",
        "-exp(-10)",
        "best-of-N optimum",
        "worst-of-N optimum",
        "BOND",
        "BoNBoN",
        "IPO",
    )
    kls: tuple[float, ...] = (0.25, 0.5, 1.0)
    n: int = 4
    prompts: int = 32
    judged: int = 32
    samples: int = 64
    drawn: int = 64
    batch: int = 6
    group: int = 8
    steps: int = 60
    rate: float = 1.3e-3
    max_tokens: int = 12
    sizes: tuple[int, ...] = (2, 4, 8)
    curve: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
    tables: int = 200
    outcomes: int = 64
    bonus: float = 3.0
    share: float = 0.125
    seed: Seed = 0
    out: Out = None


PRESETS = {
    "smoke": Config(
        methods=("raw", "identity"),
        kls=(0.5,),
        prompts=8,
        judged=8,
        samples=32,
        drawn=16,
        batch=4,
        steps=8,
        max_tokens=6,
        sizes=(4,),
        curve=(0.5,),
        tables=20,
    ),
    "cpu": Config(),
    # The published sizes. Give the folders and the prompts:
    #   --config.generator DIR --config.reward DIR --config.judge DIR --config.input hh.jsonl
    "paper": Config(
        generator="",
        reward="",
        prompts=2048,
        judged=512,
        samples=100,
        batch=64,
        steps=2000,
        rate=1e-6,
        max_tokens=256,
    ),
}


def run(config: Config) -> Report:
    """Theory, then every method at every strength."""
    known = {method.name: method for method in methods(config.n, config.samples)}
    for name in config.methods:
        if name not in known:
            raise ValueError(f"methods: {name!r} is none of {', '.join(known)}")
    todo = [(name, kl) for name in config.methods for kl in config.kls]
    world = World(config)
    with Journal(config) as journal, Progress("infalign", len(todo) + 2) as progress:

        def row(key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            found = journal.row(key, measure)
            progress.advance(note=key)
            return found

        lines = row("analytic", lambda: {"rows": curves(config.sizes, config.curve)})["rows"]
        lines += row("tables", lambda: {"rows": tables(config)})["rows"]

        def trained(name: str, kl: float) -> dict[str, Any]:
            return {"method": name, "aim": kl} | world.measure(known[name].train(world, kl))

        runs = [row(f"{name} at {kl:g}", partial(trained, name, kl)) for name, kl in todo]
    return analyse(config, lines, runs, journal.seconds)


def tables(config: Config) -> list[dict[str, Any]]:
    c = config
    return [
        *heteroscedastic(c.tables, c.outcomes, 1.0, c.n, c.seed),
        *hacked(c.tables, c.outcomes, 1.0, c.n, c.bonus, c.share, c.seed),
    ]


def analyse(
    config: Config, lines: list[dict[str, Any]], runs: Sequence[dict[str, Any]], spent: float
) -> Report:
    """Claims, table and figure from the measurements."""
    n = config.n
    top = max([1.0, *(float(np.mean(run["kl"])) for run in runs)])
    bounds = {
        kind: frontier(procedure, top) for kind, procedure in zip(KINDS, kinds(n), strict=True)
    }
    rows = list(lines)
    for found in runs:
        row = {"part": "trained", "kl": np.mean(found["kl"]), "method": found["method"]}
        for kind, name in zip(KINDS, names(n), strict=True):
            row[name] = np.mean(found[kind])
            row[f"{name}, judge"] = np.mean(found[f"{kind}, judge"])
        rows.append(row | {"aimed at": found["aim"], "tokens": found["length"]})
    if config.out is not None:
        draw(Path(config.out) / "figure.png", rows, bounds, names(n))
    stated = theory_claims(rows, n) + frontier_claim(runs, bounds, config.seed)
    return Report(stated + trained_claims(runs, config), rows, seconds=spent)


def kinds(n: int) -> tuple[Procedure, Procedure, Procedure]:
    return Single(), BestOf(n), WorstOf(n)


def names(n: int) -> tuple[str, str, str]:
    return "standard", f"best-of-{n}", f"worst-of-{n}"


def theory_claims(rows: Sequence[dict[str, Any]], n: int) -> list[Claim]:
    """What needs no training."""
    stated = []
    wanted = {"standard": "identity", f"best-of-{n}": "exp(10)", f"worst-of-{n}": "-exp(-10)"}
    for part, kl in (("analytic", 0.5), ("tables", 1.0)):
        here = [row for row in rows if row["part"] == part and row["kl"] == kl]
        given = [row for row in here if row["method"] != "optimum"]
        if not all(name in given[0] for name in wanted):
            continue
        tops = {name: max(given, key=lambda row, name=name: row[name]) for name in wanted}
        stated.append(
            Claim(
                f"{part}, KL {kl:g}: the identity is best for one sample, exp(10) for best-of-{n}, "
                f"-exp(-10) for worst-of-{n}",
                "the transform must suit the procedure",
                "; ".join(f"{name}: {row['method']} {row[name]:.3f}" for name, row in tops.items()),
                all(tops[name]["method"] == method for name, method in wanted.items()),
            )
        )
        raw = [row for row in here if row["method"] == "raw"]
        if raw:
            gains = {name: tops[name][name] - raw[0][name] for name in wanted}
            stated.append(
                Claim(
                    f"{part}, KL {kl:g}: calibration mends a scale that differs by prompt",
                    "calibrated rewards win more",
                    ", ".join(f"{name} {gain:+.3f} over raw" for name, gain in gains.items()),
                    all(gain > 0 for gain in gains.values()),
                )
            )
    spoilt = {row["method"]: row for row in rows if row["part"] == "hacked"}
    lead, error = spoilt["identity"]["lead"], spoilt["identity"]["lead error"]
    stated.append(
        Claim(
            "hacked, KL 1: calibration withstands a spurious feature better than the raw reward",
            "calibration is more robust to reward hacking",
            f"identity {100 * lead:+.2f} points over raw (standard error {100 * error:.2f}); "
            + ", ".join(
                f"{name} {spoilt['identity'][name]:.3f} : {spoilt['raw'][name]:.3f}"
                for name in names(n)
            ),
            bool(lead > 1.96 * error),
        )
    )
    return stated


def frontier_claim(
    runs: Sequence[dict[str, Any]], bounds: dict[str, tuple[NDArray, NDArray]], seed: int
) -> list[Claim]:
    """No policy above the optimum at its KL, by more than noise over all runs explains."""
    excess, where = -np.inf, ""
    for found in runs:
        index = resamples(len(found["kl"]), seed)
        for kind, (kls, wins) in bounds.items():
            win = np.array(found[kind])[index].mean(axis=1)
            over = win - np.interp(np.array(found["kl"])[index].mean(axis=1), kls, wins)
            least = float(np.quantile(over, 0.001))  # many runs are looked at
            if least > excess:
                excess, where = least, f"{found['method']} at {found['aim']:g}, {kind}"
    return [
        Claim(
            "no trained policy lies above the analytic frontier beyond noise",
            "the optimum, by theory",
            f"largest lower bound of an excess {excess:+.3f} ({where})",
            bool(excess <= 0),
        )
    ]


def resamples(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(count, size=(DRAWS, count))


def at_kl(
    runs: Sequence[dict[str, Any]], method: str, what: str, kl: float, index: NDArray
) -> NDArray[np.float64]:
    """A method's win rate at a KL in every resample of prompts: f64[draws]."""
    mine = [found for found in runs if found["method"] == method]
    kls = np.stack([np.array(found["kl"])[index].mean(axis=1) for found in mine])
    wins = np.stack([np.array(found[what])[index].mean(axis=1) for found in mine])
    order = np.argsort(kls, axis=0)
    kls, wins = np.take_along_axis(kls, order, 0), np.take_along_axis(wins, order, 0)
    base = np.zeros((1, kls.shape[1]))
    kls, wins = np.concatenate([base, kls]), np.concatenate([base + 0.5, wins])
    columns = zip(kls.T, wins.T, strict=True)
    return np.array([np.interp(kl, x, y) for x, y in columns])


def trained_claims(runs: Sequence[dict[str, Any]], config: Config) -> list[Claim]:
    """The matched transform against every other method, at equal KL."""
    trained = list(dict.fromkeys(found["method"] for found in runs))
    reached = [
        max(float(np.mean(found["kl"])) for found in runs if found["method"] == method)
        for method in trained
    ]
    kl = min(0.5, *reached)
    index = resamples(len(runs[0]["kl"]), config.seed)
    stated = []
    for kind, name, mine, others, paper in (
        ("best", f"best-of-{config.n}", "exp(10)", ("raw", "BOND", "BoNBoN", "IPO"), "8-12 %"),
        ("worst", f"worst-of-{config.n}", "-exp(-10)", ("raw", "BOND", "BoNBoN", "IPO"), "4-9 %"),
        ("standard", "standard", "identity", ("raw",), "at least as good"),
    ):
        rivals = [other for other in others if other in trained]
        if mine not in trained or not rivals:
            continue
        for what, judge in ((kind, "the reward"), (f"{kind}, judge", "the judge")):
            found = at_kl(runs, mine, what, kl, index)
            gains = {other: found - at_kl(runs, other, what, kl, index) for other in rivals}
            told = [
                f"{100 * gain.mean():+.1f} over {other} "
                f"({100 * np.quantile(gain, 0.025):+.1f}..{100 * np.quantile(gain, 0.975):+.1f})"
                for other, gain in gains.items()
            ]
            stated.append(
                Claim(
                    f"{mine} wins more often than {', '.join(rivals)} at KL {kl:.2f}: {name} by "
                    f"{judge}",
                    paper,
                    f"{found.mean():.3f}; in points {', '.join(told)}",
                    all(float(np.quantile(gain, 0.025)) > 0 for gain in gains.values()),
                )
            )
    return stated


if __name__ == "__main__":
    run_main(run, PRESETS)
