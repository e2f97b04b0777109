"""Which of N samples to return, by what they answered and how much each is trusted.

Answers are integers i32[N], one for every distinct answer of a prompt, -1 for none. Weights
and confidences are f32[N], larger is better; a sample whose number is not finite has no vote.
Each rule returns the index of a sample, works on one prompt, and is to be `jax.vmap`ped over
more. A vote returns the first sample that carries the winning answer, and of tied answers the
one that appeared first; where no sample has an answer every rule returns 0.

Rules that share the signature (answers, confidence) -> index are interchangeable: majority,
weighted_sum, average, borda, best_of, first_answer.
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxdecode.types import Array, Bool, Float, Int


def valid(
    answers: Int[Array, "*batch N"], weight: Float[Array, "*batch N"]
) -> Bool[Array, "*batch N"]:
    """Which samples may vote: those that answer, with a finite weight."""
    return (answers >= 0) & jnp.isfinite(weight)


def totals(answers: Int[Array, "N"], weight: Float[Array, "N"]) -> Float[Array, "N"]:
    """The votes for each sample's answer; 0 at a sample that may not vote.

    Sums of rows, not a scatter: samples with one answer get the very same number on any device.
    """
    able = valid(answers, weight)
    same = able[:, None] & able & (answers[:, None] == answers)
    return jnp.sum(jnp.where(same, weight, 0.0), axis=1)


def best(value: Float[Array, "N"], able: Bool[Array, "N"]) -> Int[Array, ""]:
    """The first largest value where `able`; 0 where nothing is."""
    return jnp.argmax(jnp.where(able, value, -jnp.inf)).astype(jnp.int32)


def ranks(confidence: Float[Array, "N"]) -> Int[Array, "N"]:
    """1 for the most confident sample, N for the least; ties in the order of the samples.

    NaN and infinities rank last.
    """
    sound = jnp.where(jnp.isfinite(confidence), confidence, -jnp.inf)
    order = jnp.argsort(-sound, stable=True)
    return jnp.argsort(order) + 1


def borda_weights(
    answers: Int[Array, "N"], confidence: Float[Array, "N"], power: Float[Array, ""] | float
) -> Float[Array, "N"]:
    """(N - rank + 1) ** power; samples without an answer occupy a rank.

    Exact, ties included, for integer powers while the largest vote is below 2**24; beyond that
    all votes of the prompt are scaled so that the largest valid one is 1.
    """
    place = (confidence.shape[0] + 1 - ranks(confidence)).astype(jnp.float32)
    power = jnp.asarray(power, jnp.float32)
    top = jnp.max(jnp.where(valid(answers, confidence), place, 1.0))
    small = top**power < 2.0**24
    votes = jnp.where(small, place, place / top) ** power
    return jnp.where(small & (power == jnp.round(power)), jnp.round(votes), votes)


def borda(
    answers: Int[Array, "N"],
    confidence: Float[Array, "N"],
    power: Float[Array, ""] | float = 0.5,
) -> Int[Array, ""]:
    """Ranks vote (Kang et al. 2025, arXiv 2502.18581).

    power=0 is the majority vote; the larger the power, the closer to `best_of`. The default is
    that of the authors' code; they advise 0.3 for N <= 16 and 1.2 for N >= 32.
    """
    able = valid(answers, confidence)
    votes = borda_weights(answers, confidence, power)
    return best(totals(jnp.where(able, answers, -1), votes), able)


def majority(
    answers: Int[Array, "N"], confidence: Float[Array, "N"] | None = None
) -> Int[Array, ""]:
    """One sample, one vote: self-consistency (Wang et al. 2023, arXiv 2203.11171).

    `confidence` only tells who may vote.
    """
    ones = jnp.ones(answers.shape, jnp.float32)
    able = valid(answers, ones if confidence is None else confidence)
    return best(totals(jnp.where(able, answers, -1), ones), able)


def weighted_sum(answers: Int[Array, "N"], weight: Float[Array, "N"]) -> Int[Array, ""]:
    """Each sample votes with its weight."""
    return best(totals(answers, weight), valid(answers, weight))


def normalised_weighted_sum(
    answers: Int[Array, "N"], avg_logprob: Float[Array, "N"]
) -> Int[Array, ""]:
    """Each sample votes with its probability normalised for length, exp(mean log p)
    (Wang et al. 2023, arXiv 2203.11171)."""
    return weighted_sum(answers, jnp.exp(avg_logprob))


def average(answers: Int[Array, "N"], weight: Float[Array, "N"]) -> Int[Array, ""]:
    """The answer whose samples have the largest mean weight."""
    able = valid(answers, weight)
    count = totals(jnp.where(able, answers, -1), jnp.ones(answers.shape, jnp.float32))
    return best(totals(answers, weight) / jnp.maximum(count, 1.0), able)


def best_of(answers: Int[Array, "N"], confidence: Float[Array, "N"]) -> Int[Array, ""]:
    """The most confident sample that has an answer."""
    return best(confidence, valid(answers, confidence))


def first_answer(
    answers: Int[Array, "N"], confidence: Float[Array, "N"] | None = None
) -> Int[Array, ""]:
    """The first sample that has an answer."""
    ones = jnp.ones(answers.shape, jnp.float32)
    return best(ones, valid(answers, ones if confidence is None else confidence))


def oracle(answers: Int[Array, "N"], reference: Int[Array, ""]) -> Int[Array, ""]:
    """The first sample with the right answer; 0 where there is none."""
    return jnp.argmax((answers == reference) & (answers >= 0)).astype(jnp.int32)
