"""Hyperfitting: overfit a few texts, and greedy text stops repeating itself.

Claim (Carlsson et al. 2025, arXiv 2412.04318): a model trained on a tiny set of texts until its
training loss is near zero, long past the lowest validation loss, writes greedy text that is
lexically rich and that people prefer to the original's, greedy or by nucleus sampling.

    python -m experiments hyperfitting --preset cpu

The zoo's model of standard-library source overfits 64 pieces of it and goes on from held-out
contexts: type-token ratio over 96 greedy tokens against training loss. Beside it the original
(greedy, nucleus, at the temperature of equal entropy), the same training on texts that never come
twice, the weights of lowest validation loss, other orders of the texts, fewer texts, and text
that may not cite the training set. No people judge here: how near the diversity is to that of
real text stands in for their preference. A rate of 1e-3 takes the place of 1e-6, at which a model
of this size does not move. Citations are blocked token by token, where the paper lets a word end.
About 4 minutes on two cores. The preset `paper` takes TinyLlama and stories by path.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.alignment.hyperfitting.figure import draw
from experiments.alignment.hyperfitting.findings import Findings, Row, claims
from experiments.alignment.hyperfitting.predictions import matching_temperature
from experiments.alignment.hyperfitting.setting import Config, Setting, Tokens
from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.harness.resumption import fingerprint
from jaxdecode.logits import NoCitation
from jaxdecode.train.fit import Checkpoints

PRESETS = {
    "smoke": Config(
        generator="stdlib-draft",
        cap=400_000,
        rate=5e-3,
        updates=60,
        texts=16,
        sizes=(8,),
        orders=2,
        stages=3,
        contexts=16,
        tokens=64,
        counted=64,
    ),
    "cpu": Config(),
    "paper": Config(
        generator="TinyLlama-1.1B",
        data=Path("fiction-stories"),
        rate=1e-6,
        updates=5000,
        texts=2000,
        width=256,
        sizes=(8, 16, 64, 256),
        stages=20,
        contexts=300,
        tokens=224,
    ),
}


def train(setting: Setting, finished: Resumption, name: str, texts: Tokens, order: int) -> Any:
    """Hyperfit to `texts`; the last stage, of the first run every stage, is measured."""
    config, recipe = setting.config, setting.recipe(order)
    store = None if config.out is None else Checkpoints(_trained(config) / name, config.every)

    def visit(step: int, model: Any) -> None:
        if step == config.updates or name == "hyperfitted":
            own = texts[: config.texts]
            finished.row(f"{name}, {step}", partial(setting.measure, model, own))

    batches = recipe.batches(texts)
    return recipe(setting.model, batches, store, watch_every=config.every, visit=visit)


def measured(config: Config, finished: Resumption, name: str, step: int) -> Row:
    """What `train` measured; on resuming, before it was stopped."""

    def missing() -> Row:
        raise ValueError(
            f"out={config.out}: its weights of '{name}' are of step {step} or later, which its "
            "metrics.jsonl does not hold; delete the folder and run again"
        )

    return finished.row(f"{name}, {step}", missing)


def _trained(config: Config) -> Path:
    """Weights of unfinished runs, of this configuration and code alone."""
    return Path(config.out or ".") / "trained" / fingerprint(config)


def sharpened(setting: Setting, entropy: float) -> Row:
    """The original made more certain: by nucleus sampling, and by a temperature at which its
    mean entropy is that of another model."""
    config, model = setting.config, setting.model
    found = matching_temperature(model, setting.held_out, config.batch, entropy)

    def sampled(temperature: float, top_p: float) -> Row:
        rules = {"sampled": True, "temperature": temperature, "top_p": top_p}
        return setting.text(setting.write(model, **rules))

    return {
        "temperature": found,
        "greedy": setting.write(model, temperature=found),
        "nucleus": sampled(1.0, config.top_p),
        "matched": sampled(found, 1.0),
    }


def run(config: Config) -> Report:
    """The original, every training run, and what is made of them."""
    return study(Setting.of(config))


def study(setting: Setting) -> Report:
    """`run` with the model and the texts at hand."""
    config, texts, model = setting.config, setting.texts, setting.model
    ordered = {"hyperfitted": 0} | {f"order {order}": order for order in range(1, config.orders)}
    runs: dict[str, tuple[Tokens, int]] = {name: (texts, o) for name, o in ordered.items()}
    runs |= {"fresh texts": (setting.fresh, 0)}
    runs |= {f"{size} texts": (texts[:size], 0) for size in config.sizes}
    with Resumption(config) as finished, Progress("hyperfitting", len(runs) + 2) as progress:
        base = finished.row("original", partial(setting.measure, model, texts))
        rows = {"human": setting.text(setting.human()), "original": base}
        progress.advance(note="original")
        for name, (chosen, order) in runs.items():
            fitted = train(setting, finished, name, chosen, order)
            rows[name] = measured(config, finished, name, config.updates)
            if name == "hyperfitted":
                rows["no citations"] = finished.row("blocked", partial(blocked, setting, fitted))
            progress.advance(note=name)
        curve = [base, *(measured(config, finished, "hyperfitted", s) for s in config.steps[1:])]
        entropy = rows["hyperfitted"]["entropy"]
        sharp = finished.row("sharpened", partial(sharpened, setting, entropy))
        progress.advance(note="sharpened")
        if config.out is not None:
            shutil.rmtree(_trained(config).parent)
    rows |= {"nucleus": sharp["nucleus"], "entropy matched": sharp["matched"]}
    rows["lowest validation loss"] = min(curve, key=lambda row: row["loss"])
    tops = np.array([rows[name]["top"] for name in ("original", *ordered)])
    agreement = np.mean(tops[:, None] == tops, axis=(2, 3))
    same = float(np.mean(np.all(np.equal(sharp["greedy"], base["tokens"]), axis=1)))
    found = Findings(config, rows, curve, agreement, sharp["temperature"], same)
    if config.out is not None:
        draw(Path(config.out) / "figure.png", found)
    return Report.of(claims, config, found.evidence(), found.table(), finished.seconds)


def blocked(setting: Setting, model: Any) -> Row:
    """The text of a model that may not go on as its training texts do."""
    block = NoCitation.of(setting.texts.tolist(), model.vocab_size, setting.config.n)
    return setting.text(setting.write(model, block=block))
