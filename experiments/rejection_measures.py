"""What the speculative-rejection experiment measures: responses drawn, timed and judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.speculative_rejection import SpeculativeRejection
from experiments import prompts, sources
from experiments.report import Out, Seed
from experiments.sources import Source
from experiments.tasks.dialog import Dialog
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Temperature, TopK, chain
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import LikelihoodScorer, RewardScorer, Scorer

DIALOG = Dialog(typical=360, longest=500)


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator, reward: names in the zoo, or folders of published checkpoints.
      input: prompts, one a line or JSON lines; None for the test prompts of the dialog task,
        whose known reward is then reported beside the learned one.
      prompts: how many to use.
      sizes: N of best-of-N, rising; the last is a multiple of `wave`.
      timed: prompts on which the sizes below `wave` are timed.
      wave: responses that best-of-N decodes at a time.
      alphas: rejection rates.
      width: responses speculative rejection starts from.
      memory: budget in full-length responses.
      max_tokens: of a response.
      temperature, top_k: of sampling.
      likelihood_alpha: rejection rate of the run that maximises likelihood instead.
      cache_growth: sizes of cache that best-of-N passes through.
    """

    generator: str = "dialog"
    reward: str = "dialog-reward"
    input: Path | None = None
    prompts: int = 8
    sizes: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    timed: int = 3
    wave: int = 128
    alphas: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    width: int = 256
    memory: int = 16
    max_tokens: int = 502
    temperature: float = 1.0
    top_k: int = 50
    likelihood_alpha: float = 0.5
    cache_growth: int = 4
    seed: Seed = 0
    out: Out = None


