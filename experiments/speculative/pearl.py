"""PEARL: both models run all the time.

Claim (Liu et al. 2024, arXiv 2408.11850): drafting while the target verifies, in windows as long
as the target is slow, is up to 1.50x as fast as speculative decoding at its best draft length
(4.43x plain decoding), and the number of drafts accepted in a row is more than 3 times larger.

    python -m experiments pearl --preset cpu

Tokens are decoded on one device, where the order of the two models does not matter, and time is
a model's: with c passes of the draft model to one of the target, a step of PEARL takes
max(window / c, 1) target passes and a round of speculative decoding K / c + 1. Nothing here is
wall time. Held-out prompts of the standard library at temperature 1; the drafts are the zoo's
and, as stand-ins for better ones, the target itself with noise in its weights. The closed forms
for independent acceptances are drawn beside what is measured. About 3 minutes on two cores.

To expect: the best window is c; PEARL wins by most where drafts are good and c is small, and
loses to well-tuned speculative decoding where drafts are poor and c is large, because it never
drafts past the first rejection of a window without having paid a step for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from algorithms.sampling.autoregressive import Autoregressive
from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.pearl import Clock, best_in_turn, pearl, speed_up
from algorithms.speculative.policies.fixed import Fixed
from algorithms.speculative.verifiers.residual import Residual
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Resumption, Seed, figure
from experiments.speculative.speculation import counts
from experiments.speculative.trees import Pair, field_of
from jaxdecode.decoder import decode
from jaxdecode.speculate import Speculator
from models.transformer import Transformer, arrays_of


@dataclass(frozen=True)
class Config:
    """What is decoded.

    Attributes:
      prompts, max_tokens, batch: texts, their length, how many at a time.
      ratios: c, of the modelled clocks.
      windows: of PEARL; those that are in `ratios` are the recommended ones.
      lengths: draft lengths of speculative decoding.
      noise: of each stand-in draft, relative to the spread of each of the target's arrays.
      ablated: the window of ablations and of the comparison with greedy decoding.
      exchange: time of bringing both models together in a step, in the second table.
      target, draft, questions: folders of checkpoints and a file of questions, else the zoo.
    """

    prompts: int = 32
    max_tokens: int = 48
    batch: int = 32
    ratios: tuple[int, ...] = (3, 5, 8)
    windows: tuple[int, ...] = (2, 3, 5, 8, 10)
    lengths: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10)
    noise: tuple[float, ...] = (0.2, 0.05)
    ablated: int = 5
    exchange: float = 0.05
    target: str | None = None
    draft: str | None = None
    questions: Path | None = None
    seed: Seed = 0
    out: Out = None


PRESETS = {
    "smoke": Config(
        prompts=6,
        max_tokens=16,
        batch=6,
        ratios=(3,),
        windows=(3,),
        lengths=(1, 2, 3),
        noise=(),
        ablated=0,
    ),
    "cpu": Config(),
    # The published setting. Give the folders and the prompts:
    #   --config.target DIR --config.draft DIR --config.questions humaneval.jsonl
    "paper": Config(
        prompts=164,
        max_tokens=1024,
        batch=1,
        windows=(2, 3, 4, 5, 6, 7, 8),
        lengths=(1, 2, 3, 4, 5, 6, 8, 10),
        noise=(),
        target="",
        draft="",
        questions=Path("humaneval.jsonl"),
    ),
}


def noisy(model: Transformer, amount: float, seed: int) -> Transformer:
    """The model with noise in every array of more than one axis."""
    arrays = {}
    for place, (path, array) in enumerate(arrays_of(model).items()):
        noise = jax.random.normal(jax.random.key(seed + place), array.shape, array.dtype)
        spread = amount * float(array.std()) if array.ndim > 1 else 0.0
        arrays[path] = array + spread * noise
    return Transformer(model.config, arrays=arrays)


def pairs(config: Config) -> dict[str, Pair]:
    """The target beside each draft."""
    c = config
    field = field_of(c.prompts, c.max_tokens, c.target, c.draft, c.questions)
    # Nothing is timed, and a loop over layers is compiled sooner.
    target = field.target.configured(unroll=False)
    field = replace(field, target=target)
    drafts = {"draft model": field.draft}
    drafts |= {f"target with {x:g} noise": noisy(target, x, c.seed) for x in c.noise}
    return {name: Pair(replace(field, draft=d), 1.0, c.batch, c.seed) for name, d in drafts.items()}


def in_turn(pair: Pair, longest: int, length: int) -> Speculator:
    """Speculative sampling with drafts of one length; all lengths are one program."""
    generator = pair.generator
    drafter = Chain(pair.field.draft, longest, generator.transform, generator.sampler)
    return Speculator(generator, drafter, Residual(), Fixed(length))


def parallel(pair: Pair, window: int, **ablation: bool) -> Speculator:
    return pearl(pair.generator, pair.field.draft, window, **ablation)


def measure(pair: Pair, speculator: Speculator) -> dict[str, Any]:
    """Counts; `row` is how many drafts were accepted one after the other, on average."""
    found = pair.counts(speculator)
    emitted, passes = float(found.emitted.sum()), float(found.passes.sum())
    return {
        "tokens": emitted,
        "passes": passes,
        "drafts": float(found.draft_passes.sum()),
        "accepted": float(found.accepted.sum()),
        "drafted": float(found.drafted.sum()),
    }


def rejections(found: dict[str, Any], window: int) -> float:
    """How many segments a run of PEARL had, from its counts: a step emits what it accepts and
    one token more, which is a guess that held or the correction that ends a segment, and a
    window within a text is pending after each guess that held."""
    pending = found["drafted"] / max(window - 1, 1)
    return max(found["passes"] - pending, 1.0)


def same_text(config: Config, pair: Pair) -> dict[str, Any]:
    """Greedy decoding beside the target's own."""
    still = replace(pair, temperature=0.0)
    mine = still.counts(parallel(still, config.ablated))
    decoder = Autoregressive(still.generator)
    plain = [decode(decoder, config.seed, p) for p in still.field.batches(config.batch)]
    other = counts(plain, len(still.field.prompts), 0.0)
    same = [np.array_equal(a, b) for a, b in zip(mine.tokens, other.tokens, strict=True)]
    return {"share": float(np.mean(same))}


