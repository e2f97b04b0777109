"""What the experiment on momentum decoding measures of each method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from algorithms.tokens.contrastive_search import ContrastiveSearch
from algorithms.tokens.dola import Dola
from algorithms.tokens.momentum_decoding import (
    BLOCKING,
    CONSTANT,
    PUBLISHED,
    REVISED,
    Momentum,
)
from experiments.harness.measuring.timing import interleaved
from experiments.harness.report import Out, Seed
from experiments.inputs.sources import open_model
from experiments.tokens.momentum_decoding.reading import Reader
from experiments.tokens.open_texts import OpenTexts, Tokens, diversity, pooled_diversity, repeated
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity, RepetitionPenalty, TopP
from jaxdecode.plain import Autoregressive
from jaxdecode.rows import Expander
from models.text import check_same_tokenizer

Row = dict[str, Any]
WIDE = 2000  # candidates of the ablation that blocks n-grams, as published


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator, judge: names in the zoo, or folders of published checkpoints; the judge tells how
        coherent a text is.
      coherence: in nats a "token", of a judge that shares the generator's tokenizer, or a
        "character", of one that reads the text.
      data: see `OpenTexts`.
      contexts, context, tokens: held-out contexts, their tokens, and those generated.
      alpha, k: of momentum; `alphas` and `ks` are what else is tried.
      penalty: alpha of contrastive search.
      top_p: of the nucleus sampling that is compared with.
      repeats: of every timing.
    """

    generator: str = "stdlib"
    judge: str = "stdlib-draft"
    coherence: Literal["token", "character"] = "token"
    data: Path | None = None
    contexts: int = 48
    context: int = 32
    tokens: int = 128
    alpha: float = 0.2
    k: int = 5
    alphas: tuple[float, ...] = (0.0, 0.05, 0.1, 0.4)
    ks: tuple[int, ...] = (2, 20)
    penalty: float = 0.6
    top_p: float = 0.95
    repeats: int = 7
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        if self.contexts < 2 or self.tokens < 8 or self.repeats < 3:
            raise ValueError(
                f"contexts={self.contexts}, tokens={self.tokens}, repeats={self.repeats}: give at "
                "least 2, 8 and 3"
            )


def open_judge(config: Config, texts: OpenTexts) -> Reader:
    """The model that judges coherence.

    Raises:
      ValueError: if it reads too little, or is to share the tokenizer and has another's.
    """
    judge = open_model(config.judge)
    same = config.coherence == "token"
    if same:
        check_same_tokenizer(texts.codec.text, judge.codec.text)
    if texts.context + texts.tokens > judge.positions:
        raise ValueError(
            f"judge={config.judge} reads {judge.positions} tokens, fewer than context="
            f"{texts.context} and tokens={texts.tokens}"
        )
    return Reader(judge, same)


def momentum(config: Config, texts: OpenTexts, **rules: Any) -> Expander:
    """Begin and end tokens are no nodes: both stand in every text."""
    chosen: dict[str, Any] = {"resistance": PUBLISHED, "alpha": config.alpha, "k": config.k}
    ignored = sorted({*texts.codec.prompt("")[:1], *texts.codec.text.eos})
    rule = Momentum.of(texts.tokens, ignored=ignored, **(chosen | rules))
    return texts.generator(rule, sampled=False)


def methods(config: Config, texts: OpenTexts) -> dict[str, Expander]:
    """What writes, by name."""
    greedy = texts.generator(Identity(), sampled=False)
    layers = texts.model.config.layers
    exits = tuple(range(0, max(1, layers // 2), 2))
    penalised = RepetitionPenalty(1.2, texts.model.vocab_size)
    contrast = texts.generator(penalised, sampled=False)
    wide = min(WIDE, texts.model.vocab_size)
    return {
        "greedy": greedy,
        "momentum": momentum(config, texts),
        "contrastive search": ContrastiveSearch(greedy, config.penalty, config.k),
        f"nucleus {config.top_p:g}": texts.generator(TopP(config.top_p)),
        "momentum, revised": momentum(config, texts, resistance=REVISED),
        "momentum, constant": momentum(config, texts, resistance=CONSTANT),
        "4-grams blocked": momentum(config, texts, resistance=BLOCKING, k=wide),
        "dola": replace(contrast, model=Dola(texts.model, exits)),
        **{f"alpha {a:g}": momentum(config, texts, alpha=a) for a in config.alphas},
        **{f"k {k}": momentum(config, texts, k=k) for k in config.ks},
    }


def judged(texts: OpenTexts, judge: Reader, tokens: Tokens) -> Row:
    """Measures of continuations, one number a text."""
    return {
        "diversity": np.round(diversity(tokens), 5),
        "pooled": pooled_diversity(tokens),
        **{f"rep-{n}": np.round(repeated(tokens, n), 3) for n in (2, 3, 4)},
        "different": np.array([len(np.unique(text)) / len(text) for text in tokens]).round(4),
        "coherence": np.round(judge.coherence(texts, tokens), 4),
    }


def measure(texts: OpenTexts, judge: Reader, method: Expander) -> Row:
    """A method: its texts, how often it took the likeliest token, and what it read."""
    result = texts.write(method)
    tokens = np.asarray(result.tokens)
    return judged(texts, judge, tokens) | {
        "likeliest": np.asarray(result.trace.likeliest).mean(axis=1).round(4),
        "passes": float(np.mean(result.usage.target_passes)) / texts.tokens,
        "read": float(np.mean(result.usage.target_tokens)) / texts.tokens,
        "flops": float(np.mean(result.usage.flops)) / texts.tokens,
        "sample": texts.codec.decode(tokens[0].tolist())[:400],
    }


def timed(config: Config, texts: OpenTexts, chosen: dict[str, Expander]) -> Row:
    """Seconds of each method in rotation, and their ratios to greedy decoding's, round by round."""
    prompt = texts.prompt

    def call(method: Expander):
        return lambda: jax.block_until_ready(decode(Autoregressive(method), 0, prompt).tokens)

    taken = interleaved({name: call(method) for name, method in chosen.items()}, config.repeats)
    base = np.asarray(taken["greedy"])
    return {name: np.round(np.asarray(times) / base, 4) for name, times in taken.items()}
