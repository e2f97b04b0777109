"""What the speculative-rejection experiment measures: responses drawn, timed and judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.selection.speculative_rejection.setting import Setting
from jaxdecode.decoder import decode
from jaxdecode.types import Array, Float, Int


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
        "perplexity": setting.perplexity(index, logprob, length),
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
    prefix = np.asarray(along(setting.scorer.model, ids))[:, asked - 1 :]
    found: dict[str, list[float]] = {"tokens": [], "pearson": [], "kendall": []}
    for count in (4, 8, 16, 32, 64, 128, 256, 384):
        if count < setting.config.max_tokens:
            at = np.minimum(count, length[: len(rows)])
            partial_score = np.take_along_axis(prefix, at[:, None], axis=1)[:, 0]
            found["tokens"].append(count)
            found["pearson"].append(float(np.corrcoef(partial_score, final[: len(rows)])[0, 1]))
            found["kendall"].append(kendall(partial_score, final[: len(rows)]))
    return found


@jax.jit
def along(model: Any, tokens: Int[Array, "N T"]) -> Float[Array, "N T"]:
    """The reward of every prefix of texts."""
    return model.reward(model.forward(tokens)[0])


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
    decoder = setting.rejection(alpha, setting.likelihood if likelihood else None)
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
                "perplexity": float(setting.perplexity(index, result.logprob, result.length)[0]),
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
