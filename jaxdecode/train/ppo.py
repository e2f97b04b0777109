"""Proximal policy optimisation of whole responses (Schulman et al. 2017, arXiv 1707.06347).

The reward of a token is -beta log pi / pi_ref, and the response's own reward comes at its last
token. Advantages are generalised (GAE) with gamma = 1, from a value head on the policy's hidden
states; neither rewards nor advantages are whitened, so that the optimum is that of
`jaxdecode.train.policy_gradient`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdecode.prompt import Prompt
from jaxdecode.train.policy_gradient import Metrics, Setting, clipped, draw
from jaxdecode.train.sequences import Sequences, token_logprobs
from jaxdecode.types import Array, Bool, Float, Key


class ActorCritic(nnx.Module):
    """A policy and a linear value of its hidden states, zero at first."""

    def __init__(self, policy: Any, width: int) -> None:
        self.policy = policy
        self.kernel: nnx.Param[Array] = nnx.Param(jnp.zeros((width,), jnp.float32))
        self.bias: nnx.Param[Array] = nnx.Param(jnp.zeros((), jnp.float32))

    def value(self, hidden: Float[Array, "... D"]) -> Float[Array, "..."]:
        return hidden.astype(jnp.float32) @ self.kernel[...] + self.bias[...]


def advantages(
    rewards: Float[Array, "R T"],
    values: Float[Array, "R T"],
    said: Bool[Array, "R T"],
    decay: float,
) -> Float[Array, "R T"]:
    """A_t = d_t + decay A_(t+1), d_t = r_t + V_(t+1) - V_t; nothing follows the last token."""
    values = jnp.where(said, values, 0.0)
    behind = jnp.concatenate([values[:, 1:], jnp.zeros_like(values[:, :1])], axis=1)
    delta = jnp.where(said, rewards + behind - values, 0.0)

    def back(later: Float[Array, "R"], now: Float[Array, "R"]) -> tuple[Array, Array]:
        found = now + decay * later
        return found, found

    _, found = jax.lax.scan(back, jnp.zeros_like(delta[:, 0]), delta.T, reverse=True)
    return jnp.where(said, found.T, 0.0)


@dataclass(frozen=True)
class PPO:
    """A learner: see `jaxdecode.train.policy_gradient`.

    Attributes:
      width: D, of the policy's hidden states.
      clip: how far a token's probability ratio is followed.
      decay: lambda of GAE.
      value_weight: of the value's squared error beside the policy's loss.
      updates: gradient steps on each batch of responses.
    """

    width: int
    clip: float = 0.2
    decay: float = 0.95
    value_weight: float = 0.5
    updates: int = 4

    def module(self, policy: Any) -> ActorCritic:
        return ActorCritic(policy, self.width)

    def policy(self, module: ActorCritic) -> Any:
        return module.policy

    def rollout(
        self, model: ActorCritic, setting: Setting, prompt: Prompt, key: Key[Array, ""]
    ) -> tuple[dict[str, Any], Metrics]:
        drawn = draw(model.policy, setting, prompt, key)
        said = drawn.sequences.said[:, 1:]
        last = jnp.arange(said.shape[1]) == (drawn.sequences.length - 2)[:, None]
        rewards = -setting.beta * (drawn.logprob - drawn.reference)
        rewards += jnp.where(last, drawn.reward[:, None], 0.0)
        values = model.value(drawn.hidden)
        found = advantages(rewards, values, said, self.decay)
        return {
            "sequences": drawn.sequences,
            "before": drawn.logprob,
            "advantage": found,
            "target": found + values,
        }, drawn.metrics

    def loss(
        self,
        model: ActorCritic,
        sequences: Sequences,
        before: Float[Array, "R Tm1"],
        advantage: Float[Array, "R Tm1"],
        target: Float[Array, "R Tm1"],
    ) -> tuple[Float[Array, ""], Metrics]:
        """Sums over a response's tokens, means over responses."""
        said = sequences.said[:, 1:]
        logprob, hidden = token_logprobs(model.policy, sequences)
        gain = clipped(logprob - before, advantage, self.clip)
        error = jnp.square(model.value(hidden) - target)

        def mean(values: Array) -> Array:
            return jnp.sum(jnp.where(said, values, 0.0)) / said.shape[0]

        beyond = jnp.abs(jnp.expm1(logprob - before)) > self.clip
        metrics = {"value_error": mean(error), "clipped": mean(beyond.astype(jnp.float32))}
        return -mean(gain) + self.value_weight * mean(error), metrics
