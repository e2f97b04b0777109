"""The page of a run: what was reached, what it won, samples side by side, what to do next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from algorithms.alignment.course import Aligned
from experiments.commands.align.evaluation import Worth
from experiments.commands.align.given import Given
from experiments.commands.align.rewards import Rewards
from experiments.harness import page
from experiments.harness.figures import figure
from experiments.harness.files import parse

SAMPLES = 8  # prompts whose responses are shown


def draw(path: Path, curve: Sequence[dict[str, Any]], found: Aligned, kl: float) -> None:
    """KL and reward while the policy learned, where each look found it."""
    shown = [name for name in ("kl", "reward", "beta", "accuracy") if any(name in m for m in curve)]
    extra = [name for name in shown if name != "kl"][:2]
    with figure(path, columns=1 + len(extra), width=4.2) as axes:
        first, *others = axes
        told = [m for m in curve if "kl" in m]
        if told:
            first.plot([m["step"] for m in told], [m["kl"] for m in told], marker="",
                       label="of the step's responses")  # fmt: skip
        looks = [(look.steps, look.kl) for look in found.looks]
        first.plot(*zip(*looks, strict=True), "s", label="when looked at")
        first.axhline(kl, color="black", linewidth=1, label="target")
        first.set(xlabel="steps", ylabel="KL (nats)")
        for axis, name in zip(others, extra, strict=True):
            rows = [m for m in curve if name in m]
            axis.plot([m["step"] for m in rows], [m[name] for m in rows], marker="")
            axis.set(xlabel="steps", ylabel=name)


def curve_of(folder: Path) -> list[dict[str, Any]]:
    """The metrics of the newest training in a folder."""
    files = sorted(folder.rglob("metrics.jsonl"), key=lambda file: file.stat().st_mtime)
    return [parse(line) for line in files[-1].read_text().splitlines()] if files else []


def reached(found: Aligned, kl: float) -> str:
    """How the KL was come to, in words."""
    last = found.looks[-1]
    how = "" if last.line == 1 else f", {100 * last.line:.0f} % of the way from the base"
    said = (
        f"KL {found.kl:.3f} nats on prompts of the training, {kl:g} was aimed at, "
        f"after {last.steps} steps{how}"
    )
    if found.beta is not None:
        said += f"; beta came to {found.beta:.3g}"
    if not found.reached:
        said += (
            ". That is not the target: raise --train-steps or --rate where it is short, lower "
            "--rate where it is past"
        )
    return said + "."


def side_by_side(given: Given, worth: Worth) -> list[dict[str, str]]:
    """Prompts, and what base and policy answer under the decoder."""
    codec, rows = given.source.codec, []
    for place, text in enumerate(list(given.texts["test"])[:SAMPLES]):
        asked = text if isinstance(text, str) else text[-1]["content"]
        row = {"prompt": asked.strip()}
        for name, side in zip(("base", "aligned"), worth.deployed, strict=True):
            tokens = side.returned(place)
            row[name] = codec.decode(tokens, given.tokens["test"][place]).strip()
        rows.append(row)
    return rows


def commands(given: Given, policy: Path) -> str:
    """What to do next."""
    o, chat = given.options, " --chat" if given.options.chat else ""
    lines = [
        f'python -m experiments generate --model {policy}{chat} --prompts "..."',
        f"python -m experiments generate --model {policy}{chat} --decoder sample "
        '--decoder greedy --prompts "..."        # a race',
    ]
    if o.rules.reward is not None and o.name == "best-of-n":
        lines.append(
            f"python -m experiments generate --model {policy}{chat} --decoder best-of-n "
            f'--samples {o.decoding.samples} --reward {o.rules.reward} --prompts "..."'
        )
    lines.append(f"python -m experiments align --model {policy} ...        # go on from it")
    return "\n".join(lines)


def write(
    out: Path, given: Given, rewards: Rewards, found: Aligned, worth: Worth, seconds: float
) -> None:
    """The page, in `out`."""
    o = given.options
    draw(out / "training.png", curve_of(out / "training"), found, o.kl)
    reward, judge = rewards.names
    deployed = o.decoder if o.decoding.samples is None else f"{o.decoder}, {o.decoding.samples}"
    facts = [
        {"": "base", "value": o.model},
        {"": "method", "value": o.method},
        {"": "deployed with", "value": deployed},
        {"": "reward", "value": reward},
        {"": "judge", "value": judge},
        {"": "trained", "value": f"adapters of rank {o.lora}" if o.lora else "all weights"},
        {"": "prompts", "value": f"{len(given.tokens['train'])} to train on, "
                                 f"{len(given.tokens['test'])} held out"},
        {"": "this run took", "value": f"{seconds:.0f} s"},
        *({"": f"the {name} ranks held-out pairs right", "value": f"{100 * share:.0f} %"}
          for name, share in rewards.accuracy.items()),
    ]  # fmt: skip
    warned = (
        ""
        if rewards.independent
        else page.paragraph(
            "No independent judge: what follows is by the reward itself, which the policy was "
            "trained on and may have learned to please. Name one with --judge."
        )
    )
    page.write(
        out / "index.html",
        f"{o.model}, aligned by {o.method} for {o.decoder}",
        page.paragraph(reached(found, o.kl)),
        page.table(facts),
        page.image(out / "training.png", "The training: KL and what else was measured, by step"),
        page.heading("What it is worth, on held-out prompts"),
        warned,
        page.table(worth.means(rewards.independent)),
        page.heading("How often it wins"),
        page.table(worth.wins(rewards.independent)),
        page.paragraph(
            "Means with 95 % intervals over prompts; ties count by halves. Intervals do not cover "
            "the noise of training.", "dim"
        ),
        page.heading("Side by side"),
        page.table(side_by_side(given, worth)),
        page.heading("Go on"),
        page.code(commands(given, out / "policy")),
        page.folded("settings", page.code(json.dumps(o.settings, indent=1))),
    )  # fmt: skip
