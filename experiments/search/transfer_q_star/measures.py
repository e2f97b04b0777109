"""What is compared in the experiment on value guidance, and how."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.alignment.estimators import win
from algorithms.search.args import args
from algorithms.search.controlled_decoding import (
    Blockwise,
    divergence_bound,
    monte_carlo,
    tokenwise,
)
from algorithms.search.transfer_q_star import direct, indirect
from algorithms.selection.best_of_n import BestOfN
from experiments.search.transfer_q_star.setting import DIALOG, Config, World
from jaxdecode.decoder import Decoder, decode
from jaxdecode.guide import Guidance
from jaxdecode.plain import Autoregressive
from jaxdecode.prefix_values import PrefixValue
from jaxdecode.prompt import Prompt
from jaxdecode.responses import judge
from jaxdecode.train.sequences import join, logprobs
from jaxdecode.types import Array

BOOTSTRAP = 1000
ALWAYS = ("base", "CD--", "TQ*")


@dataclass(frozen=True)
class Arm:
    """A method and its settings.

    Attributes:
      make: (world, setting) -> decoder.
      settings: 1 / alpha, N, K, k or tokens of a rollout; 0 where there is nothing to set.
      bound: (setting, config) -> KL, where it is not measured.
    """

    make: Callable[[World, float], Decoder]
    settings: Sequence[float] = (0.0,)
    bound: Callable[[float, Config], float] | None = None


def arms(config: Config) -> dict[str, Arm]:
    """All that is compared, by name."""
    k, n, weights = config.candidates, config.rollouts, config.weights
    middle = weights[len(weights) // 2 : len(weights) // 2 + 1]
    many: dict[str, Any] = {"candidates": k, "samples": n}

    def values(name: str) -> Callable[[World, float], Decoder]:
        return lambda w, a: tokenwise(w.generator(), w.values[name], 1 / a, k)

    def ours(w: World, model: Any, a: float, **changes: Any) -> Decoder:
        return direct(w.generator(model), w.scorer, 1 / a, **many | changes)

    found = {
        "base": Arm(lambda w, a: Autoregressive(w.generator())),
        "aligned (DPO)": Arm(lambda w, a: Autoregressive(w.generator(w.aligned))),
        "best-of-N": Arm(
            lambda w, a: BestOfN(w.generator(), w.scorer, int(a)),
            config.sizes,
            lambda a, c: divergence_bound(int(a)),
        ),
        "ARGS": Arm(lambda w, a: args(w.generator(), w.scorer, a, k, 1.0), weights),
        "ARGS, aligned": Arm(
            lambda w, a: args(w.generator(w.aligned), w.scorer, a, k, 1.0), weights
        ),
        "CD, FUDGE": Arm(values("FUDGE"), config.value_weights),
        "CD, CD-Q": Arm(values("CD-Q"), config.value_weights),
        "CD, blocks": Arm(
            lambda w, a: Blockwise(
                w.generator(), PrefixValue(w.values["CD-Q"]), int(a), config.block
            ),
            config.blocks,
            lambda a, c: divergence_bound(int(a), c.max_tokens / c.block),
        ),
        "CD--": Arm(lambda w, a: monte_carlo(w.generator(), w.scorer, 1 / a, **many), weights),
        "TQ*": Arm(lambda w, a: ours(w, w.aligned, a), weights),
        "TQ*, base tilted": Arm(
            lambda w, a: direct(w.generator(), w.scorer, 1 / a, w.aligned, **many), weights
        ),
        "TQ*, by width": Arm(
            lambda w, k: ours(w, w.aligned, *middle, candidates=int(k)), config.widths
        ),
        "TQ*, by horizon": Arm(
            lambda w, length: ours(w, w.aligned, *middle, horizon=int(length)), config.horizons
        ),
        "direct TQ*, wrong policy": Arm(lambda w, a: ours(w, w.misaligned, a), weights),
        "indirect TQ*": Arm(
            lambda w, a: indirect(
                w.generator(w.misaligned), w.scorer, w.other, config.beta, 1 / a, **many
            ),
            weights,
        ),
    }
    if unknown := set(config.methods) - set(found):
        raise ValueError(f"methods: no {sorted(unknown)}; there are {', '.join(found)}")
    wanted = {*config.methods, *ALWAYS} if config.methods else found
    return {name: arm for name, arm in found.items() if name in wanted}


def measure(world: World, arm: Arm, setting: float) -> dict[str, Any]:
    """Rewards and KL by prompt, the mean of `draws` responses each, and what they took."""
    c, prompt, texts = world.config, world.prompt, world.texts["test"]
    decoder, rows = arm.make(world, setting), []
    for seed in range(c.draws):
        start = time.perf_counter()
        result = jax.device_get(decode(decoder, c.seed + 2 + seed, prompt))
        seconds = time.perf_counter() - start
        usage = result.usage
        law = result.trace.law if isinstance(result.trace, Guidance) else result.logprob
        if isinstance(decoder, Autoregressive):
            law = np.asarray(likelihood(decoder.generator.model, prompt, result))
        kl = law - np.asarray(likelihood(world.source.model, prompt, result))
        if arm.bound is not None:
            kl = np.full(len(law), arm.bound(setting, c))
        tokens, length = jnp.asarray(result.tokens)[:, None], jnp.asarray(result.length)[:, None]
        reward = np.asarray(judge(world.scorer, prompt, tokens, length))[:, 0]
        replies = [
            world.source.codec.decode(row[:n].tolist())
            for row, n in zip(result.tokens, result.length, strict=True)
        ]
        row = {
            "reward": reward,
            "kl": kl,
            "diversity": diversity(replies),
            "tokens run": np.mean(usage.target_tokens + usage.draft_tokens),
            "reward tokens": np.mean(usage.scorer_tokens),
            "seconds": seconds,
        }
        if c.input is None:
            row["known reward"] = DIALOG.rewards(texts, replies)
            row["grammatical"] = np.array([DIALOG.grammatical(reply) for reply in replies])
        rows.append(row)
    return {name: np.mean([row[name] for row in rows], axis=0) for name in rows[0]}


def likelihood(model: Any, prompt: Prompt, result: Any) -> Array:
    """log p of the responses."""
    return _likelihood(model, prompt, result.tokens, result.length)


@jax.jit
def _likelihood(model: Any, prompt: Prompt, tokens: Array, length: Array) -> Array:
    return logprobs(model, join(prompt, tokens, length))


def diversity(replies: Sequence[str]) -> float:
    """Product over n = 2, 3, 4 of the share of distinct n-grams among those of all replies."""
    product = 1.0
    for n in (2, 3, 4):
        words = [reply.split() for reply in replies]
        grams = Counter(tuple(w[i : i + n]) for w in words for i in range(len(w) - n + 1))
        product *= len(grams) / max(1, sum(grams.values()))
    return product


@dataclass(frozen=True)
class Frontier:
    """A method's settings in order: measurements by prompt, [settings, prompts] each."""

    columns: dict[str, np.ndarray]

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> Frontier:
        names = [name for name, value in rows[0].items() if np.ndim(value)]
        return cls({name: np.array([row[name] for row in rows], float) for name in names})

    def mean(self, name: str) -> float:
        """Of a single setting."""
        return float(self.columns[name][0].mean())

    @cached_property
    def rewards(self) -> np.ndarray:
        return self.columns["reward"].mean(axis=1)

    @cached_property
    def levels(self) -> np.ndarray:
        """KL at every setting, in nats."""
        return self.columns["kl"].mean(axis=1)

    def level(self, setting: int) -> float:
        return float(self.levels[setting])

    def nearest(self, kl: float) -> int:
        return int(np.argmin(np.abs(self.levels - kl)))

    def at(self, kl: float, prompts: np.ndarray) -> float:
        """The mean reward over some prompts where the mean KL is `kl`; flat beyond the ends."""
        levels = self.columns["kl"][:, prompts].mean(axis=1)
        order = np.argsort(levels)
        rewards = self.columns["reward"][:, prompts].mean(axis=1)
        return float(np.interp(kl, levels[order], rewards[order]))

    def lead(self, other: Frontier, kl: float) -> tuple[float, float, float]:
        """By how much this method's reward is higher at a KL: mean and 95 % interval."""
        count = self.columns["kl"].shape[1]

        def gap(prompts: np.ndarray) -> float:
            return self.at(kl, prompts) - other.at(kl, prompts)

        return gap(np.arange(count)), *interval(gap, count)

    def wins(self, setting: int, other: Frontier, its: int) -> tuple[float, float, float]:
        """The share of prompts on which the judge prefers this method, ties by halves."""
        name = "known reward" if "known reward" in self.columns else "reward"
        won = win(self.columns[name][setting], other.columns[name][its])
        return float(won.mean()), *interval(lambda prompts: float(won[prompts].mean()), len(won))


def interval(statistic: Callable[[np.ndarray], float], count: int) -> tuple[float, float]:
    """95 % of the bootstrap over prompts."""
    rng = np.random.default_rng(0)
    drawn = [statistic(rng.integers(count, size=count)) for _ in range(BOOTSTRAP)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)
