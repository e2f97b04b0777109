"""Every way of speculating side by side: the same prompts, the same weights, one run.

    XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python -m experiments spec_bench --preset cpu

The flag keeps products on one thread. At this size that is as fast for plain decoding, and a
pass over several tokens need not wake a second thread for each product.

Goals on this project's own target, greedy, at batch 1 on two cores: 1.8 times plain decoding for
the best trained drafter and 1.5 times for the best that needs no training, measured; with a
policy that knows what a pass costs, never below 0.95; more tokens a second than transformers'
assisted and prompt-lookup generation on the same weights, each against our method of its kind;
and every method's text equal to plain decoding's. Batch 8 is measured and shown, whatever it is.
A target that small sits in a CPU's cache, where a pass over five tokens costs half as much again
as one over one, or twice; the same text is therefore also raced on a target of 16 M parameters
that must be read from memory (`wider_target`). About 23 minutes on two cores, half of it
compiling.

All methods of a batch take turns on the same prompts, and medians count; compilation is apart.
`tokens_per_call` are emitted tokens for each pass of the target, its own token included; `width`
is the tokens of a verifying pass and `verify` what it costs relative to a pass over one token;
`modelled` is the speed-up that counts and costs alone would give. The peer needs the `parity`
extra. Questions of a Spec-Bench file are decoded instead with

    --config.questions question.jsonl [--config.target DIR --config.draft DIR]
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.bench import peers
from experiments.bench.speculators import METHODS, PLAIN
from experiments.bench.wider_target import widened
from experiments.harness import timing
from experiments.harness.environment import usable_cpus
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Resumption, Seed, figure
from experiments.speculative.speculation import Field, counts, open_field, pass_seconds, questioned
from jaxdecode.decoder import decode

TRAINED, FREE, FLOOR = 1.8, 1.5, 0.95


@dataclass(frozen=True)
class Config:
    """What is raced.

    Attributes:
      tasks: "stdlib", "arithmetic".
      methods: of `experiments.bench.speculators.METHODS`; all if empty.
      prompts, max_tokens: of each task.
      batches: rows decoded together; tasks after the first are raced with the first of these.
      widened: units in each MLP of a larger target that writes the first task's text, raced last;
        none if 0. See `experiments.bench.wider_target`.
      repeats, patience: rounds of a race, and seconds after which it is cut short.
      questions: a Spec-Bench file to take prompts from, instead of the tasks'.
      target, draft: folders of published checkpoints for the questions; the zoo's if not given.
    """

    tasks: tuple[str, ...] = ("stdlib", "arithmetic")
    methods: tuple[str, ...] = ()
    prompts: int = 8
    max_tokens: int = 208
    batches: tuple[int, ...] = (1, 8)
    widened: int = 4096
    repeats: int = 5
    patience: float = 20.0
    questions: Path | None = None
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
    # The published setting. Give the files:
    #   --config.questions question.jsonl --config.target DIR --config.draft DIR
    "paper": Config(prompts=480, max_tokens=1024, widened=0, repeats=1, patience=float("inf")),
}


def fields(config: Config) -> dict[str, Field]:
    """Name -> field."""
    if config.questions is not None:
        field = questioned(
            config.questions, config.prompts, config.max_tokens, config.target, config.draft
        )
        return {"questions": field}
    found = {task: open_field(task, config.prompts, config.max_tokens) for task in config.tasks}
    if config.widened:
        first = next(iter(found.values()))
        few = first.prompts[: max(1, config.prompts // 2)]
        found[f"{first.task}, widened"] = replace(
            first, target=widened(first.target, config.widened), prompts=few
        )
    return found


def race(config: Config, field: Field, name: str, batch: int) -> list[dict[str, Any]]:
    """All methods on one field at one batch size, taking turns."""
    chosen = config.methods or tuple(METHODS)
    methods = {PLAIN: None} | {key: METHODS[key] for key in chosen if METHODS[key].fits(field)}
    decoders = {
        key: field.plain() if method is None else method.decoder(field, batch)
        for key, method in methods.items()
    }
    prompts = field.batches(batch)
    draws = jax.random.key(config.seed)

    def whole(decoder) -> list:
        return [decode(decoder, draws, prompt) for prompt in prompts]

    calls: dict[str, Callable[[], Any]] = {
        key: lambda decoder=decoder: [result.tokens for result in whole(decoder)]
        for key, decoder in decoders.items()
    }
    with contextlib.ExitStack() as stack:
        if peers.missing() is None:
            calls |= peer_calls(stack, field, batch)
        taken = timing.interleaved(calls, config.repeats, config.patience)
    found = {
        key: counts(whole(decoder), len(field.prompts), timing.medians(taken)[key])
        for key, decoder in decoders.items()
    }
    nodes = {key: method.nodes(field) for key, method in methods.items() if method is not None}
    widths = sorted({1, *(n + 1 for n in nodes.values())})
    cost = pass_seconds(field.target, widths, batch)
    draft = pass_seconds(field.draft, (1,), batch)[1] / cost[1]
    plain = taken[PLAIN]
    rows = []
    for key, seconds in taken.items():
        ratio = float(np.median(np.array(plain) / np.array(seconds)))
        row = {
            "task": name,
            "batch": batch,
            "method": key,
            "kind": METHODS[key].kind if key in METHODS else "peer" if key != PLAIN else "",
            "speed_up": ratio,
            "tokens/s": found[PLAIN].emitted.sum() / np.median(seconds),
        }
        if key in decoders:
            mine = found[key]
            pairs = zip(mine.tokens, found[PLAIN].tokens, strict=True)
            row["equal_rows"] = float(np.mean([np.array_equal(a, b) for a, b in pairs]))
            row |= mine.row()
        if key in nodes:
            verify = cost[nodes[key] + 1] / cost[1]
            row |= {
                "width": nodes[key] + 1,
                "verify": verify,
                "modelled": found[key].speed_up(verify, draft),
            }
        rows.append(row)
    return rows


def peer_calls(
    stack: contextlib.ExitStack, field: Field, batch: int
) -> dict[str, Callable[[], Any]]:
    """transformers on the same weights: plain and, for one row at a time, with drafts."""
    threads = usable_cpus()
    target = stack.enter_context(peers.peer_of(field.target, threads))
    texts = [np.asarray(prompt) for prompt in field.prompts]

    def rows(**options) -> Callable[[], Any]:
        groups = [texts[i : i + batch] for i in range(0, len(texts), batch)]
        return lambda: [
            target.greedy(np.stack(group), field.max_tokens, **options) for group in groups
        ]

    if len({len(text) for text in texts}) > 1 and batch > 1:
        return {}  # the peer is given no padding
    found = {"transformers": rows()}
    if batch == 1:
        draft = stack.enter_context(peers.peer_of(field.draft, threads))
        found["transformers, assisted"] = rows(assistant=draft)
        found["transformers, prompt lookup"] = rows(lookup=4)
    return found


def claims(config: Config, rows: list[dict[str, Any]]) -> list[Claim]:
    """The goals against what was measured at batch 1: on the first task, and on its widened
    target, where passes are bound by memory."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    alone = {task: [r for r in rows if r["task"] == task and r["batch"] == 1] for task in tasks}
    first = alone[tasks[0]]

    found = []
    for task in (tasks[0], *[task for task in tasks[1:] if "widened" in task]):
        for kind, kinds, goal in (
            ("trained", ("trained", "draft model"), TRAINED),
            ("training-free", ("training-free",), FREE),
        ):
            some = [row for row in alone[task] if row["kind"] in kinds]
            row = max(some, key=lambda row: row["speed_up"], default=None)
            if row is not None:
                found.append(
                    Claim(
                        f"{task}: the best {kind} drafter, times plain decoding at batch 1",
                        f"goal {goal:g}",
                        f"{row['speed_up']:.2f} ({row['method']})",
                        row["speed_up"] >= goal,
                    )
                )
    careful = [row for row in rows if "cost-aware" in row["method"]]
    if careful:
        worst = min(careful, key=lambda row: row["speed_up"])
        found.append(
            Claim(
                "with a policy that knows the cost of a pass, never slower than plain decoding",
                f"goal {FLOOR:g}",
                f"{worst['speed_up']:.2f} ({worst['method']}, {worst['task']}, "
                f"batch {worst['batch']})",
                worst["speed_up"] >= FLOOR,
            )
        )
    for peer, mine in (
        ("transformers, assisted", "draft model"),
        ("transformers, prompt lookup", "prompt lookup"),
    ):
        theirs = [row for row in first if row["method"] == peer]
        own = [row for row in first if row["method"] == mine]
        if theirs and own:
            ratio = own[0]["tokens/s"] / theirs[0]["tokens/s"]
            found.append(
                Claim(f"{mine}: times the tokens/s of {peer}", "above 1", f"{ratio:.2f}", ratio > 1)
            )
    exact = [row["equal_rows"] for row in rows if row["kind"] not in ("", "peer")]
    found.append(
        Claim(
            "every exact method writes what plain decoding writes",
            "token for token",
            f"{np.mean(exact):.1%} of rows equal",
            bool(np.mean(exact) == 1.0),
        )
    )
    return found


