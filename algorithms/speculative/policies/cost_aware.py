"""The depth that makes the most tokens for each unit of time, which may be none.

With acceptance a of each draft token, independent of the others, a draft of depth d is expected
to yield 1 + a + ... + a^d tokens (Leviathan et al. 2023, arXiv:2211.17192) and takes

    time(d) = pass(d) + drafting * d        in units of a pass without a draft,

so the best depth is the one with the greatest ratio of the two. Where that is d = 0 the row
rests, at the price of plain decoding, and drafts again after a pause, to see whether the text
has become more predictable; each such probe that fails doubles the pause. Rows count their
rounds, and probe at multiples of their pause: neighbours then tend to probe in the same round,
and a round in which one row drafts costs all of them the same. The acceptance is a row's own
running estimate, in which old rounds fade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.rows import where_rows
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class Estimate:
    """What a row remembers; all of shape [B].

    Attributes:
      held, tested: faded counts of draft tokens that were accepted, and that were tried.
      depth: of the next draft.
      resting: whether it drafts in probes only.
      pause: rounds between probes.
      round: rounds so far, and one more on a row that began by resting.
    """

    held: Float[Array, "B"]
    tested: Float[Array, "B"]
    depth: Int[Array, "B"]
    resting: Bool[Array, "B"]
    pause: Int[Array, "B"]
    round: Int[Array, "B"]


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
      shortest, longest: rounds of the first pause, and the most that one comes to.
      together: static; rows draft and rest as one, by the acceptance of all. A batch ends with
        its slowest row, so drafts that speed up a few rows only slow the batch down. Verifiers
        that draw then take other draws, of the same law, beside other rows.
    """

    passes: Float[Array, "Dp1"] | Sequence[float]
    drafting: Float[Array, ""] | float
    acceptance: Float[Array, ""] | float = 0.6
    trust: Float[Array, ""] | float = 2.0
    fade: Float[Array, ""] | float = 0.9
    shortest: Int[Array, ""] | int = 16
    longest: Int[Array, ""] | int = 128
    together: bool = struct.field(pytree_node=False, default=False)

    rests = True

    def __post_init__(self) -> None:
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
            ("shortest", 1, np.inf),
            ("longest", 1, np.inf),
        ):
            value = getattr(self, name)
            if isinstance(value, int | float) and not low <= value <= high:
                raise ValueError(f"{name}={value} must lie in {low}..{high}")

    def init(self, rows: int) -> Estimate:
        tested = jnp.broadcast_to(jnp.asarray(self.trust, jnp.float32), (rows,))
        zero = jnp.zeros((rows,), jnp.int32)
        held = tested * self.acceptance
        best = self.best(held, tested)
        pause = jnp.broadcast_to(jnp.asarray(self.shortest, jnp.int32), (rows,))
        rests = best == 0  # round 0 would be a probe
        return Estimate(held, tested, jnp.maximum(best, 1), rests, pause, zero + rests)

    def rates(self, held: Float[Array, "B"], tested: Float[Array, "B"]) -> Float[Array, "B Dp1"]:
        """Tokens for each unit of time that drafts of depth 0..D are expected to make."""
        alpha = held / jnp.maximum(tested, 1e-6)
        passes = jnp.asarray(self.passes)
        depth = jnp.arange(passes.shape[0])
        tokens = jnp.cumsum(alpha[:, None] ** depth, axis=1)
        return tokens / (passes + self.drafting * depth)

    def best(self, held: Float[Array, "B"], tested: Float[Array, "B"]) -> Int[Array, "B"]:
        """The depth of the greatest rate, the least of a tie."""
        return jnp.argmax(self.rates(held, tested), axis=1).astype(jnp.int32)

    def limit(self, state: Estimate) -> Int[Array, "B"]:
        pauses = state.resting & (state.round % state.pause > 0)
        return jnp.where(pauses, 0, state.depth)

    def update(
        self,
        state: Estimate,
        drafted: Int[Array, "B"],
        accepted: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> Estimate:
        asked = (self.limit(state) > 0) & active
        tests = jnp.minimum(accepted + 1, drafted).astype(jnp.float32)
        held = jnp.where(tests > 0, self.fade * state.held + accepted, state.held)
        tested = jnp.where(tests > 0, self.fade * state.tested + tests, state.tested)
        fresh = self.decide(state, held, tested, drafted, active)
        return self.rest(where_rows(asked, fresh, state), active)

    def rest(self, state: Estimate, active: Bool[Array, "B"]) -> Estimate:
        return replace(state, round=state.round + active)

    def decide(
        self,
        state: Estimate,
        held: Float[Array, "B"],
        tested: Float[Array, "B"],
        drafted: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> Estimate:
        """Draft on or give up, on new counts."""
        sums = [jnp.where(active, x, 0) for x in (held, tested, drafted)]
        if self.together:
            sums = [jnp.broadcast_to(jnp.sum(x), x.shape) for x in sums]
        rates = self.rates(sums[0], sums[1])
        probe = 1 + jnp.argmax(rates[:, 1:], axis=1).astype(jnp.int32)
        gives_up = (jnp.argmax(rates, axis=1) == 0) | (sums[2] == 0)
        longer = jnp.where(state.resting, jnp.minimum(2 * state.pause, self.longest), state.pause)
        pause = jnp.where(gives_up, longer, self.shortest)
        return Estimate(held, tested, probe, gives_up, pause, state.round)
