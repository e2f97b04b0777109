"""The setting of the experiment on diverse beams: passages, methods, and what lists are worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from algorithms.search.anti_language_model import AntiLanguageModel
from algorithms.search.beam_search import BeamSearch, SiblingRank
from algorithms.search.diverse_beam_search import DiverseBeamSearch
from algorithms.search.diversity import Cumulative, Diversity, Embedded, Hamming, Ngram
from algorithms.selection.best_of_n import BestOfN
from experiments.harness.report import Out, Seed
from experiments.inputs.sources import Source
from experiments.search.passages import Passages, distinct, similarity
from experiments.tasks.task import Split
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder, decode
from jaxdecode.logits import Identity, TopP
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import LikelihoodScorer


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator: a name in the zoo, or the folder of a published checkpoint.
      prefix, max_tokens: tokens given, and generated.
      test, validation: passages.
      beams: hypotheses of every method.
      groups: numbers of groups; the last, as many as beams, is where all else is measured.
      strengths: of the penalty.
      terms: besides Hamming.
      rates: of the sibling-rank penalty.
      weights: of the penalty for what is likely without the passage (MMI), in its first
        `weighed` tokens.
      batch: passages decoded together.
    """

    generator: str = "stdlib"
    prefix: int = 32
    max_tokens: int = 20
    test: int = 192
    validation: int = 64
    beams: int = 8
    groups: tuple[int, ...] = (2, 4, 8)
    strengths: tuple[float, ...] = (0.1, 0.2, 0.5, 0.8, 1.5, 3.0)
    terms: tuple[str, ...] = ("cumulative", "2-grams", "embedding")
    rates: tuple[float, ...] = (0.1, 0.5, 1.0)
    weights: tuple[float, ...] = (0.1, 0.25, 0.5)
    weighed: int = 5
    batch: int = 64
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        if not self.groups or self.groups[-1] != self.beams:
            raise ValueError(f"groups={self.groups}: the last must be beams={self.beams}")


Lists = dict[str, Any]
"""What a method found: `worth` [N, K] in the order of the list, `distinct` [N, 4], ..."""


@dataclass(frozen=True)
class Setting:
    """What a configuration stands for."""

    config: Config
    source: Source

    @cached_property
    def generator(self) -> Generator:
        stop = self.source.codec.stop()
        return Generator(self.source.model, Identity(), Greedy(), stop, self.config.max_tokens)

    @cached_property
    def terms(self) -> dict[str, Diversity]:
        """Every term by its name in the table."""
        model = self.source.model
        return {
            "Hamming": Hamming(),
            "cumulative": Cumulative(5.0),
            "2-grams": Ngram((2,)),
            "4-grams": Ngram((4,)),
            "embedding": Embedded.of(model),
            "embedded 2-grams": Embedded.of(model, 2),
        }

    def passages(self, split: Split) -> Passages:
        config = self.config
        count = config.test if split == "test" else config.validation
        return Passages.of(
            self.source.codec, split, count, config.prefix, config.max_tokens, config.seed
        )

    def diverse(self, strength: float, groups: int, term: str = "Hamming") -> DiverseBeamSearch:
        return DiverseBeamSearch(
            self.generator, self.config.beams, groups, strength, self.terms[term]
        )

    def ranked(self, rate: float) -> BeamSearch:
        """Beam search by sibling ranks."""
        ranker = SiblingRank(rate)
        return BeamSearch(self.generator, self.config.beams, ranker=ranker, spare=False)

    def informed(self, weight: float) -> BeamSearch:
        """Beam search for what is likely after the passage and not by itself."""
        begin = self.source.codec.prompt("")[:1]
        weighing = AntiLanguageModel.of(self.source.model, begin, weight, self.config.weighed)
        generator = replace(self.generator, transform=weighing)
        return BeamSearch(generator, self.config.beams, stopping="never", spare=False)

    def sampling(self) -> BestOfN:
        """Independent samples, listed by likelihood."""
        drawn = Generator(
            self.generator.model, TopP(0.9), Categorical(), self.generator.stop,
            self.config.max_tokens,
        )  # fmt: skip
        return BestOfN(drawn, LikelihoodScorer(self.generator.model), self.config.beams)

    def measure(self, decoder: Decoder, split: Split) -> Lists:
        """Decode every passage of a split, and judge the lists."""
        return self.judged(decoder, self.passages(split))

    def judged(self, decoder: Decoder, passages: Passages) -> Lists:
        """The lists that a decoder finds, and what they are worth."""
        batch = self.config.batch
        parts = []
        for prompt in passages.batches(batch):
            parts.append(listed(jax.device_get(decode(decoder, self.config.seed, prompt)).trace))
        count = len(passages.before)
        tokens, length, logprob = (np.concatenate(x)[:count] for x in zip(*parts, strict=True))
        truth = np.broadcast_to(passages.after[:, None], tokens.shape)
        rows = [
            [row[:n].tolist() for row, n in zip(texts, lengths, strict=True) if n]
            for texts, lengths in zip(tokens, length, strict=True)
        ]
        return {
            "worth": similarity(tokens, length, truth),
            "distinct": [[distinct(some, n) for n in (1, 2, 3, 4)] for some in rows],
            "unique": [len(set(map(tuple, some))) for some in rows],
            "logprob": logprob.max(axis=1),
        }


def listed(found: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Tokens, lengths and log-probabilities of a list, the likeliest first."""
    order = np.argsort(-found.logprob, axis=1, kind="stable")
    tokens = np.take_along_axis(found.tokens, order[..., None], axis=1)
    length, logprob = (np.take_along_axis(x, order, axis=1) for x in (found.length, found.logprob))
    return tokens, length, logprob


def oracle(found: Lists, k: int | None = None) -> NDArray[np.float64]:
    """The best of the first k of every list."""
    return np.asarray(found["worth"])[:, :k].max(axis=1)


def best(values: tuple[float, ...], found: list[Lists]) -> float:
    """The value with the highest mean oracle."""
    return values[int(np.argmax([oracle(one).mean() for one in found]))]
