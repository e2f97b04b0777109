"""Nodes that share a cache see their own path and nothing else."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from algorithms.search.particles import Particles
from algorithms.search.step_beams import StepBeams
from algorithms.selection.best_of_n import BestOfN
from jaxdecode.arena import Search
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Temperature, chain
from jaxdecode.logits.penalties import RepetitionPenalty
from jaxdecode.process_reward import ProcessReward, StepFunction
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import FunctionScorer
from jaxdecode.steps import StepSampler
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, sequence_logprob
from models.presets import small
from models.rewards import RewardModel
from models.transformer import Transformer

VOCAB, LENGTH, WIDTH = 11, 9, 3
PROMPTS = Prompt.of([[1, 2, 3, 4], [5, 2]], ids=[3, 8], width=5)


@pytest.fixture(scope="module")
def searched():
    """Particle Gibbs by random models: paths that branch, end, are cut and are taken up again."""
    config = small(VOCAB, hidden=32, layers=2)
    model = Transformer(config, rngs=nnx.Rngs(0))
    judge = RewardModel.create(config, rngs=nnx.Rngs(1), readout="sigmoid")
    model, judge = (jax.tree.map(lambda w: 3 * w, m) for m in (model, judge))
    transform = chain(Temperature(1.3), RepetitionPenalty(1.2, VOCAB))
    generator = Generator(model, transform, Categorical(), Stop.of(0), LENGTH)
    steps = StepSampler(generator, Stop.of([], [[7], [2, 2]]), width=WIDTH, depth=4)
    particles = Particles(steps, ProcessReward(judge, WIDTH), particles=3, iterations=2)
    search = Search(steps, particles.evaluator, particles.strategy, 10, 25, 90)
    arena, note, _ = jax.jit(Search.run)(search, jax.random.key(5), PROMPTS)
    return model, judge, jax.device_get(arena), jax.device_get(note)


def test_logits_in_the_arena_are_those_of_the_path_alone(searched):
    """Log-probs by the generator and rewards by the judge of every node, against plain passes."""
    model, judge, arena, _ = searched
    nodes = [(row, node) for row in range(2) for node in range(1, arena.nodes[row])]
    texts = np.zeros((len(nodes), 5 + LENGTH), np.int32)
    begun, ends = np.zeros((2, len(nodes)), np.int32)
    for index, (row, node) in enumerate(nodes):
        begun[index], count = PROMPTS.length[row], arena.length[row, node]
        ends[index] = begun[index] + count
        texts[index, : begun[index]] = PROMPTS.tokens[row, : begun[index]]
        texts[index, begun[index] : ends[index]] = arena.tokens[row, node, :count]
    logits, _ = jax.jit(type(model).forward)(model, texts)
    outputs, _ = jax.jit(type(judge).forward)(judge, texts)
    logp = np.asarray(jax.nn.log_softmax(logits))
    rewards = np.asarray(judge.reward(outputs))
    _, marks = arena.transform
    marks = marks.reshape(*arena.depth.shape, VOCAB)
    for index, (row, node) in enumerate(nodes):
        places = np.arange(begun[index], ends[index])
        total = logp[index, places - 1, texts[index, places]].sum()
        np.testing.assert_allclose(arena.logprob[row, node], total, 1e-4, 1e-4)
        reward = rewards[index, ends[index] - 1]
        np.testing.assert_allclose(arena.reward[row, node], reward, 1e-4, 1e-5)
        seen = set(texts[index, : ends[index]].tolist())  # what the penalty remembers
        assert set(np.flatnonzero(marks[row, node]).tolist()) == seen
    assert len(nodes) > 12


def test_paths_are_made_of_steps(searched):
    """Parents come first, a child goes on where its parent ends, and steps end where they must."""
    *_, arena, note = searched
    branched = 0
    for row in range(2):
        parents = []
        for node in range(1, arena.nodes[row]):
            depth = arena.depth[row, node]
            path = arena.path[row, node, : depth + 1]
            assert path[-1] == node and (np.diff(path) > 0).all() and path[0] == 0
            parent = path[-2]
            parents.append(parent)
            begun, count = arena.length[row, [parent, node]]
            tokens = arena.tokens[row, node]
            np.testing.assert_array_equal(tokens[:begun], arena.tokens[row, parent, :begun])
            piece = tokens[begun:count].tolist()
            assert 1 <= len(piece) <= WIDTH
            ends = [t == 0 or t == 7 or piece[max(0, i - 1) : i + 1] == [2, 2]
                    for i, t in enumerate(piece)]  # fmt: skip
            assert not any(ends[:-1])
            if arena.status[row, node] == Status.RUNNING:
                assert ends[-1] or len(piece) == WIDTH
            owned = (arena.owner[row] == node).sum()
            assert owned == len(piece)
        branched += len(parents) - len(set(parents))
    assert branched > 2 and (note.iteration == 1).all()
    assert (arena.capped > 0).any()
    assert (arena.usage.emitted >= (arena.owner >= 0).sum(1)).all()
    assert (arena.usage.scorer_passes == arena.nodes).all()  # one for the prompt, one a step


@pytest.fixture(scope="module")
def plain() -> StepSampler:
    model = EnumerableLM.random(1, 6)
    generator = Generator(model, Temperature(0.8), Categorical(), Stop.of(0), 7)
    return StepSampler(generator, Stop.of(5), width=3, depth=7)


def value(prompt, prompt_length, tokens, length):
    """In [0, 1], by the tokens so far."""
    inside = jnp.arange(tokens.shape[1]) < length[:, None]
    return jnp.sum(jnp.where(inside, tokens * 7 % 5, 0), axis=1) % 7 / 7 + 0.1


def test_lanes_that_branch_at_the_prompt_alone_are_best_of_n(plain):
    """The same draws, responses, scores and choice as the engine of rows."""
    search = StepBeams.best_of(4, plain, StepFunction(value))
    found = jax.device_get(decode(search, 2, PROMPTS))
    wanted = jax.device_get(decode(BestOfN(plain.generator, FunctionScorer(value), 4), 2, PROMPTS))
    for name in ("tokens", "length", "status", "best"):
        np.testing.assert_array_equal(getattr(found.trace, name), getattr(wanted.trace, name))
    np.testing.assert_array_equal(found.tokens, wanted.tokens)
    np.testing.assert_array_equal(found.usage.emitted, wanted.usage.emitted)
    for row, prompt in enumerate(([1, 2, 3, 4], [5, 2])):
        output = found.tokens[row, : found.length[row]].tolist()
        logprob = sequence_logprob(plain.model, prompt, output)
        np.testing.assert_allclose(found.logprob[row], logprob, 1e-4)


def test_a_full_arena_returns_the_best_so_far(plain):
    search = StepBeams.best_of(4, plain, StepFunction(value), slots=24)
    result = jax.device_get(decode(search, 2, PROMPTS))
    assert result.trace.full.all()
    np.testing.assert_array_equal(result.status, Status.CAPACITY)
    assert (result.length > 0).all()
    able = np.where(np.isfinite(result.trace.score), result.trace.score, -1)
    np.testing.assert_array_equal(result.trace.best, able.argmax(1))
    with pytest.raises(ValueError, match=r"slots=5: one round of 4 lanes needs 12"):
        decode(replace(search, slots=5), 2, PROMPTS)
