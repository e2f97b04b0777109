"""The setting of the experiment on PEARL: pairs of models, in turn and in parallel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.pearl import pearl
from algorithms.speculative.policies.fixed import Fixed
from algorithms.speculative.verifiers.residual import Residual
from experiments.harness.report import Out, Seed
from experiments.speculative.speculation import counts
from experiments.speculative.trees import Pair, field_of
from jaxdecode.decoder import decode
from jaxdecode.plain import Autoregressive
from jaxdecode.speculate import Speculator
from models.transformer import Transformer, arrays_of


@dataclass(frozen=True)
class Config:
    """What is decoded.

    Attributes:
      prompts, max_tokens, batch: texts, their length, how many at a time.
      ratios: c, of the modelled clocks.
      windows: of PEARL; those that are in `ratios` are the recommended ones.
      lengths: draft lengths of speculative decoding.
      noise: of each stand-in draft, relative to the spread of each of the target's arrays.
      ablated: the window of ablations and of the comparison with greedy decoding.
      exchange: time of bringing both models together in a step, in the second table.
      target, draft, questions: folders of checkpoints and a file of questions, else the zoo.
    """

    prompts: int = 32
    max_tokens: int = 48
    batch: int = 32
    ratios: tuple[int, ...] = (3, 5, 8)
    windows: tuple[int, ...] = (2, 3, 5, 8, 10)
    lengths: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10)
    noise: tuple[float, ...] = (0.2, 0.05)
    ablated: int = 5
    exchange: float = 0.05
    target: str | None = None
    draft: str | None = None
    questions: Path | None = None
    seed: Seed = 0
    out: Out = None


def noisy(model: Transformer, amount: float, seed: int) -> Transformer:
    """The model with noise in every array of more than one axis."""
    arrays = {}
    for place, (path, array) in enumerate(arrays_of(model).items()):
        noise = jax.random.normal(jax.random.key(seed + place), array.shape, array.dtype)
        spread = amount * float(array.std()) if array.ndim > 1 else 0.0
        arrays[path] = array + spread * noise
    return Transformer(model.config, arrays=arrays)


def pairs(config: Config) -> dict[str, Pair]:
    """The target beside each draft."""
    c = config
    field = field_of(c.prompts, c.max_tokens, c.target, c.draft, c.questions)
    # Nothing is timed, and a loop over layers is compiled sooner.
    target = field.target.configured(unroll=False)
    field = replace(field, target=target)
    drafts = {"draft model": field.draft}
    drafts |= {f"target with {x:g} noise": noisy(target, x, c.seed) for x in c.noise}
    return {name: Pair(replace(field, small=d), 1.0, c.batch, c.seed) for name, d in drafts.items()}


def in_turn(pair: Pair, longest: int, length: int) -> Speculator:
    """Speculative sampling with drafts of one length; all lengths are one program."""
    generator = pair.generator
    drafter = Chain(pair.field.draft, longest, generator.transform, generator.sampler)
    return Speculator(generator, drafter, Residual(), Fixed(length))


def parallel(pair: Pair, window: int, **ablation: bool) -> Speculator:
    return pearl(pair.generator, pair.field.draft, window, **ablation)


def measure(pair: Pair, speculator: Speculator) -> dict[str, Any]:
    """Counts; `row` is how many drafts were accepted one after the other, on average."""
    found = pair.counts(speculator)
    emitted, passes = float(found.emitted.sum()), float(found.passes.sum())
    return {
        "tokens": emitted,
        "passes": passes,
        "drafts": float(found.draft_passes.sum()),
        "accepted": float(found.accepted.sum()),
        "drafted": float(found.drafted.sum()),
        "by prompt": found.by_prompt(),
    }


def rejections(found: dict[str, Any], window: int) -> float:
    """How many segments a run of PEARL had, from its counts: a step emits what it accepts and
    one token more, which is a guess that held or the correction that ends a segment, and a
    window within a text is pending after each guess that held."""
    pending = found["drafted"] / max(window - 1, 1)
    return max(found["passes"] - pending, 1.0)


def same_text(config: Config, pair: Pair) -> dict[str, Any]:
    """Greedy decoding beside the target's own."""
    still = replace(pair, temperature=0.0)
    mine = still.counts(parallel(still, config.ablated))
    decoder = Autoregressive(still.generator)
    plain = [decode(decoder, config.seed, p) for p in still.field.batches(config.batch)]
    other = counts(plain, len(still.field.prompts), 0.0)
    same = [np.array_equal(a, b) for a, b in zip(mine.tokens, other.tokens, strict=True)]
    return {"share": float(np.mean(same))}
