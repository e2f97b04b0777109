"""The story of the tour on a real model: rows, claims, a figure and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.commands.demo.tour import (
    QUESTIONS,
    TASK,
    THINGS,
    Course,
    Run,
    Tour,
    kept,
    number,
    twelve_words,
)
from experiments.harness import page
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Report, figure
from experiments.harness.statistics import paired
from experiments.inputs.sources import open_model

MODEL = "smollm2"
STEPS = 7  # and two for each turn of the rewriting
NEXT = f"""python -m experiments generate --model {MODEL} --chat --decoder greedy \\
    --prompts "Tell me about the moon."
python -m experiments generate --model {MODEL} --chat --decoder greedy --stream \\
    --draft prompt-lookup --prompts "Repeat after me: one two three, one two three."
python -m experiments generate --model {MODEL} --chat --decoder greedy --decoder sample \\
    --decoder beam-search --prompts "Name three rivers."        # a race
python -m experiments list                                      # every method and its paper"""


def cost(run: Run) -> dict[str, Any]:
    return {
        "tokens drawn": run.tokens,
        "passes": run.passes,
        "tokens judged": run.judged,
        "seconds": None if np.isnan(run.seconds) else run.seconds,
        "compiling, seconds": run.compiling,
    }


def right(pairs: Sequence[tuple[int, int]], run: Run) -> np.ndarray:
    """f64[questions], 1 where the sum is right."""
    sums = [a + b for a, b in pairs]
    return np.array([number(text) == s for text, s in zip(run.texts, sums, strict=True)], float)


def worth(run: Run) -> np.ndarray:
    """f64[instructions], what the judge says of what was returned."""
    return np.array([twelve_words("", text) for text in run.texts])


def one_of(pairs: Sequence[tuple[int, int]], tour: Tour, run: Run) -> np.ndarray:
    """f64[questions], the share of a question's samples that are right."""
    pool, codec = run.result.trace, tour.source.codec
    shares = []
    for (a, b), rows, lengths in zip(pairs, pool.tokens, pool.length, strict=True):
        said = [codec.decode(row[:n].tolist()) for row, n in zip(rows, lengths, strict=True)]
        shares.append(np.mean([number(text) == a + b for text in said]))
    return np.array(shares)


def gained(what: str, better: np.ndarray, worse: np.ndarray) -> Claim:
    """A claim of more, over the questions they share; an interval with 0 in it resolves nothing."""
    gap, low, high = paired(better, worse)
    measured = (
        f"{100 * better.mean():.0f} against {100 * worse.mean():.0f}, {gap:+.0f} "
        f"({low:+.0f}..{high:+.0f}) of 100"
    )
    return Claim(what, "more", measured, gap > 0, (low, high), 0.0)


def run(course: Course, seed: int, out: Path | None) -> Report:
    """Decode, count, draw, write; what is done is printed as it is done."""
    with Progress("demo", STEPS + 2 * course.turns) as progress:
        source = open_model(MODEL)
        progress.advance(note=f"{MODEL} is open")
        tour = Tour(source, course, seed, lambda method: progress.advance(note=method))
        answers = tour.questions()
        pairs, sums = tour.sums()
        sentences = tour.sentences()
        plain, ahead = tour.rewriting()
    vote = next(run for run in sums if run.method.startswith("majority"))
    best, rejection = sentences[1], sentences[2]
    rows = [
        *({"task": "questions", "method": answers.method, **cost(answers)},),
        *({"task": "sums", "method": r.method, "right": right(pairs, r).mean(), **cost(r)}
          for r in sums),
        *({"task": "a sentence", "method": r.method, "reward": worth(r).mean(), **cost(r)}
          for r in sentences),
        *({"task": "rewriting", "method": r.method, "tokens a second": r.tokens / r.seconds,
           **cost(r)} for r in (plain, ahead)),
    ]  # fmt: skip
    same = kept(plain) == kept(ahead)
    claims = [
        gained(f"a vote of {course.samples} is right more often than one sample",
               right(pairs, vote), one_of(pairs, tour, sums[-1])),
        gained(f"the {best.method} earns more than one sample", worth(best), worth(sentences[0])),
        gained("beam search is right more often than one sample",
               right(pairs, sums[-2]), one_of(pairs, tour, sums[-1])),
        Claim("speculative rejection draws fewer tokens than as many whole responses", "fewer",
              f"{rejection.tokens:.0f} against {course.width * sentences[0].tokens:.0f}",
              rejection.tokens < course.width * sentences[0].tokens),
        Claim("the drafted text is plain decoding's, token for token", "equal",
              "equal" if same else "different", same),
        Claim("drafting from the prompt makes a rewriting faster", "faster",
              f"{plain.seconds / ahead.seconds:.2f} times plain decoding, with "
              f"{plain.passes / ahead.passes:.1f} times fewer passes",
              ahead.seconds < plain.seconds),
    ]  # fmt: skip
    if out is not None:
        _draw(out / "figure.png", rows)
        _write(out, rows, claims, [answers, *sums, *sentences, plain, ahead], pairs)
    for question, text in zip(QUESTIONS, answers.texts, strict=True):
        print(f"\n> {question}\n{text.strip()}")
    return Report(claims, rows)


