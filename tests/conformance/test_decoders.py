"""Every decoder keeps what every decoder must."""

import functools
from typing import Any

import jax.numpy as jnp
import pytest

from algorithms.alignment.adversary import worst_of_n
from algorithms.search.a_star_decoding import AStar
from algorithms.search.args import args
from algorithms.search.beam_search import BeamSearch
from algorithms.search.controlled_decoding import Blockwise
from algorithms.search.diverse_beam_search import DiverseBeamSearch
from algorithms.search.particles import Particles
from algorithms.search.pg_td import PlanningGuided
from algorithms.search.smcg_td import SequentialMonteCarlo
from algorithms.search.step_beams import StepBeams
from algorithms.search.stochastic_beam_search import StochasticBeamSearch
from algorithms.search.superposed_decoding import SuperposedDecoding
from algorithms.search.transfer_q_star import indirect
from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.self_certainty import SelfCertainty, Voting
from algorithms.selection.speculative_rejection import SpeculativeRejection
from algorithms.tokens.contrastive_search import ContrastiveSearch
from algorithms.tokens.mirostat import Mirostat, MirostatTopK
from algorithms.tokens.momentum_decoding import momentum_decoding
from jaxdecode.autoregress import Generator
from jaxdecode.finished import LengthPenalty
from jaxdecode.logits import (
    Dry,
    DynamicTemperature,
    ExcludeTop,
    Identity,
    NoCitation,
    QuadraticSmoothing,
    Temperature,
    TopNSigma,
    TopP,
    chain,
)
from jaxdecode.ngram.interpolation import Interpolation
from jaxdecode.plain import Autoregressive
from jaxdecode.process_reward import StepFunction
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import FunctionScorer
from jaxdecode.steps import StepSampler
from jaxdecode.stop import Stop
from jaxdecode.testing.conformance import CHECKS, Subject
from jaxdecode.testing.enumerable import EnumerableLM


def sampler(model: EnumerableLM, stop: Stop, max_tokens: int, cache_growth: int = 1) -> Generator:
    """Tempered nucleus sampling, the generator of most rows."""
    transform = chain(Temperature(0.9), TopP(0.95))
    return Generator(model, transform, Categorical(), stop, max_tokens, cache_growth=cache_growth)


def greedy(model: EnumerableLM, stop: Stop, max_tokens: int) -> Generator:
    return Generator(model, Temperature(0.7), Greedy(), stop, max_tokens)


def sampling(model, stop, max_tokens, cache_growth=3):
    return Autoregressive(sampler(model, stop, max_tokens, cache_growth))


def without_citations(model, stop, max_tokens):
    """How a hyperfitted model is read where it may not quote its few texts."""
    texts = [[0, 1, 2, 3, 0, 1, 4, 5], [1, 3, 1, 2, 4, 1, 3, 0], [2, 1, 0, 3, 3, 1]]
    block = NoCitation.of(texts, model.vocab_size, n=1)
    return Autoregressive(Generator(model, block, Greedy(), stop, max_tokens))


def worth(prompt, prompt_length, tokens, length):
    """A reward that reads every emitted token and the prompt's length."""
    inside = jnp.arange(tokens.shape[1]) < length[:, None]
    total = jnp.sum(jnp.where(inside, (7 * tokens + 3) % 5, 0), axis=1)
    return total + 0.01 * prompt_length


def best_of_n(model, stop, max_tokens, wave=None):
    scorer = FunctionScorer(worth)
    return BestOfN(sampler(model, stop, max_tokens), scorer, samples=4, wave=wave)


def worst_of_four(model, stop, max_tokens):
    return worst_of_n(sampler(model, stop, max_tokens), FunctionScorer(worth), samples=4)


def speculative_rejection(model, stop, max_tokens):
    scorer = FunctionScorer(worth)
    return SpeculativeRejection(sampler(model, stop, max_tokens), scorer, budget=40, width=6)


def self_certainty(model, stop, max_tokens):
    return SelfCertainty(sampler(model, stop, max_tokens), samples=4)


def beam_search(model, stop, max_tokens):
    return BeamSearch(greedy(model, stop, max_tokens), 3, LengthPenalty(0.6))


def diverse_beam_search(model, stop, max_tokens):
    return DiverseBeamSearch(greedy(model, stop, max_tokens), 4, 2)


def stochastic_beam_search(model, stop, max_tokens):
    return StochasticBeamSearch(sampler(model, stop, max_tokens), 3)


def superposed_decoding(model, stop, max_tokens):
    plain = Generator(model, Identity(), Greedy(), stop, max_tokens)
    ngrams = Interpolation.of([[1, 2, 3, 0, 4, 5, 2, 1]], model.vocab_size, (0.3, 0.2), 6)
    return SuperposedDecoding(plain, 2, 4, 0.5, 0.8, ngrams, reset=2)


def first_token(tokens, length):
    """An answer that some responses share."""
    return tokens[:, 0]


def voting(model, stop, max_tokens):
    return Voting(self_certainty(model, stop, max_tokens), first_token)


def promise(prompt, prompt_length, tokens, length):
    """A process reward: `worth` in [0, 1]."""
    return 0.05 * worth(prompt, prompt_length, tokens, length) + 0.01


