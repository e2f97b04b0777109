"""What is measured of texts written by spans, against plain decoding of the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.speculative.drafters.placeholders import Placeholders
from algorithms.speculative.verifiers.match import Match
from algorithms.tokens.lud import LUD
from algorithms.tokens.rules.acceptance import Acceptance, ByChance
from algorithms.tokens.rules.stutter import Nothing, Stutter
from experiments.harness.likelihood import continuations
from experiments.tasks.task import Split
from experiments.tokens.lud.setting import Row, Subject
from experiments.tokens.lud.stuttering import stuttering
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder, decode
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from jaxdecode.speculate import Speculator
from jaxdecode.stop import Stop
from jaxdecode.train.sequences import join


def generator(subject: Subject, model: Any) -> Generator:
    codec = subject.source.codec
    return Generator(model, Identity(), Greedy(), Stop.of(codec.text.eos), subject.config.tokens)


def plain(subject: Subject, model: Any) -> Decoder:
    return Autoregressive(generator(subject, model))


def spans(
    subject: Subject,
    model: Any,
    accept: Acceptance,
    stutter: Stutter | None = None,
    first_free: bool = False,
) -> Decoder:
    """LUD, which does not score what it wrote: that is done under the fine-tuned model."""
    return LUD(
        generator(subject, model),
        subject.extended[1],
        subject.config.longest,
        accept,
        stuttering(subject.source.codec, model) if stutter is None else stutter,
        first_free,
        rescored=False,
    )


def verified(subject: Subject, model: Any, beta: float) -> Decoder:
    """The exact form."""
    drafter = Placeholders(subject.extended[1], subject.config.longest, beta)
    return Autoregressive(Speculator(generator(subject, model), drafter, Match()))


def written(subject: Subject, decoder: Decoder, split: Split) -> Row:
    """Texts, passes and scores, prompt by prompt."""
    examples, prompt = subject.prompts(split)
    config, parts, surprise = subject.config, [], []
    for first in range(0, prompt.batch, config.batch):
        rows = np.minimum(np.arange(first, first + config.batch), prompt.batch - 1)
        some = jax.tree.map(lambda x, rows=rows: x[rows], prompt)
        result = jax.device_get(decode(decoder, config.seed, some))
        text = join(some, jnp.asarray(result.tokens), jnp.asarray(result.length))
        whole = Prompt(text.tokens, text.length, some.id)
        logp, _ = continuations(subject.source.model, whole, some.length)
        parts.append(result)
        surprise.append(-np.asarray(logp) / np.maximum(result.length, 1))
    result = jax.tree.map(lambda *x: np.concatenate(x)[: prompt.batch], *parts)
    passes = result.usage.target_passes - (np.asarray(prompt.length) > 1)
    row: Row = {
        "tokens": [t[:n].tolist() for t, n in zip(result.tokens, result.length, strict=True)],
        "length": result.length,
        "passes": passes,
        "nll": np.concatenate(surprise)[: prompt.batch],
        "spans": result.usage.histogram,
    }
    if subject.verify is not None:
        texts = [subject.source.codec.decode(tokens) for tokens in row["tokens"]]
        pairs = zip(examples, texts, strict=True)
        row["score"] = [subject.verify(example.prompt, text) for example, text in pairs]
    return row


def rate(row: Row) -> float:
    """Tokens of a pass."""
    return float(np.sum(row["length"]) / np.sum(row["passes"]))


def overlap(one: Row, other: Row) -> np.ndarray:
    """F1 of the longest common subsequence with another method's text (ROUGE-L), each prompt."""
    pairs = zip(one["tokens"], other["tokens"], strict=True)
    return np.array([2 * common(a, b) / max(len(a) + len(b), 1) for a, b in pairs])


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common subsequence."""
    line = np.zeros(len(other) + 1, int)
    right = np.asarray(other)
    for token in one:
        longer = np.maximum(line[1:], np.where(right == token, line[:-1] + 1, 0))
        line[1:] = np.maximum.accumulate(longer)
    return int(line[-1])


def by_chance(subject: Subject, model: Any, like: Row) -> Decoder:
    """Spans as long on average, accepted at random: a geometric length, cut at k."""
    k, wanted = subject.config.longest, rate(like)

    low, high = 0.0, 1.0
    for _ in range(40):
        chance = (low + high) / 2
        short = sum(chance**i for i in range(k)) < wanted
        low, high = (chance, high) if short else (low, chance)
    return spans(subject, model, ByChance(high), Nothing(), first_free=True)
