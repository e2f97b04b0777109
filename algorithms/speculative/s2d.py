"""S2D: one draft model of nested sub-models for targets of any size (Kavehzadeh et al. 2024,
arXiv 2407.01955).

The draft model is trained so that prefixes of its layers are models too (sorted fine-tuning:
`jaxdecode.train.nested`), and each draft token comes from the shallowest of them that is
confident: `drafters.nested`. How many are drafted follows the heuristic schedule: two more
after a draft that held, one less after one that did not.

Drafts are drawn as the generator draws, and are exact so. Greedy drafts are exact as well, with
the one-hot law that they have: `sampler=Greedy()`. The published code takes the most probable
token under sampling too and verifies it against the softmax; `Peak` does that, for comparison:
the output then does *not* follow the target's law (p = (.5, .5) and q = (.9, .1) come out as
(.56, .44)).

Deliberate difference: the published prompt pass drafts the first token with all layers; here
the prompt's last token goes down the sub-models like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from algorithms.speculative.drafters.nested import Nested
from algorithms.speculative.policies.heuristic import Heuristic
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.drafter import Policy
from jaxdecode.lm import LayeredModel
from jaxdecode.paper import Paper
from jaxdecode.sampling import Categorical, Sampler, argmax
from jaxdecode.speculate import Speculator
from jaxdecode.types import Array, Float, Int, Key

PAPER = Paper(
    slug="s2d",
    title="S2D: Sorted Speculative Decoding For More Efficient Deployment of Nested Large "
    "Language Models",
    authors=(
        "Parsa Kavehzadeh",
        "Mohammadreza Pourreza",
        "Mojtaba Valipour",
        "Tianshu Zhu",
        "Haoli Bai",
        "Ali Ghodsi",
        "Boxing Chen",
        "Mehdi Rezagholizadeh",
    ),
    year=2024,
    arxiv="2407.01955",
    venue="arXiv",
    claim="one draft of sorted sub-models that leaves each token at the first confident one "
    "serves targets of several sizes better than any fixed draft",
    losslessness="exact",
)


@struct.dataclass
class Peak:
    """A drafter's sampler that is not what it says: the most probable token, passed off as a
    draw from the softmax. Verification is approximate with it."""

    def __call__(self, keys: Key[Array, "R"], logits: Float[Array, "R V"]) -> Int[Array, "R"]:
        return argmax(logits)

    def distribution(self, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        return Categorical().distribution(logits)


def s2d(
    generator: Generator,
    draft: LayeredModel,
    exits: tuple[int, ...] = (6, 9, 12),
    thresholds: Sequence[float] = (0.5, 0.5, 0.0),
    length: int = 16,
    sampler: Sampler | None = None,
    policy: Policy | None = None,
) -> Speculator:
    """Drafts of at most `length` tokens from the sub-models of `draft` with `exits` layers.

    The draft model edits logits as the generator does, and draws as it does unless a `sampler`
    is given.
    """
    sampler = generator.sampler if sampler is None else sampler
    drafter = Nested(draft, exits, thresholds, length, generator.transform, sampler)
    return Speculator(generator, drafter, Residual(), Heuristic() if policy is None else policy)
