"""FreeDave: draft with guesses that are there anyway, verify many steps in one pass (Wu & Zhang
2025, arXiv 2510.00294).

A pass guesses every place, and a step uses few of the guesses. The others are free drafts of the
steps to come, D_1 in D_2 in ..., each with more of the surest guesses. The pass that the next
step needs runs all drafts at once, and tells for each what the step after it would be, T_j:

    a = 1;  while D_{a+1} == T_a:  a += 1;     go on from D_a, whose guesses are known

By induction the canvas passes through the states of step-by-step decoding and no other, so that
tokens and order are the same, for every chooser without a memory, in never more passes. Drafts are
compared as whole canvases: which places are open counts as much as the tokens. A block's last step
needs no pass. FreeDave++ takes the last draft that T does not contradict (`rule="subset"`), over
threshold decoding: it may then decide less in a step than the threshold would, and is not exact.

With a cache the equality is with the same cached decoding. Deliberate differences from the
authors' code: any batch; a complete draft, whose guesses nothing reads, is not run; and the
noise of sampled guesses depends on place and state, so that the equality holds for them too. Its
eager mode slides a window over the blocks of a block-causal model; here `eager` blocks are a
window of their own (`in_turn`), filled in turn by the same steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from algorithms.diffusion.choosers import InTurn
from algorithms.diffusion.leaps import PAPER, Leaper
from jaxdecode.choose import Fixed, Top
from jaxdecode.unmask import Unmasker

__all__ = ["PAPER", "eager", "freedave", "freedave_plus"]


def freedave(unmasker: Unmasker, drafts: int = 4, **options: Any) -> Leaper:
    """The published lossless method: one place a step, by confidence, `drafts` steps a pass."""
    if not isinstance(unmasker.chooser, Top) or not isinstance(unmasker.chooser.schedule, Fixed):
        raise ValueError(
            "unmasker.chooser: static decoding decides a fixed number of places a step; use "
            "Top(Fixed(k)), or a Leaper for another chooser"
        )
    chooser, count = unmasker.chooser, int(unmasker.chooser.schedule.count)
    return Leaper(unmasker, drafts, order=chooser.order, growth=count, **options)


def freedave_plus(unmasker: Unmasker, drafts: int = 4, **options: Any) -> Leaper:
    """FreeDave++ over threshold decoding, near-lossless."""
    return Leaper(unmasker, drafts, rule="subset", **options)


def eager(unmasker: Unmasker, drafts: int = 8, blocks: int = 2) -> Leaper:
    """FreeDave whose drafts reach into the following blocks of a block-causal denoiser."""
    size = unmasker.denoiser.causal_blocks
    if size is None or blocks < 1:
        raise ValueError(
            f"blocks={blocks}: drafts reach into blocks that do not see them, which needs "
            "denoiser.causal_blocks, and there is at least one"
        )
    within = replace(unmasker, block=blocks * size, chooser=InTurn(unmasker.chooser, size))
    return Leaper(within, drafts, turn=size)
