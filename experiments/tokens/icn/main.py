"""ICN: explore a list by what is in the context, not down the ranks of one law.

Claim (Peng et al. 2024, arXiv 2410.02284): tokens whose keys lie by those of the likeliest ones are
ranked high whether or not they are right; with what was explored in the context, and something
else asked for, the query moves away from them, and more right answers, more different texts and
better votes are found than by walking down the ranks.

    python -m experiments icn --preset cpu

Categories have 8 to 12 members, scattered over families of names whose keys training makes alike,
and common by Zipf's law; a model trained here on lists in random order without repetition is asked
for each category's list. Items are judged by the table of members. ICN in few and many runs, and
with items continued from the list, stands beside the ranks of one law, the same with explored
clusters penalised, as many draws, and diverse beams; all explore as many items, and different right
ones count once. Keys are clustered to split the middle ranks; a lesson on new members tells what
training moves. Votes are taken among ways to a sum, a task made for it, in which the commonest way
is a guess. Intervals are 95 % bootstraps over categories or questions. The preset `paper` has a
larger world with as many tokens to a cluster as published; lists of a published checkpoint, which
another model judged there, are not measured, as their right answers are not at hand. About 7
minutes on one core.

To be expected: 9.0 right answers of 10 against 7.9 down the ranks; among ways to a sum the vote is
right in 97 %, a guess in 9 %.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.tokens.icn import measures
from experiments.tokens.icn.categories import Categories
from experiments.tokens.icn.figure import draw
from experiments.tokens.icn.findings import Findings, claims
from experiments.tokens.icn.measures import Row
from experiments.tokens.icn.setting import Config, Lists, School, Sums

LARGE = Categories(count=60, least=10, most=40, families=100, size=100, short=10)
PRESETS = {
    "smoke": Config(
        world=Categories(count=8, least=4, most=6, families=4, size=6),
        steps=8, rows=8, hidden=32, items=4, runs=(4,), ranks=12, top=2, beams=0, penalties=(1.0,),
        taught=4, lessons=2, way_steps=4, questions=8,
    ),
    "cpu": Config(),
    "paper": Config(
        world=LARGE, steps=40_000, rows=128, hidden=512, items=40, runs=(4, 8, 40), ranks=100,
        top=10, clusters=125, beams=40, taught=30, lessons=200, way_steps=4000, questions=1000,
    ),
}  # fmt: skip


def run(config: Config) -> Report:
    """Train, explore, judge."""
    school = School(config)
    return study(config, school, school.lists(), school.sums())


def study(config: Config, school: School, lists: Lists, sums: Sums) -> Report:
    """`run` with the models at hand."""
    every = measures.methods(lists, config)
    with Resumption(config) as finished, Progress("ICN", len(every) + 4) as progress:

        def row(key: str, measure: Callable[[], Row]) -> Row:
            made = finished.row(key, measure)
            progress.advance(note=key)
            return made

        evidence = {
            "ranks": row("ranks", partial(measures.ranked, lists, config)),
            "methods": {name: row(name, measure) for name, measure in every.items()},
            "moved": row("queries", partial(measures.moved, lists, config)),
            "votes": row("votes", partial(measures.voted, sums)),
            "taught": row("lessons", lambda: measures.taught(lists, config, *school.taught(lists))),
        }
    found = Findings.of(config, **evidence)
    if config.out is not None:
        shutil.rmtree(Path(config.out) / "trained", ignore_errors=True)
        draw(Path(config.out) / "figure.png", found)
    return Report.of(claims, config, evidence, found.table(), finished.seconds)
