"""What edits of the logits cost beside a step of the model.

    python -m experiments sampler_bench --preset cpu

Every transform edits, and takes note of a token, over a vocabulary of 128,256 tokens, at batch 1
and 64. Its time is compared with that of a step of a model of 1.24 billion bfloat16 weights on
the same machine in the same run: the longer of reading the weights once and of their arithmetic
at the rates measured here. Goal: at most 5 % of the step for each. The bytes are the compiler's
count for the program, loops counted once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.tokens.mirostat import Mirostat, MirostatTopK
from algorithms.tokens.momentum_decoding import Momentum
from experiments.harness.measuring.timing import arithmetic_rate, interleaved, read_rate
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Resumption, Seed, figure
from jaxdecode import logits
from jaxdecode.logits import LogitsTransform, noted
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical

GOAL = 0.05
READ = 200_000_000  # bytes of the matrix that the rate of reading is measured with


@dataclass(frozen=True)
class Config:
    """What is timed.

    Attributes:
      vocab, batches: tokens, and rows edited together.
      parameters, bytes_each: of the model whose step is compared with.
      context, new: tokens of the text that penalties look back at.
      repeats: rounds; the fastest counts.
    """

    vocab: int = 128_256
    batches: tuple[int, ...] = (1, 64)
    parameters: int = 1_236_000_000
    bytes_each: int = 2
    context: int = 512
    new: int = 512
    repeats: int = 5
    seed: Seed = 0
    out: Out = None


PRESETS = {
    "smoke": Config(vocab=8_192, batches=(1, 4), context=32, new=32, repeats=2),
    "cpu": Config(),
    "paper": Config(repeats=20),
}


def transforms(config: Config) -> dict[str, LogitsTransform]:
    """By name; `draw` is the draw itself, which every method needs."""
    vocab, new = config.vocab, config.new
    return {
        "temperature": logits.Temperature(0.8),
        "top-k": logits.TopK(40),
        "top-p": logits.TopP(0.9),
        "min-p": logits.MinP(0.05),
        "typical": logits.Typical(0.9),
        "top-n-sigma": logits.TopNSigma(1.0),
        "xtc": logits.ExcludeTop(0.1, 0.5),
        "dynamic temperature": logits.DynamicTemperature(0.5, 1.5),
        "quadratic smoothing": logits.QuadraticSmoothing(0.3),
        "repetition penalty": logits.RepetitionPenalty(1.2, vocab),
        "dry": logits.Dry(0.8, new),
        "mirostat": Mirostat(3.0),
        "mirostat 1": MirostatTopK(3.0),
        "momentum": Momentum.of(new),
    }


@jax.jit
def edit(transform: LogitsTransform, state: Any, row: Any) -> Any:
    """What one step asks of a transform."""
    edited = transform.apply(state, row)
    token = jnp.zeros((row.shape[0],), jnp.int32)
    return edited, noted(transform, state, row, token, token == 0)


@jax.jit
def draw(keys: Any, row: Any) -> Any:
    return Categorical()(keys, row)


def step_seconds(config: Config) -> dict[int, float]:
    """Seconds of a step of the model, by batch."""
    reading = config.parameters * config.bytes_each / read_rate(READ)
    arithmetic = 2.0 * config.parameters / arithmetic_rate()
    return {batch: max(reading, batch * arithmetic) for batch in config.batches}


def measure(config: Config, batch: int) -> dict[str, Any]:
    """Seconds and bytes of every transform."""
    rng = np.random.default_rng(config.seed)
    row = jnp.asarray(2.5 * rng.normal(size=(batch, config.vocab)), jnp.float32)
    prompt = Prompt.of(rng.integers(0, config.vocab, (batch, config.context)).tolist())
    keys = jax.random.split(jax.random.key(0), batch)
    calls: dict[str, Any] = {"draw": lambda: draw(keys, row)}
    sizes = {}
    for name, transform in transforms(config).items():
        state = jax.jit(lambda transform: transform.init(prompt))(transform)
        program = edit.lower(transform, state, row).compile()
        calls[name] = partial(program, transform, state, row)
        sizes[name] = _bytes(program.cost_analysis())
    taken = interleaved(calls, config.repeats)
    return {
        name: {"seconds": min(times), "bytes": sizes.get(name)} for name, times in taken.items()
    }


def _bytes(analysis: Any) -> float | None:
    found = analysis[0] if isinstance(analysis, list) else analysis
    return found.get("bytes accessed") if isinstance(found, Mapping) else None


def run(config: Config) -> Report:
    """Every transform at every batch."""
    rows = []
    with Resumption(config) as finished, Progress("samplers", len(config.batches)) as progress:
        steps = finished.row("step", lambda: {str(b): s for b, s in step_seconds(config).items()})
        for batch in config.batches:
            row = finished.row(f"batch {batch}", lambda batch=batch: measure(config, batch))
            for name, found in row.items():
                rows.append(
                    {
                        "transform": name,
                        "batch": batch,
                        "milliseconds": 1e3 * found["seconds"],
                        "share of a step": found["seconds"] / steps[str(batch)],
                        "megabytes": None if found["bytes"] is None else found["bytes"] / 1e6,
                        "step, milliseconds": 1e3 * steps[str(batch)],
                    }
                )
            progress.advance(note=f"batch {batch}")
    if config.out is not None:
        _draw(Path(config.out) / "figure.png", config, rows)
    return Report.of(claims, config, rows, seconds=finished.seconds)


def claims(config: Config, rows: list[dict[str, Any]]) -> list[Claim]:
    result = []
    for batch in config.batches:
        own = [r for r in rows if r["batch"] == batch and r["transform"] != "draw"]
        over = [r["transform"] for r in own if r["share of a step"] > GOAL]
        worst = max(own, key=lambda r: r["share of a step"])
        told = f"at most {100 * worst['share of a step']:.1f} %, {worst['transform']}"
        told += f"; over it: {', '.join(over) or 'none'}"
        result.append(
            Claim(
                f"no transform takes more than {100 * GOAL:g} % of a step at batch {batch}",
                "a goal of this project",
                told,
                not over,
            )
        )
    return result


def _draw(path: Path, config: Config, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(row["transform"] for row in rows))
    places = np.arange(len(names))
    with figure(path, width=7.5, height=4.2) as (axes,):
        for index, batch in enumerate(config.batches):
            shares = [100 * r["share of a step"] for r in rows if r["batch"] == batch]
            offset = 0.4 * (index - (len(config.batches) - 1) / 2)
            axes.barh(places + offset, shares, 0.38, color=f"C{index}", label=f"batch {batch}")
        axes.axvline(100 * GOAL, color="#555555", linestyle=":", label=f"{100 * GOAL:g} %")
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set(xscale="log", xlabel="share of a step of a model of 1.2 billion weights, %")
