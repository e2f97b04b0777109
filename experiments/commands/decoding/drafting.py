"""Ways of drafting by name, for any model: what each needs, and the speculator it makes.

Sizes are those that a small machine pays for, on which a pass over eight tokens costs half as
much again as one over a single token; `token-recycling` has its published tree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from algorithms.speculative.aded import aded
from algorithms.speculative.clover import clover
from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.drafters.placeholders import Placeholders
from algorithms.speculative.drafters.retrieval import Datastore
from algorithms.speculative.dyspec import dyspec, dyspec_threshold
from algorithms.speculative.eagle import eagle, eagle2
from algorithms.speculative.kangaroo import kangaroo
from algorithms.speculative.lookahead import lookahead
from algorithms.speculative.medusa import medusa
from algorithms.speculative.pearl import pearl
from algorithms.speculative.policies.heuristic import Heuristic
from algorithms.speculative.prompt_lookup import prompt_lookup
from algorithms.speculative.rasd import rasd
from algorithms.speculative.rest import rest
from algorithms.speculative.rsd import rsd_c, rsd_s
from algorithms.speculative.specdec_pp import specdec_pp
from algorithms.speculative.specinfer import specinfer
from algorithms.speculative.spectr import spectr
from algorithms.speculative.stand import stand
from algorithms.speculative.token_recycling import token_recycling
from algorithms.speculative.verifiers.match import Match
from algorithms.speculative.verifiers.residual import Residual
from experiments.commands.decoding.uses import UNITS
from experiments.speculative.trees import PAIRS, SMALL
from jaxdecode import logits
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Temperature
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.ngram.counts import Counts
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.speculate import Speculator
from models.placeholder import learned_placeholder

CHAINS = ("prompt-lookup", "chain", "pearl")  # whose length can be asked for


@dataclass(frozen=True)
class Means:
    """What a way of drafting may need.

    Attributes:
      model: a smaller model with the same vocabulary.
      head: trained for the generator's model.
      corpus: texts as tokens.
      length: tokens to guess in a row, None for the way's own number.
      placeholder: id of a row beyond the vocabulary; with it `confidence` and `span`, None for
        the way's own.
    """

    model: Any = None
    head: Any = None
    corpus: Sequence[Sequence[int]] | None = None
    length: int | None = None
    placeholder: int | None = None
    confidence: float | None = None
    span: int | None = None

    def row(self, default: int) -> int:
        """Tokens to guess in a row."""
        return default if self.length is None else self.length


@dataclass(frozen=True)
class Way:
    """A way of drafting.

    Attributes:
      needs: which of `Means` it cannot do without, as options are called.
      build: the speculator.
      heads: classes of heads that it takes.
    """

    build: Callable[[Generator, Means], Speculator]
    needs: tuple[str, ...] = ()
    heads: str | None = None


def _law(generator: Generator) -> dict[str, Any]:
    """The law of drafts that are drawn: the generator's own, or, where it takes the likeliest
    token, one that varies enough to fill a tree."""
    if isinstance(generator.sampler, Greedy):
        return {"transform": Temperature(0.6), "sampler": Categorical()}
    return {"transform": logits.deaf(generator.transform), "sampler": generator.sampler}


def _chain(generator: Generator, means: Means) -> Speculator:
    """The model's own tokens, drawn as the generator draws."""
    edits = logits.deaf(generator.transform)
    drafter = Chain(means.model, means.row(4), edits, generator.sampler)
    return Speculator(generator, drafter, Residual())


def _placeholders(generator: Generator, means: Means) -> Speculator:
    """What the generator's own model says at once."""
    pad = learned_placeholder(generator.model, means.placeholder)
    sure = 0.5 if means.confidence is None else means.confidence
    drafter = Placeholders(pad, 4 if means.span is None else means.span, sure)
    return Speculator(generator, drafter, Match())


def _store(means: Means, generator: Generator) -> Corpus:
    return Corpus.of(means.corpus or (), generator.model.vocab_size)


