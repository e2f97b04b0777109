"""Decoders from the options of a command line.

An option that the chosen decoder would not use is refused, not ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from algorithms.sampling.autoregressive import Autoregressive
from algorithms.search.beam_search import BeamSearch
from algorithms.search.diverse_beam_search import DiverseBeamSearch
from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.self_certainty import SelfCertainty
from algorithms.selection.speculative_rejection import Rule, SpeculativeRejection
from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.prompt_lookup import prompt_lookup
from algorithms.speculative.token_recycling import token_recycling
from algorithms.speculative.verifiers.residual import Residual
from algorithms.tokens.contrastive_search import ContrastiveSearch
from algorithms.tokens.momentum_decoding import Momentum
from experiments.commands.edits import EDITS, RANKING, Target
from jaxdecode import logits
from jaxdecode.autoregress import Generator
from jaxdecode.certainty import Measure
from jaxdecode.decoder import Decoder
from jaxdecode.finished import LengthPenalty
from jaxdecode.lm import LanguageModel
from jaxdecode.rows import Expander
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import LikelihoodScorer, Scorer
from jaxdecode.speculate import Speculator
from jaxdecode.stop import Stop

Name = Literal[
    "sample",
    "greedy",
    "momentum",
    "contrastive-search",
    "beam-search",
    "diverse-beam-search",
    "best-of-n",
    "speculative-rejection",
    "self-certainty",
]
RANKED = (
    "greedy",
    "momentum",
    "contrastive-search",
    "beam-search",
    "diverse-beam-search",
)  # draw nothing
SCORED = ("best-of-n", "speculative-rejection")
LIKELIHOOD = "likelihood"  # as a reward: the generator's own, of prompt and response
DRAFTS = ("draft", "draft_tokens")
USES: dict[str, tuple[str, ...]] = {
    "sample": (*EDITS, *DRAFTS),
    "greedy": (*RANKING, *DRAFTS),
    "momentum": (*RANKING, *DRAFTS, "candidates", "penalty"),
    "contrastive-search": (*RANKING, "candidates", "penalty"),
    "beam-search": (*RANKING, "beams", "length_penalty"),
    "diverse-beam-search": (*RANKING, "beams", "groups", "strength"),
    "best-of-n": (*EDITS, *DRAFTS, "samples", "wave", "reward"),
    "speculative-rejection": (*EDITS, *DRAFTS, "samples", "reward", "budget", "alpha", "rule"),
    "self-certainty": (*EDITS, "samples", "wave", "measure"),
}


@dataclass(frozen=True)
class Rules:
    """How tokens are drawn and responses chosen."""

    max_tokens: int = 128
    """The most tokens of a response."""
    temperature: float | None = None
    """Divides the logits (1 if not given); for 0 use --decoder greedy."""
    top_k: int | None = None
    """Draw from the k most probable tokens."""
    top_p: float | None = None
    """Draw from the smallest set of tokens with this much probability."""
    min_p: float | None = None
    """Draw tokens at least this many times as probable as the best."""
    typical: float | None = None
    """Mass of the tokens whose surprise is nearest to the entropy."""
    epsilon: float | None = None
    """Least probability of a token."""
    eta: float | None = None
    """Least probability, lowered where the entropy is high."""
    top_n_sigma: float | None = None
    """Draw tokens whose logits are so many standard deviations from the best, at most."""
    dynamic_temperature: tuple[float, ...] | None = None
    """LOW HIGH [EXPONENT]: a temperature that rises with the entropy."""
    smoothing: tuple[float, ...] | None = None
    """FACTOR [CURVE]: bends the logits, quadratic smoothing."""
    xtc: tuple[float, ...] | None = None
    """PROBABILITY THRESHOLD: excludes the top choices in some of the steps."""
    mirostat: tuple[float, ...] | None = None
    """BITS [RATE]: holds the surprise of the text at so many bits a token."""
    mirostat_top_k: tuple[float, ...] | None = None
    """BITS [RATE]: the same by version 1, which cuts by rank."""
    dry: tuple[float, ...] | None = None
    """MULTIPLIER [BASE] [LENGTH]: a penalty that grows with what is repeated."""
    repetition_penalty: float | None = None
    """Divides the scores of tokens seen before; above 1 discourages."""
    presence_penalty: float | None = None
    """Subtracted from the scores of tokens written before."""
    frequency_penalty: float | None = None
    """Subtracted once for each time a token was written."""
    min_tokens: int | None = None
    """No end before this many tokens."""
    no_repeat_ngram_size: int | None = None
    """No n tokens in a row twice, in prompt and response."""
    bad_words: tuple[str, ...] | None = None
    """Texts that are never written."""
    allowed_token_ids: tuple[int, ...] | None = None
    """The only tokens that may be written; the model's end token is to be among them."""
    choices: tuple[str, ...] | None = None
    """The response is one of these texts."""
    begin_with: str | None = None
    """Text that every response begins with."""
    draft: str | None = None
    """What guesses tokens ahead: a smaller model's folder or zoo name, "prompt-lookup" or
    "token-recycling". It makes decoding faster and changes no distribution."""
    draft_tokens: int | None = None
    """How many it guesses at a time (4 if not given, 10 for prompt lookup)."""
    candidates: int | None = None
    """Momentum and contrastive search: the likeliest tokens to choose from (5 if not given)."""
    penalty: float | None = None
    """Momentum and contrastive search: alpha (0.2 and 0.6 if not given)."""
    beams: int | None = None
    """Hypotheses of a search (4 if not given)."""
    length_penalty: float | None = None
    """Power of the length that scores of hypotheses are divided by (1 if not given)."""
    groups: int | None = None
    """Groups of beams that differ from each other (as many as beams if not given)."""
    strength: float | None = None
    """How strongly they differ (0.5 if not given)."""
    samples: int | None = None
    """Responses per prompt, of which one is kept (16 if not given)."""
    wave: int | None = None
    """Draw so many of them at a time."""
    reward: str | None = None
    """What chooses: a reward model's folder or zoo name, or "likelihood", the model's own."""
    budget: int | None = None
    """Speculative rejection: cache tokens per prompt."""
    alpha: float | None = None
    """Speculative rejection: fraction dropped at each cut (0.5 if not given)."""
    rule: Rule | None = None
    """Speculative rejection: how the fraction is rounded ("count" if not given)."""
    measure: Measure | None = None
    """Self-certainty: the measure of certainty ("kl" if not given)."""

    @property
    def given(self) -> dict[str, Any]:
        """What was set, without `max_tokens`, which every decoder uses."""
        fields = {name: value for name, value in vars(self).items() if value is not None}
        del fields["max_tokens"]
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in fields.items()
        }


