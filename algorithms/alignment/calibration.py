"""Calibration: a reward as its quantile among the base policy's own responses to the prompt.

    C(x, y) = (1 / K) sum_i w(r(x, y), r(x, z_i)),    z_1..z_K ~ pi_ref(. | x),

with w = 1 for a win and 1/2 for a tie (Balashankar et al. 2024, arXiv 2412.19792): the mid-rank,
unbiased with variance C (1 - C) / K, and the same for every strictly increasing map of the reward.
The K rewards are drawn once, offline, for every prompt, and stored with a fingerprint of what drew
and judged them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.alignment.transforms import Transform, noise
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.fingerprint import fingerprint as mark
from jaxdecode.meter import NoMeter
from jaxdecode.prompt import Prompt
from jaxdecode.responses import score
from jaxdecode.rows import Rows
from jaxdecode.scoring import Scorer
from jaxdecode.types import Array, Float, Int

NOISE = 0.1  # share of noise in a transformed reward that is warned of


@struct.dataclass
class Quantiles:
    """Base rewards of P prompts.

    Attributes:
      rewards: f32[P, K], ascending, +inf beyond `count`.
      count: i32[P].
    """

    rewards: Float[Array, "P K"]
    count: Int[Array, "P"]

    def __call__(self, prompt: Int[Array, "R"], reward: Float[Array, "R"]) -> Float[Array, "R"]:
        """C of responses to prompts of these numbers; NaN where the reward is."""
        base = self.rewards[prompt]
        below = jnp.sum(base < reward[:, None], axis=1)
        upto = jnp.sum(base <= reward[:, None], axis=1)
        rank = 0.5 * (below + upto) / self.count[prompt]
        return jnp.where(jnp.isfinite(reward), rank, jnp.nan)


@struct.dataclass
class CalibratedReward:
    """phi(C) for policy gradients; `Prompt.id` numbers the prompts of the table.

    Attributes:
      scorer: r.
      quantiles: of r under the base policy.
      transform: phi.
    """

    scorer: Scorer
    quantiles: Quantiles
    transform: Transform

    def __call__(self, prompt: Prompt, rows: Rows) -> Float[Array, "R"]:
        group = rows.length.shape[0] // prompt.batch
        quantile = self.quantiles(jnp.repeat(prompt.id, group), score(self.scorer, prompt, rows))
        return self.transform(quantile)


@struct.dataclass
class RawReward:
    """The reward as it is: what is optimised without calibration."""

    scorer: Scorer

    def __call__(self, prompt: Prompt, rows: Rows) -> Float[Array, "R"]:
        return score(self.scorer, prompt, rows)


@dataclass(frozen=True)
class Calibration:
    """A table of base rewards that can be stored and used again.

    Attributes:
      quantiles: the table.
      fingerprint: of base policy, sampling rules, reward and prompts; see `fingerprint`.
    """

    quantiles: Quantiles
    fingerprint: str

    @classmethod
    def of(cls, rewards: np.ndarray, fingerprint: str) -> Calibration:
        """From f32[P, K] rewards of base responses.

        Raises:
          ValueError: a reward is not finite.
        """
        rewards = np.asarray(rewards, np.float32)
        for p, k in np.argwhere(~np.isfinite(rewards)):
            raise ValueError(
                f"rewards[{p}, {k}]={rewards[p, k]}: response {k} to prompt {p} has no finite "
                "reward, so that no quantile is defined; mend the reward or drop the prompt"
            )
        count = np.full(len(rewards), rewards.shape[1], np.int32)
        table = Quantiles(jnp.asarray(np.sort(rewards, axis=1)), jnp.asarray(count))
        return cls(table, fingerprint)

    @property
    def samples(self) -> int:
        """K."""
        return self.quantiles.rewards.shape[1]

    def warn(self, transform: Transform) -> None:
        """Say so where K leaves more than a tenth of the transformed reward's variance as noise."""
        share = noise(transform, self.samples)
        if share > NOISE:
            warnings.warn(
                f"samples={self.samples} base responses a prompt leave {100 * share:.0f} % of the "
                f"variance of {type(transform).__name__} as noise of the calibration; draw more",
                stacklevel=2,
            )

    def save(self, path: Path) -> None:
        """Store it, all or nothing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.tmp")
        with beside.open("wb") as file:
            arrays = jax.device_get(self.quantiles)
            np.savez(
                file,
                rewards=arrays.rewards,
                count=arrays.count,
                fingerprint=np.array(self.fingerprint),
            )
        os.replace(beside, path)

    @classmethod
    def load(cls, path: Path, fingerprint: str) -> Calibration:
        """Open a stored table.

        Raises:
          ValueError: it was made under another base policy, sampling, reward or prompts.
        """
        with np.load(path) as stored:
            made = str(stored["fingerprint"])
            if made != fingerprint:
                raise ValueError(
                    f"{path}: this calibration was made under another base policy, sampling "
                    f"rules, reward or prompts (fingerprint {made}, wanted {fingerprint}); "
                    "calibrate again or name another file"
                )
            table = Quantiles(jnp.asarray(stored["rewards"]), jnp.asarray(stored["count"]))
            return cls(table, made)


def fingerprint(
    generator: Generator, scorer: Scorer, prompts: Sequence[Sequence[int]], seed: int
) -> str:
    """Hash of all that a calibration depends on: weights, rules of sampling, reward, prompts, seed.

    Of a reward that is a function its code, closure and constants count, as told in
    `jaxdecode.fingerprint`, which also has a way to give it a version by hand. What changes no
    draw, the cache's growth and meters, does not count.
    """
    return mark(plain(generator), scorer, [list(prompt) for prompt in prompts], seed)


def plain(generator: Generator) -> Generator:
    """The generator without what changes no draw."""
    return replace(generator, cache_growth=1, meter=NoMeter())
