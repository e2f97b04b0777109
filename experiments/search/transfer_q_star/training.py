"""What the experiment on value guidance trains: policies by DPO, values by FUDGE and CD-Q.

Pairs of the base's own texts, labelled by Bradley-Terry on a reward, align a policy; the values
of CD are trained on the same texts. Every batch is a function of its step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from algorithms.alignment.base import Responses
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.train.preferences import dpo, pair_loss
from jaxdecode.train.sequences import join
from jaxdecode.train.values import cd_q, fudge, next_law


class Plan(NamedTuple):
    """Steps, rows of a batch, and the peak learning rate."""

    steps: int
    batch: int
    rate: float


@dataclass(frozen=True)
class Lessons:
    """The base and what it said to the training prompts.

    Attributes:
      base: the model that begins every training.
      tokens: the training prompts.
      drawn: its responses to them, with their rewards.
      seed: of the choice of batches.
      runs: folder of checkpoints; None keeps none.
    """

    base: Any
    tokens: list[list[int]]
    drawn: Responses
    seed: int
    runs: Path | None

    def align(self, name: str, reward: np.ndarray, beta: float, plan: Plan) -> Any:
        """DPO on pairs labelled with P = sigmoid(r_1 - r_2), whose optimum is that of r at beta."""
        found = self.drawn

        def batch(rng: np.random.Generator, ids: np.ndarray, block: Prompt) -> dict[str, Any]:
            pair = np.stack([rng.choice(found.length.shape[1], 2, replace=False) for _ in ids])
            gap = reward[ids, pair[:, 0]] - reward[ids, pair[:, 1]]
            swap = rng.random(len(ids)) > 1 / (1 + np.exp(-gap))
            pair[swap] = pair[swap, ::-1]
            made: dict[str, Any] = {"terms": dpo(beta)}
            for side, index in zip(("chosen", "rejected"), pair.T, strict=True):
                made[side] = self.joined(block, ids, index)
                made[f"{side}_reference"] = jnp.asarray(found.logprob[ids, index])
            return made

        return self.trained(name, self.base, pair_loss, batch, plan)

    def value(self, name: str, plan: Plan) -> Any:
        """V of prefixes under the base, by "FUDGE" or "CD-Q"; starts as a faint copy of it."""
        model = nnx.clone(self.base)
        model.norm[...] = 0.1 * model.norm[...]
        found = self.drawn

        def batch(rng: np.random.Generator, ids: np.ndarray, block: Prompt) -> dict[str, Any]:
            index = rng.integers(found.length.shape[1], size=len(ids))
            texts = self.joined(block, ids, index)
            made = {"sequences": texts, "reward": jnp.asarray(found.reward[ids, index])}
            if name == "CD-Q":
                made["law"] = _law(self.base, texts)
            return made

        return self.trained(name, model, cd_q if name == "CD-Q" else fudge, batch, plan)

    def joined(self, block: Prompt, ids: np.ndarray, index: np.ndarray) -> Any:
        found = self.drawn
        tokens, length = found.tokens[ids, index], found.length[ids, index]
        return join(block, jnp.asarray(tokens), jnp.asarray(length))

    def trained(
        self,
        name: str,
        model: Any,
        loss: Callable[..., Any],
        batch: Callable[..., Mapping[str, Any]],
        plan: Plan,
    ) -> Any:
        """`fit` on batches of training prompts."""
        tokens, (steps, count, peak) = self.tokens, plan
        width = bucket(max(map(len, tokens)))

        def batches(step: int) -> Mapping[str, Any]:
            rng = np.random.default_rng((self.seed, step))
            ids = rng.integers(len(tokens), size=count)
            return batch(rng, ids, Prompt.of([tokens[i] for i in ids], ids.tolist(), width))

        rate = optax.warmup_cosine_decay_schedule(0, peak, 5, max(steps, 6), peak / 10)
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.98))
        where = None if self.runs is None else Checkpoints(self.runs / name, steps)
        return fit(model, loss, batches, optimizer, steps, where, watch_every=steps)


_law = jax.jit(next_law)
