"""Speculative rejection: the reward of best-of-N for a fraction of its compute.

Claim (Sun et al. 2024, arXiv 2410.20290): scores of partial responses foretell the final ones,
so dropping the worst fraction whenever memory is full finds responses as good as best-of-N
finds with 16-32 times the compute; here the mark is 8 times, in decoded tokens and in time.

    python -m experiments.speculative_rejection --preset cpu

Dialog replies of about 300 tokens from the zoo's generator, judged by its Bradley-Terry
reward model, which was trained on full replies only and is applied to prefixes as it is. The
budget is 16 full-length responses for a prompt. All methods draw sample k of a prompt from
the same key. About 3 minutes on two cores, most of it best-of-512 and compilation.

Speed-up: the compute at which best-of-N has the same mean score, interpolated in log N on the
unbiased estimate for every N from all responses drawn, over what speculative rejection used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.speculative_rejection import SpeculativeRejection
from experiments import zoo
from experiments.compute import Baseline, Run
from experiments.progress import Progress
from experiments.report import Claim, Journal, Out, Report, Seed, figure, run_main
from experiments.tasks.dialog import Dialog
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Temperature, TopK, chain
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import LikelihoodScorer, RewardScorer, Scorer
from jaxdecode.stop import Stop

MARK = 8.0  # times the compute that best-of-N needs for the same score
DIALOG = Dialog(typical=360, longest=500)


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator, reward: names in the zoo.
      prompts: test prompts.
      sizes: N of best-of-N, rising; the last is a multiple of `wave`.
      timed: prompts on which the sizes below `wave` are timed.
      wave: responses that best-of-N decodes at a time.
      alphas: rejection rates.
      width: responses speculative rejection starts from.
      memory: budget in full-length responses.
      max_tokens: of a response.
      temperature, top_k: of sampling.
      likelihood_alpha: rejection rate of the run that maximises likelihood instead.
    """

    generator: str = "dialog"
    reward: str = "dialog-reward"
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
    seed: Seed = 0
    out: Out = None


PRESETS = {
    "smoke": Config(
        prompts=1, sizes=(4, 8), timed=1, wave=4, alphas=(0.5,), width=8, memory=2, max_tokens=60
    ),
    "cpu": Config(),
}


@dataclass(frozen=True)
class Setting:
    """What a configuration stands for."""

    config: Config
    generator: Generator
    scorer: RewardScorer
    prompts: list[str]
    codec: Any

    @classmethod
    def of(cls, config: Config) -> Setting:
        shipped, judge = zoo.load(config.generator), zoo.load(config.reward)
        rng = np.random.default_rng(config.seed)
        prompts = DIALOG.prompts("test")
        chosen = rng.choice(len(prompts), config.prompts, replace=False)
        generator = Generator(
            model=shipped.model,
            transform=chain(TopK(config.top_k), Temperature(config.temperature)),
            sampler=Categorical(),
            stop=Stop.of(shipped.tokenizer.eos_id),
            max_tokens=config.max_tokens,
            cache_growth=4,
        )
        return cls(
            config=config,
            generator=generator,
            scorer=RewardScorer(judge.model),
            prompts=[prompts[i] for i in chosen],
            codec=shipped.tokenizer,
        )

    def prompt(self, index: int) -> Prompt:
        """One prompt, by its place in the list."""
        ids = [self.codec.bos_id, *self.codec.encode(self.prompts[index])]
        return Prompt.of([ids], ids=[index])

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
        """The known reward, which no method sees, of responses [N, L]."""
        texts = self.codec.decode_rows(tokens, length)
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


def improvement(pools: Sequence[dict], scores: np.ndarray, base: int) -> float:
    """100 (1 + mean (score - best) / (best - worst)) of the first `base` responses."""
    gains = []
    for pool, score in zip(pools, scores, strict=True):
        first = np.array(pool["score"][:base])
        if first.max() > first.min():
            gains.append((score - first.max()) / (first.max() - first.min()))
    return 100 * (1 + float(np.mean(gains)))


