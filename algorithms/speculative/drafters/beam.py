"""Stochastic beam search: sequences without replacement (Kool et al. 2019, arXiv:1903.06059).

The W best of all continuations by perturbed log-probability are the next beam. A child's is
its log-probability plus Gumbel noise, conditioned on the maximum over its siblings being that
of their parent: with G = phi + noise and Z = max G over the children of a parent at Gamma,

    Gamma_child = -log(exp(-Gamma) - exp(-Z) + exp(-G)).

The tree is the union of the beams (RSD-S of Jeon et al. 2024, arXiv:2402.14160). How many
children a node has is random, but given the siblings before it, which token the k-th has is
independent of the value that decides whether it is there: siblings in decreasing order of
Gamma are draws without replacement, for a verifier that tries them in that order.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from algorithms.speculative.drafters.branching import Children, Front, Step
from jaxdecode import struct
from jaxdecode.paper import Paper
from jaxdecode.sampling import conditioned
from jaxdecode.types import Array, Float

PAPER = Paper(
    slug="rsd",
    title=(
        "Recursive Speculative Decoding: Accelerating LLM Inference via Sampling Without "
        "Replacement"
    ),
    authors=(
        "Wonseok Jeon",
        "Mukul Gagrani",
        "Raghavv Goel",
        "Junyoung Park",
        "Mingu Lee",
        "Christopher Lott",
    ),
    year=2024,
    arxiv="2402.14160",
    venue="ICLR 2024 Workshop on Large Language Model Agents",
    claim=(
        "Draft trees whose siblings are drawn without replacement yield more tokens per pass of "
        "the target than independent drafts, at equal depth and mostly at equal size."
    ),
    losslessness="exact",
)


@struct.dataclass
class Beam:
    """A beam of `width` sequences, `length` tokens deep; both static."""

    width: int = struct.field(pytree_node=False)
    length: int = struct.field(pytree_node=False)

    replacement = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.length < 1:
            raise ValueError(f"width={self.width}, length={self.length}: both must be at least 1")

    @property
    def steps(self) -> tuple[Step, ...]:
        return (Step(self.width),) * self.length

    @property
    def nodes(self) -> int:
        return self.width * self.length

    @property
    def depth(self) -> int:
        return self.length

    def init(self, batch: int) -> Float[Array, "B 1"]:
        """Gamma of the root."""
        return jnp.zeros((batch, 1), jnp.float32)

    def __call__(
        self, memory: Float[Array, "B W"], front: Front, step: Step
    ) -> tuple[Float[Array, "B width"], Children]:
        # Gamma rises with G: of each parent only the `width` first can enter the beam.
        count = min(self.width, front.logq.shape[2])
        ranked = front.ranked(count)
        gamma = conditioned(memory, front.logprob[..., None] + ranked.perturbed)
        gamma = jnp.where(front.open[..., None], gamma, -jnp.inf)
        flat = gamma.reshape(len(gamma), -1)
        flat = jnp.pad(
            flat, ((0, 0), (0, max(self.width - flat.shape[1], 0))), constant_values=-jnp.inf
        )
        best, index = jax.lax.top_k(flat, self.width)
        index = jnp.minimum(index, gamma[0].size - 1)
        token = jnp.take_along_axis(ranked.index.reshape(len(gamma), -1), index, axis=1)
        return best, Children(
            source=jnp.take_along_axis(front.row, index // count, axis=1),
            rank=index % count,
            token=token,
            valid=jnp.isfinite(best),
        )
