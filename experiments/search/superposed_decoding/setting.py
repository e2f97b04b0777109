"""The setting of the experiment on superposed decoding: models, passages, measures, times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.search.beam_search import BeamSearch
from algorithms.search.superposed_decoding import WEIGHTS, SuperposedDecoding
from algorithms.selection.best_of_n import BestOfN
from experiments.harness.likelihood import continuations
from experiments.harness.measuring.timing import interleaved, medians
from experiments.harness.report import Out, Seed
from experiments.inputs.sources import Source, open_model
from experiments.search.passages import Passages
from experiments.tasks.stdlib import StandardLibrary
from experiments.tasks.task import Split
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder, decode
from jaxdecode.lm import View
from jaxdecode.logits import Identity, Temperature, TopP, chain
from jaxdecode.ngram.interpolation import Interpolation
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import LikelihoodScorer
from jaxdecode.stop import Stop
from jaxdecode.types import Array, Float, Int
from models.text import check_same_tokenizer
from models.transformer import Transformer

NUCLEUS, COOLED = 0.9, 0.6  # top-p and temperature of the baseline, as published


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator, judge, racer: names in the zoo or folders of published checkpoints; the second
        judges what the first writes, the third is timed. Of one vocabulary.
      prefix, max_tokens: tokens given, and generated.
      test, validation: passages.
      drafts: k; the first is judged, all are timed.
      alphas, temperatures: that the share of the n-grams and the temperature are chosen from.
      corpus: tokens of training files that n-grams are counted in.
      keep: successors kept of contexts of 1 to 5 tokens.
      batch: passages decoded together.
      timed: batches that are timed; repeats: how often.
      knower: who completes facts, a model of arithmetic; None leaves them out.
      facts: how many, the first half to choose the temperature on.
    """

    generator: str = "stdlib-draft"
    judge: str = "stdlib"
    racer: str = "stdlib"
    prefix: int = 15
    max_tokens: int = 10
    test: int = 320
    validation: int = 128
    drafts: tuple[int, ...] = (3, 8)
    alphas: tuple[float, ...] = (0.2, 0.35, 0.5, 0.65)
    temperatures: tuple[float, ...] = (0.06, 0.15, 0.3)
    corpus: int = 1_000_000
    keep: tuple[int, ...] = (256, 64, 32, 16, 16)
    batch: int = 64
    timed: tuple[int, ...] = (1, 16, 64)
    repeats: int = 15
    knower: str | None = "arithmetic"
    facts: int = 1024
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        if len(self.keep) != len(WEIGHTS):
            raise ValueError(f"keep={self.keep}: give one number for each of {len(WEIGHTS)} orders")


