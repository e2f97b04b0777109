"""SpecTr: several drafts, verified by optimal transport (Sun et al. 2023, arXiv:2310.15141).

draft     K independent sequences of L tokens
verify    level by level, K-SEQ among the sequences that agree with what was accepted
emit      the accepted tokens, and one from the remainder or, after L, from the target
"""

from __future__ import annotations

from algorithms.speculative.drafters.siblings import Siblings
from algorithms.speculative.drafters.tree import Tree
from algorithms.speculative.verifiers.k_seq import PAPER, KSeq
from jaxdecode.autoregress import Generator
from jaxdecode.lm import LanguageModel
from jaxdecode.logits import LogitsTransform
from jaxdecode.sampling import Sampler
from jaxdecode.speculate import Speculator

__all__ = ["PAPER", "spectr"]


def spectr(
    generator: Generator,
    draft: LanguageModel,
    sequences: int = 8,
    length: int = 8,
    transform: LogitsTransform | None = None,
    sampler: Sampler | None = None,
) -> Speculator:
    """The published setting, 8 sequences of 8 tokens; the draft is edited and sampled as the
    target is, unless said otherwise."""
    drafter = Tree(
        draft,
        Siblings.sequences(sequences, length),
        transform or generator.transform,
        sampler or generator.sampler,
    )
    return Speculator(generator, drafter, KSeq())
