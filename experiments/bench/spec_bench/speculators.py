"""Every way of speculating by name, as it is raced: greedy, built for a field.

Kinds: "draft model" drafts with the field's small model, "trained" with heads or adapters made
for the target, which the zoo has for some targets only, and "training-free" with what the text
itself or a corpus says. Trees are sized for a machine on which a pass over eight tokens costs
half as much again as a pass over one; "published" marks the sizes of the papers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from algorithms.speculative.aded import aded
from algorithms.speculative.clover import clover
from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.drafters.retrieval import Datastore
from algorithms.speculative.dyspec import dyspec, dyspec_threshold
from algorithms.speculative.eagle import eagle, eagle2
from algorithms.speculative.kangaroo import kangaroo
from algorithms.speculative.lookahead import lookahead
from algorithms.speculative.medusa import medusa
from algorithms.speculative.pearl import pearl
from algorithms.speculative.prompt_lookup import prompt_lookup
from algorithms.speculative.rasd import rasd
from algorithms.speculative.rest import rest
from algorithms.speculative.rsd import rsd_c, rsd_s
from algorithms.speculative.s2d import s2d
from algorithms.speculative.specdec_pp import specdec_pp
from algorithms.speculative.specinfer import specinfer
from algorithms.speculative.spectr import spectr
from algorithms.speculative.stand import stand
from algorithms.speculative.token_recycling import token_recycling
from algorithms.speculative.verifiers.match import Match
from experiments import zoo
from experiments.speculative.s2d.main import PRESETS
from experiments.speculative.s2d.setting import Setting
from experiments.speculative.speculation import Field, cost_aware
from experiments.speculative.trees import PAIRS, SMALL
from experiments.tasks.stdlib import StandardLibrary
from jaxdecode.drafter import Policy
from jaxdecode.follower import CHUNK
from jaxdecode.logits import Temperature
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.ngram.counts import Counts
from jaxdecode.plain import Autoregressive
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.speculate import Speculator
from models.transformer import Transformer

Kind = Literal["draft model", "training-free", "trained"]
PLAIN = "plain decoding"
DRAWN: dict[str, Any] = {"transform": Temperature(0.6), "sampler": Categorical()}
CORPUS = 400_000  # tokens of a datastore
NESTED = replace(PRESETS["cpu"], prompts=1)


@dataclass(frozen=True)
class Method:
    """A way of speculating.

    Attributes:
      kind: see the module.
      build: the speculator for a field.
      careful: whether it drafts no deeper than pays on this machine, which is measured.
      weights: what the zoo must have for the field's task, such as "eagle".
      tasks: where it can be had; everywhere if None.
    """

    kind: Kind
    build: Callable[[Field], Speculator]
    weights: str | None = None
    tasks: tuple[str, ...] | None = None
    careful: bool = False

    def missing(self, field: Field) -> str | None:
        """What the method lacks on a field; None where it can be had."""
        if self.kind == "draft model" and field.small is None:
            return "it needs a draft model; give --config.draft"
        if self.weights is not None and f"{field.task}-{self.weights}" not in zoo.names():
            return f"the zoo has no {self.weights} head for this target"
        if self.tasks is not None and field.task not in self.tasks:
            return f"its corpus is that of {', '.join(self.tasks)}"
        return None

    def policy(self, field: Field, batch: int = 1) -> Policy | None:
        """What drafts cost and bring on a field, in batches of so many rows, where that counts."""
        return cost_aware(field, self.build(field), batch) if self.careful else None

    def decoder(self, field: Field, policy: Policy | None = None) -> Autoregressive:
        """Drafting as deep as `policy` says, else as the method does."""
        speculator = self.build(field)
        return Autoregressive(replace(speculator, policy=policy) if policy else speculator)

    def nodes(self, field: Field) -> int:
        """Draft tokens of a verifying pass."""
        return self.build(field).drafter.nodes


def draft_model(field: Field, stride: int = CHUNK) -> Speculator:
    """The draft's four most probable tokens in a row."""
    drafter = Chain(field.draft, 4, sampler=Greedy(), stride=stride)
    return Speculator(field.generator(), drafter, Match())


def head(field: Field, name: str) -> Any:
    """A head of the zoo for the field's target."""
    return zoo.load(f"{field.task}-{name}").model


@cache
def corpus(name: str) -> Corpus:
    """The text that the target was trained on, to be searched."""
    return Corpus.of(documents(name), zoo.load(name).tokenizer.vocab_size)


