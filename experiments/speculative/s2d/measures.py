"""What the experiment on S2D measures: ways of leaving a draft, decoded and priced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from algorithms.speculative.s2d import s2d
from experiments.speculative.s2d.setting import Config, Setting, price
from experiments.speculative.trees import law
from experiments.zoo.recipe import as_dict, held_out
from jaxdecode import autoregress
from jaxdecode.decoder import decode
from jaxdecode.prompt import Prompt
from jaxdecode.speculate import Speculator
from jaxdecode.train.nested import Sorted
from models.transformer import Transformer


@jax.jit
def generated(spec: Speculator, key, prompt: Prompt):
    """The account of decoding, and what the drafter remembers of it."""
    rows = autoregress.generate(spec, key, prompt)
    return rows.usage, rows.speculation[0], rows.tokens


def plain(setting: Setting, target: Transformer) -> list[Any]:
    """The greedy text of a target, batch by batch."""
    field, c = replace(setting.field, target=target), setting.config
    return [decode(field.plain(), c.seed, prompt).tokens for prompt in field.batches(c.batch)]


def measure(
    setting: Setting,
    target: Transformer,
    draft: Transformer,
    thresholds: tuple[float, ...],
    temperature: float,
    texts: list[Any],
) -> dict[str, Any]:
    """Decode the prompts, and price what was run. A sub-model of a fixed depth asks no other.

    `texts` is the target's own greedy text.
    """
    c, same = setting.config, []
    parts: dict[str, list[np.ndarray]] = {}
    field = replace(setting.field, target=target)
    spec = s2d(field.generator(*law(temperature)), draft, c.exits, thresholds, c.length)

    for prompt, text in zip(field.batches(c.batch), texts, strict=True):
        usage, state, tokens = generated(spec, jax.random.key(c.seed), prompt)
        same.append(np.all(np.asarray(tokens == text), axis=1))
        now = {
            "emitted": usage.emitted,
            "passes": usage.histogram.sum(axis=1),
            "runs": state.levels.runs,
            "exits": state.exits,
        }
        for name, value in now.items():
            parts.setdefault(name, []).append(np.asarray(value, np.float64))
    # The last batch is filled up with copies.
    each = {name: np.concatenate(found)[: len(field.prompts)] for name, found in parts.items()}
    layers = np.diff([0, *c.exits])
    layer, output = price(draft)
    own_layer, own_output = price(target)
    one = target.config.layers * own_layer + own_output
    fixed = len(set(thresholds)) <= 2 and set(thresholds) <= {0.0, 1.0}
    asks = np.ones(len(c.exits)) if fixed else 1 + np.arange(len(c.exits))
    drafting = (each["runs"] @ layers * layer + each["exits"] @ asks * output) / one
    exits = each["exits"].sum(axis=0)
    emitted, passes = each["emitted"].sum(), each["passes"].sum()
    return {
        "accepted per call": float(emitted / passes),
        "mean depth": float(exits @ np.array(c.exits) / exits.sum()),
        "exits": (exits / exits.sum()).tolist(),
        "speed-up": float(emitted / (passes + drafting.sum())),
        "by prompt": {
            "emitted": each["emitted"].astype(int),
            "passes": each["passes"].astype(int),
            "drafting": drafting,
        },
    } | ({} if temperature else {"same text": float(np.mean(np.concatenate(same)))})


def ways(config: Config) -> dict[str, tuple[str, tuple[float, ...]]]:
    """Name -> which draft and thresholds. A threshold of 1 is never passed, of 0 always."""
    last = len(config.exits) - 1
    found = {}
    for kind in ("SoFT", "SFT"):
        for place, exit in enumerate(config.exits):
            bars = (1.0,) * place + (0.0,) * (last - place + 1)
            found[f"{kind}, {exit} layers"] = (kind, bars)
    for bars in config.thresholds:
        found[f"S2D, {', '.join(f'{bar:g}' for bar in bars)}"] = ("SoFT", (*bars, 0.0))
    return found


def losses(setting: Setting, draft: Transformer) -> dict[str, float]:
    """Held-out loss of every sub-model."""
    score = held_out(Sorted(setting.config.exits), lambda: as_dict(setting.windows("validation")))
    return score(draft)
