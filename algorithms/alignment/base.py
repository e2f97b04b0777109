"""Responses of the base policy, drawn once: what calibration and distillation learn from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.alignment.calibration import plain
from algorithms.selection.best_of_n import BestOfN
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.distributed import primary
from jaxdecode.fingerprint import fingerprint
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.responses import judge
from jaxdecode.scoring import Scorer

Arrays = np.ndarray
POOL = ("tokens", "length", "logprob", "score")  # fields of best-of-N's pool that are wanted


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
    folder: Path | None = None,
) -> Responses:
    """`samples` responses to each prompt; prompt p has id p.

    Args:
      batch: prompts at a time; `wave` as in `BestOfN`.
      watch: called with the number of prompts that are done.
      folder: what is drawn is kept there batch by batch, under a fingerprint of all that it
        depends on, and is not drawn again.
    Raises:
      ValueError: for prompts that the generator refuses.
    """
    decoder, pools, done = BestOfN(generator, scorer, samples, wave), [], 0
    made = ""
    if folder is not None:
        made = fingerprint(plain(generator), scorer, [list(p) for p in prompts], samples, seed)
    watch(0)
    for block, count in blocks(prompts, batch):
        file = None if folder is None else folder / f"{made}-{done}-{count}.npz"
        if file is not None and file.is_file():
            with np.load(file) as stored:
                pools.append([stored[name] for name in POOL])
        else:
            pool = jax.device_get(decode(decoder, seed, block)).trace
            pools.append([np.asarray(getattr(pool, name))[:count] for name in POOL])
            if file is not None and primary():
                _keep(file, dict(zip(POOL, pools[-1], strict=True)))
        done += count
        watch(done)
    return Responses(*(np.concatenate(parts) for parts in zip(*pools, strict=True)))


def judged(
    scorer: Scorer, prompts: Sequence[Sequence[int]], found: Responses, batch: int = 16
) -> Arrays:
    """What another scorer says of the responses to these prompts: f64[P, K]."""
    rewards, first = [], 0
    for block, count in blocks(prompts, batch):
        at = np.minimum(first + np.arange(block.batch), len(prompts) - 1)
        some = jnp.asarray(found.tokens[at]), jnp.asarray(found.length[at])
        rewards.append(np.asarray(judge(scorer, block, *some), np.float64)[:count])
        first += count
    return np.concatenate(rewards)


def _keep(file: Path, arrays: dict[str, Arrays]) -> None:
    """Store arrays, all or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.tmp")
    with beside.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    os.replace(beside, file)
