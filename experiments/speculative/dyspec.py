"""DySpec: a tree grown by the draft's own probabilities against trees of fixed shape.

Claim (Xiong et al. 2025, arXiv 2410.11744): whether a drafted token is accepted goes with its
draft probability, so a tree grown greedily by it has more tokens accepted for each pass of the
target than Sequoia's best static tree of the same size, and that more than SpecInfer's
independent sequences, at all temperatures; level by level, with a threshold, it needs a pass of
the draft model for each level only and not for each node.

    python -m experiments dyspec --preset cpu

The zoo's target and draft of the standard library's source, held-out prompts; the draft has
temperature 0.6. Sequoia's chances are measured on prompts of the validation split, its shape is
the best of that many nodes. SpecInfer's sequences are at most 8 tokens long. The threshold is
one over the budget. About 4 minutes on two cores.

To expect: acceptance rising with draft probability; at temperature 0 DySpec a sixth ahead of
Sequoia; at 0.6 the trees apart by less than the standard error, 0.06-0.12 tokens a pass. The
draft is unsure enough here for its threshold to fill the tree in two or three levels.

The modelled speed-up takes R passes of the draft model for the time of one of the target,
whatever that verifies, as where a large target is streamed from the host's memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.dyspec import DRAFT_TEMPERATURE, dyspec, dyspec_threshold
from algorithms.speculative.sequoia import positional, sequoia
from algorithms.speculative.shapes import Shapes
from algorithms.speculative.specinfer import specinfer
from algorithms.speculative.verifiers.residual import Residual
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Resumption, Seed, figure
from experiments.speculative.speculation import Field, open_field
from experiments.speculative.trees import Pair, field_of, laws, logits, rising, speed_up, summary
from jaxdecode.logits import Temperature
from jaxdecode.sampling import Categorical
from jaxdecode.speculate import Speculator

METHODS = ("chain", "SpecInfer", "Sequoia", "DySpec", "DySpec, threshold")
RATIOS = (5, 20, 200, 2000)
EDGES = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0])
CHILDREN = 16  # siblings whose chances Sequoia knows
COLD = 1e-3  # stands for temperature 0 where a law is needed
LONGEST = 8  # tokens of an independent sequence, and of the chain


@dataclass(frozen=True)
class Config:
    """What is decoded.

    Attributes:
      prompts, max_tokens, batch: texts, their length, how many at a time.
      budgets: nodes of a tree, ascending.
      temperatures: of the target; at the first all budgets are run, at others the largest.
      methods: which are run.
      target, draft, questions: folders of checkpoints and a file of questions, else the zoo.
    """

    prompts: int = 48
    max_tokens: int = 40
    batch: int = 48
    budgets: tuple[int, ...] = (8, 32)
    temperatures: tuple[float, ...] = (0.6, 0.0)
    methods: tuple[str, ...] = METHODS
    target: str | None = None
    draft: str | None = None
    questions: Path | None = None
    seed: Seed = 0
    out: Out = None


PRESETS = {
    "smoke": Config(
        prompts=8,
        max_tokens=12,
        batch=8,
        budgets=(8,),
        temperatures=(0.6,),
        methods=("SpecInfer", "DySpec, threshold"),
    ),
    "cpu": Config(),
    # The published setting. Give the folders and the prompts:
    #   --config.target DIR --config.draft DIR --config.questions question.jsonl
    "paper": Config(
        prompts=1000,
        max_tokens=128,
        batch=1,
        budgets=(64, 768),
        temperatures=(0.0, 0.6),
        target="",
        draft="",
        questions=Path("question.jsonl"),
    ),
}


def chances(pair: Pair) -> tuple[float, ...]:
    """Sequoia's positional acceptance at the places of a field's prompts."""
    target, draft = laws(pair.field, pair.temperature or COLD, DRAFT_TEMPERATURE)
    found = positional(jax.random.key(pair.seed), target, draft, CHILDREN)
    return tuple(np.asarray(found, float).tolist())


def speculators(
    config: Config, pair: Pair, calibration: Field, budget: int
) -> dict[str, Speculator]:
    """All methods with `budget` nodes, the chain and independent sequences with at most that."""
    generator, draft = pair.generator, pair.field.draft
    drafting = (Temperature(DRAFT_TEMPERATURE), Categorical())
    length = min(LONGEST, max(budget // 2, 1))
    factors = (budget // length, *[1] * (length - 1))
    line = Chain(draft, min(LONGEST, budget), *drafting)
    found = {
        "chain": Speculator(generator, line, Residual()),
        "SpecInfer": specinfer(generator, draft, factors, *drafting),
        "DySpec": dyspec(generator, draft, budget),
        "DySpec, threshold": dyspec_threshold(generator, draft, budget, levels=2 * LONGEST),
    }
    if "Sequoia" in config.methods:
        shape = Shapes.of(
            chances(replace(pair, field=calibration)), budget + 1, 2 * LONGEST
        ).parents(budget + 1)
        found["Sequoia"] = sequoia(generator, draft, shape, *drafting)
    return {name: found[name] for name in config.methods}


def measure(pair: Pair, speculator: Speculator) -> dict[str, Any]:
    """Counts, and whether drafts are deeper for the prompts of which more is accepted."""
    found = pair.counts(speculator)
    depth, yields = found.draft_passes / found.passes, found.emitted / found.passes
    varies = depth.std() > 1e-6 and yields.std() > 1e-6
    return summary(found) | {
        "depth follows yield": float(np.corrcoef(depth, yields)[0, 1]) if varies else None
    }


def estimate(pair: Pair) -> list[dict[str, Any]]:
    """Acceptance, and the target's probability, of tokens drawn by the draft, by draft
    probability; expectations over the draw and not samples."""
    target, draft = logits(pair.field)
    p, q = (
        jax.nn.softmax(target / (pair.temperature or COLD)),
        jax.nn.softmax(draft / DRAFT_TEMPERATURE),
    )
    place = jnp.digitize(q, EDGES[1:-1])

    def sums(values) -> np.ndarray:
        return np.asarray(jnp.bincount(place.ravel(), values.ravel(), length=len(EDGES) - 1))

    weight, accepted, wanted = sums(q), sums(jnp.minimum(p, q)), sums(p * q)
    return [
        {
            "method": "one draft",
            "temperature": pair.temperature,
            "draft probability": f"{EDGES[i]:g}..{EDGES[i + 1]:g}",
            "middle": float((EDGES[i] + EDGES[i + 1]) / 2),
            "share of drafts": float(weight[i] / weight.sum()),
            "acceptance": float(accepted[i] / weight[i]),
            "target probability": float(wanted[i] / weight[i]),
        }
        for i in range(len(EDGES) - 1)
        if weight[i] > 0
    ]


def run(config: Config) -> Report:
    """The estimate, then every method at every budget and temperature."""
    field = field_of(
        config.prompts, config.max_tokens, config.target, config.draft, config.questions
    )
    calibration = open_field("stdlib", 64, 1, "validation") if config.target is None else field
    return study(config, field, calibration)


def study(config: Config, field: Field, calibration: Field) -> Report:
    """`run`, on the field that is given, with Sequoia's chances measured on another."""
    first = Pair(field, config.temperatures[0], config.batch, config.seed)
    todo = [
        (replace(first, temperature=temperature), budget)
        for temperature in config.temperatures
        for budget in (config.budgets if temperature == first.temperature else config.budgets[-1:])
    ]
    rows: list[dict[str, Any]] = []
    steps = len(todo) * len(config.methods) + 1
    with Resumption(config) as finished, Progress("dyspec", steps) as progress:
        estimates = finished.row("estimate", lambda: {"rows": estimate(first)})["rows"]
        progress.advance(note="estimate")
        for pair, budget in todo:
            for method, speculator in speculators(config, pair, calibration, budget).items():
                name = f"{method}, budget {budget}, temperature {pair.temperature}"
                found = finished.row(name, lambda pair=pair, s=speculator: measure(pair, s))
                modelled = {
                    f"modelled at R = {ratio}": speed_up(
                        found["tokens_per_call"], found["draft_passes"], 1 / ratio
                    )
                    for ratio in RATIOS
                }
                key = {"method": method, "temperature": pair.temperature, "budget": budget}
                rows.append(key | found | modelled)
                progress.advance(note=name)
    draw(config, rows, estimates)
    return Report(claims(config, rows, estimates), [*rows, *estimates], seconds=finished.seconds)


