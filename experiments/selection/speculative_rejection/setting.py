"""The setting of the speculative-rejection experiment: models, prompts and decoders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.speculative_rejection import SpeculativeRejection
from experiments.harness.report import Out, Seed
from experiments.inputs import prompts, sources
from experiments.inputs.sources import Source
from experiments.tasks.dialog import Dialog
from jaxdecode.autoregress import Generator
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

    @property
    def likelihood(self) -> LikelihoodScorer:
        """Minus the perplexity of prompt and response, which the paper maximises too."""
        return LikelihoodScorer(self.source.model)

    def perplexity(self, index: int, logprob: np.ndarray, length: np.ndarray) -> np.ndarray:
        """That of a prompt and its responses, as `likelihood` scores it."""
        prompt = self.prompt(index)
        total = logprob + float(prompt_logprob(self.likelihood, prompt)[0])
        return np.exp(-total / np.maximum(int(prompt.length[0]) - 1 + length, 1))

    def true_reward(self, index: int, tokens: np.ndarray, length: np.ndarray) -> np.ndarray:
        """The known reward, which no method sees, of responses [N, L]; NaN without one."""
        if self.config.input is not None:
            return np.full(len(tokens), np.nan)
        rows = zip(tokens.tolist(), length.tolist(), strict=True)
        texts = [self.source.codec.decode(row[:n]) for row, n in rows]
        return DIALOG.rewards([self.prompts[index]] * len(texts), texts)


@jax.jit
def prompt_logprob(scorer: LikelihoodScorer, prompt: Prompt) -> jax.Array:
    """log p of the prompts but their first tokens, which nothing predicts."""
    return scorer.init(prompt, 1)[0]
