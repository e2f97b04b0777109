"""IAD: answers refined under a verifier, against as many independent answers.

Claim (Chakraborty et al. 2025, arXiv 2504.01931): showing an agent its best and its worst answer
so far, and keeping what the verifier prefers, beats best-of-N at equal calls by 3 to 6 points on
text-to-SQL; best-of-N stops gaining after about two rounds' worth of calls while IAD goes on; the
gain is the feedback's, not that of more varied samples; noisy or sparse verifiers take it away.

    python -m experiments iad --preset cpu

Questions that leave words open, over generated tables, answered by the zoo's model `sql`; queries
are executed by SQLite, and the verifier scores their rows against those of the query meant. It is
the metric too, so it is an oracle; other arms blur it. Every arm spends 24 calls of the model and
24 of the verifier on each of 600 questions; an agent without feedback would draw just what
best-of-N draws. What is said to beat something does so with a 95 % bootstrap interval over
questions above zero, above the published 3 points where these are claimed. About 2.5 minutes on two
cores. To expect: 54 % solved against 46 %, a lead
that is gone at noise of 0.2 and turns at 0.4, or where only perfect answers are told apart.
Best-of-N does not stop gaining here, it gains less. IAD reads 2.5 times the tokens. The last
panel of the figure is exact: a hidden string of 12 bits, see `refinement_chain`.
Three arms are run once more on 400 list programs, by the zoo's model `programs`: there the verifier
runs the public tests and the hidden ones are the score. Expect IAD to be level with best-of-N there
(55 % of problems), and 9 points ahead of another problem's feedback: what four public tests say of
a wrong program helps no more than a fresh draw does.

The preset `paper` asks a published checkpoint for HumanEval's programs, run in the sandbox:
    python -m experiments iad --preset paper --config.generator DIR --config.data HumanEval.jsonl.gz
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from algorithms.agents.agent import Agent, Verifier
from algorithms.agents.iad import IAD
from algorithms.agents.outcome import Outcome
from experiments.agents.iad.agents import Confused, Noisy, Sparse
from experiments.agents.iad.claims import CONFUSED, PROGRAMS, claims, kept
from experiments.agents.iad.figure import draw
from experiments.agents.iad.setting import Config, Setting
from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.tasks.task import Example

ON_PROGRAMS = ("best-of-N", "IAD", CONFUSED)

PRESETS = {
    "smoke": Config(questions=40, rounds=3, sigmas=(0.4,), batch=40, problems=40),
    "cpu": Config(),
    # The published range of rounds and samples, on programs.
    "paper": Config(
        generator="Qwen2.5-7B-Instruct",
        data=Path("HumanEval.jsonl.gz"),
        questions=164,
        rounds=4,
        samples=4,
        batch=4,
        max_tokens=768,
        temperature=0.7,
        longest=4096,
        writer=None,
    ),
}


@dataclass(frozen=True)
class Arm:
    """A way to spend the calls: T rounds of K, and what differs from plain IAD."""

    rounds: int
    samples: int
    options: dict[str, Any] = field(default_factory=dict)
    agent: Callable[[Agent], Agent] = lambda agent: agent
    verify: Callable[[Verifier], Verifier] = lambda verify: verify


def arms(config: Config) -> dict[str, Arm]:
    """All that is compared, by name."""
    many, calls = (config.rounds, config.samples), config.calls
    found = {
        "best-of-N": Arm(1, calls),
        "IAD": Arm(*many),
        "IAD, best only": Arm(*many, {"show_worst": False}),
        CONFUSED: Arm(*many, agent=Confused),
        "IAD, always replaced": Arm(*many, {"accept": "always"}),
        "IAD, one at a time": Arm(calls, 1),
        "IAD, one at a time, always replaced": Arm(calls, 1, {"accept": "always"}),
    }
    judges: dict[str, Callable[[Verifier], Verifier]] = {
        f"noise {sigma:g}": partial(Noisy, sigma=sigma, seed=config.seed) for sigma in config.sigmas
    }
    for name, judge in (judges | {"sparse": Sparse}).items():
        found[f"best-of-N, {name}"] = Arm(1, calls, verify=judge)
        found[f"IAD, {name}"] = Arm(*many, verify=judge)
    return found


def measure(setting: Setting, examples: Sequence[Example], arm: Arm) -> dict[str, Any]:
    """True scores of the incumbent, after every round or every sample of a single round."""
    agent, verify = arm.agent(setting.remembered), setting.verify
    loop = IAD(agent, arm.verify(verify), arm.rounds, arm.samples, **arm.options)
    outcomes = loop([example.prompt for example in examples])
    spent = [outcome.spent for outcome in outcomes]
    return {
        "scores": [
            [0.0 if text is None else true(text) for text in incumbents(outcome)]
            for example, outcome in zip(examples, outcomes, strict=True)
            for true in [cache(partial(setting.score, example))]
        ],
        "calls": [s.agent_calls for s in spent],
        "verified": [s.verifier_calls for s in spent],
        "read": float(np.mean([s.read for s in spent])),
        "written": float(np.mean([s.written for s in spent])),
        "invalid": sum(
            not attempt.valid for o in outcomes for turn in o.rounds for attempt in turn.attempts
        ),
    }


def incumbents(outcome: Outcome) -> list[str | None]:
    """The answer that would be returned after each round; of one round, after each sample."""
    first, *later = outcome.rounds
    if later:
        return [None if turn.best is None else turn.best.text for turn in outcome.rounds]
    best, texts = None, []
    for attempt in first.attempts:
        if attempt.valid and (best is None or attempt.score > best.score):
            best = attempt
        texts.append(None if best is None else best.text)
    return texts


def run(config: Config) -> Report:
    """Every arm on the same questions, from the same draws where the contexts agree."""
    return study(Setting.of(config))


def study(setting: Setting) -> Report:
    """`run` with the model and the task at hand."""
    config, examples, found = setting.config, setting.questions(), {}
    tasks = {"": (setting, examples, arms(config))}
    if config.writer is not None:
        other = Setting.programs(config)
        some = {name: arms(config)[name] for name in ON_PROGRAMS}
        tasks[PROGRAMS] = (other, other.questions(), some)
    total = sum(len(some) for *_, some in tasks.values())
    with Resumption(config) as finished, Progress("IAD", total) as progress:
        for prefix, (here, asked, some) in tasks.items():
            for name, arm in some.items():
                row = finished.row(prefix + name, partial(measure, here, asked, arm))
                found[prefix + name] = row
                progress.advance(note=prefix + name)
    curves = {name: np.array(row["scores"]) for name, row in found.items()}
    rows = [
        {
            "method": name,
            "calls": int(np.mean(row["calls"])),
            "score": float(curves[name][:, -1].mean()),
            "solved %": 100 * float((curves[name][:, -1] == 1).mean()),
            "tokens read": row["read"],
            "tokens written": row["written"],
            "invalid": row["invalid"],
        }
        for name, row in found.items()
    ]
    if config.out is not None:
        draw(Path(config.out) / "figure.png", curves, config)
    return Report.of(claims, config, kept(config, curves), rows, finished.seconds)
