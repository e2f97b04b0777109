"""Self-certainty: best-of-N and votes with the model's own certainty as the only judge.

Claim (Kang et al. 2025, arXiv 2502.18581): picking the response with the largest mean
KL(uniform || p) beats greedy decoding and picking by perplexity, and goes on improving with N;
votes weighted by its rank (Borda) beat the majority vote.

    python -m experiments self_certainty --preset cpu

Multi-step arithmetic by the zoo's generator, 64 responses to each question at temperature 0.6
and top-p 0.9, as published. Every rule chooses among the same random subsets of the responses;
what is said to beat something does so with a 95 % bootstrap interval over questions above
zero. Borda votes take the advised powers, and powers chosen on validation questions; the claims
are judged on test questions. About 3 minutes on two cores, most of it sampling. The preset
`paper` takes a published checkpoint and GSM8K's JSON lines by path.

"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.harness.response_pool import ResponsePool
from experiments.selection.self_certainty.findings import Evidence, claims
from experiments.selection.self_certainty.setting import Config, Setting, measure
from experiments.selection.self_certainty.votes import Findings, draw
from experiments.tasks.task import Example, Split

PRESETS = {
    "smoke": Config(questions=16, validation=8, samples=16, sizes=(1, 4, 16), repetitions=5),
    "cpu": Config(),
    "paper": Config(
        generator="Llama-3.1-8B-Instruct",
        data=Path("gsm8k"),
        questions=1319,
        validation=200,
        repetitions=5,
        batch=1,
        max_tokens=1024,
        cache_growth=4,
    ),
}


def run(config: Config) -> Report:
    """Validation questions, then test questions, then every rule on every number of responses."""
    return study(Setting.of(config))


def study(setting: Setting) -> Report:
    """`run` with the model and the task at hand."""
    config = setting.config
    splits: dict[Split, list[Example]] = {
        split: setting.questions(split) for split in ("validation", "test")
    }
    batches = sum(-(-len(examples) // config.batch) for examples in splits.values())
    found: dict[Split, list[dict[str, Any]]] = {"validation": [], "test": []}
    base, offset = None, 0
    with Resumption(config) as finished, Progress("self-certainty", batches) as progress:
        for split, examples in splits.items():
            for at in range(0, len(examples), config.batch):
                some = examples[at : at + config.batch]
                key = f"{split} questions from {at}"
                found[split].append(
                    finished.row(key, partial(measure, setting, some, offset + at, base))
                )
                progress.advance(note=key)
            if split == "validation":
                counts = np.sum([row["counts"] for row in found[split]], axis=0)
                base = jnp.asarray(counts / counts.sum(), jnp.float32)
            offset += len(examples)
    pools = {
        split: ResponsePool.of([question for row in rows for question in row["questions"]])
        for split, rows in found.items()
    }
    return analyse(config, pools["validation"], pools["test"], finished.seconds)


def analyse(config: Config, validation: ResponsePool, test: ResponsePool, seconds: float) -> Report:
    """Claims, table and figure from what was drawn."""
    found = Findings.of(config.plan, validation, test)
    if config.out is not None:
        draw(Path(config.out) / "figure.png", found)
    return Report.of(claims, config, vars(Evidence.of(found)), found.table(), seconds)