def draw(config: Config, rows: list[dict[str, Any]]) -> None:
    """Measured and modelled speed-ups, one panel for each task and batch."""
    panels = list(dict.fromkeys((row["task"], row["batch"]) for row in rows))
    path = config.out and config.out / "figure.png"
    with figure(path, columns=len(panels), width=4.0, height=5.6) as axes:
        for axis, (task, batch) in zip(axes, panels, strict=True):
            some = [r for r in rows if (r["task"], r["batch"]) == (task, batch)]
            some.sort(key=lambda row: row["speed_up"])
            names = [row["method"] for row in some]
            colors = ["#999999" if row["kind"] in ("", "peer") else "#0072B2" for row in some]
            axis.barh(names, [row["speed_up"] for row in some], color=colors)
            modelled = [(row.get("modelled"), row["method"]) for row in some]
            marks = [(x, y) for x, y in modelled if x is not None]
            axis.plot(*zip(*marks, strict=True), "D", color="#D55E00", label="modelled")
            axis.axvline(1.0, color="black", linewidth=0.8)
            axis.set(xlabel="times plain decoding", title=f"{task}, batch {batch}")
            axis.legend(loc="lower right")


def run(config: Config) -> Report:
    """Race every method on every field and batch."""
    reason = peers.missing()
    if reason:
        print(f"no peer to race: {reason}")
    where = fields(config)
    rows: list[dict[str, Any]] = []
    first, *others = where
    steps = [(first, batch) for batch in config.batches]
    steps += [(name, config.batches[0]) for name in others]
    with Resumption(config) as finished, Progress("spec_bench", len(steps)) as progress:
        for name, batch in steps:
            key = f"{name}, batch {batch}"

            def measure(name: str = name, batch: int = batch) -> dict[str, Any]:
                return {"rows": race(config, where[name], name, batch)}

            rows += finished.row(key, measure)["rows"]
            jax.clear_caches()  # programs of all races are more than a process may map
            progress.advance(note=key)
    draw(config, rows)
    return Report.of(claims, config, rows, seconds=finished.seconds)