def run(config: Config) -> Report:
    """Every window and every length for every draft, on the same prompts."""
    found: dict[str, dict[str, Any]] = {}
    here = pairs(config)
    each = len(config.windows) + len(config.lengths)
    steps = each * len(here) + 3 * bool(config.ablated)
    with Resumption(config) as finished, Progress("pearl", steps) as progress:

        def row(key: str, make) -> dict[str, Any]:
            value = finished.row(key, make)
            progress.advance(note=key)
            return value

        for name, pair in here.items():
            for k in config.lengths:
                spec = in_turn(pair, max(config.lengths), k)
                key = f"{name}, K = {k}"
                found[key] = row(key, partial(measure, pair, spec))
            for g in config.windows:
                key = f"{name}, window {g}"
                found[key] = row(key, lambda p=pair, g=g: measure(p, parallel(p, g)))
        first, same = next(iter(here.values())), None
        if config.ablated:
            for flag in ("pre_verify", "post_verify"):
                spec = partial(parallel, first, config.ablated, **{flag: False})
                found[flag] = row(f"no {flag}", lambda spec=spec: measure(first, spec()))
            same = row("greedy", lambda: same_text(config, first))["share"]
    rows = table(config, list(here), found)
    draw(config, rows)
    return Report(claims(config, rows, found, same), rows, seconds=finished.seconds)


def table(config: Config, drafts: list[str], found: dict[str, Any]) -> list[dict[str, Any]]:
    """A line for each draft and ratio: both methods at every setting, on the modelled clocks."""
    rows = []
    for name in drafts:
        one = found[f"{name}, K = {config.lengths[0]}"]
        alpha = one["accepted"] / one["drafted"]
        for ratio in config.ratios:
            clock, slow = Clock(ratio), Clock(ratio, config.exchange)
            turn, side, dear = {}, {}, {}
            for k in config.lengths:
                f = found[f"{name}, K = {k}"]
                turn[k] = f["tokens"] / clock.in_turn(f["passes"], k * f["passes"])
            for g in config.windows:
                f = found[f"{name}, window {g}"]
                side[g] = f["tokens"] / clock.parallel(g, f["passes"], f["drafts"])
                dear[g] = f["tokens"] / slow.parallel(g, f["passes"], f["drafts"])
            best, window = max(turn, key=lambda k: turn[k]), max(side, key=lambda g: side[g])
            f, own = found[f"{name}, K = {best}"], found[f"{name}, window {window}"]
            rows.append(
                {
                    "draft": name,
                    "c": ratio,
                    "acceptance": alpha,
                    "SD": turn[best],
                    "best K": best,
                    "PEARL": side.get(ratio, side[window]),
                    "best window": window,
                    "PEARL / SD": side.get(ratio, side[window]) / turn[best],
                    "with an exchange": dear.get(ratio, dear[window]) / turn[best],
                    "SD, closed form": best_in_turn(alpha, clock)[1],
                    "PEARL, closed form": speed_up(alpha, ratio, clock),
                    "accepted in a row, SD": f["accepted"] / f["passes"],
                    "accepted in a row, PEARL": (own["tokens"] - rejections(own, window))
                    / rejections(own, window),
                    "model runs, SD": (f["passes"] + best * f["passes"]) / f["tokens"],
                    "model runs, PEARL": (own["passes"] + own["drafts"]) / own["tokens"],
                    "windows": list(side.items()),
                }
            )
    return rows


