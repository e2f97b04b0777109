"""The programs whose compilation is watched: one a family, few layers, published widths.

What counts is the cost of a layer and of what surrounds the layers, so that two layers stand for
thirty-two. Models are shapes on a described topology: nothing is allocated, and no TPU is needed.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from algorithms.search.beam_search import BeamSearch
from algorithms.search.particles import Particles
from algorithms.selection.speculative_rejection import SpeculativeRejection
from algorithms.speculative.prompt_lookup import prompt_lookup
from algorithms.speculative.token_recycling import token_recycling
from experiments.commands.ahead.program import Program
from jaxdecode.autoregress import Generator
from jaxdecode.plain import Autoregressive
from jaxdecode.process_reward import StepFunction
from jaxdecode.scoring import FunctionScorer
from jaxdecode.steps import StepSampler
from jaxdecode.stop import Stop
from models.presets import LLAMA_3_2_1B

ROOT = (-1,)
TREE = (
    ROOT * 4
    + tuple(node for node in range(4) for _ in range(4))
    + tuple(range(4, 20))
    + (tuple(range(20, 36)) + tuple(range(36, 44)))
)
"""60 nodes: 4 children of the root with 4 each, and lines below them."""


def worth(prompt, prompt_length, tokens, length):
    """More for a long response of high tokens; any function of a text would do."""
    return jnp.sum(jnp.where(jnp.arange(tokens.shape[1]) < length[:, None], tokens, 0), axis=1) / 9


def recycled(drawn: Generator, greedy: Generator) -> Autoregressive:
    table: Any = jax.ShapeDtypeStruct((greedy.model.vocab_size, 8), jnp.int32)
    return Autoregressive(token_recycling(greedy, table, TREE))


SMALL = {"config": LLAMA_3_2_1B, "topology": "v5e:2x2", "data": 4, "model": 1}
PROGRAMS: dict[str, Program] = {
    "greedy": Program(lambda drawn, greedy: Autoregressive(greedy)),
    "greedy, 64 rows": Program(lambda drawn, greedy: Autoregressive(greedy), batch=64),
    "sampled": Program(lambda drawn, greedy: Autoregressive(drawn)),
    "chain": Program(lambda drawn, greedy: Autoregressive(prompt_lookup(drawn)), **SMALL),
    "tree": Program(recycled, **SMALL),
    "pruned": Program(
        lambda drawn, greedy: SpeculativeRejection(drawn, FunctionScorer(worth), 2048, 8),
        batch=4,
        new=512,
        **SMALL,
    ),
    "beams": Program(lambda drawn, greedy: BeamSearch(greedy, 4), new=256, **SMALL),
    "arena": Program(
        lambda drawn, greedy: Particles(
            StepSampler(drawn, Stop.of(198), 16, 8), StepFunction(worth), 4
        ),
        new=128,
        **SMALL,
    ),
}