@dataclass(frozen=True)
class Setting:
    """What a configuration stands for: models, prompts as tokens, decoders."""

    config: Config
    source: Source
    generator: Generator
    scorer: RewardScorer
    prompts: list[str]
    tokens: list[list[int]]

    @classmethod
    def of(cls, config: Config) -> Setting:
        """Open the models and choose the prompts.

        Raises:
          ValueError: for a model or a prompt file that is not there or not usable.
        """
        source = sources.open_model(config.generator)
        if config.input is None:
            asked: list[Any] = DIALOG.prompts("test")
        else:
            asked = [request.prompt for request in prompts.read(config.input)]
        if len(asked) < config.prompts:
            raise ValueError(
                f"prompts={config.prompts}: {config.input} has only {len(asked)}; ask for fewer"
            )
        rng = np.random.default_rng(config.seed)
        chosen = [asked[i] for i in rng.choice(len(asked), config.prompts, replace=False)]
        generator = Generator(
            model=source.model,
            transform=chain(TopK(config.top_k), Temperature(config.temperature)),
            sampler=Categorical(),
            stop=source.codec.stop(),
            max_tokens=config.max_tokens,
            cache_growth=config.cache_growth,
        )
        return cls(
            config=config,
            source=source,
            generator=generator,
            scorer=sources.open_reward(config.reward, source),
            prompts=chosen,
            tokens=[source.codec.prompt(prompt) for prompt in chosen],
        )

    def prompt(self, index: int) -> Prompt:
        """One prompt, as wide as the widest, so that all share their programs."""
        width = bucket(max(map(len, self.tokens)))
        return Prompt.of([self.tokens[index]], [index], width)

    @property
    def budget(self) -> int:
        """Cache tokens for a prompt."""
        return self.config.memory * (self.prompt(0).tokens.shape[1] + self.config.max_tokens)

    def best_of(self, samples: int, first: int = 0) -> BestOfN:
        return BestOfN(self.generator, self.scorer, samples, first=first)

    def rejection(self, alpha: float, scorer: Scorer | None = None) -> SpeculativeRejection:
        return SpeculativeRejection(
            self.generator, scorer or self.scorer, self.budget, self.config.width, alpha
        )

    def true_reward(self, index: int, tokens: np.ndarray, length: np.ndarray) -> np.ndarray:
        """The known reward, which no method sees, of responses [N, L]; NaN without one."""
        if self.config.input is not None:
            return np.full(len(tokens), np.nan)
        rows = zip(tokens.tolist(), length.tolist(), strict=True)
        texts = [self.source.codec.decode(row[:n]) for row, n in rows]
        return DIALOG.rewards([self.prompts[index]] * len(texts), texts)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and host copy of a call that has been compiled before."""
    start = time.perf_counter()
    result = jax.device_get(jax.block_until_ready(run()))
    return time.perf_counter() - start, result


def measure_pool(setting: Setting, index: int) -> dict[str, Any]:
    """All responses of one prompt, wave by wave, each wave timed."""
    config = setting.config
    pools, seconds, spent = [], [], []
    for first in range(0, config.sizes[-1], config.wave):
        decoder = setting.best_of(config.wave, first)
        elapsed, result = timed(partial(decode, decoder, config.seed, setting.prompt(index)))
        pools.append(result.trace)
        seconds.append(elapsed)
        spent.append(int(result.usage.scorer_tokens[0]))
    tokens, length, score, logprob = (
        np.concatenate([getattr(pool, name)[0] for pool in pools])
        for name in ("tokens", "length", "score", "logprob")
    )
    return {
        "score": score,
        "length": length,
        "perplexity": np.exp(-logprob / np.maximum(length, 1)),
        "true": setting.true_reward(index, tokens, length),
        "seconds": seconds,
        "scorer_tokens": spent,
        "correlation": correlations(setting, index, tokens, length, score),
    }


def correlations(
    setting: Setting, index: int, tokens: np.ndarray, length: np.ndarray, final: np.ndarray
) -> dict[str, list[float]]:
    """Pearson and Kendall correlation of the reward of prefixes with the final one."""
    prompt = setting.prompt(index)
    asked = int(prompt.length[0])
    rows = tokens[: setting.config.wave]
    ids = np.concatenate([np.repeat(prompt.tokens[:, :asked], len(rows), 0), rows], axis=1)
    model = setting.scorer.model
    outputs = jax.jit(lambda model, ids: model.reward(model.forward(ids)[0]))(model, ids)
    prefix = np.asarray(outputs)[:, asked - 1 :]
    found: dict[str, list[float]] = {"tokens": [], "pearson": [], "kendall": []}
    for count in (4, 8, 16, 32, 64, 128, 256, 384):
        if count < setting.config.max_tokens:
            at = np.minimum(count, length[: len(rows)])
            partial_score = np.take_along_axis(prefix, at[:, None], axis=1)[:, 0]
            found["tokens"].append(count)
            found["pearson"].append(float(np.corrcoef(partial_score, final[: len(rows)])[0, 1]))
            found["kendall"].append(kendall(partial_score, final[: len(rows)]))
    return found


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation tau-b."""
    a, b = (np.sign(z[:, None] - z) for z in (x, y))
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def measure_small(setting: Setting, size: int) -> dict[str, Any]:
    """Seconds of best-of-`size` with a program of its own width."""
    config = setting.config
    decoder = setting.best_of(size)
    decode(decoder, config.seed, setting.prompt(0)).tokens.block_until_ready()
    each = [
        timed(partial(decode, decoder, config.seed, setting.prompt(index)))[0]
        for index in range(config.timed)
    ]
    return {"seconds": float(np.median(each))}


def measure_rejection(setting: Setting, alpha: float, likelihood: bool) -> dict[str, Any]:
    """Speculative rejection on every prompt."""
    config = setting.config
    scorer = LikelihoodScorer() if likelihood else None
    decoder = setting.rejection(alpha, scorer)
    start = time.perf_counter()
    decode(decoder, config.seed, setting.prompt(0)).tokens.block_until_ready()
    compiled = time.perf_counter() - start
    rows = []
    for index in range(config.prompts):
        seconds, result = timed(partial(decode, decoder, config.seed, setting.prompt(index)))
        usage, cuts = result.usage, result.trace.cuts
        rows.append(
            {
                "score": float(result.trace.score[0]),
                "perplexity": float(np.exp(-result.logprob[0] / max(result.length[0], 1))),
                "true": float(setting.true_reward(index, result.tokens, result.length)[0]),
                "status": int(result.status[0]),
                "decoded": int(usage.emitted[0]),
                "scorer_tokens": int(usage.scorer_tokens[0]),
                "peak": int(usage.peak_cache_tokens[0]),
                "seconds": seconds,
                "prompt": int(usage.prompt_tokens[0]),
                "cuts": [
                    {
                        "width": cut.score.shape[1],
                        "tokens": int(cut.cache_tokens[0]),
                        "longest": int(cut.length[0].max()),
                    }
                    for cut in cuts
                ],
            }
        )
    return {"alpha": alpha, "rows": rows, "first_call": compiled, "budget": setting.budget}