def draw(config: Config, rows: list[dict[str, Any]]) -> None:
    """Speed-up by window, and by acceptance with the closed forms."""
    path = None if config.out is None else Path(config.out) / "figure.png"
    with figure(path, columns=2, width=4.6, height=3.6) as (left, right):
        good = rows[-1]["draft"]
        for row in (row for row in rows if row["draft"] == good):
            line = left.plot(*zip(*row["windows"], strict=True), label=f"c = {row['c']}")[0]
            left.axvline(row["c"], color=line.get_color(), alpha=0.4, ls=":", marker="")
        left.set(xlabel="window", ylabel="modelled speed-up", title=f"draft: {good}")
        left.legend(loc="upper left")
        grid = np.linspace(0.3, 0.97, 60)
        for place, ratio in enumerate(config.ratios):
            colour, clock = f"C{place}", Clock(ratio)
            own = [row for row in rows if row["c"] == ratio]
            x = [row["acceptance"] for row in own]
            plain = [best_in_turn(a, clock)[1] for a in grid]
            beside = [speed_up(a, ratio, clock) for a in grid]
            right.plot(grid, beside, color=colour, marker="", label=f"PEARL, c = {ratio}")
            right.plot(grid, plain, color=colour, marker="", ls="--", label=f"SD, c = {ratio}")
            right.plot(x, [row["PEARL"] for row in own], "o", color=colour)
            right.plot(x, [row["SD"] for row in own], "s", mfc="none", color=colour)
        right.set(xlabel="acceptance", ylabel="modelled speed-up", title="lines: closed forms")


def claims(config: Config, rows, found: dict[str, Any], same: float | None) -> list[Claim]:
    """The paper's, by rules fixed before measuring."""
    gains = [row["PEARL / SD"] for row in rows]
    losing = [f"{row['draft']}, c = {row['c']}" for row in rows if row["PEARL / SD"] <= 1]
    asked = [row for row in rows if row["c"] in config.windows]
    longer = [row["accepted in a row, PEARL"] / row["accepted in a row, SD"] for row in rows]
    stated = [
        Claim(
            "faster than speculative decoding at its best draft length, for every draft and c",
            "1.3x to 1.5x",
            f"{min(gains):.2f}x to {max(gains):.2f}x"
            + (f"; not for {'; '.join(losing)}" if losing else ""),
            not losing,
        ),
        Claim(
            "the best window is c",
            "proved",
            ", ".join(f"{row['best window']} at c = {row['c']}" for row in asked),
            all(row["best window"] == row["c"] for row in asked),
        ),
        Claim(
            "more drafts are accepted in a row",
            "more than 3x those of speculative decoding",
            f"{min(longer):.2f}x to {max(longer):.2f}x",
            min(longer) > 1,
        ),
        Claim(
            "the measured speed-ups are those of the closed form",
            "(independent acceptances)",
            ", ".join(f"{row['PEARL']:.2f} : {row['PEARL, closed form']:.2f}" for row in asked),
            all(abs(row["PEARL"] / row["PEARL, closed form"] - 1) < 0.15 for row in asked),
        ),
    ]
    if same is not None:
        g, clock = config.ablated, Clock(config.ablated)
        name = rows[0]["draft"]
        speed = {
            key: found[key]["tokens"]
            / clock.parallel(g, found[key]["passes"], found[key]["drafts"])
            for key in (f"{name}, window {g}", "pre_verify", "post_verify")
        }
        full, pre, post = speed.values()
        stated += [
            Claim(
                "without pre-verification, or without post-verification, it is slower",
                "both slower",
                f"{full:.2f}x against {pre:.2f}x and {post:.2f}x (c = {g})",
                full > max(pre, post),
            ),
            Claim(
                "greedy text is the target's",
                "lossless",
                f"{100 * same:.0f} % of texts are equal",
                same == 1.0,
            ),
        ]
    return stated