def run(config: Config) -> Report:
    """Best-of-N at every size, speculative rejection at every alpha, on the same prompts."""
    setting = Setting.of(config)
    steps = config.prompts + len(config.alphas) + len(config.sizes) + 1
    with Journal(config) as journal, Progress("speculative rejection", steps) as progress:

        def row(key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            found = journal.row(key, measure)
            progress.advance(note=key)
            return found

        warm = setting.best_of(config.wave)
        decode(warm, config.seed, setting.prompt(0)).tokens.block_until_ready()
        pools = [
            row(f"responses to prompt {i}", partial(measure_pool, setting, i))
            for i in range(config.prompts)
        ]
        wave = float(np.median([seconds for pool in pools for seconds in pool["seconds"]]))
        seconds = [
            wave * n / config.wave
            if n >= config.wave
            else row(f"best-of-{n}", partial(measure_small, setting, n))["seconds"]
            for n in config.sizes
        ]
        runs = [
            row(f"alpha {a}", partial(measure_rejection, setting, a, False)) for a in config.alphas
        ]
        likely = row(
            "by likelihood", partial(measure_rejection, setting, config.likelihood_alpha, True)
        )
    return analyse(config, pools, seconds, runs, likely, journal.seconds)


def as_run(found: dict[str, Any], score: Callable[[dict], float]) -> Run:
    """The rows of `measure_rejection`, judged by `score`."""
    rows = found["rows"]
    return Run(
        score=np.array([score(row) for row in rows]),
        tokens=np.array([row["decoded"] for row in rows], float),
        seconds=np.array([row["seconds"] for row in rows]),
    )


def analyse(config, pools, seconds, runs, likely, spent: float) -> Report:
    """Claims, table and figure from the measurements."""
    lengths = [pool["length"] for pool in pools]
    baseline = Baseline.of(config.sizes, [pool["score"] for pool in pools], lengths, seconds)
    rows: list[dict[str, Any]] = []
    for place, n in enumerate(config.sizes):
        chosen = [pool["true"][int(np.argmax(pool["score"][:n]))] for pool in pools]
        rows.append(
            {
                "method": f"best-of-{n}",
                "score": baseline.score[:, place].mean(),
                "improvement": improvement(pools, baseline.score[:, place], config.sizes[0]),
                "true reward": np.mean(chosen),
                "decoded tokens": baseline.tokens[:, place].mean(),
                "seconds": baseline.seconds[place],
            }
        )
    for found in runs:
        method = as_run(found, lambda row: row["score"])
        tokens, wall = baseline.speed_up(method)
        low, high = baseline.interval(method)
        rows.append(
            {
                "method": f"speculative rejection, alpha {found['alpha']}",
                "score": method.score.mean(),
                "improvement": improvement(pools, method.score, config.sizes[0]),
                "true reward": np.mean([row["true"] for row in found["rows"]]),
                "decoded tokens": method.tokens.mean(),
                "seconds": np.median(method.seconds),
                "speed-up in tokens": tokens,
                "95 % (tokens)": f"{low[0]:.1f}..{high[0]:.1f}",
                "speed-up in seconds": wall,
                "95 % (seconds)": f"{low[1]:.1f}..{high[1]:.1f}",
                "scorer tokens": np.mean([row["scorer_tokens"] for row in found["rows"]]),
                "peak / budget": max(row["peak"] for row in found["rows"]) / found["budget"],
            }
        )
    minus = [[-p for p in pool["perplexity"]] for pool in pools]
    by_likelihood = Baseline.of(config.sizes, minus, lengths, seconds)
    method = as_run(likely, lambda row: -row["perplexity"])
    gain, wall = by_likelihood.speed_up(method)
    rows += [
        {
            "method": f"best-of-{n} by likelihood",
            "perplexity": -by_likelihood.score[:, place].mean(),
            "decoded tokens": by_likelihood.tokens[:, place].mean(),
            "seconds": by_likelihood.seconds[place],
        }
        for place, n in enumerate(config.sizes)
    ]
    rows.append(
        {
            "method": f"speculative rejection by likelihood, alpha {likely['alpha']}",
            "perplexity": -method.score.mean(),
            "decoded tokens": method.tokens.mean(),
            "seconds": np.median(method.seconds),
            "speed-up in tokens": gain,
            "speed-up in seconds": wall,
        }
    )
    means = {
        name: np.mean([pool["correlation"][name] for pool in pools], axis=0)
        for name in ("tokens", "pearson", "kendall")
    }
    if config.out is not None:
        draw(Path(config.out) / "figure.png", runs, means, improved(rows))
    return Report(claims(rows, means, gain, config), rows, seconds=spent)


def improved(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that have an improvement score."""
    return [row for row in rows if "improvement" in row]


def claims(rows, means, gain: float, config: Config) -> list[Claim]:
    """The paper's claims, by rules fixed before measuring."""
    rejection = [row for row in rows if "95 % (tokens)" in row]
    tokens = max(rejection, key=lambda row: row["speed-up in tokens"])
    wall = max(rejection, key=lambda row: row["speed-up in seconds"])
    pearson = means["pearson"]
    peak = max(row["peak / budget"] for row in rejection)
    return [
        Claim(
            f"the score of best-of-N at {MARK:g}x its compute, in decoded tokens",
            "16-32x (accelerators)",
            f"{tokens['speed-up in tokens']:.1f}x ({tokens['95 % (tokens)']}), "
            f"{tokens['method'].rpartition(', ')[2]}",
            bool(tokens["speed-up in tokens"] >= MARK),
        ),
        Claim(
            f"the score of best-of-N at {MARK:g}x its compute, in wall time",
            "16-32x (accelerators)",
            f"{wall['speed-up in seconds']:.1f}x ({wall['95 % (seconds)']}), "
            f"{wall['method'].rpartition(', ')[2]}",
            bool(wall["speed-up in seconds"] >= MARK),
        ),
        Claim(
            "partial and final rewards correlate, the more so the longer the prefix",
            "clear at 256 tokens, rising with length",
            ", ".join(
                f"{c:.2f} at {int(n)}" for n, c in zip(means["tokens"], pearson, strict=True)
            ),
            bool(np.all(np.diff(pearson) > -0.02) and pearson[-1] > pearson[0]),
        ),
        Claim(
            "the cache never holds more tokens than the budget",
            "by construction",
            f"peak {100 * peak:.0f} % of it",
            bool(peak <= 1.0),
        ),
        Claim(
            "it also maximises likelihood with less compute than best-of-N",
            "76.9x against 33.3x for Bo120 (Mistral-7B, relative to Bo3840)",
            f"{gain:.1f}x fewer tokens than best-of-N of the same perplexity (N up to "
            f"{config.sizes[-1]})",
            bool(gain > 1.0),
        ),
    ]


def draw(path: Path, runs, means, rows) -> None:
    """Improvement against tokens and time, correlation, and the saw-tooth of memory."""
    normal = [row for row in rows if row["method"].startswith("best")]
    rejection = [row for row in rows if row not in normal]
    with figure(path, columns=2, rows=2) as (by_tokens, by_time, correlation, memory):
        for axes, name, unit in (
            (by_tokens, "decoded tokens", "decoded tokens a prompt"),
            (by_time, "seconds", "seconds a prompt"),
        ):
            axes.plot(
                [r[name] for r in normal], [r["improvement"] for r in normal], label="best-of-N"
            )
            axes.plot(
                [r[name] for r in rejection],
                [r["improvement"] for r in rejection],
                label="speculative rejection",
            )
            for row in rejection:
                axes.annotate(
                    row["method"].rpartition(" ")[2],
                    (row[name], row["improvement"]),
                    xytext=(3, 4),
                    textcoords="offset points",
                    fontsize=7,
                )
            for row in normal:
                axes.annotate(
                    row["method"].rpartition("-")[2],
                    (row[name], row["improvement"]),
                    xytext=(3, -9),
                    textcoords="offset points",
                    fontsize=7,
                )
            axes.set(xscale="log", xlabel=unit, ylabel="improvement score")
        correlation.plot(means["tokens"], means["pearson"], label="Pearson")
        correlation.plot(means["tokens"], means["kendall"], label="Kendall")
        correlation.set(
            xscale="log",
            xlabel="tokens of the prefix",
            ylabel="correlation with the final reward",
            ylim=(0, 1.02),
        )
        for found in runs:
            position, held = saw_tooth(found["rows"][0]["cuts"])
            share = [100 * tokens / found["budget"] for tokens in held]
            memory.plot(position, share, marker="", label=f"alpha {found['alpha']}")
        memory.set(xscale="log", xlabel="tokens of a response", ylabel="cache in use, % of budget")


def saw_tooth(cuts: Sequence[dict]) -> tuple[list[int], list[float]]:
    """Cache tokens held as responses grow: a rise through each stage, a drop at each cut."""
    position, held = [], []
    reached, before = 1, 0.0
    for cut in cuts:
        position += [reached, max(cut["longest"], reached)]
        held += [before * cut["width"], cut["tokens"]]
        reached = max(cut["longest"], reached)
        before = cut["tokens"] / cut["width"]
    return position, held


if __name__ == "__main__":
    run_main(run, PRESETS)