@dataclass(frozen=True)
class Setting:
    """What a configuration stands for."""

    config: Config
    source: Source
    judge: Any
    racer: Any

    @classmethod
    def of(cls, config: Config) -> Setting:
        source, judge = open_model(config.generator), open_model(config.judge)
        check_same_tokenizer(source.codec.text, judge.codec.text)
        racer = {config.generator: source, config.judge: judge}.get(config.racer)
        if racer is None:
            racer = open_model(config.racer)
        return cls(config, source, judge.model, racer.model)

    @cached_property
    def ngrams(self) -> Interpolation:
        """Tables of training files, none of which an n-gram leaves."""
        codec, documents, left = self.source.codec, [], self.config.corpus
        for text in StandardLibrary().texts("train"):
            if left <= 0:
                break
            documents.append([*codec.piece(text), codec.text.eos[0]][:left])
            left -= len(documents[-1])
        return Interpolation.of(documents, self.source.model.vocab_size, WEIGHTS, self.config.keep)

    def generator(self, model: Transformer | None = None, drawn: bool = False) -> Generator:
        """Plain, or as the baseline samples. No text ends, so that all are equally long."""
        return Generator(
            self.source.model if model is None else model,
            chain(Temperature(COOLED), TopP(NUCLEUS)) if drawn else Identity(),
            Categorical() if drawn else Greedy(),
            Stop.of(()),
            self.config.max_tokens,
        )

    def nucleus(self, samples: int, model: Transformer | None = None) -> BestOfN:
        drawn = self.generator(model, drawn=True)
        return BestOfN(drawn, LikelihoodScorer(drawn.model), samples)

    def superposed(
        self, drafts: int, alpha: float, temperature: float, **more: Any
    ) -> SuperposedDecoding:
        found = SuperposedDecoding(
            self.generator(), drafts, 3 * drafts, alpha, temperature, self.ngrams, rescored=False
        )
        return replace(found, **more)

    def passages(self, split: Split) -> Passages:
        config = self.config
        count = config.test if split == "test" else config.validation
        return Passages.of(
            self.source.codec, split, count, config.prefix + 1, config.max_tokens, config.seed
        )

    def measure(self, decoder: Decoder, split: Split) -> dict[str, Any]:
        """Log-perplexity under the judge, f64[N, K], in the order of each list."""
        passages = self.passages(split)
        found = []
        for prompt in passages.batches(self.config.batch):
            tokens = decode(decoder, self.config.seed, prompt).trace.tokens
            found.append(np.asarray(self.perplexing(prompt, tokens)))
        return {"nll": np.concatenate(found)[: len(passages.before)]}

    def perplexing(self, prompt: Prompt, tokens: Int[Array, "B K L"]) -> Float[Array, "B K"]:
        """Mean negative log-probability of the tokens under the judge."""
        batch, drafts, length = tokens.shape
        before = jnp.repeat(prompt.tokens, drafts, axis=0)
        text = jnp.concatenate([before, tokens.reshape(-1, length)], axis=1)
        rows, width = text.shape
        full = Prompt(text, jnp.full((rows,), width), jnp.arange(rows))
        logprob, _ = continuations(self.judge, full, jnp.full((rows,), width - length))
        return -logprob.reshape(batch, drafts) / length

    def times(self, batch: int) -> dict[str, Any]:
        """Seconds of k drafts and of k nucleus samples, by the model that is timed."""
        prompt = self.passages("test").batches(batch)[0]
        calls: dict[str, Callable[[], Any]] = {}
        for k in self.config.drafts:
            one = replace(self.superposed(k, 0.5, 0.2), generator=self.generator(self.racer))
            for name, decoder in (("superposed", one), ("nucleus", self.nucleus(k, self.racer))):
                calls[f"{name} {k}"] = partial(decode, decoder, self.config.seed, prompt)
        return {"batch": batch, **medians(interleaved(calls, self.config.repeats))}

    def linearity(self) -> dict[str, Any]:
        """Cosine by layer and step, of the superposition of three beams and of their sum, in the
        model that is timed."""
        found = []
        for prompt in self.passages("validation").batches(self.config.batch)[:2]:
            search = BeamSearch(self.generator(self.racer), 3)
            beams = decode(search, self.config.seed, prompt).trace.tokens
            found.append(np.asarray(cosines(self.racer, prompt.tokens, beams)))
        return {"cosines": np.mean(found, axis=0)}


@jax.jit
def cosines(
    model: Transformer, before: Int[Array, "B P"], beams: Int[Array, "B K L"]
) -> Float[Array, "A L"]:
    """Mean over B of the cosine between f(sum of weights * x) and the sum of weights * f(x).

    The weights of step t are the probabilities of the beams' first t tokens.
    """
    batch, count, _ = beams.shape
    prefix = before.shape[1]
    text = jnp.concatenate(
        [jnp.broadcast_to(before[:, None], (batch, count, prefix)), beams], axis=2
    )
    flat = text.reshape(batch * count, -1)
    logits, _ = model.forward(flat)
    logp = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), flat[:, 1:, None], axis=2)
    logp = jnp.pad(logp[..., 0], ((0, 0), (1, 0))).reshape(text.shape)
    inside = jnp.arange(text.shape[2]) >= prefix
    weight = jax.nn.softmax(jnp.cumsum(jnp.where(inside, logp, 0.0), axis=2), axis=1)

    def view(rows: int) -> View:
        zero = jnp.zeros((rows,), jnp.int32)
        position = jnp.broadcast_to(jnp.arange(text.shape[2]), (rows, text.shape[2]))
        return View(position, zero, zero, jnp.ones(position.shape, bool), fresh=True)

    def summed(hidden: Float[Array, "R T D"]) -> Float[Array, "B T D"]:
        each = hidden.reshape(batch, count, *hidden.shape[1:])
        return jnp.einsum("bkt,bktd->btd", weight, each)

    apart = model.embed(flat)
    together = summed(apart)
    found = []
    for layer in range(model.config.layers):
        apart, _ = model.run_layers(apart, None, view(batch * count), layer, layer + 1)
        together, _ = model.run_layers(together, None, view(batch), layer, layer + 1)
        wanted = summed(apart)
        dot = jnp.sum(together * wanted, axis=2)
        size = jnp.linalg.norm(together, axis=2) * jnp.linalg.norm(wanted, axis=2)
        found.append(jnp.mean((dot / size)[:, prefix:], axis=0))
    return jnp.stack(found)