def draw(config: Config, rows: list[dict[str, Any]], estimates: list[dict[str, Any]]) -> None:
    """Acceptance by draft probability, tokens a pass by budget, modelled speed-up by ratio."""
    path = None if config.out is None else Path(config.out) / "figure.png"
    temperature, most = config.temperatures[0], config.budgets[-1]
    with figure(path, columns=3, width=3.8) as (left, middle, right):
        for name in ("acceptance", "target probability"):
            left.plot(
                [row["middle"] for row in estimates], [row[name] for row in estimates], label=name
            )
        left.set(xlabel="draft probability of the token drawn", ylabel="mean", ylim=(0, 1))
        for method in config.methods:
            mine = [row for row in rows if row["method"] == method]
            along = [row for row in mine if row["temperature"] == temperature]
            middle.errorbar(
                [row["budget"] for row in along],
                [row["tokens_per_call"] for row in along],
                [2 * row["error"] for row in along],
                label=method,
                capsize=2,
                marker="o",
            )
            last = next(row for row in along if row["budget"] == most)
            right.plot(RATIOS, [last[f"modelled at R = {r}"] for r in RATIOS], label=method)
        middle.set(
            xlabel="nodes of a tree",
            ylabel="tokens for each pass of the target",
            title=f"temperature {temperature}",
        )
        middle.set_xticks(config.budgets)
        right.set(
            xlabel="R, draft passes in the time of a target pass",
            ylabel="modelled speed-up",
            xscale="log",
            title=f"temperature {temperature}, {most} nodes",
        )


