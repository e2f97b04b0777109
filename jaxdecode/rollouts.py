"""The value of a candidate by what comes of it: Q(s, z) = E r([s, z, tau]), tau ~ rho(. | [s, z]).

All candidates of all rows are continued in one batched fork of the cache, n times each, and the
completed texts are scored in one batch. Where z ends the text, Q is the reward itself. With
another policy's reward to correct for, the n rollouts are weighed by

    w = exp((r - r_rho) / beta),  Q = sum w r / sum w                (self-normalised)

if rho is the optimum for r_rho at KL strength beta: rho(y) ~ pi(y) exp(r_rho(y) / beta).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.cache import Cache, gather, put, truncate
from jaxdecode.guide import Candidates
from jaxdecode.lm import LanguageModel, extend, prefill
from jaxdecode.logits import Identity
from jaxdecode.logits.transform import check_number
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status, Usage
from jaxdecode.rows import Rows
from jaxdecode.sampling import Categorical, Sampler, row_keys, step_keys
from jaxdecode.scoring import Scorer, Spent
from jaxdecode.types import Array, Float, Int, Key

STREAM = 1  # of random draws; that of the tokens is 0


def weighted(
    reward: Float[Array, "... n"], log_weight: Float[Array, "... n"]
) -> Float[Array, "..."]:
    """The self-normalised mean of n rewards; not finite where one of them is not."""
    return jnp.sum(jax.nn.softmax(log_weight, axis=-1) * reward, axis=-1)


@struct.dataclass
class Rolling:
    """State of `Rollouts`: B rows' keys, scorers as of the prompt, the policy's own cache."""

    key: Key[Array, "B"]
    scorer: Any
    baseline: Any
    cache: Cache | None


@struct.dataclass
class Rollouts:
    """Monte-Carlo values.

    Attributes:
      scorer: r, of completed texts.
      policy: rho; None for the reference itself, whose cache is then forked.
      baseline: r_rho, see the module; None for plain means.
      beta: of `baseline`.
      sampler: draws the tokens of rollouts from rho's raw law.
      samples: static, n.
      horizon: static, the most tokens after the candidate; what is not finished by then is
        scored as it stands. None runs to the end.
    """

    scorer: Scorer
    policy: LanguageModel | None = None
    baseline: Scorer | None = None
    beta: Float[Array, ""] | float = 1.0
    sampler: Sampler = Categorical()
    samples: int = struct.field(pytree_node=False, default=4)
    horizon: int | None = struct.field(pytree_node=False, default=None)

    def __post_init__(self) -> None:
        least = 1 if self.baseline is None else 2
        if self.samples < least:
            raise ValueError(
                f"samples={self.samples}: at least {least} needed"
                + ("; the weight of a single rollout cancels" if least == 2 else "")
            )
        if self.horizon is not None and self.horizon < 0:
            raise ValueError(f"horizon={self.horizon} must be at least 0, or None for no limit")
        check_number("beta", self.beta, 0.0, above=True)

    def init(self, generator: Generator, key: Key[Array, ""], prompt: Prompt) -> tuple[Any, Usage]:
        batch, usage = prompt.batch, Usage.zeros(prompt.batch)
        scorer, spent = self.scorer.init(prompt, 1)
        usage = scored(usage, spent)
        baseline, cache = None, None
        if self.baseline is not None:
            baseline, spent = self.baseline.init(prompt, 1)
            usage = scored(usage, spent)
        if self.policy is not None:
            width = prompt.tokens.shape[1]
            cache = prefill(self.policy, prompt, width + generator.max_tokens).cache
            read = Spent.reading(self.policy.cost, jnp.zeros((batch,), jnp.int32), cache.length)
            usage = drafted(usage, read)
        keys = row_keys(key, prompt.id, jnp.zeros((batch,), jnp.int32), STREAM)
        return Rolling(keys, scorer, baseline, cache), usage

    def value(
        self,
        generator: Generator,
        state: Rolling,
        prompt: Prompt,
        rows: Rows,
        candidates: Candidates,
    ) -> tuple[Float[Array, "B k"], Rolling, Usage]:
        batch, count = candidates.token.shape
        cache, usage = rows.cache, Usage.zeros(batch)
        if self.policy is not None:
            assert state.cache is not None
            own = extend(self.policy, rows.root[:, None], state.cache).cache
            cache = truncate(own, own.length + 1)
            state = replace(state, cache=cache)
            ones = jnp.ones((batch,), jnp.int32)
            usage = drafted(usage, Spent.reading(self.policy.cost, own.length, ones))
        forks = self.run(generator, replace(rows, cache=cache), candidates, state.key)
        usage = self._ran(usage, forks, batch)
        one = jnp.zeros((batch, count * self.samples), jnp.int32)
        reward, _, spent = self.scorer.score(
            gather(state.scorer, one), prompt, forks, generator.max_tokens
        )
        usage, log_weight = scored(usage, spent), jnp.zeros_like(reward)
        if self.baseline is not None:
            other, _, spent = self.baseline.score(
                gather(state.baseline, one), prompt, forks, generator.max_tokens
            )
            usage, log_weight = scored(usage, spent), (reward - other) / self.beta
        usable = forks.status != Status.INVALID
        reward = jnp.where(usable, reward, jnp.nan)
        shape = (batch, count, self.samples)
        return weighted(reward.reshape(shape), log_weight.reshape(shape)), state, usage

    def run(
        self, generator: Generator, rows: Rows, candidates: Candidates, key: Key[Array, "B"]
    ) -> Rows:
        """B * k * n rows that began with a candidate each and ran to the end or the horizon.

        A rollout's draws depend on the step, the candidate's token and the number of the
        rollout, not on k or n.
        """
        batch, count = candidates.token.shape
        token, logprob = (
            jnp.repeat(array, self.samples, axis=1).reshape(-1)
            for array in (candidates.token, candidates.logprob)
        )
        rows = replace(
            rows, key=step_keys(key, rows.length), transform=(), meter=(), usage=Usage.zeros(batch)
        )
        forks = gather(rows, jnp.zeros((batch, count * self.samples), jnp.int32))
        number = jnp.tile(jnp.arange(self.samples), batch * count)
        tokens = put(forks.tokens, forks.length[:, None], token[:, None])
        length = forks.length + 1
        full = length >= generator.max_tokens
        status = jnp.where(full, Status.LENGTH, forks.status)
        status = jnp.where(generator.stop(tokens, length), Status.EOS, status)
        status = jnp.where(forks.running, status, forks.status).astype(jnp.int8)
        forks = replace(
            forks,
            tokens=tokens,
            length=length,
            status=status,
            logprob=forks.logprob + logprob,
            root=token,
            key=step_keys(step_keys(forks.key, token), number),
        )
        policy = Generator(
            generator.model if self.policy is None else self.policy,
            Identity(),
            self.sampler,
            generator.stop,
            generator.max_tokens,
        )
        left = generator.max_tokens if self.horizon is None else self.horizon
        return policy.advance(forks, forks.total + left)

    def _ran(self, usage: Usage, forks: Rows, batch: int) -> Usage:
        """What running them took; another model's passes are those of a draft."""
        slots = jnp.sum(forks.cache.length.reshape(batch, -1), axis=1)
        ran = forks.usage.grouped(batch)
        if self.policy is not None:
            ran = Usage.zeros(batch).add(
                emitted=ran.emitted,
                bonus=ran.bonus,
                invalid=ran.invalid,
                draft_passes=ran.target_passes,
                draft_tokens=ran.target_tokens,
                flops=ran.priced(self.policy.cost).flops,
            )
        return replace(jax.tree.map(jnp.add, usage, ran), peak_cache_tokens=slots)

    def choose(self, state: Rolling, index: Int[Array, "B"]) -> Rolling:
        return state


def scored(usage: Usage, spent: Spent) -> Usage:
    """Charge B rows with what a scorer spent on B * K."""
    batch = usage.emitted.shape[0]
    passes, tokens, flops = (
        jnp.sum(count.reshape(batch, -1), axis=1)
        for count in (spent.passes, spent.tokens, spent.flops)
    )
    return usage.add(scorer_passes=passes, scorer_tokens=tokens, flops=flops)


def drafted(usage: Usage, spent: Spent) -> Usage:
    """Charge B rows with what another policy's own model read."""
    return usage.add(draft_passes=spent.passes, draft_tokens=spent.tokens, flops=spent.flops)
