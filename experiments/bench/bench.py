"""Speed of the token engine, against `transformers.generate` and against the machine.

    python -m experiments bench --preset cpu

Goals, in tokens a second of greedy float32 decoding with equal tokens, prompts of 64 and 128
new tokens: 4x, 2.2x and 1.5x the peer with 5 M parameters at batch 1, 8 and 64, and 2.5x, 1.7x
and 1.3x with 30 M. The peer is timed with a dynamic and a static cache on all cores, and the
faster of the two counts; it needs the `parity` extra, and without it only the machine is the
measure. With 4 beams and 5 M parameters the goals are 2x at batch 1 and 1x at batch 8. Our layers
are unstacked. All calls of a shape take turns, medians count, compilation
is apart.

Also stored: what counting costs, sampling beside greedy search, prefill beside steps, and the
cost curves over verify widths, prompts and cache slots on this device. About 6 minutes on two
cores with the peer, 2 without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.bench import compilation, peers
from experiments.bench.beam_race import beam_race
from experiments.bench.race import Course, build, race
from experiments.harness.measuring import pass_costs, timing
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Resumption, Seed, figure
from models.transformer import Transformer

GOALS = {("5M", 1): 4.0, ("5M", 8): 2.2, ("5M", 64): 1.5}
GOALS |= {("30M", 1): 2.5, ("30M", 8): 1.7, ("30M", 64): 1.3}
BEAMED = {1: 2.0, 8: 1.0}  # times the peer's tokens a second with 4 beams, by batch
COUNTING, COLD, WARM = 0.02, 1.0, 0.1  # goals: share of the time; seconds of compilation
BUSY = 0.5  # processes a core beyond which a peer with threads of its own is not timed fairly


@dataclass(frozen=True)
class Config:
    """What is timed.

    Attributes:
      models: sizes, of 0.2M, 5M, 30M and (bfloat16) 1B; or models of the zoo, or folders of
        published checkpoints.
      batches: rows decoded together.
      prompt, new: tokens of every row.
      cache_growth: cache sizes the engine grows through, see `Generator`.
      repeats: rounds of a race.
      patience: seconds after which a race is cut short.
      curve: the size that cost curves are drawn of.
      widths: tokens of a verifying pass.
      slots: cache capacities.
      reads: widths of prompts read at once.
      depth: layers of the model whose compilation is timed.
      beamed: batches of the races with 4 beams.
    """

    models: tuple[str, ...] = ("5M", "30M")
    batches: tuple[int, ...] = (1, 8, 64)
    prompt: int = 64
    new: int = 128
    cache_growth: int = 1
    repeats: int = 7
    patience: float = 15.0
    curve: str = "5M"
    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    slots: tuple[int, ...] = (128, 256, 512, 1024, 2048)
    reads: tuple[int, ...] = (16, 64, 256)
    depth: int = 24
    beamed: tuple[int, ...] = (1, 8)
    seed: Seed = 0
    out: Out = None

    @property
    def course(self) -> Course:
        return Course(
            self.prompt, self.new, self.cache_growth, self.repeats, self.patience, self.seed
        )


PRESETS = {
    "smoke": Config(
        models=("0.2M",), batches=(1,), new=16, repeats=3, curve="0.2M",
        widths=(1, 8), slots=(128, 512), reads=(16,), depth=2, beamed=(),
    ),
    "cpu": Config(),
    "paper": Config(models=("1B",), batches=(1, 16, 256), curve="1B"),
}  # fmt: skip


def measurements(config: Config) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Everything to be measured, as (key, how)."""
    yield "compile", lambda: {"kind": "compile", **compilation.measure(config.depth)}
    for name in config.models:
        for batch in config.batches:
            yield f"decode {name} {batch}", lambda n=name, b=batch: race(config.course, n, b)
    for batch in config.beamed:
        yield (
            f"beams {config.curve} {batch}",
            lambda b=batch: beam_race(config.course, config.curve, b, 4),
        )
    repeats = config.repeats

    def rows(kind: str, found: Iterator[dict[str, Any]]) -> dict[str, Any]:
        return {"curve": [{"kind": kind, "model": config.curve, **row} for row in found]}

    def model() -> Transformer:
        return build(config.curve, config.seed)

    for batch in config.batches[:2]:
        yield (
            f"verify {batch}",
            lambda b=batch: rows(
                "verify", pass_costs.verify(model(), b, config.widths, config.prompt, repeats)
            ),
        )
    yield (
        "capacity",
        lambda: rows(
            "capacity",
            pass_costs.capacity(model(), config.batches[-1], config.slots, config.prompt, repeats),
        ),
    )
    yield (
        "prefill",
        lambda: rows("prefill", pass_costs.prefill(model(), config.batches, config.reads, repeats)),
    )


