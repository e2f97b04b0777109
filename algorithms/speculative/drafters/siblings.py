"""Every node of a level has the same number of children.

Drawn without replacement they are the tree of RSD-C (Jeon et al. 2024, arXiv:2402.14160); drawn
independently, the tree of SpecInfer (Miao et al. 2024, arXiv:2305.09781), and with branches at
the root only, the K sequences of SpecTr (Sun et al. 2023, arXiv:2310.15141). Independent draws
repeat tokens: repeated nodes stay, as the laws of the verifiers demand.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from algorithms.speculative.drafters.branching import Children, Front, Step, each
from jaxdecode import struct
from jaxdecode.sampling import draw_many


@struct.dataclass
class Siblings:
    """Constant branching factors.

    Attributes:
      factors: static, the children of the root, of each of its children, and so on.
      replacement: static; draw them independently.
    """

    factors: tuple[int, ...] = struct.field(pytree_node=False)
    replacement: bool = struct.field(pytree_node=False, default=False)

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) < 1:
            raise ValueError(
                f"factors={self.factors}: name a number of children, at least 1, for each level"
            )

    @classmethod
    def sequences(cls, count: int, length: int) -> Siblings:
        """`count` independent sequences."""
        if count < 1 or length < 1:
            raise ValueError(f"count={count}, length={length}: both must be at least 1")
        return cls((count, *[1] * (length - 1)), replacement=True)

    @property
    def steps(self) -> tuple[Step, ...]:
        width, steps = 1, []
        for factor in self.factors:
            width *= factor
            steps.append(Step(width, factor))
        return tuple(steps)

    @property
    def nodes(self) -> int:
        return sum(step.width for step in self.steps)

    @property
    def depth(self) -> int:
        return len(self.factors)

    def init(self, batch: int) -> tuple[Any, ...]:
        return ()

    def __call__(
        self, memory: tuple[Any, ...], front: Front, step: Step
    ) -> tuple[tuple[Any, ...], Children]:
        batch, factor = front.row.shape[0], step.width // front.width
        if self.replacement:
            token = each(lambda key, logq: draw_many(key, logq, factor), front.key, front.logq)
            valid = token >= 0
        else:
            ranked = front.ranked(factor)
            token, valid = ranked.index, jnp.isfinite(ranked.perturbed)

        def flat(x: Any) -> Any:
            return jnp.broadcast_to(x, token.shape).reshape(batch, -1)

        return memory, Children(
            source=flat(front.row[..., None]),
            rank=flat(jnp.arange(factor)),
            token=jnp.maximum(flat(token), 0),
            valid=flat(valid & front.open[..., None]),
        )