def steps(model, stop, max_tokens):
    """Steps of at most two tokens, or up to a 3."""
    return StepSampler(sampler(model, stop, max_tokens), Stop.of(3), 2, max_tokens)


def a_star_decoding(model, stop, max_tokens, slots=None):
    judged = StepFunction(promise)
    return AStar(steps(model, stop, max_tokens), judged, 2, 4, tokens=12, slots=slots)


def particle_gibbs(model, stop, max_tokens):
    return Particles(steps(model, stop, max_tokens), StepFunction(promise), 3, iterations=2)


def step_beams(model, stop, max_tokens):
    return StepBeams.dvts(4, 2, steps(model, stop, max_tokens), StepFunction(promise))


def pg_td(model, stop, max_tokens):
    return PlanningGuided(model, stop, StepFunction(promise), max_tokens, 2, 6)


def smcg_td(model, stop, max_tokens):
    return SequentialMonteCarlo(sampler(model, stop, max_tokens), StepFunction(promise), 3)


def guided(model, stop, max_tokens):
    return args(greedy(model, stop, max_tokens), FunctionScorer(worth), 1.5, 3)


def blockwise(model, stop, max_tokens):
    return Blockwise(sampler(model, stop, max_tokens), FunctionScorer(worth), 3, 2)


def transfer_q_star(model, stop, max_tokens):
    scorers = FunctionScorer(worth), FunctionScorer(promise)
    policy = model.perturbed(5, 0.5)
    return indirect(
        sampler(model, stop, max_tokens), *scorers, 2.0, 1.5, policy, candidates=3, samples=2
    )


def controlled(model, stop, max_tokens):
    """Best of four texts of one surprise."""
    control = chain(Temperature(0.9), Mirostat(1.3, 0.7))
    generator = Generator(model, control, Categorical(), stop, max_tokens)
    return BestOfN(generator, FunctionScorer(worth), samples=4)


def controlled_by_rank(model, stop, max_tokens):
    generator = Generator(model, MirostatTopK(1.3), Categorical(), stop, max_tokens)
    return SpeculativeRejection(generator, FunctionScorer(worth), budget=40, width=5)


def of_practice(model, stop, max_tokens):
    """Samplers that came out of programs, all at once."""
    edits = chain(
        Dry.of(0.8, max_tokens, [3], allowed=1),
        TopNSigma(1.5),
        QuadraticSmoothing(0.2, 1.5),
        DynamicTemperature(0.5, 1.5),
        ExcludeTop(0.1, 0.5, Temperature(0.8)),
    )
    return Autoregressive(Generator(model, edits, Categorical(), stop, max_tokens))


def momentum(model, stop, max_tokens):
    return Autoregressive(momentum_decoding(model, stop, max_tokens, k=3))


def contrastive(model, stop, max_tokens, cache_growth=2):
    plain = Generator(model, Identity(), Greedy(), stop, max_tokens, cache_growth=cache_growth)
    return Autoregressive(ContrastiveSearch(plain, 0.6, 3))


# One row for every decoder: the arguments of its `Subject`.
ROWS: dict[str, dict[str, Any]] = {
    "autoregressive": {
        "make": sampling,
        "roomier": functools.partial(sampling, cache_growth=1),
    },
    "autoregressive, greedy": {"make": lambda *rules: Autoregressive(greedy(*rules))},
    "hyperfitting, no citations": {"make": without_citations},
    "best_of_n": {"make": best_of_n, "pooled": True},
    "best_of_n, in waves": {"make": functools.partial(best_of_n, wave=2), "pooled": True},
    "mirostat": {"make": controlled, "pooled": True},
    "mirostat, by rank": {"make": controlled_by_rank, "pooled": True, "shapes": ("alpha",)},
    "samplers of practice": {"make": of_practice},
    "momentum_decoding": {"make": momentum},
    "contrastive search": {
        "make": contrastive,
        "roomier": functools.partial(contrastive, cache_growth=1),
    },
    "a_star_decoding": {
        "make": a_star_decoding,
        "pooled": True,
        "roomier": functools.partial(a_star_decoding, slots=60),
    },
    "particles": {"make": particle_gibbs, "pooled": True},
    "pg_td": {"make": pg_td, "pooled": True},
    "smcg_td": {"make": smcg_td, "pooled": True},
    "transfer_q_star": {"make": transfer_q_star, "pooled": True},
    "args": {"make": guided},
    "controlled_decoding, blockwise": {"make": blockwise, "pooled": True},
    "step_beams": {"make": step_beams, "pooled": True},
    "infalign, worst_of_n": {"make": worst_of_four, "pooled": True},
    "speculative_rejection": {
        "make": speculative_rejection,
        "pooled": True,
        "shapes": ("alpha",),
    },
    "beam_search": {"make": beam_search, "pooled": True},
    "diverse_beam_search": {"make": diverse_beam_search, "pooled": True},
    "stochastic_beam_search": {"make": stochastic_beam_search, "pooled": True},
    "superposed_decoding": {"make": superposed_decoding, "pooled": True},
    "self_certainty": {"make": self_certainty, "pooled": True},
    "self_certainty, voting": {"make": voting, "pooled": True},
}


@pytest.mark.parametrize("name", ROWS)
def test_conformance(name) -> None:
    """One test a decoder, so that its compiled programs are made in one process."""
    subject = Subject(**ROWS[name])
    for check in CHECKS:
        check(subject)