def claims(config: Config, rows: list[dict[str, Any]]) -> list[Claim]:
    """The goals against what was measured; a race without a peer claims nothing."""
    found = []
    for row in rows:
        goal = GOALS.get((row.get("model", ""), row.get("batch", 0)))
        if row["kind"] == "decode" and "ratio" in row:
            what = f"greedy, {row['model']}, batch {row['batch']}: times transformers' tokens/s"
            holds = row["ratio"] >= (goal or 1.0) and row["equal_rows"] == 1.0
            same = f"{row['equal_rows']:.0%} of rows equal"
            found.append(
                Claim(what, f"goal {goal or 1.0}", f"{row['ratio']:.2f}, {same}", bool(holds))
            )
        if row["kind"] == "beams" and "ratio" in row:
            goal = BEAMED.get(row["batch"], 1.0)
            for name, key, same in (
                ("beam search", "ratio", f", {row['equal_rows']:.0%} of rows equal"),
                ("groups of one beam", "groups_ratio", " (the peer's plain beams)"),
            ):
                what = f"{name}, {row['beams']} beams, {row['model']}, batch {row['batch']}"
                what += ": times transformers' tokens/s"
                holds = row[key] >= goal and row["equal_rows"] == 1.0
                found.append(Claim(what, f"goal {goal}", f"{row[key]:.2f}{same}", bool(holds)))
        if row["kind"] == "compile":
            what = f"compiling greedy decoding, {row['layers']} scanned layers"
            found += [
                Claim(f"{what}, {name}", f"goal {most:g} s", f"{row[key]:.2f} s", row[key] <= most)
                for name, key, most in (
                    ("cold", "compile_s", COLD),
                    ("from the persistent cache", "cached_s", WARM),
                )
            ]
    shares = [row["counting"] for row in rows if row["kind"] == "decode"]
    share = float(np.median(shares))
    found.append(
        Claim(
            "counting everything: share of the time, median over shapes",
            f"goal below {COUNTING:.0%}",
            f"{share:.1%}",
            share < COUNTING,
        )
    )
    return found


def draw(config: Config, rows: list[dict[str, Any]]) -> None:
    """Tokens a second by batch, and what a pass costs by its width and its cache."""

    def lines(kind: str, x: str, y: str, group: str) -> Iterator[tuple[Any, list, list]]:
        some = [row for row in rows if row["kind"] == kind and y in row]
        for value in dict.fromkeys(row[group] for row in some):
            chosen = [row for row in some if row[group] == value]
            yield value, [row[x] for row in chosen], [row[y] for row in chosen]

    path = config.out and config.out / "figure.png"
    with figure(path, columns=3) as (speed, width, slots):
        colors = {}
        for model, batch, rate in lines("decode", "batch", "tokens/s", "model"):
            (line,) = speed.plot(batch, rate, label=f"{model}, jaxdecode")
            colors[model] = line.get_color()
        for model, batch, rate in lines("decode", "batch", "peer_tokens/s", "model"):
            speed.plot(batch, rate, "--", color=colors[model], label=f"{model}, transformers")
        speed.set(yscale="log", xlabel="batch", ylabel="tokens a second")
        for batch, n, relative in lines("verify", "width", "relative", "batch"):
            width.plot(n, relative, label=f"batch {batch}")
        width.set(xlabel="tokens of a verifying pass", ylabel="T(n) / T(1)")
        for batch, n, relative in lines("capacity", "capacity", "relative", "batch"):
            slots.plot(n, relative, label=f"batch {batch}, {config.prompt} slots in use")
        slots.set(xlabel="slots of the cache", ylabel="time of a step, relative")
        for axes in (speed, width, slots):  # all are powers of two
            axes.set_xscale("log", base=2)


def run(config: Config) -> Report:
    """Measure everything, one row after the other."""
    reason = peers.missing()
    if reason:
        print(f"no peer to race: {reason}")
    busy = timing.load()
    if busy is not None and busy > BUSY:
        print(f"this machine is busy, {busy:.1f} processes a core: measure again when it is not")
    tasks = list(measurements(config))
    rows: list[dict[str, Any]] = []
    with Resumption(config) as finished, Progress("bench", len(tasks)) as progress:
        for key, measure in tasks:
            row = finished.row(key, measure)
            rows += row.get("curve", [row])
            progress.advance(note=key)
    draw(config, rows)
    return Report.of(claims, config, rows, seconds=finished.seconds)
