"""Speculative rejection: the reward of best-of-N for a fraction of its compute.

Claim (Sun et al. 2024, arXiv 2410.20290): scores of partial responses foretell the final ones,
so dropping the worst fraction whenever memory is full finds responses as good as best-of-N
finds with 16-32 times the compute; here the mark is 8 times, in decoded tokens and in time.

    python -m experiments speculative_rejection --preset cpu

Dialog replies of about 200 tokens from the zoo's generator, judged by its Bradley-Terry
reward model, which was trained on full replies only and is applied to prefixes as it is. The
budget is 16 responses of the greatest length for a prompt. All methods draw sample k of a
prompt from the same key. About 3 minutes on two cores the first time, half of it compiling.
The paper's other score is minus the perplexity of prompt and response. To expect: Pearson 0.6
at 4 tokens and 0.9 at 128; best-of-256 matched at every alpha; 4-6 times fewer tokens, 13-19
times less time.

Speed-up: the compute at which best-of-N has the same mean score, interpolated in log N on the
unbiased estimate for every N from all responses drawn, over what speculative rejection used.
Decoded tokens are those of running rows. Best-of-N is plain batched generation, whose batch
runs until its longest response ends: time counts that, tokens do not. In tokens no method can
gain more than the length of a response over what is decoded before the first cut, here 197 over
23 or 8.6; in the published runs that ratio is far larger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.judging.equal_compute import Baseline, Run
from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.selection.speculative_rejection.figure import draw
from experiments.selection.speculative_rejection.findings import claims
from experiments.selection.speculative_rejection.measures import (
    measure_pool,
    measure_rejection,
    measure_small,
)
from experiments.selection.speculative_rejection.setting import Config, Setting
from jaxdecode.decoder import decode

PRESETS = {
    "smoke": Config(
        prompts=1,
        sizes=(8, 16),
        timed=1,
        wave=8,
        alphas=(0.5,),
        width=16,
        memory=8,
        max_tokens=60,
        cache_growth=1,
    ),
    # A tenth at a time is 27 stages, and compiling those takes a third of all the time.
    "cpu": Config(alphas=(0.3, 0.5, 0.7, 0.9)),
    # The published setting. Give the folders and the prompts:
    #   --config.generator DIR --config.reward DIR --config.input alpaca_eval.jsonl
    "paper": Config(
        generator="",
        reward="",
        prompts=100,
        sizes=(120, 240, 480, 960, 1920, 3840),
        wave=120,
        width=1000,
        max_tokens=7900,
        cache_growth=8,
    ),
}


def improvement(pools: Sequence[dict], scores: np.ndarray, base: int) -> float:
    """100 (1 + mean (score - best) / (best - worst)) of the first `base` responses."""
    gains = []
    for pool, score in zip(pools, scores, strict=True):
        first = np.array(pool["score"][:base])
        if first.max() > first.min():
            gains.append((score - first.max()) / (first.max() - first.min()))
    return 100 * (1 + float(np.mean(gains)))


def run(config: Config) -> Report:
    """Best-of-N at every size, speculative rejection at every alpha, on the same prompts."""
    setting = Setting.of(config)
    steps = config.prompts + len(config.alphas) + len(config.sizes) + 1
    with Resumption(config) as finished, Progress("speculative rejection", steps) as progress:

        def row(key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            found = finished.row(key, measure)
            progress.advance(note=key)
            return found

        warm = setting.best_of(config.wave)
        decode(warm, config.seed, setting.prompt(0)).tokens.block_until_ready()
        pools = [
            row(f"responses to prompt {i}", partial(measure_pool, setting, i))
            for i in range(config.prompts)
        ]
        wave = float(np.median([seconds for pool in pools for seconds in pool["seconds"]]))
        seconds = [
            wave * n / config.wave
            if n >= config.wave
            else row(f"best-of-{n}", partial(measure_small, setting, n))["seconds"]
            for n in config.sizes
        ]
        runs = [
            row(f"alpha {a}", partial(measure_rejection, setting, a, False)) for a in config.alphas
        ]
        likely = row(
            "by likelihood", partial(measure_rejection, setting, config.likelihood_alpha, True)
        )
    return analyse(config, pools, seconds, runs, likely, finished.seconds)


def as_run(found: dict[str, Any], score: Callable[[dict], float]) -> Run:
    """The rows of `measure_rejection`, judged by `score`."""
    rows = found["rows"]
    return Run(
        score=np.array([score(row) for row in rows]),
        tokens=np.array([row["decoded"] for row in rows], float),
        seconds=np.array([row["seconds"] for row in rows]),
    )


def analyse(config, pools, seconds, runs, likely, spent: float) -> Report:
    """Claims, table and figure from the measurements."""
    lengths = [pool["length"] for pool in pools]
    baseline = Baseline.of(config.sizes, [pool["score"] for pool in pools], lengths, seconds)
    rows: list[dict[str, Any]] = []
    for place, n in enumerate(config.sizes):
        chosen = [pool["true"][int(np.argmax(pool["score"][:n]))] for pool in pools]
        rows.append(
            {
                "method": f"best-of-{n}",
                "score": baseline.score[:, place].mean(),
                "improvement": improvement(pools, baseline.score[:, place], config.sizes[0]),
                "true reward": np.mean(chosen),
                "decoded tokens": baseline.tokens[:, place].mean(),
                "seconds": baseline.seconds[place],
            }
        )
    for found in runs:
        method = as_run(found, lambda row: row["score"])
        tokens, wall = baseline.speed_up(method)
        low, high = baseline.interval(method)
        rows.append(
            {
                "method": f"speculative rejection, alpha {found['alpha']}",
                "score": method.score.mean(),
                "improvement": improvement(pools, method.score, config.sizes[0]),
                "true reward": np.mean([row["true"] for row in found["rows"]]),
                "decoded tokens": method.tokens.mean(),
                "seconds": np.median(method.seconds),
                "speed-up in tokens": tokens,
                "95 % (tokens)": f"{low[0]:.1f}..{high[0]:.1f}",
                "speed-up in seconds": wall,
                "95 % (seconds)": f"{low[1]:.1f}..{high[1]:.1f}",
                "scorer tokens": np.mean([row["scorer_tokens"] for row in found["rows"]]),
                "peak / budget": max(row["peak"] for row in found["rows"]) / found["budget"],
            }
        )
    minus = [[-p for p in pool["perplexity"]] for pool in pools]
    by_likelihood = Baseline.of(config.sizes, minus, lengths, seconds)
    method = as_run(likely, lambda row: -row["perplexity"])
    gain, wall = by_likelihood.speed_up(method)
    rows += [
        {
            "method": f"best-of-{n} by likelihood",
            "perplexity": -by_likelihood.score[:, place].mean(),
            "decoded tokens": by_likelihood.tokens[:, place].mean(),
            "seconds": by_likelihood.seconds[place],
        }
        for place, n in enumerate(config.sizes)
    ]
    rows.append(
        {
            "method": f"speculative rejection by likelihood, alpha {likely['alpha']}",
            "perplexity": -method.score.mean(),
            "decoded tokens": method.tokens.mean(),
            "seconds": np.median(method.seconds),
            "speed-up in tokens": gain,
            "speed-up in seconds": wall,
        }
    )
    means = {
        name: np.mean([pool["correlation"][name] for pool in pools], axis=0)
        for name in ("tokens", "pearson", "kendall")
    }
    if config.out is not None:
        draw(Path(config.out) / "figure.png", runs, means, improved(rows))
    evidence = {
        "sizes": config.sizes,
        "tokens": baseline.tokens,
        "seconds": seconds,
        "score": baseline.score,
        "likelihood": by_likelihood.score,
        "runs": {f"alpha {found['alpha']}": kept(found, "score") for found in runs},
        "by likelihood": kept(likely, "perplexity"),
        "correlation": [pool["correlation"]["pearson"] for pool in pools],
        "lengths": means["tokens"],
        "peak": max(row["peak / budget"] for row in rows if "peak / budget" in row),
    }
    return Report.of(claims, config, evidence, rows, spent)


def kept(found: dict[str, Any], score: str) -> dict[str, Any]:
    """What the claims read of a run, by prompt."""
    columns = {"score": score, "tokens": "decoded", "seconds": "seconds"}
    return {name: [row[column] for row in found["rows"]] for name, column in columns.items()}


def improved(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that have an improvement score."""
    return [row for row in rows if "improvement" in row]
