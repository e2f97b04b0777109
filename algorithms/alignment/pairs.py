"""Pairs of responses for losses that draw nothing: one's own, or the extremes of base responses.

Both are batches for `jaxdecode.train.preferences.pair_loss`, functions of the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from algorithms.alignment.base import Arrays, Responses, blocks
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.train.data import Order
from jaxdecode.train.preferences import PairTerms, bonbon, bonbon_margin, dpo, imitation, ipo
from jaxdecode.train.sequences import join, response_logprobs

SIDES = ("chosen", "rejected")


def terms_near(method: str, kl: float, n: int, strength: float = 1.0) -> PairTerms:
    """The loss on pairs whose policy is near some KL: a rule of thumb, for what it turns out to be
    is known once it has been measured.

    Args:
      method: "dpo", "ipo", "bonbon", or "sft", which imitates what is chosen and has no strength.
      kl: aimed at, in nats, between policy and base.
      n: of the best-of-N that BoNBoN imitates. Its margin stands for beta: it is its own at a KL
        of 1, and nearer to the base below.
      strength: how much further than this the loss goes.
    """
    match method:
        case "dpo":
            return dpo(2.0 / kl / strength)
        case "ipo":
            return ipo(0.25 / kl**0.5 / strength)
        case "bonbon":
            return bonbon(n, margin=bonbon_margin(n) * kl * strength)
        case "sft":
            return imitation()
    raise ValueError(f"method {method!r} has no loss on pairs; choose dpo, ipo, bonbon or sft")


class Pair(NamedTuple):
    """Two responses to one prompt as tokens, the preferred one first; each with its end token."""

    prompt: Sequence[int]
    chosen: Sequence[int]
    rejected: Sequence[int]


@dataclass(frozen=True)
class Given:
    """One's own pairs.

    Attributes:
      prompts: of the pairs.
      tokens: i32[n, 2, L], chosen and rejected.
      length: i32[n, 2].
      reference: f32[n, 2], log-probabilities under the base policy.
      terms: what the loss is made of.
      rows: pairs of a step.
    """

    prompts: Sequence[Sequence[int]]
    tokens: Arrays
    length: Arrays
    reference: Arrays
    terms: PairTerms
    rows: int
    seed: int = 0

    @classmethod
    def of(
        cls, model: Any, pairs: Sequence[Pair], terms: PairTerms, rows: int, seed: int, batch: int
    ) -> Given:
        """From tokens; the base policy reads them once, `batch` pairs at a time."""
        replies = [[pair.chosen, pair.rejected] for pair in pairs]
        length = np.array([[len(reply) for reply in two] for two in replies], np.int32)
        tokens = np.zeros((len(pairs), 2, bucket(int(length.max()))), np.int32)
        for row, two in enumerate(replies):
            for side, reply in enumerate(two):
                tokens[row, side, : len(reply)] = reply
        prompts, found, first = [pair.prompt for pair in pairs], [], 0
        for block, count in blocks(prompts, batch):
            at = np.minimum(first + np.arange(block.batch), len(pairs) - 1)
            some = jnp.asarray(tokens[at]), jnp.asarray(length[at])
            found.append(np.asarray(response_logprobs(model, block, *some))[:count])
            first += count
        return cls(prompts, tokens, length, np.concatenate(found), terms, rows, seed)

    def __call__(self, step: int) -> dict[str, Any]:
        count = len(self.prompts)
        ids = Order(count, min(self.rows, count), self.seed)(step)
        made = _prompts(self.prompts, ids)
        batch: dict[str, Any] = {"terms": self.terms}
        for side, name in enumerate(SIDES):
            some = jnp.asarray(self.tokens[ids, side]), jnp.asarray(self.length[ids, side])
            batch[name] = join(made, *some)
            batch[f"{name}_reference"] = jnp.asarray(self.reference[ids, side])
        return batch


@dataclass(frozen=True)
class Extremes:
    """The best and the worst of `samples` base responses to a prompt, drawn anew every step.

    Attributes:
      responses: K to every prompt.
      terms: what the loss is made of.
      rows: pairs of a step.
    """

    prompts: Sequence[Sequence[int]]
    responses: Responses
    terms: PairTerms
    samples: int
    rows: int
    seed: int = 0

    def __call__(self, step: int) -> dict[str, Any]:
        rng, found = np.random.default_rng((self.seed, step)), self.responses
        ids = rng.integers(len(self.prompts), size=self.rows)
        made = _prompts(self.prompts, ids)
        batch: dict[str, Any] = {"terms": self.terms}
        sides = found.extremes(ids, self.samples, rng)
        for name, index in zip(SIDES, sides, strict=True):
            text, length = found.tokens[ids, index], found.length[ids, index]
            batch[name] = join(made, jnp.asarray(text), jnp.asarray(length))
            batch[f"{name}_reference"] = jnp.asarray(found.logprob[ids, index])
        return batch


def _prompts(prompts: Sequence[Sequence[int]], ids: np.ndarray) -> Prompt:
    return Prompt.of([prompts[i] for i in ids], ids.tolist(), bucket(max(map(len, prompts))))