def check(name: Name, rules: Rules) -> None:
    """Refuse options that `name` does not use or cannot do without.

    Raises:
      ValueError: naming the option and what would use it.
    """
    if name not in get_args(Name):
        raise ValueError(f"--decoder {name}: choose one of {', '.join(get_args(Name))}")
    for option in rules.given:
        if option not in USES[name]:
            users = ", ".join(user for user, used in USES.items() if option in used)
            flag = option.replace("_", "-")
            raise ValueError(f"--{flag} does nothing for --decoder {name}; it is for {users}")
    if rules.draft_tokens is not None and rules.draft is None:
        raise ValueError("--draft-tokens does nothing without --draft")
    if name in SCORED and rules.reward is None:
        raise ValueError(
            f'--decoder {name} needs --reward: a reward model, or "{LIKELIHOOD}" for the '
            "model's own"
        )
    if name == "speculative-rejection" and rules.budget is None:
        width = rules.samples or 16
        raise ValueError(
            f"--decoder {name} needs --budget, cache tokens per prompt: at least {width} times "
            f"the prompt and a few tokens, below {width} times the prompt and "
            f"{rules.max_tokens} tokens"
        )


def generator(
    name: Name,
    rules: Rules,
    model: LanguageModel,
    stop: Stop,
    piece: Callable[[str], list[int]] | None = None,
) -> Generator:
    """How `name` draws tokens."""
    given = rules.given
    target = Target(model.vocab_size, stop.eos, rules.max_tokens, piece)
    edits = [make(given[key], target) for key, make in EDITS.items() if key in given]
    if name == "momentum":
        alpha, k = given.get("penalty", 0.2), given.get("candidates", 5)
        # An end token that begins the prompt too is no node, and may be chosen at no cost.
        ends = np.asarray(stop.eos).tolist()
        edits.append(Momentum.of(rules.max_tokens, alpha=alpha, k=k, ignored=ends))
    return Generator(
        model=model,
        transform=logits.chain(*edits),
        sampler=Greedy() if name in RANKED else Categorical(),
        stop=stop,
        max_tokens=rules.max_tokens,
        cache_growth=min(8, max(1, rules.max_tokens // 64)),
    )


def speculating(rules: Rules, drawn: Generator, draft: LanguageModel | None) -> Expander:
    """The generator, with what drafts for it."""
    tokens = {} if rules.draft_tokens is None else {"length": rules.draft_tokens}
    match rules.draft:
        case None:
            return drawn
        case "prompt-lookup":
            return prompt_lookup(drawn, **tokens)
        case "token-recycling":
            if tokens:
                raise ValueError("--draft-tokens does nothing for token recycling's fixed tree")
            return token_recycling(drawn)
        case name:
            if draft is None:
                raise ValueError(f"draft: the model {name!r} was not opened; pass it")
            edits = logits.deaf(drawn.transform)
            drafter = Chain(draft, tokens.get("length", 4), edits, drawn.sampler)
            return Speculator(drawn, drafter, Residual())


def build(
    name: Name,
    rules: Rules,
    model: LanguageModel,
    stop: Stop,
    scorer: Scorer | None = None,
    draft: LanguageModel | None = None,
    piece: Callable[[str], list[int]] | None = None,
) -> Decoder:
    """The decoder of that name.

    Args:
      scorer: what `rules.reward` names; None for the likelihood.
      draft: the model that `rules.draft` names, where it names one.
      piece: tokens of a text that goes on, for rules that hold texts.
    Raises:
      ValueError: for options out of range, or that this decoder does not use.
    """
    check(name, rules)
    plain = generator(name, rules, model, stop, piece)
    drawn = speculating(rules, plain, draft)
    samples = 16 if rules.samples is None else rules.samples
    scorer = LikelihoodScorer(model) if scorer is None else scorer
    match name:
        case "sample" | "greedy" | "momentum":
            return Autoregressive(drawn)
        case "contrastive-search":
            alpha, k = rules.given.get("penalty", 0.6), rules.given.get("candidates", 5)
            return Autoregressive(ContrastiveSearch(plain, alpha, k))
        case "beam-search":
            power = 1.0 if rules.length_penalty is None else rules.length_penalty
            return BeamSearch(
                plain, 4 if rules.beams is None else rules.beams, LengthPenalty(power)
            )
        case "diverse-beam-search":
            beams = 4 if rules.beams is None else rules.beams
            strength = 0.5 if rules.strength is None else rules.strength
            return DiverseBeamSearch(
                plain, beams, beams if rules.groups is None else rules.groups, strength
            )
        case "best-of-n":
            return BestOfN(drawn, scorer, samples, rules.wave)
        case "speculative-rejection":
            options = {key: rules.given[key] for key in ("alpha", "rule") if key in rules.given}
            return SpeculativeRejection(drawn, scorer, rules.budget or 0, samples, **options)
        case "self-certainty":
            return SelfCertainty(plain, samples, rules.measure or "kl", wave=rules.wave)


def settings(name: Name, rules: Rules) -> dict[str, Any]:
    """Everything that was set, for the record."""
    return {"decoder": name, "max_tokens": rules.max_tokens, **rules.given}
