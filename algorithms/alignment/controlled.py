"""A learner whose policy is held at a divergence from its reference: beta follows what it comes to.

The strength of the KL penalty is trained beside the policy,

    log beta  <-  log beta + rate * clip((KL - aim) / kl, -1, 1),

with KL that of the step's own responses and an aim that rises to the target in the first half of
the run: a policy that has only begun to learn would otherwise be let go too far. This is the
adaptive penalty of Ziegler et al. 2019 (arXiv 1909.08593), in logarithms. beta is a weight of what
is trained, so that a run that is killed goes on with the beta that it had.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxdecode.prompt import Prompt
from jaxdecode.train.policy_gradient import Metrics, Setting
from jaxdecode.types import Array, Float, Key

TRAVEL = 2.5  # log beta moves so far in a run whose error is always the largest
RISE = 0.5  # share of the steps in which the aim comes to the target
LOG_BETA = "log_beta"


class Held(nnx.Module):
    """What a learner trains, and the logarithm of beta."""

    def __init__(self, inner: Any, beta: float) -> None:
        self.inner = inner
        self.log_beta: nnx.Param[Array] = nnx.Param(jnp.log(jnp.float32(beta)))

    @property
    def beta(self) -> float:
        """As it is now."""
        return float(jnp.exp(self.log_beta[...]))


@dataclass(frozen=True)
class Controlled:
    """A learner: see `jaxdecode.train.policy_gradient`. Its module is made by `Held`.

    Batches have `aim` f32[2] as well: where the KL is to be by now, and the target.

    Attributes:
      learner: whose beta it is; what its setting says of beta does not count.
    """

    learner: Any

    @property
    def updates(self) -> int:
        """Gradient steps on the data of one step."""
        return self.learner.updates

    def policy(self, module: Held) -> Any:
        return self.learner.policy(module.inner)

    def rollout(
        self,
        model: Held,
        setting: Setting,
        prompt: Prompt,
        key: Key[Array, ""],
        aim: Float[Array, "2"],
    ) -> tuple[dict[str, Any], Metrics]:
        beta = jnp.exp(model.log_beta[...])
        inner, metrics = self.learner.rollout(model.inner, replace(setting, beta=beta), prompt, key)
        error = jnp.clip((metrics["kl"] - aim[0]) / aim[1], -1.0, 1.0)
        return {"inner": inner, "error": error}, metrics | {"beta": beta}

    def loss(
        self, model: Held, inner: dict[str, Any], error: Float[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        value, metrics = self.learner.loss(model.inner, **inner)
        log_beta = model.log_beta[...]
        # Nothing is added but a gradient: a step down it is a step of log beta by the error.
        return value - error * (log_beta - jax.lax.stop_gradient(log_beta)), metrics


@functools.lru_cache(maxsize=8)
def controlled(learner: Any) -> Controlled:
    """One object for a learner, so that runs share a compiled program."""
    return Controlled(learner)


@functools.lru_cache(maxsize=8)
def holding(
    optimizer: optax.GradientTransformation, steps: int, updates: int
) -> optax.GradientTransformation:
    """`optimizer` for the policy, and the rule above for beta."""

    def kinds(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "beta" if LOG_BETA in jax.tree_util.keystr(path) else "policy", params
        )

    rate = TRAVEL / (steps * updates)
    return optax.partition({"beta": optax.sgd(rate), "policy": optimizer}, kinds)


def aims(kl: float, steps: int, step: int) -> Float[Array, "2"]:
    """`aim` of a step of a run of `steps`, and of the steps that it is gone on with."""
    return jnp.asarray([kl * min(1.0, (step + 1) / (RISE * steps)), kl], jnp.float32)
