"""Policy gradients on prompts: how much to draw and to learn, and the run that does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxdecode.autoregress import Generator
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.sharding import FSDP, RULES, own_rows, shard, shard_rows
from jaxdecode.train.accumulate import Accumulate
from jaxdecode.train.fit import Checkpoints, Watcher, fit
from jaxdecode.train.lora import LoRA, merged
from jaxdecode.train.policy_gradient import Reinforce, Reward, Setting
from jaxdecode.train.precision import cast

SAVE = 100  # steps at least between checkpoints; the last step is always saved


@dataclass(frozen=True)
class Plan:
    """How much to draw and how to learn.

    Attributes:
      samples: K, base responses a prompt.
      prompts, group: different ones of a step, and responses to each.
      steps: of the optimiser.
      optimizer: any optax transformation.
      learner: `Reinforce`, `PPO` or another of `jaxdecode.train.policy_gradient`.
      draws: times that a decoder without a closed form answers every prompt.
      batch: prompts decoded at a time in steps 1 and 2.
      save: steps between checkpoints; by default a twentieth of the run, 100 at least.
      lora: adapters to train in place of all weights.
      accumulate, compute: see `jaxdecode.train.fit`.
      mesh: devices to optimise on, the prompts of a step spread over them. Steps 1 and 2 are
        done by every process for itself.
      fsdp: whether what is trained, its gradient and the optimiser's state are split over all
        devices of the mesh, and not over those of a model alone; see `jaxdecode.sharding`.
    """

    samples: int = 100
    prompts: int = 8
    group: int = 8
    steps: int = 200
    optimizer: optax.GradientTransformation = field(default_factory=lambda: optax.adam(1e-3))
    learner: Any = field(default_factory=Reinforce)
    draws: int = 4
    batch: int = 16
    seed: int = 0
    save: int | None = None
    lora: LoRA | None = None
    accumulate: Accumulate | None = None
    compute: str | None = None
    mesh: Mesh | None = None
    fsdp: bool = True

    @property
    def every(self) -> int:
        """Steps between checkpoints."""
        return self.save or max(SAVE, self.steps // 20)


Extra = Callable[[np.ndarray, int], Mapping[str, Any]]
"""(prompt numbers, step) -> further arguments of the learner's rollout."""


def optimise(
    generator: Generator,
    reward: Reward,
    prompts: Sequence[Sequence[int]],
    beta: float,
    plan: Plan,
    folder: Path | None = None,
    watch: Watcher | None = None,
    extra: Extra = lambda ids, step: {},
) -> Any:
    """The policy trained from the base; `beta` in units of what `reward` returns."""
    setting = placed(Setting(generator, reward, jnp.float32(beta), plan.group), plan)
    module = plan.learner.module(adapted(setting.generator.model, plan))
    module = learn(module, setting, prompts, plan, folder, watch, extra)
    return deployed(merged(plan.learner.policy(module)), plan)


def placed(setting: Setting, plan: Plan) -> Setting:
    """On the plan's devices: the model for training, and for decoding what judges its responses."""
    if plan.mesh is None:
        return setting
    reward, beta = shard((setting.reward, setting.beta), plan.mesh)
    generator = shard(setting.generator, plan.mesh, FSDP if plan.fsdp else RULES)
    return replace(setting, generator=generator, reward=reward, beta=beta)


def deployed(tree: Any, plan: Plan) -> Any:
    """On the plan's devices, models for decoding."""
    return tree if plan.mesh is None else shard(tree, plan.mesh)


def adapted(model: Any, plan: Plan) -> Any:
    """What is trained of a policy: all of it, or adapters."""
    return model if plan.lora is None else plan.lora.adapt(model)


def learn(
    module: Any,
    setting: Setting,
    prompts: Sequence[Sequence[int]],
    plan: Plan,
    folder: Path | None = None,
    watch: Watcher | None = None,
    extra: Extra = lambda ids, step: {},
    watch_every: int | None = None,
) -> Any:
    """Train a learner's module, which need not begin at the reference, the model of `setting`.

    Args:
      module, setting: on the plan's devices, see `placed`.
      watch_every: steps between calls of `watch`; a tenth of them by default.
    """
    check_prompts(prompts, plan)
    learner, width = plan.learner, bucket(max(map(len, prompts)))
    turns = list(order(len(prompts), plan))

    def batches(step: int) -> dict[str, Any]:
        ids = turns[step]
        key = jax.random.fold_in(jax.random.key(plan.seed + 1), step)
        own = ids if plan.mesh is None else ids[own_rows(plan.mesh, len(ids))]
        prompt = Prompt.of([prompts[i] for i in own], own.tolist(), width)
        if plan.mesh is not None:
            prompt = shard_rows(prompt, plan.mesh)
        return {"setting": setting, "prompt": prompt, "key": key, **extra(ids, step)}

    model: Any = setting.generator.model
    # A reference rounded as the policy is, so that their KL is nothing at first.
    reference = replace(setting.generator, model=cast(model, plan.compute))
    setting = replace(setting, generator=reference)
    return fit(
        module,
        learner.loss,
        batches,
        plan.optimizer,
        plan.steps,
        None if folder is None else Checkpoints(folder / "policy", plan.every),
        watch,
        watch_every=watch_every or max(1, plan.steps // 10),
        rollout=learner.rollout,
        updates=learner.updates,
        accumulate=plan.accumulate,
        compute=plan.compute,
    )


def check_prompts(prompts: Sequence[Sequence[int]], plan: Plan) -> None:
    """Refuse a step that would take a prompt twice: its draws would be copies, not samples."""
    if not 1 <= plan.prompts <= len(prompts):
        raise ValueError(
            f"plan.prompts={plan.prompts} of a step, and there are {len(prompts)}: a prompt that a "
            f"step takes twice draws the same responses twice; set plan.prompts to {len(prompts)} "
            "and raise plan.group"
        )


def order(count: int, plan: Plan) -> Iterator[np.ndarray]:
    """The prompts of every step, each once in a step: all of them in turn, in an order shuffled
    anew each time."""
    rng, left = np.random.default_rng(plan.seed), np.zeros(0, np.int64)
    for _ in range(plan.steps):
        if len(left) < plan.prompts:
            fresh = rng.permutation(count)
            again = np.isin(fresh, left)
            if again[: plan.prompts - len(left)].any():  # they wait for the next step
                fresh = np.concatenate([fresh[~again], fresh[again]])
            left = np.concatenate([left, fresh])
        chosen, left = left[: plan.prompts], left[plan.prompts :]
        yield chosen
