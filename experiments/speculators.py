"""Every way of speculating by name, as it is raced: built for a field, greedy.

Methods without a model of their own are "training-free"; "draft model" is the field's draft;
"trained" are heads and adapters made for the target, which the zoo has for some targets only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.policies.cost_aware import CostAware
from algorithms.speculative.speculative import Speculative
from algorithms.speculative.token_recycling import token_recycling
from algorithms.speculative.verifiers.match import Match
from experiments.speculation import Field, pass_seconds
from jaxdecode.sampling import Greedy
from jaxdecode.speculate import Speculator

Kind = Literal["draft model", "training-free", "trained", "approximate"]
PLAIN = "plain decoding"


@dataclass(frozen=True)
class Method:
    """A way of speculating.

    Attributes:
      kind: see the module.
      build: the speculator for a field.
      fits: whether it can be had there.
    """

    kind: Kind
    build: Callable[[Field], Speculator]
    fits: Callable[[Field], bool] = lambda field: True

    def decoder(self, field: Field) -> Speculative:
        return Speculative(self.build(field))

    def nodes(self, field: Field) -> int:
        return self.build(field).drafter.nodes


def draft_model(field: Field, length: int = 4) -> Speculator:
    """The draft's most probable tokens."""
    return Speculator(field.generator(), Chain(field.draft, length, sampler=Greedy()), Match())


def cost_aware(field: Field) -> Speculator:
    """The same, no deeper than pays on this machine."""
    speculator = draft_model(field)
    length = speculator.drafter.nodes
    cost = pass_seconds(field.target, (1, length + 1))
    drafting = pass_seconds(field.draft, (1,))[1] / cost[1]
    passes = [1.0] + [cost[length + 1] / cost[1]] * length
    return replace(speculator, policy=CostAware(passes, drafting))


METHODS: dict[str, Method] = {
    "draft model": Method("draft model", draft_model),
    "draft model, cost-aware": Method("draft model", cost_aware),
    "token recycling": Method("training-free", lambda field: token_recycling(field.generator())),
}
