"""What the experiment on Mirostat measures of one sampler at one setting."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from algorithms.tokens.mirostat import Mirostat, MirostatTopK, exponent
from experiments.harness.report import Out, Seed
from experiments.tokens.open_texts import OpenTexts, repeated
from jaxdecode.lm import extend
from jaxdecode.logits import Identity, LogitsTransform, TopK, TopP
from jaxdecode.types import Array, Float, Int

GRAMS = (1, 2, 4, 6, 8, 10)
EIGHTHS = 8  # parts of a text
Row = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator: a name in the zoo, or the folder of a published checkpoint.
      data: see `OpenTexts`.
      contexts, context, tokens: held-out contexts, their tokens, and those generated.
      targets: bits a token, rising.
      slow: another rate.
      ks, ps: of the fixed samplers that are compared with, rising.
      near: bits: how close version 1 comes to its targets, and the end of a text to its middle.
      above, below: bits above greedy text and below sampled text within which a target counts.
    """

    generator: str = "stdlib"
    data: Path | None = None
    contexts: int = 48
    context: int = 32
    tokens: int = 256
    targets: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5)
    slow: float = 0.1
    ks: tuple[int, ...] = (1, 2, 4, 8, 16, 64, 256)
    ps: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
    near: float = 0.15
    above: float = 0.4
    below: float = 0.5
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        for name in ("targets", "ks", "ps"):
            values = getattr(self, name)
            if len(values) < 2 or list(values) != sorted(set(values)):
                raise ValueError(f"{name}={values}: give two or more, rising")
        if self.tokens < max(GRAMS) + 4 or self.contexts < 2:
            raise ValueError(
                f"tokens={self.tokens}, contexts={self.contexts}: give at least "
                f"{max(GRAMS) + 4} and 2"
            )


def samplers(config: Config) -> dict[str, dict[float, LogitsTransform]]:
    """Family -> setting -> transform. Numbers are leaves, so that a family is one program."""
    return {
        "sampling": {1.0: Identity()},
        "top-k": {float(k): TopK(k) for k in config.ks},
        "top-p": {p: TopP(p) for p in config.ps},
        "mirostat": {t: Mirostat(t) for t in config.targets},
        "mirostat 1": {t: MirostatTopK(t) for t in config.targets},
        "slow": {t: Mirostat(t, config.slow) for t in config.targets},
        "llama.cpp": {t: Mirostat(t, variant="llama.cpp") for t in config.targets},
    }


def measure(texts: OpenTexts, transform: LogitsTransform, sampled: bool = True) -> Row:
    """Bits a token of each text, f64[R], and of its eighths, f64[R, 8]; its drift, those of the
    last quarter less those of the second, for the first follows the context, and mu settles there;
    repetition in percent, f64[R] for each n."""
    result = texts.write(texts.generator(transform, sampled))
    bits, tokens = np.asarray(result.trace.bits, np.float64), np.asarray(result.tokens)
    eighths = np.stack([part.mean(axis=1) for part in np.array_split(bits, EIGHTHS, axis=1)], 1)
    return {
        "bits": np.round(bits.mean(axis=1), 4),
        "eighths": np.round(eighths, 4),
        "drift": np.round(eighths[:, 6:].mean(axis=1) - eighths[:, 2:4].mean(axis=1), 4),
        **{f"rep-{n}": np.round(repeated(tokens, n), 3) for n in GRAMS},
    }


def head_exponent(texts: OpenTexts) -> float:
    """The Zipf exponent of the model's laws, the median over held-out positions."""
    return float(np.median(np.asarray(exponents(texts.model, texts.windows[:16], texts.context))))


@partial(jax.jit, static_argnames="context")
def exponents(model: Any, tokens: Int[Array, "R T"], context: int) -> Float[Array, "P"]:
    """Of the laws at every place of some texts but their first `context`."""
    logits = extend(model, tokens, model.init_cache(*tokens.shape), fresh=True).logits
    return exponent(logits[:, context:].reshape(-1, logits.shape[2]), 100)
