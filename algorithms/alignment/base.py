"""Responses of the base policy, drawn once: what calibration and distillation learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from algorithms.selection.best_of_n import BestOfN
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.scoring import Scorer

Arrays = np.ndarray


@dataclass(frozen=True)
class Responses:
    """K responses to each of P prompts.

    Attributes:
      tokens: i32[P, K, L].
      length: i32[P, K].
      logprob: f32[P, K], under the model that drew them.
      reward: f32[P, K].
    """

    tokens: Arrays
    length: Arrays
    logprob: Arrays
    reward: Arrays

    def extremes(
        self, prompts: Arrays, samples: int, rng: np.random.Generator
    ) -> tuple[Arrays, Arrays]:
        """Which are the best and the worst of `samples` drawn without replacement: i32[B] each."""
        if samples > self.reward.shape[1]:
            raise ValueError(
                f"samples={samples} exceed the {self.reward.shape[1]} responses of a prompt"
            )
        order = np.argsort(rng.random((len(prompts), self.reward.shape[1])), axis=1)[:, :samples]
        rewards = np.take_along_axis(self.reward[prompts], order, axis=1)
        row = np.arange(len(prompts))
        return order[row, rewards.argmax(axis=1)], order[row, rewards.argmin(axis=1)]


def blocks(prompts: Sequence[Sequence[int]], batch: int) -> Iterator[tuple[Prompt, int]]:
    """Prompts p with id p, `batch` at a time and of one shape; how many of them are new.

    Raises:
      ValueError: there are no prompts, or an empty one.
    """
    if len(prompts) == 0:
        raise ValueError("prompts: none given; pass at least one")
    width, batch = bucket(max(map(len, prompts))), min(batch, len(prompts))
    for first in range(0, len(prompts), batch):
        ids = [min(first + i, len(prompts) - 1) for i in range(batch)]
        block = Prompt.of([prompts[i] for i in ids], ids, width)
        yield block, min(batch, len(prompts) - first)


def draw(
    generator: Generator,
    scorer: Scorer,
    prompts: Sequence[Sequence[int]],
    samples: int,
    seed: int,
    batch: int = 16,
    wave: int | None = None,
    watch: Callable[[int], None] = lambda done: None,
) -> Responses:
    """`samples` responses to each prompt; prompt p has id p.

    Args:
      batch: prompts at a time; `wave` as in `BestOfN`.
      watch: called with the number of prompts that are done.
    Raises:
      ValueError: for prompts that the generator refuses.
    """
    decoder, pools, done = BestOfN(generator, scorer, samples, wave), [], 0
    names = ("tokens", "length", "logprob", "score")
    for block, count in blocks(prompts, batch):
        pool = jax.device_get(decode(decoder, seed, block)).trace
        pools.append([getattr(pool, name)[:count] for name in names])
        done += count
        watch(done)
    return Responses(*(np.concatenate(parts) for parts in zip(*pools, strict=True)))
