"""InfAlign: align a policy for the best or the worst of N, instead of for one sample.

Claim (Balashankar et al. 2024, arXiv 2412.19792): a reward calibrated to its quantile and
transformed to suit the decoder wins more often, at equal KL, than the same reward as it is or
distillation of best-of-N: by 8-12 % under best-of-N and 4-9 % under worst-of-N; calibration
alone is best for the standard win rate, and withstands a hacked reward better.

    python -m experiments infalign --preset cpu
    python -m experiments infalign --config.generator DIR --config.preferences pairs.jsonl

Parts. `analytic`: win rates against KL on the continuum, with no model. `tables`: exact
policies on 200 tables of 64 responses whose reward scale differs by prompt, and, `hacked`, on
tables whose reward likes a spurious feature that the judge does not. `trained`: the zoo's
dialog generator writes the first words of replies and is aligned by every method, at three
strengths each, to a learned reward whose scale differs by prompt over two decades; held-out prompts
are judged by that reward, which also chooses within best-of-4 and worst-of-4, and by the known
reward. Some are judged under speculative rejection too, which one of them is aligned for by its
samples alone. `hacked reward`: the learned reward likes hedging words besides, the judge does not.
Every trained policy is to lie below the analytic frontier. Methods are compared at equal KL, by
interpolation in its root between the base policy and their own runs; intervals are 95 %, over
prompts.

With a file of preferences (see `experiments.inputs.preference_files`) the reward model and the
judge are trained on it first, and its prompts are aligned on and judged. One policy of the run is
written to OUT/policy in the published format, for `generate` and `bench`.
Nearly all of the time goes to 48 short runs of training, which share six compiled programs: nine
minutes on two cores that others used as well, with the programs kept from a run before;
--config.methods chooses fewer. To expect at KL 0.5: exp(10) wins 0.79 under best-of-4, 7 to 14
points more than the raw reward and distillation, which leaves the published 8 points over each of
them unresolved; -exp(-10) learns slowly in so few steps and is not ahead under worst-of-4.
Intervals do not cover the noise of training, which is one run each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.alignment.infalign.claims import claims
from experiments.alignment.infalign.figure import draw
from experiments.alignment.infalign.findings import KINDS, frontiers, kept, names
from experiments.alignment.infalign.methods import estimated, methods
from experiments.alignment.infalign.setting import World
from experiments.alignment.infalign.theory import curves, frontier, hacked, heteroscedastic
from experiments.harness.progress import Progress
from experiments.harness.report import Out, Report, Resumption, Seed


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator, reward: names in the zoo, or folders of published checkpoints.
      input: prompts, one a line or JSON lines, half to train on; None for the dialog task.
      preferences: pairs as JSON lines; they give prompts, reward and judge.
      reward_steps, longest, leave_out_long: of the models trained on them, see
        `experiments.inputs.preference_rewards.Lesson`.
      judge: a reward model by name or folder; None for the dialog task's known reward.
      methods: which to train.
      rejected: which of them to judge under speculative rejection as well.
      kls: KL in nats that each method aims at.
      n: of best-of-N and worst-of-N.
      prompts, judged: to train on, and held out.
      samples, drawn: base responses to each (K), and responses to each held-out prompt (M).
      draws: times that speculative rejection answers every prompt.
      batch, group, steps, rate: prompts of a step, responses to each, steps, learning rate.
      max_tokens: of a response.
      published: the method, at the middle of `kls`, whose policy is written; "" for none.
      spurious: words that the hacked reward likes; "" for no such part.
      bonus_trained: what one of them is worth, in the learned reward's standard deviations.
      sizes: N of the analytic curves.
      curve: KLs of the analytic curves.
      tables, outcomes: of the tabular part.
      bonuses, share: of the spurious feature in its rewards, in standard deviations and responses.
    """

    generator: str = "dialog"
    reward: str = "dialog-reward"
    input: Path | None = None
    preferences: Path | None = None
    reward_steps: int = 150
    longest: int = 512
    leave_out_long: bool = False
    judge: str | None = None
    methods: tuple[str, ...] = (
        "raw",
        "identity",
        "log",
        "exp(10)",
        "-exp(-10)",
        "best-of-N optimum",
        "worst-of-N optimum",
        "rejection optimum",
        "BOND",
        "BoNBoN",
        "SFT",
        "IPO",
        "DPO",
        "GRPO",
    )
    rejected: tuple[str, ...] = ("raw", "identity", "rejection optimum", "BoNBoN")
    kls: tuple[float, ...] = (0.15, 0.4, 1.0)
    n: int = 4
    prompts: int = 64
    judged: int = 48
    samples: int = 64
    drawn: int = 64
    draws: int = 16
    batch: int = 6
    group: int = 8
    steps: int = 60
    rate: float = 1.3e-3
    max_tokens: int = 12
    published: str = "best-of-N optimum"
    spurious: str = "somehow perhaps eventually anyway probably sometimes generally mostly"
    bonus_trained: float = 5.0
    sizes: tuple[int, ...] = (2, 4, 8)
    curve: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
    tables: int = 200
    outcomes: int = 64
    bonuses: tuple[float, ...] = (3.0, 5.0, 8.0)
    share: float = 0.125
    seed: Seed = 0
    out: Out = None


