"""Known laws through the engine: what an ideal model's answers are worth, against closed forms."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import binomtest

from algorithms.diffusion.choosers import Factor, Threshold
from algorithms.diffusion.parallelbench import (
    Operation,
    factor_accuracy,
    law,
    sampled_accuracy,
    threshold_accuracy,
)
from experiments.diffusion.parallelbench.setting import Config
from jaxdecode.choose import Fixed, Top
from jaxdecode.decoder import decode
from jaxdecode.denoiser import Denoiser
from jaxdecode.guess import Chooser
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy, Sampler
from jaxdecode.stop import Stop
from jaxdecode.testing.law_model import LawModel
from jaxdecode.unmask import Unmasker

Row = dict[str, Any]


def filled(
    config: Config, operation: Operation, n: int, chooser: Chooser, sampler: Sampler, rows: int
) -> tuple[float, float]:
    """How often the engine's answers are in the law, and its mean passes."""
    right = law(operation, n)
    tokens = int(right.support.max()) + 2
    model = LawModel.of(right, tokens, tokens - 1, first=1)
    places = right.length
    un = Unmasker(Denoiser(model, tokens - 1), chooser, sampler, Stop.of(), places, places)
    key = jax.random.fold_in(jax.random.key(config.seed), n)
    result = jax.device_get(decode(Autoregressive(un), key, Prompt.of([[0]] * rows)))
    known = {tuple(text) for text in right.support.tolist()}
    found = [tuple(text) in known for text in result.tokens[:, :places].tolist()]
    return float(np.mean(found)), float(np.mean(result.usage.target_passes))


def sampled(config: Config, operation: Operation, k: int) -> Row:
    """k places a step, drawn from the exact conditionals in a random order."""
    n, rows = config.items, config.trials if operation != "copy" else 32
    chooser = Top(Fixed(jnp.int32(k)), "random")
    accuracy, passes = filled(config, operation, n, chooser, Categorical(), rows)
    expected = sampled_accuracy(operation, n, k)  # type: ignore[arg-type]
    hits = round(accuracy * rows)
    interval = binomtest(hits, rows).proportion_ci(0.95, "wilson")
    return {
        "part": "known law",
        "task": operation,
        "policy": "random order, drawn",
        "k": k,
        "accuracy": accuracy,
        "low": interval.low,
        "high": interval.high,
        "closed form": expected,
        "p": binomtest(hits, rows, min(max(expected, 0.0), 1.0)).pvalue,
        "passes": passes,
    }


def greedy(config: Config, policy: str, value: float) -> Row:
    """A threshold or the factor rule on replace_random, greedily."""
    n = config.items
    chooser = Threshold(jnp.float32(value)) if policy == "threshold" else Factor(jnp.float32(value))
    accuracy, passes = filled(config, "replace_random", n, chooser, Greedy(), 8)
    row: Row = {"part": "known law", "task": "replace_random", "policy": policy, "value": value}
    if policy == "threshold":
        expected = threshold_accuracy("replace_random", n, value, strict=False)
    else:
        steps, expected = factor_accuracy(n, value)
        row["steps by formula"] = steps
    return row | {"accuracy": accuracy, "closed form": expected, "passes": passes}


def squares(config: Config, k: int) -> Row:
    """All 576 Latin squares of order 4, k cells a step: 22.83 bits of total correlation."""
    chooser = Top(Fixed(jnp.int32(k)), "random")
    accuracy, passes = filled(config, "latin_square", 4, chooser, Categorical(), config.squares)
    interval = binomtest(round(accuracy * config.squares), config.squares).proportion_ci()
    row: Row = {"part": "known law", "task": "latin_square", "policy": "random order, drawn"}
    row |= {"k": k, "accuracy": accuracy, "low": interval.low, "high": interval.high}
    return row | {"passes": passes}