def claims(
    config: Config, rows: list[dict[str, Any]], estimates: list[dict[str, Any]]
) -> list[Claim]:
    """By rules fixed before measuring."""
    cases: dict[tuple[float, int], dict[str, dict]] = {}
    for row in rows:
        cases.setdefault((row["temperature"], row["budget"]), {})[row["method"]] = row
    accepted = [row["acceptance"] for row in estimates]
    found = [
        Claim(
            "acceptance rises with draft probability",
            "strongly increasing",
            ", ".join(f"{value:.2f}" for value in accepted) + " from the least likely on",
            rising(accepted, 0.02),
        )
    ]
    ours = "DySpec" if "DySpec" in config.methods else "DySpec, threshold"
    for better, worse in ((ours, "Sequoia"), ("Sequoia", "SpecInfer"), (ours, "SpecInfer")):
        if better in config.methods and worse in config.methods:
            pairs = {
                case: (found[better]["tokens_per_call"], found[worse]["tokens_per_call"])
                for case, found in cases.items()
            }
            found.append(
                Claim(
                    f"{better} has more tokens accepted than {worse}",
                    "at all temperatures, budget 64",
                    "; ".join(
                        f"{a:.2f} : {b:.2f} (T = {t:g}, {n} nodes)"
                        for (t, n), (a, b) in pairs.items()
                    ),
                    all(a > b for a, b in pairs.values()),
                )
            )
    level = [methods["DySpec, threshold"] for methods in cases.values()]
    found.append(
        Claim(
            "with a threshold, far fewer passes of the draft model than nodes",
            "fewer than 10 passes for 64 nodes, fewer than 30 for 768",
            "; ".join(f"{row['draft_passes']:.1f} for {row['nodes']:.1f}" for row in level),
            all(2 * row["draft_passes"] < row["nodes"] for row in level),
        )
    )
    if "DySpec" in config.methods and "chain" in config.methods:
        ratio = RATIOS[-1]
        best = {
            case: max(methods.values(), key=lambda row: row[f"modelled at R = {ratio}"])
            for case, methods in cases.items()
        }
        found.append(
            Claim(
                f"the fastest of all where a pass of the target takes {ratio} of the draft's",
                "up to 9.1x at temperature 0, 6.21x at high temperature (7B for 70B)",
                "; ".join(
                    f"{row[f'modelled at R = {ratio}']:.2f}x by {row['method']} (T = {t:g}, "
                    f"{n} nodes)"
                    for (t, n), row in best.items()
                ),
                all(row["method"].startswith("DySpec") for row in best.values()),
            )
        )
        follow = [row["depth follows yield"] for row in level]
        found.append(
            Claim(
                "trees are deeper where more of them is accepted",
                "the tree adapts to each query",
                ", ".join(f"{value:.2f}" for value in follow if value is not None)
                + " correlation over prompts (threshold)",
                all(value is not None and value > 0 for value in follow),
            )
        )
    return found
