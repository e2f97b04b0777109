"""Edits of next-token logits that a command line can ask for, by name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from algorithms.tokens.mirostat import Mirostat, MirostatTopK
from jaxdecode import logits
from models.ban_strings import BanStrings
from models.text import Tokenizer


class Target(NamedTuple):
    """What edits of the logits are made for.

    Attributes:
      piece: the tokens of a text that goes on.
      text: the tokenizer, for texts however they are spelled.
      stops: texts that end a response.
    """

    vocab: int
    eos: Any
    max_tokens: int
    piece: Callable[[str], list[int]] | None
    text: Tokenizer | None = None
    stops: tuple[str, ...] = ()

    def spelled(self, option: str, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of the texts that an option gives."""
        if self.piece is None:
            raise ValueError(f"{option}={texts}: texts need a tokenizer; pass `piece`")
        if not texts or not all(texts):
            raise ValueError(f"{option}={list(texts)}: one text or more is needed, none empty")
        return [self.piece(text) for text in texts]


def _bad_words(texts: Sequence[str], target: Target) -> logits.LogitsTransform:
    if target.text is None:
        raise ValueError(f"bad_words={list(texts)}: texts need a tokenizer; pass `text`")
    if not texts or not all(texts):
        raise ValueError(f"bad_words={list(texts)}: one text or more is needed, none empty")
    try:
        ban = BanStrings.of(target.text, texts, vocab_size=target.vocab)
    except ValueError as error:
        raise ValueError(f"bad_words: {error}") from error
    return cast(logits.LogitsTransform, ban)


def _min_tokens(tokens: int, target: Target) -> logits.LogitsTransform:
    """Neither end tokens nor stop strings; one that begins in the prompt ends nothing."""
    ends = logits.MinimumLength(tokens, target.eos)
    if not target.stops:
        return ends
    if target.text is None:
        raise ValueError(f"min_tokens={tokens}: stop strings need a tokenizer; pass `text`")
    strings = BanStrings.of(target.text, target.stops, tokens, False, target.vocab)
    return logits.chain(ends, cast(logits.LogitsTransform, strings))


def _allowed(ids: Sequence[int], target: Target) -> logits.LogitsTransform:
    if not ids or not all(0 <= token < target.vocab for token in ids):
        raise ValueError(
            f"allowed_token_ids={list(ids)}: one id or more in 0..{target.vocab - 1} are needed"
        )
    return logits.Allow.of(ids)


def _choices(texts: Sequence[str], target: Target) -> logits.LogitsTransform:
    spelled = target.spelled("choices", texts)
    if max(map(len, spelled)) >= target.max_tokens:
        longest = max(map(len, spelled))
        raise ValueError(
            f"choices: the longest has {longest} tokens and then ends; --max-tokens "
            f"{longest + 1} is needed"
        )
    return logits.OneOf.of(spelled, np.asarray(target.eos).tolist())


def _several(
    option: str, make: Callable[..., Any], names: str
) -> Callable[[Any, Target], logits.LogitsTransform]:
    """A transform of several numbers; those whose names are in brackets may be left out."""
    most = len(names.split())
    least = sum(not name.startswith("[") for name in names.split())

    def build(values: Sequence[float], target: Target) -> logits.LogitsTransform:
        if not least <= len(values) <= most:
            flag = option.replace("_", "-")
            raise ValueError(f"--{flag} {' '.join(map(str, values))}: {names} are expected")
        return make(target, *values)

    return build


def _dry(target: Target, multiplier: float, base: float = 1.75, allowed: float = 2.0) -> Any:
    """Matches do not reach across line ends, colons, quotation marks and stars, as is customary."""
    breakers = []
    for text in ("\n", ":", '"', "*"):
        with contextlib.suppress(ValueError):  # a vocabulary without it
            breakers += target.spelled("dry", [text])[0] if target.piece else []
    if allowed != int(allowed):
        raise ValueError(f"--dry: the length allowed is a whole number, and not {allowed}")
    return logits.Dry.of(multiplier, target.max_tokens, sorted(set(breakers)), base, int(allowed))


def _bits(make: Callable[..., Any]) -> Callable[..., Any]:
    def build(target: Target, bits: float, rate: float = 1.0) -> Any:
        if bits > np.log2(target.vocab):
            raise ValueError(
                f"--mirostat {bits}: no law over {target.vocab} tokens has more than "
                f"{np.log2(target.vocab):.2f} bits; a model's own texts have far fewer"
            )
        return make(bits, rate)

    return build


# Edits of the logits, in the order in which they are applied. Penalties see the raw logits.
EDITS: dict[str, Callable[[Any, Target], logits.LogitsTransform]] = {
    "repetition_penalty": lambda x, to: logits.RepetitionPenalty(x, to.vocab),
    "presence_penalty": lambda x, to: logits.PresencePenalty(x, to.vocab),
    "frequency_penalty": lambda x, to: logits.FrequencyPenalty(x, to.vocab),
    "dry": _several("dry", _dry, "MULTIPLIER [BASE] [LENGTH]"),
    "no_repeat_ngram_size": lambda x, to: logits.NoRepeatNgram(x, to.max_tokens),
    "bad_words": _bad_words,
    "allowed_token_ids": _allowed,
    "choices": _choices,
    "min_tokens": _min_tokens,
    "top_n_sigma": lambda x, _: logits.TopNSigma(x),
    "smoothing": _several(
        "smoothing", lambda _, *x: logits.QuadraticSmoothing(*x), "FACTOR [CURVE]"
    ),
    "dynamic_temperature": _several(
        "dynamic_temperature", lambda _, *x: logits.DynamicTemperature(*x), "LOW HIGH [EXPONENT]"
    ),
    "temperature": lambda x, _: logits.Temperature(x),
    "top_k": lambda x, _: logits.TopK(x),
    "top_p": lambda x, _: logits.TopP(x),
    "min_p": lambda x, _: logits.MinP(x),
    "typical": lambda x, _: logits.Typical(x),
    "epsilon": lambda x, _: logits.Epsilon(x),
    "eta": lambda x, _: logits.Eta(x),
    "xtc": _several(
        "xtc", lambda _, share, least: logits.ExcludeTop(least, share), "PROBABILITY THRESHOLD"
    ),
    "mirostat": _several("mirostat", _bits(Mirostat), "BITS [RATE]"),
    "mirostat_top_k": _several("mirostat_top_k", _bits(MirostatTopK), "BITS [RATE]"),
    "begin_with": lambda x, to: logits.ForcedTokens.of(to.spelled("begin_with", [x])[0]),
}
