"""The tour on the models that ship: small talk judged by a learned reward, sums by votes.

Every method is a `Decoder`, compiled once, timed without compilation, with all its tokens
counted. Expect best-of-N's reward to rise with N, speculative rejection to match a large N for a
fraction of the tokens, and votes to beat a single sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.commands.demo.shipped_methods import (
    ARITHMETIC,
    DIALOG,
    Config,
    Run,
    arithmetic,
    dialog,
)
from experiments.harness import page
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Report, figure


def cost(run: Run) -> dict[str, Any]:
    """What a method spent on a prompt."""
    usage = run.result.usage
    return {
        "tokens decoded": run.tokens,
        "tokens judged": float(usage.scorer_tokens.mean()),
        "peak cache, tokens": int(usage.peak_cache_tokens.max()),
        "GFLOPs": float(usage.flops.mean()) / 1e9,
        "seconds, all prompts": run.seconds,
        "compiling, seconds": run.compile_seconds,
    }


def learned(run: Run) -> float:
    """The reward model's mean score of the replies that were returned."""
    trace = run.result.trace
    score = trace.score if np.ndim(trace.score) == 1 else trace.score.max(axis=1)
    return float(np.mean(score))


def rows(
    questions: Sequence[str], replies: Sequence[Run], sums: Sequence[str], answers: Sequence[Run]
) -> list[dict[str, Any]]:
    """A row a method: what it won and what it cost."""
    found = [
        {
            "task": "dialog",
            "method": run.method,
            "learned reward": learned(run),
            "true reward": float(DIALOG.rewards(questions, run.texts).mean()),
            **cost(run),
        }
        for run in replies
    ]
    return found + [
        {
            "task": "arithmetic",
            "method": run.method,
            "accuracy": float(np.mean(list(map(ARITHMETIC.verify, sums, run.texts)))),
            **cost(run),
        }
        for run in answers
    ]


def claims(config: Config, rows: Sequence[dict[str, Any]]) -> list[Claim]:
    """What the tour sets out to show."""
    dialog = [row for row in rows if row["task"] == "dialog"]
    plain, largest, rejection = dialog[0], dialog[-2], dialog[-1]
    one, *votes = [row["accuracy"] for row in rows if row["task"] == "arithmetic"]
    saved = largest["tokens decoded"] / rejection["tokens decoded"]
    return [
        Claim(
            f"{largest['method']} earns more true reward than sampling",
            "yes",
            f"{largest['true reward']:.2f} against {plain['true reward']:.2f}",
            largest["true reward"] > plain["true reward"],
        ),
        Claim(
            f"speculative rejection decodes fewer tokens than {largest['method']}",
            "fewer",
            f"{saved:.1f}x fewer, learned reward {rejection['learned reward']:.2f} against "
            f"{largest['learned reward']:.2f}",
            saved > 1.0,
        ),
        Claim(
            f"a vote of {config.samples} is right more often than one sample",
            "yes",
            f"{max(votes):.0%} against {one:.0%}",
            max(votes) > one,
        ),
    ]


def draw(config: Config, rows: Sequence[dict[str, Any]]) -> None:
    """Reward against tokens, time, accuracy."""
    dialog = [row for row in rows if row["task"] == "dialog"]
    sums = [row for row in rows if row["task"] == "arithmetic"]
    path = config.out and config.out / "figure.png"
    with figure(path, columns=3, width=3.9) as (reward, seconds, right):
        *sizes, rejection = dialog
        tokens = [row["tokens decoded"] for row in sizes]
        for kind in ("learned reward", "true reward"):
            (line,) = reward.plot(tokens, [row[kind] for row in sizes], label=f"best-of-N, {kind}")
            at = rejection["tokens decoded"], rejection[kind]
            reward.plot(*at, marker="*", markersize=13, color=line.get_color())
        reward.plot([], [], "*", markersize=10, color="black", label="speculative rejection")
        reward.set(xscale="log", xlabel="tokens decoded a prompt", ylabel="reward")
        # Room for the legend above the curves.
        low, high = reward.get_ylim()
        reward.set_ylim(low, high + 0.45 * (high - low))
        reward.legend(loc="upper left")
        for axis, some, value, label in (
            (seconds, dialog, "seconds, all prompts", "seconds, all prompts"),
            (right, sums, "accuracy", "share of sums that are right"),
        ):
            axis.barh([row["method"] for row in some], [row[value] for row in some])
            axis.invert_yaxis()
            axis.grid(visible=False, axis="y")
            axis.set(xlabel=label)


def write_page(
    config: Config,
    found: Sequence[dict[str, Any]],
    questions: Sequence[str],
    runs: Sequence[Run],
    note: str,
) -> None:
    """Numbers, figure and every reply; `note` says why these models."""
    if config.out is None:
        return

    def table(task: str) -> str:
        return page.table(
            [{k: v for k, v in row.items() if k != "task"} for row in found if row["task"] == task]
        )

    replies = [
        page.folded(
            question,
            page.table(
                [
                    {
                        "method": run.method,
                        "true reward": float(DIALOG.verify(question, run.texts[i])),
                        "reply": run.texts[i],
                    }
                    for run in runs
                ]
            ),
        )
        for i, question in enumerate(questions)
    ]
    page.write(
        config.out / "index.html",
        "What decoding costs, and what it wins",
        page.paragraph(
            "Small models that ship with the project, on this machine. Every method is one "
            "compiled program; its time excludes compilation, its tokens include those of "
            "responses that were thrown away."
        ),
        *([page.paragraph(note)] if note else []),
        page.image(config.out / "figure.png", "Reward and accuracy against cost"),
        page.heading("Small talk, judged by a learned reward model"),
        page.paragraph(
            "Best-of-N draws N replies and keeps the one the judge likes best. Speculative "
            "rejection starts from more than fit and drops those that begin badly."
        ),
        table("dialog"),
        page.heading("Sums, with no judge at all"),
        page.paragraph(
            "The model's own certainty picks one of several answers, or ranks them for a vote."
        ),
        table("arithmetic"),
        page.heading("The replies"),
        *replies,
    )
    print(f"open {config.out / 'index.html'} in a browser")


def run(config: Config, note: str = "") -> Report:
    """Decode, count, draw, write."""
    steps = len(config.sizes) + 1 + 4
    with Progress("demo", steps) as progress:
        questions, replies = dialog(config, progress)
        sums, answers = arithmetic(config, progress)
    found = rows(questions, replies, sums, answers)
    draw(config, found)
    write_page(config, found, questions, replies, note)
    return Report(claims(config, found), found)