@cache
def trigrams(name: str) -> Counts:
    """What follows pairs of tokens in that text."""
    return Counts.of(documents(name), zoo.load(name).tokenizer.vocab_size, keep=12)


def documents(name: str) -> list[list[int]]:
    """Files of the training split, up to `CORPUS` tokens."""
    codec = zoo.load(name).tokenizer
    found, size = [], 0
    for text in StandardLibrary().texts("train"):
        found.append(codec.encode(text))
        size += len(found[-1])
        if size > CORPUS:
            break
    return found


def prompt_lookup_4(field: Field) -> Speculator:
    return prompt_lookup(field.generator(), 4)


def sorted_draft(field: Field) -> Speculator:
    """Sub-models of the target's first layers, fine-tuned first as the paper's experiment does."""
    return s2d(field.generator(), nested(), NESTED.exits, (*NESTED.thresholds[0], 0.0), 4)


@cache
def nested() -> Transformer:
    """One sorted draft for all fields of the standard library."""
    return Setting.of(NESTED).tuned(NESTED.exits[-1], NESTED.exits)


def retrieving(field: Field) -> Speculator:
    """EAGLE-2's tree and what is found in the corpus, within the same number of nodes."""
    source = Datastore(corpus(field.task), 32)
    return rasd(field.generator(), head(field, "eagle"), source, 3, 4, 6, extra=3, candidates=6)


METHODS: dict[str, Method] = {
    "draft model": Method("draft model", draft_model),
    "draft model, cost-aware": Method(
        "draft model", lambda f: draft_model(f, stride=16), careful=True
    ),
    "specinfer": Method(
        "draft model", lambda f: specinfer(f.generator(), f.draft, (2, 1, 1), **DRAWN)
    ),
    "spectr": Method("draft model", lambda f: spectr(f.generator(), f.draft, 2, 3, **DRAWN)),
    "rsd_c": Method("draft model", lambda f: rsd_c(f.generator(), f.draft, (2, 1, 1), **DRAWN)),
    "rsd_s": Method("draft model", lambda f: rsd_s(f.generator(), f.draft, 2, 3, **DRAWN)),
    "dyspec": Method("draft model", lambda f: dyspec(f.generator(), f.draft, 6)),
    "dyspec, by threshold": Method(
        "draft model", lambda f: dyspec_threshold(f.generator(), f.draft, 6)
    ),
    "specdec_pp": Method(
        "draft model",
        lambda f: specdec_pp(f.generator(), f.draft, head(f, "acceptance"), least=1, most=6),
        weights="acceptance",
    ),
    "s2d": Method("draft model", sorted_draft, tasks=("stdlib",)),
    "pearl": Method("draft model", lambda f: pearl(f.generator(), f.draft, 4)),
    "prompt lookup": Method("training-free", prompt_lookup_4),
    "prompt lookup, cost-aware": Method("training-free", prompt_lookup_4, careful=True),
    "rest": Method(
        "training-free", lambda f: rest(f.generator(), corpus(f.task), 6, 32), tasks=("stdlib",)
    ),
    "lookahead": Method("training-free", lambda f: lookahead(f.generator(), 3, 3, 3)),
    "token_recycling": Method(
        "training-free", lambda f: token_recycling(f.generator(), tree=SMALL)
    ),
    "token_recycling, published": Method("training-free", lambda f: token_recycling(f.generator())),
    "aded": Method(
        "training-free", lambda f: aded(f.generator(), trigrams(f.task)), tasks=("stdlib",)
    ),
    "stand": Method("training-free", lambda f: stand(f.generator(), SMALL)),
    "medusa": Method(
        "trained", lambda f: medusa(f.generator(), head(f, "medusa"), PAIRS), "medusa"
    ),
    "clover": Method("trained", lambda f: clover(f.generator(), head(f, "clover")), "clover"),
    "eagle": Method("trained", lambda f: eagle(f.generator(), head(f, "eagle"), 4), "eagle"),
    "eagle2": Method(
        "trained", lambda f: eagle2(f.generator(), head(f, "eagle"), 3, 4, 8), "eagle"
    ),
    "rasd": Method("trained", retrieving, "eagle", tasks=("stdlib",)),
    "kangaroo": Method(
        "trained", lambda f: kangaroo(f.generator(), head(f, "kangaroo"), 4), "kangaroo"
    ),
}
