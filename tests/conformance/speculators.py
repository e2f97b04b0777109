"""Every way of speculating that is tested, by name: what drafts, what verifies, what is promised.

An entry builds a `Speculator` on a generator, with a draft model to use or to ignore. `coupled`
says that with one key it emits what plain decoding emits, token for token, when sampling too;
an entry that is exact and not coupled is held to the law of the output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.verifiers.match import Match
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Temperature
from jaxdecode.sampling import Greedy
from jaxdecode.speculate import Speculator
from jaxdecode.testing.enumerable import EnumerableLM
from tests.conformance import adaptive, growing, heads, remembering


@dataclass(frozen=True)
class Entry:
    """See the module. `make` takes the generator and a draft model of its vocabulary."""

    make: Callable[[Generator, EnumerableLM], Speculator]
    exact: bool = True
    coupled: bool = False


def chain(generator: Generator, draft: EnumerableLM) -> Speculator:
    """Speculative sampling with a draft model."""
    drafter = Chain(draft, 3, Temperature(0.8), generator.sampler)
    return Speculator(generator, drafter, Residual())


def chain_matched(generator: Generator, draft: EnumerableLM) -> Speculator:
    """The draft model's most probable tokens, accepted where plain decoding draws them."""
    return Speculator(generator, Chain(draft, 3, sampler=Greedy()), Match())


SPECULATORS: dict[str, Entry] = {
    "speculative sampling": Entry(chain),
    "greedy drafts": Entry(chain_matched, coupled=True),
    "specdec_pp": Entry(adaptive.foreseen),
    "depths by cost": Entry(adaptive.resting),
    "pearl": Entry(adaptive.parallel),
    "s2d": Entry(adaptive.nested),
    "token_recycling": Entry(remembering.recycled, coupled=True),
    "lud, exact": Entry(remembering.foreseen, coupled=True),
    "prompt lookup": Entry(remembering.looked_up, coupled=True),
    "rest": Entry(remembering.retrieved, coupled=True),
    "lookahead": Entry(remembering.looked_ahead, coupled=True),
    "aded": Entry(remembering.adapted, coupled=True),
    "rest, redrawn": Entry(remembering.redrawn, exact=False),
    "stand": Entry(remembering.averaged),
    "stand, likeliest tokens": Entry(remembering.averaged_chosen, coupled=True),
    "spectr": Entry(growing.sequences),
    "specinfer": Entry(growing.rounds),
    "rsd": Entry(growing.branches),
    "rsd, stochastic beam": Entry(growing.beam),
    "sequoia": Entry(growing.static),
    "dyspec": Entry(growing.greedy),
    "dyspec, threshold": Entry(growing.threshold),
    "medusa": Entry(heads.ranks, coupled=True),
    "clover": Entry(heads.paths, coupled=True),
    "eagle": Entry(heads.features, coupled=True),
    "eagle-2": Entry(heads.pool, coupled=True),
    "kangaroo": Entry(heads.hops),
    "rasd": Entry(heads.fused, coupled=True),
    "medusa, typical": Entry(heads.typical, exact=False),
    "kangaroo, bare": Entry(heads.hops_matched, coupled=True),
    "kangaroo, tree": Entry(heads.hop_tree, coupled=True),
}