MODEL, CORPUS = ("draft_model",), ("corpus",)
WAYS: dict[str, Way] = {
    "prompt-lookup": Way(lambda g, m: prompt_lookup(g, m.row(10))),
    "token-recycling": Way(lambda g, m: token_recycling(g)),
    "lookahead": Way(lambda g, m: lookahead(g, 3, 3, 3)),
    "stand": Way(lambda g, m: stand(g, SMALL)),
    "placeholders": Way(_placeholders, ("placeholder",)),
    "rest": Way(lambda g, m: rest(g, _store(m, g), 6, 32), CORPUS),
    "aded": Way(lambda g, m: aded(g, Counts.of(m.corpus or (), g.model.vocab_size, 12)), CORPUS),
    "chain": Way(_chain, MODEL),
    "specinfer": Way(lambda g, m: specinfer(g, m.model, (2, 1, 1), **_law(g)), MODEL),
    "spectr": Way(lambda g, m: spectr(g, m.model, 2, 3, **_law(g)), MODEL),
    "rsd-c": Way(lambda g, m: rsd_c(g, m.model, (2, 1, 1), **_law(g)), MODEL),
    "rsd-s": Way(lambda g, m: rsd_s(g, m.model, 2, 3, **_law(g)), MODEL),
    "dyspec": Way(lambda g, m: dyspec(g, m.model, 6), MODEL),
    "dyspec-threshold": Way(lambda g, m: dyspec_threshold(g, m.model, 6), MODEL),
    "pearl": Way(lambda g, m: pearl(g, m.model, m.row(4)), MODEL),
    "specdec-pp": Way(
        lambda g, m: specdec_pp(g, m.model, m.head, least=1, most=6),
        (*MODEL, "head"),
        "AcceptanceHead",
    ),
    "medusa": Way(lambda g, m: medusa(g, m.head, PAIRS), ("head",), "Medusa"),
    "clover": Way(lambda g, m: clover(g, m.head), ("head",), "Clover"),
    "eagle": Way(lambda g, m: eagle(g, m.head, 4), ("head",), "Eagle"),
    "eagle2": Way(lambda g, m: eagle2(g, m.head, 3, 4, 8), ("head",), "Eagle"),
    "kangaroo": Way(lambda g, m: kangaroo(g, m.head, 4), ("head",), "Kangaroo"),
    "rasd": Way(
        lambda g, m: rasd(g, m.head, Datastore(_store(m, g), 32), 3, 4, 6, extra=3, candidates=6),
        ("head", *CORPUS),
        "Eagle",
    ),
}


MODELLESS = [name for name, way in WAYS.items() if not {*MODEL} & {*way.needs}]


def way_of(draft: str) -> str:
    """The way that --draft names; a model's name means its tokens in a row."""
    return draft if draft in WAYS else "chain"


def check_means(draft: str, given: Sequence[str]) -> None:
    """Refuse options that a way of drafting does not use or cannot do without.

    Args:
      given: names of the options that were given.
    Raises:
      ValueError: naming the option.
    """
    name = way_of(draft)
    # A model that is named itself is its own means.
    needs = () if draft not in WAYS else WAYS[name].needs
    for option in needs:
        if option not in given:
            raise ValueError(f"--draft {draft} needs --{option.replace('_', '-')}")
    fits = (*needs, *(UNITS if "placeholder" in needs else ()))
    for option in ("draft_model", "head", "corpus", *UNITS):
        if option in given and option not in fits:
            raise ValueError(f"--{option.replace('_', '-')} does nothing for --draft {draft}")
    if "draft_tokens" in given and name not in CHAINS:
        raise ValueError(
            f"--draft-tokens does nothing for --draft {draft}, whose tree is fixed; it is for "
            f"{', '.join(CHAINS)}"
        )


def drafted(generator: Generator, draft: str, means: Means, policy: str | None) -> Speculator:
    """The generator, with what drafts for it; "cost-aware" is measured by the caller."""
    made = WAYS[way_of(draft)].build(generator, means)
    return replace(made, policy=Heuristic()) if policy == "heuristic" else made
