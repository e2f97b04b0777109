"""Decoders from the options of a command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from algorithms.search.a_star_decoding import AStar
from algorithms.search.beam_search import BeamSearch
from algorithms.search.controlled_decoding import Blockwise
from algorithms.search.diverse_beam_search import DiverseBeamSearch
from algorithms.search.particles import Particles
from algorithms.search.pg_td import PlanningGuided
from algorithms.search.smcg_td import SequentialMonteCarlo
from algorithms.search.step_beams import StepBeams
from algorithms.search.stochastic_beam_search import StochasticBeamSearch
from algorithms.search.superposed_decoding import SuperposedDecoding
from algorithms.search.transfer_q_star import direct
from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.self_certainty import SelfCertainty
from algorithms.selection.speculative_rejection import SpeculativeRejection
from algorithms.tokens.adadec import AdaDec
from algorithms.tokens.contrastive_search import ContrastiveSearch
from algorithms.tokens.lud import LUD
from algorithms.tokens.momentum_decoding import Momentum
from algorithms.tokens.rules.acceptance import Confident
from algorithms.tokens.rules.stutter import Same, Stutter
from algorithms.tokens.rules.triggers import Uncertain
from experiments.commands.decoding import lists
from experiments.commands.decoding.drafting import MODELLESS, Means, check_means, drafted
from experiments.commands.decoding.rules import Rules, cache_growth
from experiments.commands.decoding.uses import (
    JUDGED,
    LIKELIHOOD,
    RANKED,
    SCORED,
    STEPWISE,
    UNITS,
    USES,
    Name,
    settings,
)
from experiments.commands.decoding.uses import check as check_options
from experiments.inputs.edits import EDITS, Target
from jaxdecode import logits
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder
from jaxdecode.finished import LengthPenalty
from jaxdecode.host import HostEvaluator, HostScorer
from jaxdecode.lm import LanguageModel
from jaxdecode.plain import Autoregressive
from jaxdecode.process_reward import ProcessReward
from jaxdecode.rows import Expander
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import LikelihoodScorer, Scorer
from jaxdecode.speculate import Speculator
from jaxdecode.steps import StepSampler
from jaxdecode.stop import Stop
from models.placeholder import learned_placeholder
from models.text import Tokenizer

__all__ = [
    "JUDGED",
    "LIKELIHOOD",
    "RANKED",
    "SCORED",
    "STEPWISE",
    "USES",
    "Made",
    "Name",
    "Rules",
    "build",
    "check",
    "settings",
]


@dataclass(frozen=True)
class Made:
    """What a decoder is put together from.

    Attributes:
      plain, drawn: how tokens are drawn, without and with what drafts them.
      rules: the options.
      scorer: of responses.
      judge: of steps, a reward model; None without one.
      aligned: another model of the same vocabulary.
      step_end: tokens that end a step.
      threshold: in nats, what `rules.threshold` names.
      stutter: of the model's tokens; None tells them by their ids alone.
      between: tokens behind each item of a list but the last.
    """

    plain: Generator
    drawn: Expander
    rules: Rules
    scorer: Scorer
    judge: Any = None
    aligned: Any = None
    step_end: tuple[int, ...] = ()
    threshold: float | None = None
    stutter: Stutter | None = None
    between: Sequence[Sequence[int]] = ()

    def samples(self, default: int) -> int:
        return default if self.rules.samples is None else self.rules.samples

    def options(self, *names: str) -> dict[str, Any]:
        """Those of the options that were given."""
        return {name: self.rules.given[name] for name in names if name in self.rules.given}

    @property
    def beams(self) -> int:
        return 4 if self.rules.beams is None else self.rules.beams

    @property
    def steps(self) -> StepSampler:
        """Steps, drawn by the rules of tokens."""
        ends = Stop.of((), [self.step_end])
        return StepSampler(self.plain, ends, self.rules.step_tokens or 32, self.rules.steps or 16)

    @property
    def judged(self) -> ProcessReward:
        return ProcessReward(self.judge, self.rules.step_tokens or 32)

    @property
    def rewarded(self) -> HostEvaluator:
        """The function of a completed text."""
        assert isinstance(self.scorer, HostScorer)
        return self.scorer.judge.evaluator


def _diverse(made: Made) -> Decoder:
    groups = made.beams if made.rules.groups is None else made.rules.groups
    strength = 0.5 if made.rules.strength is None else made.rules.strength
    return DiverseBeamSearch(made.plain, made.beams, groups, strength)


def _beam(made: Made) -> Decoder:
    power = 1.0 if made.rules.length_penalty is None else made.rules.length_penalty
    return BeamSearch(made.plain, made.beams, LengthPenalty(power))


def _contrastive(made: Made) -> Decoder:
    given = made.rules.given
    search = ContrastiveSearch(made.plain, given.get("penalty", 0.6), given.get("candidates", 5))
    return Autoregressive(search)


def _adadec(made: Made) -> Decoder:
    assert made.threshold is not None
    given, trigger = made.rules.given, Uncertain(made.threshold)
    return AdaDec(made.plain, trigger, given.get("candidates", 3), given.get("ahead", 5))


def _lud(made: Made) -> Decoder:
    given = made.rules.given
    return LUD(
        made.plain,
        learned_placeholder(made.plain.model, made.rules.placeholder),
        given.get("span", 4),
        Confident(given.get("confidence", 0.9)),
        made.stutter or Same(),
    )


def _rejection(made: Made) -> Decoder:
    return SpeculativeRejection(
        made.drawn,
        made.scorer,
        made.rules.budget or 0,
        made.samples(16),
        **made.options("alpha", "rule"),
    )


def _certain(made: Made) -> Decoder:
    rules = made.rules
    return SelfCertainty(made.plain, made.samples(16), rules.measure or "kl", wave=rules.wave)


def _transfer(made: Made) -> Decoder:
    return direct(
        made.plain,
        made.scorer,
        policy=made.aligned,
        samples=made.samples(4),
        **made.options("alpha", "candidates"),
    )


def _planned(made: Made) -> Decoder:
    plain = made.plain
    return PlanningGuided(
        plain.model,
        plain.stop,
        made.rewarded,
        plain.max_tokens,
        branch=made.rules.candidates or 3,
        rollouts=made.samples(16),
    )


def _a_star(made: Made) -> Decoder:
    distinct = replace(made.steps, distinct=True)
    return AStar(distinct, made.judged, made.samples(4), **made.options("expansions"))


MAKERS: dict[Name, Callable[[Made], Decoder]] = {
    "sample": lambda made: Autoregressive(made.drawn),
    "greedy": lambda made: Autoregressive(made.drawn),
    "momentum": lambda made: Autoregressive(made.drawn),
    "contrastive-search": _contrastive,
    "adadec": _adadec,
    "icn": lambda made: lists.navigator(made.plain, made.rules, made.between),
    "lud": _lud,
    "beam-search": _beam,
    "diverse-beam-search": _diverse,
    "stochastic-beam-search": lambda made: StochasticBeamSearch(made.plain, made.beams),
    "superposed-decoding": lambda made: SuperposedDecoding(made.plain, made.rules.beams or 3),
    "best-of-n": lambda made: BestOfN(made.drawn, made.scorer, made.samples(16), made.rules.wave),
    "speculative-rejection": _rejection,
    "self-certainty": _certain,
    "controlled-decoding": lambda made: Blockwise(
        made.plain, made.scorer, made.samples(4), **made.options("block")
    ),
    "transfer-q-star": _transfer,
    "a-star-decoding": _a_star,
    "particle-filtering": lambda made: Particles(made.steps, made.judged, made.samples(16)),
    "step-beams": lambda made: StepBeams(
        made.steps, made.judged, keep=made.beams, branch=made.samples(4)
    ),
    "dvts": lambda made: StepBeams.dvts(made.samples(16), made.beams, made.steps, made.judged),
    "pg-td": _planned,
    "smcg-td": lambda made: SequentialMonteCarlo(made.plain, made.rewarded, made.samples(16)),
}


def check(name: Name, rules: Rules) -> None:
    """Refuse options that `name` does not use or cannot do without, and those of drafting.

    Raises:
      ValueError: naming the option and what would use it.
    """
    check_options(name, rules)
    if rules.draft is not None:
        check_means(rules.draft, list(rules.given))


def generator(
    name: Name,
    rules: Rules,
    model: LanguageModel,
    stop: Stop,
    piece: Callable[[str], list[int]] | None = None,
    text: Tokenizer | None = None,
    stops: Sequence[str] = (),
) -> Generator:
    """How `name` draws tokens."""
    given = rules.given
    target = Target(model.vocab_size, stop.eos, rules.max_tokens, piece, text, tuple(stops))
    edits = [make(given[key], target) for key, make in EDITS.items() if key in given]
    if name == "momentum":
        alpha, k = given.get("penalty", 0.2), given.get("candidates", 5)
        if not 1 <= k <= model.vocab_size:
            raise ValueError(f"candidates: k={k} must lie in 1..{model.vocab_size}, the vocabulary")
        # An end token that begins the prompt too is no node, and may be chosen at no cost.
        ends = np.asarray(stop.eos).tolist()
        edits.append(Momentum.of(rules.max_tokens, alpha=alpha, k=k, ignored=ends))
    return Generator(
        model=model,
        transform=logits.chain(*edits),
        sampler=Greedy() if name in RANKED else Categorical(),
        stop=stop,
        max_tokens=rules.max_tokens,
        cache_growth=cache_growth(rules.max_tokens),
    )


def build(
    name: Name,
    rules: Rules,
    model: LanguageModel,
    stop: Stop,
    scorer: Scorer | None = None,
    draft: LanguageModel | None = None,
    piece: Callable[[str], list[int]] | None = None,
    *,
    text: Tokenizer | None = None,
    stops: Sequence[str] = (),
    means: Means | None = None,
    judge: Any = None,
    aligned: Any = None,
    threshold: float | None = None,
    stutter: Stutter | None = None,
    paced: Callable[[Speculator], Speculator] | None = None,
) -> Decoder:
    """The decoder of that name.

    Args:
      scorer: what `rules.reward` names; None for the likelihood.
      draft: the model that `rules.draft` or `rules.draft_model` names.
      piece: tokens of a text that goes on, for rules that hold texts.
      text: the tokenizer, for rules that forbid texts.
      stops: texts that end a response, which `stop` knows.
      means: whatever else drafting needs.
      judge, aligned: what `rules.process_reward` and `rules.aligned` name.
      threshold: in nats, what `rules.threshold` names.
      stutter: tells repeated tokens by their texts; only by their ids if not given.
      paced: makes a speculator guess no further than pays, for a policy that is measured.
    Raises:
      ValueError: for options out of range, or that this decoder does not use.
    """
    check(name, rules)
    plain = generator(name, rules, model, stop, piece, text, stops)
    drawn: Expander = plain
    if rules.threshold is not None and threshold is None:
        raise ValueError(f"threshold: the nats of {rules.threshold!r} were not read; pass them")
    if rules.draft is not None:
        units = {name: getattr(rules, name) for name in UNITS}
        found = replace(means or Means(), length=rules.draft_tokens, **units)
        found = found if draft is None else replace(found, model=draft)
        if found.model is None and (rules.draft_model or rules.draft not in MODELLESS):
            raise ValueError(f"draft: the model {rules.draft!r} was not opened; pass it")
        drawn = drafted(plain, rules.draft, found, rules.policy)
        drawn = paced(drawn) if paced is not None else drawn
    ends = "\n" if rules.step_end is None else rules.step_end
    return MAKERS[name](
        Made(
            plain=plain,
            drawn=drawn,
            rules=rules,
            scorer=LikelihoodScorer(model) if scorer is None else scorer,
            judge=judge,
            aligned=aligned,
            threshold=threshold,
            stutter=stutter,
            step_end=tuple(piece(ends)) if piece is not None and name in STEPWISE else (),
            between=lists.between(rules, piece, stops) if piece and name == "icn" else (),
        )
    )
