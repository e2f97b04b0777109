"""Policy gradients for a reward given at the end of a response, against a KL penalty.

The objective is E[r(y)] - beta D(pi || pi_ref), over whole responses y; its optimum is
pi_ref exp(r / beta) / Z. A learner turns the policy's own samples into a loss; with
`jaxdecode.train.fit`,

    fit(learner.module(policy), learner.loss, batches, optimizer, steps,
        rollout=learner.rollout, updates=learner.updates)

where batches(step) gives setting, prompt and key. Rewards are not whitened: that would undo the
correspondence of beta and KL. Metrics of a rollout: `reward`, `kl` (mean log pi / pi_ref of the
samples) and `response_length`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import jax.numpy as jnp
from flax import nnx

from jaxdecode import struct
from jaxdecode.autoregress import Generator, generate
from jaxdecode.cache import spread
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Rows
from jaxdecode.sampling import Categorical
from jaxdecode.train.losses import Forward
from jaxdecode.train.sequences import Sequences, join, logprobs, token_logprobs
from jaxdecode.types import Array, Float, Int, Key

Metrics = dict[str, Array]
Policy = TypeVar("Policy", bound=nnx.Module)


@runtime_checkable
class Reward(Protocol):
    """A pytree; NaN where a response has no reward, which stops the training."""

    def __call__(self, prompt: Prompt, rows: Rows) -> Float[Array, "R"]: ...


@struct.dataclass
class Setting:
    """What a policy is trained for.

    Attributes:
      generator: how responses are drawn; its model is pi_ref, and the policy takes its place.
      reward: of finished responses.
      beta: strength of the KL penalty, in units of the reward.
      group: static; responses to every prompt of a step.
    """

    generator: Generator
    reward: Reward
    beta: float | Float[Array, ""]
    group: int = struct.field(pytree_node=False, default=8)

    def __post_init__(self) -> None:
        if isinstance(self.group, int) and self.group < 2:
            raise ValueError(f"group={self.group}: a response's baseline is made of the others'")
        check_sampling(self.generator)


def check_sampling(generator: Generator) -> None:
    """Refuse sampling rules under which the model's log-probabilities are not the sampler's."""
    if not isinstance(generator.transform, Identity) or not isinstance(
        generator.sampler, Categorical
    ):
        raise ValueError(
            f"generator: transform={type(generator.transform).__name__} and "
            f"sampler={type(generator.sampler).__name__} draw from another law than the model's; "
            "train with Identity() and Categorical(), and deploy as you like"
        )


class Drawn(NamedTuple):
    """R responses of a policy, prompt by prompt.

    Attributes:
      sequences: with their prompts.
      reward: f32[R].
      logprob, reference: f32[R, T - 1], log-probabilities under the policy and under pi_ref.
      hidden: f32[R, T - 1, D], the policy's hidden states before those tokens.
    """

    sequences: Sequences
    reward: Float[Array, "R"]
    logprob: Float[Array, "R Tm1"]
    reference: Float[Array, "R Tm1"]
    hidden: Float[Array, "R Tm1 D"]

    @property
    def log_ratio(self) -> Float[Array, "R"]:
        """log pi / pi_ref of the responses."""
        return jnp.sum(self.logprob - self.reference, axis=1)

    @property
    def metrics(self) -> Metrics:
        """Means of what was drawn, by name."""
        return {
            "reward": jnp.mean(self.reward),
            "kl": jnp.mean(self.log_ratio),
            "response_length": jnp.mean(jnp.sum(self.sequences.said, axis=1).astype(jnp.float32)),
        }


def draw(policy: Any, setting: Setting, prompt: Prompt, key: Key[Array, ""]) -> Drawn:
    """Responses of the policy, and what is to be known of them."""
    generator = replace(setting.generator, model=policy)
    rows = generate(generator, key, prompt, setting.group)
    sequences = join(spread(prompt, setting.group), rows.tokens, rows.length)
    logprob, hidden = token_logprobs(policy, sequences)
    reference, _ = token_logprobs(cast(Forward, setting.generator.model), sequences)
    return Drawn(sequences, setting.reward(prompt, rows), logprob, reference, hidden)


def leave_one_out(returns: Float[Array, "R"], group: int) -> Float[Array, "R"]:
    """Every return less the mean of the others of its group."""
    grouped = returns.reshape(-1, group)
    total = jnp.sum(grouped, axis=1, keepdims=True)
    return (grouped - (total - grouped) / (group - 1)).reshape(-1)


def standardised(rewards: Float[Array, "R"], group: int, ddof: int = 0) -> Float[Array, "R"]:
    """GRPO's advantages: rewards less their group's mean, over its standard deviation.

    `ddof` = 1 divides the squares by group - 1.
    """
    grouped = rewards.reshape(-1, group)
    centred = grouped - jnp.mean(grouped, axis=1, keepdims=True)
    deviation = jnp.std(grouped, axis=1, keepdims=True, ddof=ddof)
    return (centred / (deviation + 1e-4)).reshape(-1)


@dataclass(frozen=True)
class Reinforce:
    """REINFORCE with a leave-one-out baseline (Kool et al. 2019; Ahmadian et al. 2024, arXiv
    2402.14740): -mean A log pi(y), A of the returns r - beta log pi / pi_ref."""

    updates: int = 1

    def module(self, policy: Policy) -> Policy:
        """What is trained."""
        return policy

    def policy(self, module: Any) -> Any:
        """The policy in it."""
        return module

    def rollout(
        self, model: Any, setting: Setting, prompt: Prompt, key: Key[Array, ""]
    ) -> tuple[dict[str, Any], Metrics]:
        """Responses of the current policy, their rewards, and what the loss needs of them."""
        drawn = draw(model, setting, prompt, key)
        returns = drawn.reward - setting.beta * drawn.log_ratio
        advantage = leave_one_out(returns, setting.group)
        return {"sequences": drawn.sequences, "advantage": advantage}, drawn.metrics

    def loss(
        self, model: Any, sequences: Sequences, advantage: Float[Array, "R"]
    ) -> tuple[Float[Array, ""], Metrics]:
        return -jnp.mean(advantage * logprobs(model, sequences)), {}


@dataclass(frozen=True)
class Jeffreys:
    """REINFORCE mixed with imitation of given responses: (1 - share) of the one, share of the
    other. With the reward log C, beta = 1 / (N - 1) and the best of N base responses it is BOND
    (Sessa et al. 2024, arXiv 2407.14622), a Jeffreys divergence to the best-of-N policy.

    Batches have `best_tokens` i32[B, L] and `best_length` i32[B] as well.
    """

    share: float = 0.5
    updates: int = 1

    def module(self, policy: Policy) -> Policy:
        return policy

    def policy(self, module: Any) -> Any:
        return module

    def rollout(
        self,
        model: Any,
        setting: Setting,
        prompt: Prompt,
        key: Key[Array, ""],
        best_tokens: Int[Array, "B L"],
        best_length: Int[Array, "B"],
    ) -> tuple[dict[str, Any], Metrics]:
        arguments, metrics = Reinforce().rollout(model, setting, prompt, key)
        # In units of the penalty, so that both parts are divergences in nats.
        arguments["advantage"] = arguments["advantage"] / setting.beta
        return arguments | {"best": join(prompt, best_tokens, best_length)}, metrics

    def loss(
        self, model: Any, sequences: Sequences, advantage: Float[Array, "R"], best: Sequences
    ) -> tuple[Float[Array, ""], Metrics]:
        backward, _ = Reinforce().loss(model, sequences, advantage)
        forward = -jnp.mean(logprobs(model, best))
        return (1 - self.share) * backward + self.share * forward, {"forward": forward}


@dataclass(frozen=True)
class GroupRelative:
    """GRPO (Shao et al. 2024, arXiv 2402.03300): standardised rewards as every token's advantage,
    a clipped ratio, and the KL penalty beta (r - 1 - log r), r = pi_ref / pi, in the loss.

    Every response counts alike, its tokens by their mean. The standardisation makes beta
    another number than elsewhere: compare by the KL achieved.

    Attributes:
      clip: the region of trust, of the ratio.
      ddof: the paper does not say which deviation it means. 0 is the group's own, which we take;
        1, as in TRL, is the estimate for the population, sqrt(G / (G - 1)) times as large.
    """

    clip: float = 0.2
    ddof: int = 0
    updates: int = 1

    def module(self, policy: Policy) -> Policy:
        return policy

    def policy(self, module: Any) -> Any:
        return module

    def rollout(
        self, model: Any, setting: Setting, prompt: Prompt, key: Key[Array, ""]
    ) -> tuple[dict[str, Any], Metrics]:
        drawn = draw(model, setting, prompt, key)
        return {
            "sequences": drawn.sequences,
            "advantage": standardised(drawn.reward, setting.group, self.ddof),
            "before": drawn.logprob,
            "reference": drawn.reference,
            "beta": setting.beta,
        }, drawn.metrics

    def loss(
        self,
        model: Any,
        sequences: Sequences,
        advantage: Float[Array, "R"],
        before: Float[Array, "R Tm1"],
        reference: Float[Array, "R Tm1"],
        beta: Float[Array, ""] | float,
    ) -> tuple[Float[Array, ""], Metrics]:
        logprob, _ = token_logprobs(model, sequences)
        gain = clipped(logprob - before, advantage[:, None], self.clip)
        ratio = reference - logprob
        penalty = jnp.expm1(ratio) - ratio
        said = sequences.said[:, 1:]
        each = jnp.sum(jnp.where(said, gain - beta * penalty, 0.0), axis=1)
        return -jnp.mean(each / jnp.maximum(jnp.sum(said, axis=1), 1)), {}


def clipped(
    log_ratio: Float[Array, "..."], advantage: Float[Array, "..."], clip: float
) -> Float[Array, "..."]:
    """min(r A, clip(r, 1 - c, 1 + c) A): nothing is gained by leaving the region of trust."""
    ratio = jnp.exp(log_ratio)
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
