"""What the experiments on draft trees share: a pair of models, their laws, how to count.

A `Pair` is a field with the temperature of its target. Every measurement draws with the same
key, prompt by prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np

from algorithms.speculative.drafters.ranked import Ranked
from experiments.harness.statistics import Estimate, bootstrap
from experiments.speculative.speculation import Counts, Field, counts, open_field, questioned
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.lm import LanguageModel, extend
from jaxdecode.logits import Identity, LogitsTransform, Temperature
from jaxdecode.plain import Autoregressive
from jaxdecode.sampling import Categorical, Greedy, Sampler
from jaxdecode.speculate import Speculator
from jaxdecode.types import Array, Float, Int

# For a machine on which a pass over eight tokens costs half as much again as one over a single
# token: the most useful nodes of a tree of ranks, and of one for two heads.
SMALL = (-1, -1, 0, 0, 2, 4)
PAIRS = Ranked.of([(0,), (1,), (2,), (0, 0), (0, 1), (1, 0)])


def field_of(
    prompts: int,
    max_tokens: int,
    target: str | None,
    draft: str | None,
    questions: Path | None,
    split: str | None = None,
) -> Field:
    """The standard library's pair and held-out prompts, or checkpoints and questions by path.

    Args:
      split: "test" and "validation" share no prompt; None for the test files of the library,
        or for all questions.

    Raises:
      ValueError: if only some of the paths are given.
    """
    given = (target, draft, questions)
    if given == (None, None, None):
        return open_field("stdlib", prompts, max_tokens, split or "test")
    if target is None or draft is None or questions is None:
        raise ValueError(
            f"target={target}, draft={draft}, questions={questions}: give all three, or none for "
            "the zoo's models of the standard library"
        )
    return questioned(questions, prompts, max_tokens, target, draft, split)


@dataclass(frozen=True)
class Pair:
    """A field whose target samples at a temperature, or is greedy at 0."""

    field: Field
    temperature: float
    batch: int
    seed: int

    @property
    def generator(self) -> Generator:
        return self.field.generator(*law(self.temperature))

    def counts(self, speculator: Speculator) -> Counts:
        """Decode the prompts, once."""
        decoder = Autoregressive(speculator)
        results = [decode(decoder, self.seed, prompt) for prompt in self.field.batches(self.batch)]
        return counts(results, len(self.field.prompts))

    def measure(self, speculator: Speculator) -> dict[str, Any]:
        """What decoding the prompts came to."""
        return summary(self.counts(speculator))


def summary(found: Counts) -> dict[str, Any]:
    """Counts as a row, with how far chance may have moved the tokens a pass."""
    return {
        "tokens_per_call": found.per_call,
        "error": spread(found.emitted, found.passes),
        "nodes": float(found.drafted.sum() / found.passes.sum()),
        "draft_passes": found.drafts_per_call,
        "acceptance": found.acceptance,
        "calls": float(found.passes.sum()),
        "by prompt": found.by_prompt(),
    }


def law(temperature: float) -> tuple[Sampler, LogitsTransform]:
    """Sampler and edits of a temperature; all above 0 make one program."""
    return (Greedy(), Identity()) if temperature == 0 else (Categorical(), Temperature(temperature))


def spread(emitted: np.ndarray, passes: np.ndarray) -> float:
    """Standard error of sum(emitted) / sum(passes), prompts being independent."""
    ratio = emitted.sum() / passes.sum()
    return float(np.sqrt(np.sum((emitted - ratio * passes) ** 2)) / passes.sum())


@partial(jax.jit, static_argnames="skip")
def _read(model: LanguageModel, tokens: Int[Array, "B T"], skip: int) -> Float[Array, "M V"]:
    cache = model.init_cache(*tokens.shape)
    found = extend(model, tokens, cache, fresh=True).logits[:, skip:]
    return found.reshape(-1, found.shape[2])


def logits(field: Field, skip: int = 8) -> tuple[Float[Array, "M V"], Float[Array, "M V"]]:
    """What target and draft say at every place of the prompts, but the first `skip` of each."""
    width = min(map(len, field.prompts))
    tokens = np.array([prompt[:width] for prompt in field.prompts], np.int32)
    return _read(field.target, tokens, skip), _read(field.draft, tokens, skip)


def laws(field: Field, target: float, draft: float) -> tuple[Array, Array]:
    """Their laws at two temperatures above 0."""
    big, small = logits(field)
    return jax.nn.softmax(big / target), jax.nn.softmax(small / draft)


def speed_up(tokens: float, passes: float, cost: float) -> float:
    """Modelled: plain decoding's time over that of drafts, if a pass of the target takes the same
    time whatever it verifies, and a pass of the draft model `cost` of that."""
    return tokens / (1 + cost * passes)


def over_prompts(
    statistic: Callable[..., float],
    *rows: Mapping[str, Any],
    cost: float | Sequence[float] = 0.0,
    of: str = "draft_passes",
    unit: str = "x",
) -> Estimate:
    """A statistic of the modelled speed-ups of several rows, over the prompts that all share.

    Args:
      statistic: (speed-up of each row) -> value.
      rows: those of `Pair.measure`, or any with the counts of each prompt.
      cost: of a pass of the draft model, in passes of the target, of all rows or of each; 0 for
        tokens a pass.
      of: the counts that cost so much.
    """
    names = ("emitted", "passes", of)
    arrays = [row["by prompt"][name] for row in rows for name in names]

    def drawn(*found: np.ndarray) -> float:
        sums = np.array([array.sum() for array in found]).reshape(-1, len(names))
        return statistic(*(sums[:, 0] / (sums[:, 1] + np.asarray(cost) * sums[:, 2])))

    return bootstrap(drawn, *arrays, unit=unit)


def gain(row: Mapping[str, Any], other: Mapping[str, Any], cost: float = 0.0) -> Estimate:
    """Times the tokens a pass of another row, or its modelled speed-up."""
    return over_prompts(lambda own, its: own / its, row, other, cost=cost)


def rises(rows: Sequence[Mapping[str, Any]]) -> list[Estimate]:
    """The gain of every row over the one before: all above 1 where a series rises."""
    return [gain(later, earlier) for earlier, later in pairwise(rows)]
