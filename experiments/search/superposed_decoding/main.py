"""Superposed decoding: several drafts of a text for the model's passes of one.

Claim (Shen et al. 2024, arXiv 2405.18400): running the model on a weighted sum of the drafts'
newest embeddings, and letting n-grams tell the drafts apart, yields k drafts of which the best
has a lower perplexity than a nucleus sample, 2.44 times as fast at k = 3 and 3.54 times at
k = 8 as nucleus sampling of as many.

    python -m experiments superposed_decoding --preset cpu

The zoo's small model of the standard library's source goes on from 15 tokens of held-out files
with 10 of its own; its larger model, in the part of the published 70 B judge, says how
perplexing they are, by the mean over passages of the log-perplexity. Share of the n-grams and
temperature are chosen on validation passages, claims are judged on test passages by 95 %
bootstrap intervals. Tables of 2- to 6-grams are counted in training files. Times are those of
the larger model at several batches, all calls taking turns; the largest batch counts. Linearity
is the cosine between a layer's output for the superposition of three beams and the weighted sum
of its outputs for each. Facts are the results of single operations within solutions, completed by
the zoo's model of arithmetic without n-grams. About a minute and a half on two cores.

To expect: perplexities of 8.4 for the first draft and 7.5 for the best of three, against 17 for a
nucleus sample and 6.8 for the first of three beams: whatever seeks likely text is unperplexing,
and beams do so best, at a row of the model for each. 5- and 6-grams of a million tokens add
nothing to those up to 4. Twice as fast as nucleus sampling of three and 3.3 times of eight, less
in small batches, where a processor reads the model's weights once for all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from algorithms.search.beam_search import BeamSearch
from algorithms.search.superposed_decoding import WEIGHTS
from experiments.harness.measuring.timing import load
from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.inputs.sources import open_model
from experiments.search.superposed_decoding import facts
from experiments.search.superposed_decoding.facts import Facts, Knower
from experiments.search.superposed_decoding.findings import FEWER, claims, draw, table
from experiments.search.superposed_decoding.setting import Config, Setting
from experiments.tasks.task import Split
from jaxdecode.decoder import Decoder

PRESETS = {
    "smoke": Config(
        test=16, validation=16, drafts=(3,), alphas=(0.35,), temperatures=(0.3,), corpus=60_000,
        batch=16, timed=(16,), repeats=2, knower=None,
    ),
    "cpu": Config(),
    "paper": Config(
        generator="Llama-2-7b-hf",
        judge="Llama-2-70b-hf",
        racer="Llama-2-7b-hf",
        knower=None, test=5000, validation=1000, drafts=(3, 2, 4, 5, 6, 8, 10), corpus=200_000_000,
        keep=(4096, 1024, 256, 64, 64),
    ),
}  # fmt: skip


def run(config: Config) -> Report:
    """Choose on validation passages, judge on test passages, time, and look inside."""
    return study(Setting.of(config))


def study(setting: Setting) -> Report:
    """`run` with the models at hand."""
    config = setting.config
    k = config.drafts[0]
    pairs = [(a, t) for a in config.alphas for t in config.temperatures]
    steps = (
        len(pairs) + len(config.temperatures) + 8 + len(config.timed) + (config.knower is not None)
    )
    with Resumption(config) as finished, Progress("superposed decoding", steps) as progress:

        def row(key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            found = finished.row(key, measure)
            progress.advance(note=key)
            return found

        def judged(key: str, split: Split, build: Callable[[], Decoder]) -> NDArray[np.float64]:
            found = row(f"{split}: {key}", lambda: setting.measure(build(), split))
            return np.asarray(found["nll"])

        tuned = [
            judged(
                f"alpha {a}, temperature {t}", "validation", partial(setting.superposed, k, a, t)
            )
            for a, t in pairs
        ]
        alpha, heat = pairs[int(np.argmin([nll.mean() for nll in tuned]))]
        bare = [
            judged(
                f"no n-grams, temperature {t}",
                "validation",
                partial(setting.superposed, k, 0.0, t, ngrams=None),
            )
            for t in config.temperatures
        ]
        cold = config.temperatures[int(np.argmin([nll.mean() for nll in bare]))]

        def fewer() -> Decoder:
            """The same without 5- and 6-grams."""
            weights = jnp.asarray((*WEIGHTS[:3], 0.0, 0.0))
            ngrams = replace(setting.ngrams, weights=weights)
            return setting.superposed(k, alpha, heat, ngrams=ngrams)

        methods: dict[str, Callable[[], Decoder]] = {
            "superposed": partial(setting.superposed, k, alpha, heat),
            FEWER: fewer,
            "superposed, no n-grams": partial(setting.superposed, k, 0.0, cold, ngrams=None),
            "superposed, equal weights": partial(setting.superposed, k, alpha, heat, uniform=True),
            "n-grams among the likeliest": partial(setting.superposed, k, 1.0, heat),
            "nucleus": partial(setting.nucleus, k),
            "beam search": lambda: BeamSearch(setting.generator(), k),
        }
        test = {name: judged(name, "test", build) for name, build in methods.items()}
        times = [
            row(f"batch {b}", lambda b=b: setting.times(b) | {"load": load()}) for b in config.timed
        ]
        inside = np.asarray(row("linearity", setting.linearity)["cosines"])
        known = None
        if config.knower is not None:
            source, asked = open_model(config.knower), Facts.of(config.facts, config.seed)
            knower = Knower(source, asked, k, config.batch, config.seed)
            known = row("facts", lambda: knower.measure(config.temperatures))
    rows = table(test, times, config) + [
        {"method": f"layer {layer + 1}", "cosine, steps 1-10": float(values[:10].mean())}
        for layer, values in enumerate(inside)
    ]
    rows[0] |= {"alpha": alpha, "temperature": heat}
    if config.out is not None:
        draw(Path(config.out) / "figure.png", test, times, inside, config)
    if known is not None:
        rows += facts.rows(known)
    evidence = {
        "test": {name: test[name] for name in ("superposed", FEWER, "nucleus")},
        "times": times,
        "inside": inside,
        "known": known and {"right": {n: known["right"][n] for n in ("superposed", "greedy")}},
    }
    return Report.of(claims, config, evidence, rows, finished.seconds)