PRESETS = {
    "smoke": Config(
        methods=("raw", "identity"),
        rejected=(),
        kls=(0.5,),
        prompts=8,
        judged=8,
        samples=32,
        drawn=16,
        draws=4,
        batch=4,
        steps=8,
        max_tokens=6,
        reward_steps=12,
        published="identity",
        spurious="",
        sizes=(4,),
        curve=(0.5,),
        tables=20,
    ),
    "cpu": Config(),
    # The published sizes. Give the folder and the preferences, or a reward, a judge and prompts:
    #   --config.generator DIR --config.preferences hh.jsonl
    #   --config.generator DIR --config.reward DIR --config.judge DIR --config.input prompts.jsonl
    "paper": Config(
        generator="",
        reward="",
        reward_steps=4000,
        prompts=2048,
        judged=512,
        samples=100,
        batch=64,
        steps=2000,
        rate=1e-6,
        max_tokens=256,
        spurious="",
    ),
}


def run(config: Config) -> Report:
    """Theory, then every method at every strength."""
    c, known = config, {method.name: method for method in methods(config.n, config.samples)}
    for name in c.methods:
        if name not in known:
            raise ValueError(f"methods: {name!r} is none of {', '.join(known)}")
    world, spoilt = World(c), World(c, hacked=True)
    todo = [(name, kl) for name in c.methods for kl in c.kls]
    again = [(name, kl) for name in ("raw", "identity") for kl in c.kls] if c.spurious else []
    middle = c.kls[len(c.kls) // 2]
    with Resumption(c) as finished, Progress("infalign", len(todo) + len(again) + 3) as progress:

        def row(key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            found = finished.row(key, measure)
            progress.advance(note=key)
            return found

        def trained(where: World, name: str, kl: float) -> dict[str, Any]:
            policy = known[name].train(where, kl)
            found = {"method": name, "aim": kl}
            if c.out is not None and where is world and (name, kl) == (c.published, middle):
                found["sha256"] = world.publish(policy, Path(c.out) / "policy")
            return found | where.measure(policy, where is world and name in c.rejected)

        lines = row("analytic", lambda: {"rows": curves(c.sizes, c.curve)})["rows"]
        lines += row("tables", lambda: {"rows": tables(c)})["rows"]
        law = row("procedures", lambda: procedures(world))
        runs = [row(f"{name} at {kl:g}", partial(trained, world, name, kl)) for name, kl in todo]
        bad = [row(f"hacked, {n} at {kl:g}", partial(trained, spoilt, n, kl)) for n, kl in again]
    return analyse(c, lines, law, runs, bad, finished.seconds)


def tables(config: Config) -> list[dict[str, Any]]:
    c, rows = config, []
    for bonus in c.bonuses:
        rows += hacked(c.tables, c.outcomes, 1.0, c.n, bonus, c.share, c.seed)
    return [*heteroscedastic(c.tables, c.outcomes, 1.0, c.n, c.seed), *rows]


def procedures(world: World) -> dict[str, Any]:
    """What is known of the world before any policy: the frontier of speculative rejection, and
    how well reward models rank held-out pairs."""
    found: dict[str, Any] = {}
    if world.config.rejected:
        found["rejection"] = [x.tolist() for x in frontier(estimated(world), 1.0)]
    if world.taught is not None:
        found["accuracy"] = world.taught.accuracy
    return found


def analyse(
    config: Config,
    lines: list[dict[str, Any]],
    law: dict[str, Any],
    runs: Sequence[dict[str, Any]],
    bad: Sequence[dict[str, Any]],
    spent: float,
) -> Report:
    """Claims, table and figure from the measurements."""
    n, bounds = config.n, frontiers(config.n, runs)
    rows = [{name: value for name, value in row.items() if name != "each"} for row in lines]
    for part, several in (("trained", runs), ("hacked reward", bad)):
        for found in several:
            row = {"part": part, "kl": np.mean(found["kl"]), "method": found["method"]}
            shown = [*zip(KINDS, names(n), strict=True), ("rejection", "speculative rejection")]
            for kind, name in shown:
                if kind in found:
                    row[name] = np.mean(found[kind])
                    row[f"{name}, judge"] = np.mean(found[f"{kind}, judge"])
            row |= {"aimed at": found["aim"], "tokens": found["length"]}
            rows.append(row | {k: found[k] for k in ("sha256",) if k in found})
    for name, share in law.get("accuracy", {}).items():
        rows.append({"part": "preferences", "method": f"{name} model", "accuracy": share})
    if config.out is not None:
        estimate = [np.array(x) for x in law["rejection"]] if "rejection" in law else None
        draw(Path(config.out) / "figure.png", rows, bounds, names(n), estimate)
    return Report.of(claims, config, kept(lines, runs, bad), rows, spent)
