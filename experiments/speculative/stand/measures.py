"""What the experiment on STAND measures: tables that samples share, trees, and best-of-N."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.selection.best_of_n import BestOfN
from algorithms.speculative.drafters.static_trees import useful_tree
from algorithms.speculative.drafters.token_recycling import TREE, Recycler
from algorithms.speculative.stand import NODES, first_tree, stand
from algorithms.speculative.token_recycling import SUCCESSORS
from algorithms.speculative.verifiers.match import Match
from experiments import zoo
from experiments.speculative.carried_learning import by_prompt, per_call, relay
from experiments.speculative.speculation import Counts, Field
from experiments.speculative.stand.setting import Config, sampled, trajectories
from experiments.tasks.arithmetic import Arithmetic
from jaxdecode.decoder import decode
from jaxdecode.ngram.table import Table
from jaxdecode.rows import Expander
from jaxdecode.scoring import FunctionScorer
from jaxdecode.speculate import Speculator

CHAIN = tuple(range(-1, 9))


def averaging(
    config: Config,
    field: Field,
    tree: Sequence[int],
    stochastic: bool = True,
    temperature: float | None = None,
    samples: int | None = None,
) -> tuple[list[Counts], list[Any]]:
    """STAND on one sample after the other, and its state after each."""
    generator = sampled(field, temperature or config.temperature)

    def build(memory: Table) -> Speculator:
        return stand(generator, tuple(tree), memory, stochastic)

    empty = Table.empty(len(field.prompts), config.capacity, 4, 10)
    prompts = trajectories(field, samples or config.samples)
    return relay(build, empty, lambda state: state.table.value, prompts, config.seed)


def recycling(config: Config, field: Field) -> list[Counts]:
    """Token recycling on one sample after the other."""
    generator = sampled(field, config.temperature)

    def build(table) -> Speculator:
        return Speculator(generator, Recycler(table, TREE), Match())

    empty = jnp.zeros((len(field.prompts), field.target.vocab_size, SUCCESSORS), jnp.int32)
    prompts = trajectories(field, config.samples)
    return relay(build, empty, lambda state: state.table.value, prompts, config.seed)[0]


def summary(found: Sequence[Counts]) -> dict[str, Any]:
    """What is kept of the samples of a method."""
    return {
        "tokens_per_call": per_call(found),
        "first": found[0].per_call,
        "last": per_call(found[len(found) // 2 :]),
        "acceptance": float(
            sum(c.accepted.sum() for c in found) / sum(c.drafted.sum() for c in found)
        ),
        "by_sample": [c.per_call for c in found],
        "by problem": {
            name: by_prompt(several)
            for name, several in (
                ("all", found),
                ("first", found[:1]),
                ("last", found[len(found) // 2 :]),
            )
        },
    }


def fitted(config: Config, field: Field) -> dict[str, Any]:
    """The tree of the nodes that were accepted most on other problems."""
    big = first_tree(config.explored, config.depth)
    _, states = averaging(config, field, big)
    hits = np.sum([np.asarray(state.hits).sum(0) for state in states], axis=0)
    return {"tree": list(useful_tree(big, hits.tolist(), NODES))}


def overlap(tokens: Sequence[np.ndarray], order: int) -> list[float]:
    """The share of the n-grams of sample k + 1 that samples 1 to k hold, for every k; NaN where
    it has none."""
    seen: set[tuple[int, ...]] = set()
    shares = []
    for number, text in enumerate(tokens):
        grams = [tuple(text[i : i + order].tolist()) for i in range(len(text) - order + 1)]
        if number:
            held = [gram in seen for gram in grams]
            shares.append(float(np.mean(held)) if held else float("nan"))
        seen.update(grams)
    return shares


def best_of(config: Config, field: Field, generator: Expander) -> dict[str, Any]:
    """How many of N solutions of each problem are right, and the passes that they took."""
    scorer = FunctionScorer(lambda prompt, own, tokens, length: -length.astype(jnp.float32))
    whole = field.batches(len(field.prompts))[0]
    result = jax.device_get(decode(BestOfN(generator, scorer, config.samples), config.seed, whole))
    codec, task = zoo.load(field.task).tokenizer, Arithmetic(operations=(4, 6))
    texts = [codec.decode([*prompt[1:]]) for prompt in field.prompts]
    right, shares = [], {2: [], 3: [], 4: []}
    for problem, text in enumerate(texts):
        pool = [
            row[:length]
            for row, length in zip(
                result.trace.tokens[problem], result.trace.length[problem], strict=True
            )
        ]
        kept = [[int(token) for token in row if token not in field.ends] for row in pool]
        right.append(sum(task.verify(text, codec.decode(row)) for row in kept))
        for order, found in shares.items():
            found.append(overlap(pool, order))
    passes = result.usage.histogram.sum() if result.usage.histogram.shape[1] > 1 else None
    emitted = float(result.usage.emitted.sum())
    return {
        "right": right,
        "samples": config.samples,
        "tokens_per_call": emitted / float(passes) if passes is not None else 1.0,
        "overlap": {
            str(order): np.nanmean(found, axis=0).tolist() for order, found in shares.items()
        },
    }
