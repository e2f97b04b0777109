"""The depth that makes the most tokens for each unit of time, which may be none.

With acceptance a of each draft token, independent of the others, a draft of depth d is expected
to yield 1 + a + ... + a^d tokens (Leviathan et al. 2023, arXiv:2211.17192) and takes

    time(d) = pass(d) + drafting * d        in units of a pass without a draft,

so the best depth is the one with the greatest ratio of the two. Where that is d = 0 the row
rests, at the price of plain decoding, and drafts again after a pause, to see whether the text
has become more predictable; each such probe that fails doubles the pause. The acceptance is a
row's own running estimate, in which old rounds fade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.types import Array, Bool, Float, Int

FIRST_PAUSE = 4  # rounds between resting and the first probe


@struct.dataclass
class Estimate:
    """What a row remembers; all of shape [B].

    Attributes:
      held, tested: faded counts of draft tokens that were accepted, and that were tried.
      pause: rounds that the next rest lasts.
      wait: rounds that this one still lasts.
    """

    held: Float[Array, "B"]
    tested: Float[Array, "B"]
    pause: Int[Array, "B"]
    wait: Int[Array, "B"]


@struct.dataclass
class CostAware:
    """Bounds drafts by what they cost on this device.

    Attributes:
      passes: f32[D + 1] or a sequence, time of the target's pass over a draft of depth 0..D,
        relative to `passes[0]`, the pass of plain decoding. Where the pass is as wide as the
        drafter's nodes whatever their number, all but the first are equal.
      drafting: time to draft one level, in the same unit.
      acceptance: what a row is taken to accept before it has been seen.
      trust: how many tests that is worth.
      fade: weight of a round in the round after it.
      longest: the most rounds of a pause.
    """

    passes: Float[Array, "D+1"] | Sequence[float]
    drafting: Float[Array, ""] | float
    acceptance: Float[Array, ""] | float = 0.7
    trust: Float[Array, ""] | float = 4.0
    fade: Float[Array, ""] | float = 0.9
    longest: Int[Array, ""] | int = 64

    rests = True

    def __post_init__(self):
        if isinstance(self.passes, np.ndarray | Sequence):
            curve = np.asarray(self.passes)
            if curve.ndim != 1 or len(curve) < 2 or not (curve > 0).all():
                raise ValueError(
                    f"passes={curve.tolist()}: give the positive times of a pass over drafts of "
                    "depth 0, 1, ..., at least two of them"
                )
            object.__setattr__(self, "passes", jnp.asarray(curve / curve[0], jnp.float32))
        for name, low, high in (
            ("drafting", 0.0, np.inf),
            ("acceptance", 0.0, 1.0),
            ("trust", 0.0, np.inf),
            ("fade", 0.0, 1.0),
            ("longest", 1, np.inf),
        ):
            value = getattr(self, name)
            if isinstance(value, int | float) and not low <= value <= high:
                raise ValueError(f"{name}={value} must lie in {low}..{high}")

    def init(self, rows: int) -> Estimate:
        tested = jnp.broadcast_to(jnp.asarray(self.trust, jnp.float32), (rows,))
        return Estimate(
            held=tested * self.acceptance,
            tested=tested,
            pause=jnp.full((rows,), FIRST_PAUSE, jnp.int32),
            wait=jnp.zeros((rows,), jnp.int32),
        )

    def rates(self, state: Estimate) -> Float[Array, "B D+1"]:
        """Tokens for each unit of time that drafts of depth 0..D are expected to make."""
        alpha = state.held / jnp.maximum(state.tested, 1e-6)
        passes = jnp.asarray(self.passes)
        depth = jnp.arange(passes.shape[0])
        tokens = jnp.cumsum(alpha[:, None] ** depth, axis=1)
        return tokens / (passes + self.drafting * depth)

    def best(self, state: Estimate) -> Int[Array, "B"]:
        """The depth of the greatest rate, the least of a tie."""
        return jnp.argmax(self.rates(state), axis=1).astype(jnp.int32)

    def limit(self, state: Estimate) -> Int[Array, "B"]:
        probe = 1 + jnp.argmax(self.rates(state)[:, 1:], axis=1).astype(jnp.int32)
        best = self.best(state)
        return jnp.where(state.wait > 0, 0, jnp.where(best > 0, best, probe))

    def update(
        self,
        state: Estimate,
        drafted: Int[Array, "B"],
        accepted: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> Estimate:
        rested = state.wait > 0
        tests = jnp.minimum(accepted + 1, drafted).astype(jnp.float32)
        some = tests > 0
        fresh = replace(
            state,
            held=jnp.where(some, self.fade * state.held + accepted, state.held),
            tested=jnp.where(some, self.fade * state.tested + tests, state.tested),
        )
        gives_up = ~rested & ((self.best(fresh) == 0) | ~some)
        pause = jnp.where(gives_up, jnp.minimum(2 * state.pause, self.longest), FIRST_PAUSE)
        fresh = replace(
            fresh,
            pause=jnp.where(rested, state.pause, pause),
            wait=jnp.where(rested, state.wait - 1, jnp.where(gives_up, state.pause, 0)),
        )
        return jax.tree.map(lambda new, old: jnp.where(active, new, old), fresh, state)