def _draw(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """What each method won, and the speed of drafting."""
    with figure(path, columns=3, width=3.6) as axes:
        for axis, task, value in zip(
            axes,
            ("sums", "a sentence", "rewriting"),
            ("right", "reward", "tokens a second"),
            strict=True,
        ):
            some = [row for row in rows if row["task"] == task]
            names = [f"{row['method']}\n{row['tokens drawn']:.0f} tokens" for row in some]
            axis.barh(names, [row[value] for row in some])
            axis.invert_yaxis()
            axis.grid(visible=False, axis="y")
            axis.set(xlabel=f"{task}: {value}")


def _write(
    out: Path,
    rows: Sequence[dict[str, Any]],
    claims: Sequence[Claim],
    runs: Sequence[Run],
    pairs: Sequence[tuple[int, int]],
) -> None:
    answers, plain = runs[0], runs[-2]
    sums, sentences = runs[1:-5], runs[-5:-2]

    def table(task: str) -> str:
        return page.table(
            [{k: v for k, v in row.items() if k != "task"} for row in rows if row["task"] == task]
        )

    page.write(
        out / "index.html",
        "A real model, many methods: what each costs, and what it wins",
        page.paragraph(
            "SmolLM2-135M-Instruct, from its 4-bit file, on this machine in float32. Every method "
            "is one compiled program; its time excludes compilation, its tokens include those of "
            "responses that were thrown away. Numbers are means a prompt; seconds are for all "
            "prompts of a task together."
        ),
        page.heading("It answers"),
        page.table(
            [{"question": q, "answer": t} for q, t in zip(QUESTIONS, answers.texts, strict=True)]
        ),
        page.heading("What held"),
        page.table([{"claim": c.claim, "measured": c.measured, "holds": c.holds} for c in claims]),
        page.image(out / "figure.png", "What each method won, and the speed of drafting"),
        page.heading("Sums, with no judge at all"),
        page.paragraph(
            "Several answers are drawn, and the model's own certainty picks one, or they vote. A "
            "vote costs nothing beyond its samples."
        ),
        table("sums"),
        page.heading("A sentence, with a Python function as judge"),
        page.paragraph(
            f"{TASK.format('sea')} The judge gives 1 for one sentence of exactly twelve words, and "
            "less for each word too many or too few. Speculative rejection begins with more "
            "responses than fit and drops those that begin badly; this judge sees nothing of a "
            "sentence before its end, which is the hardest case for it."
        ),
        table("a sentence"),
        page.heading("The same text, drafted ahead"),
        page.paragraph(
            "Most of a rewriting is in its prompt. Prompt lookup guesses that what followed the "
            "newest tokens before follows again; the model checks ten guesses in one pass, and the "
            "text is the one it would have written alone."
        ),
        table("rewriting"),
        page.folded("the text", page.paragraph(plain.texts[0])),
        page.folded(
            "every sum",
            page.table(
                [
                    {"sum": f"{a} + {b}"} | {run.method: run.texts[i] for run in sums}
                    for i, (a, b) in enumerate(pairs)
                ]
            ),
        ),
        page.folded(
            "every sentence",
            page.table(
                [
                    {"about": thing} | {run.method: run.texts[i] for run in sentences}
                    for i, thing in enumerate(THINGS[: len(sentences[0].texts)])
                ]
            ),
        ),
        page.heading("Go on"),
        page.table([{"commands": NEXT}]),
    )
    print(f"\nopen {out / 'index.html'} in a browser; then:\n\n{NEXT}\n")
