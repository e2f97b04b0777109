"""RSD: draft trees without replacement, at equal depth and at equal size.

Claim (Jeon et al. 2024, arXiv 2402.14160): trees whose siblings never repeat, of constant
branching (RSD-C) or by stochastic beam search (RSD-S), yield more tokens for each pass of the
target than a chain (SD) and than independent drafts (SpecTr), always where all have the same
draft length, and in most cases where the target verifies equally many nodes.

    python -m experiments rsd --preset cpu

The zoo's target and draft of the standard library's source, held-out prompts, two temperatures.
At equal length L all trees have the same number of sequences; at equal budget each method has
its published kind of shape: SD a chain, SpecTr and RSD-S K sequences, RSD-C factors, of which
the best is reported. Both models have the same temperature. About 3 minutes on two cores.

To expect: at the low temperature RSD above SpecTr above SD, for independent drafts repeat one
another; at temperature 1 they rarely do, and K-SEQ makes up for it: what separates RSD from
SpecTr there is below the standard error of these runs, 0.03-0.1 tokens a pass. Long chains fall
behind.

MBSU, memory-bound speed-up = tokens a pass / (1 + r * draft passes), r the ratio of the models'
parameters, counts sequential passes of the draft model and not its nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.rsd import rsd_c, rsd_s
from algorithms.speculative.spectr import spectr
from algorithms.speculative.verifiers.residual import Residual
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Resumption, Seed, figure
from experiments.speculative.speculation import Field
from experiments.speculative.trees import Pair, field_of, laws, speed_up
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


PRESETS = {
    "smoke": Config(
        prompts=8,
        max_tokens=16,
        batch=8,
        temperatures=(1.0,),
        lengths=(2,),
        shapes=(),
        methods=("SpecTr", "RSD-S"),
    ),
    "cpu": Config(),
    # The published setting. Give the folders and the prompts:
    #   --config.target DIR --config.draft DIR --config.questions question.jsonl
    "paper": Config(
        prompts=1000,
        max_tokens=128,
        batch=8,
        lengths=(2, 3, 4, 5),
        shapes=(
            (6, (2, 2), 2),
            (6, (2, 1, 1), 3),
            (10, (2, 2, 1), 2),
            (10, (2, 2, 1), 5),
            (14, (2, 2, 2), 7),
            (14, (2, 2, 2), 2),
            (21, (3, 2, 2), 7),
            (21, (3, 2, 2), 3),
            (30, (2, 2, 2, 2), 6),
            (30, (2, 2, 2, 2), 10),
        ),
        target="",
        draft="",
        questions=Path("question.jsonl"),
    ),
}

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


def run(config: Config) -> Report:
    """Both studies, on the same prompts."""
    field = field_of(
        config.prompts, config.max_tokens, config.target, config.draft, config.questions
    )
    return study(config, field)


def study(config: Config, field: Field) -> Report:
    """`run`, on the field that is given."""
    pair = Pair(field, config.temperatures[0], config.batch, config.seed)
    ratio = field.draft.cost.parameters / field.target.cost.parameters
    runs = studies(config)
    rows: list[dict[str, Any]] = []
    with Resumption(config) as finished, Progress("rsd", len(runs)) as progress:
        for key, make in runs:
            name = ", ".join(f"{name} {value}" for name, value in key.items())
            here = replace(pair, temperature=key["temperature"])
            found = finished.row(name, lambda make=make, here=here: here.measure(make(here)))
            mbsu = speed_up(found["tokens_per_call"], found["draft_passes"], ratio)
            rows.append(key | found | {"MBSU": mbsu})
            progress.advance(note=name)
        distinct = {
            str(temperature): finished.row(
                f"distinct at {temperature}",
                lambda t=temperature: {
                    "tokens": repeats(replace(pair, temperature=t), config.width)
                },
            )["tokens"]
            for temperature in config.temperatures
        }
    draw(config, rows)
    return Report(claims(config, rows, distinct), rows, seconds=finished.seconds)


def best(rows: list[dict[str, Any]], study: str, temperature: float) -> dict[int, dict[str, dict]]:
    """By length or budget, the best row of each method."""
    found: dict[int, dict[str, dict]] = {}
    for row in rows:
        if row["study"] == study and row["temperature"] == temperature:
            methods = found.setdefault(row["at"], {})
            other = methods.get(row["method"])
            if other is None or row["tokens_per_call"] > other["tokens_per_call"]:
                methods[row["method"]] = row
    return found


def draw(config: Config, rows: list[dict[str, Any]]) -> None:
    """Tokens a pass by length at each temperature and by budget, and MBSU by budget."""
    path = None if config.out is None else Path(config.out) / "figure.png"
    panels = [
        ("length", t, "tokens_per_call", f"temperature {t}, {config.width} sequences")
        for t in config.temperatures
    ]
    if config.shapes:
        first = config.temperatures[0]
        panels += [
            ("budget", first, "tokens_per_call", f"temperature {first}, equal budget"),
            ("budget", first, "MBSU", f"temperature {first}, equal budget"),
        ]
    with figure(path, columns=len(panels), width=3.6) as axes:
        for axis, (study, temperature, value, title) in zip(axes, panels, strict=True):
            found = best(rows, study, temperature)
            for method in dict.fromkeys(name for methods in found.values() for name in methods):
                there = {at: methods[method] for at, methods in found.items() if method in methods}
                axis.errorbar(
                    list(there),
                    [row[value] for row in there.values()],
                    [2 * row["error"] if value != "MBSU" else 0 for row in there.values()],
                    label=method,
                    capsize=2,
                    marker="o",
                )
            axis.set_xlabel("draft length L" if study == "length" else "nodes of a tree")
            axis.set_ylabel("MBSU" if value == "MBSU" else "tokens for each pass of the target")
            axis.set_title(title)
            axis.set_xticks(list(found))


def claims(config: Config, rows: list[dict[str, Any]], distinct: dict[str, float]) -> list[Claim]:
    """By rules fixed before measuring."""
    ours = tuple(name for name in ("RSD-C", "RSD-S") if name in config.methods)
    first = config.temperatures[0]
    theirs = tuple(name for name in ("SD", "SpecTr") if name in config.methods)

    def top(methods: dict[str, dict], names: tuple[str, ...]) -> dict:
        return max((methods[name] for name in names), key=lambda row: row["tokens_per_call"])

    found = []
    for temperature in config.temperatures:
        lengths = best(rows, "length", temperature)
        wins = [
            methods[name]["tokens_per_call"] > top(methods, theirs)["tokens_per_call"]
            for methods in lengths.values()
            for name in ours
        ]
        measured = "; ".join(
            f"L = {length}: "
            + ", ".join(f"{name} {row['tokens_per_call']:.2f}" for name, row in methods.items())
            for length, methods in lengths.items()
        )
        found.append(
            Claim(
                f"{' and '.join(ours)} above {' and '.join(theirs)} at equal length, "
                f"temperature {temperature}",
                "consistently",
                measured,
                all(wins),
            )
        )
    if len(config.temperatures) > 1:
        margin = {}
        for temperature in config.temperatures:
            pairs = best(rows, "length", temperature).values()
            margin[temperature] = float(
                np.mean(
                    [
                        top(methods, ours)["tokens_per_call"] / methods["SpecTr"]["tokens_per_call"]
                        for methods in pairs
                    ]
                )
            )
        found.append(
            Claim(
                "independent drafts repeat one another at low temperatures, and lose more by it",
                "the margin grows as the temperature falls",
                ", ".join(
                    f"{margin[t]:.2f}x SpecTr at {t} ({distinct[str(t)]:.2f} different of "
                    f"{config.width})"
                    for t in config.temperatures
                ),
                margin[min(margin)] > margin[max(margin)],
            )
        )
    if config.shapes:
        budgets = best(rows, "budget", first)
        for value, name in (("tokens_per_call", "tokens a pass"), ("MBSU", "MBSU")):
            won = [
                max(methods[own][value] for own in ours) > max(methods[o][value] for o in theirs)
                for methods in budgets.values()
            ]
            found.append(
                Claim(
                    f"RSD above SpecTr and SD at equal budget, in {name}",
                    "in most cases",
                    "; ".join(
                        f"{budget} nodes: "
                        + ", ".join(f"{own} {row[value]:.2f}" for own, row in methods.items())
                        for budget, methods in budgets.items()
                    ),
                    2 * sum(won) > len(won),
                )
            )
    return found
