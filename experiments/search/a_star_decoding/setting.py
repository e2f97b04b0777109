"""Searching over the steps of arithmetic under a process reward: the decoders, and one run of each.

Every method draws steps from the same generator at the same temperature, and pays by the same
rules: tokens are all that were drawn, of whatever became of them, and a pass of the process
reward is one text that it scored. A sample of best-of-N is scored once, when it is complete.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.search.a_star_decoding import AStar
from algorithms.search.particles import Particles
from algorithms.search.step_beams import StepBeams
from algorithms.selection.best_of_n import BestOfN
from experiments.harness.judging.equal_compute import Floats
from experiments.inputs.sources import Codec
from experiments.tasks.arithmetic import Arithmetic, right_so_far
from experiments.tasks.gsm8k import Gsm8k
from experiments.tasks.task import Example
from jaxdecode.arena import Evaluator
from jaxdecode.autoregress import Generator
from jaxdecode.cache import Cache
from jaxdecode.decoder import Decoder, decode
from jaxdecode.host import HostEvaluator, HostJudge
from jaxdecode.host_calls import Tokens
from jaxdecode.lm import View
from jaxdecode.logits import Temperature
from jaxdecode.nodes import start
from jaxdecode.process_reward import ProcessReward
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import RewardScorer
from jaxdecode.steps import StepSampler
from jaxdecode.stop import Stop
from jaxdecode.types import Array


@dataclass(frozen=True)
class Measured:
    """A method on Q questions: right or not, tokens drawn, passes, f64[Q]; seconds of all."""

    right: Floats
    tokens: Floats
    passes: Floats
    seconds: float

    @classmethod
    def of(cls, parts: Sequence[dict[str, Any]]) -> Measured:
        """From batches as `Bench.run` measures them."""
        right, tokens, passes = (
            np.concatenate([np.asarray(part[name], np.float64) for part in parts])
            for name in ("right", "tokens", "passes")
        )
        return cls(right, tokens, passes, float(sum(part["seconds"] for part in parts)))


@dataclass(frozen=True)
class Bench:
    """Models, a task and the rules of drawing.

    Attributes:
      model, judge: the generator and the process reward model, over the same vocabulary.
      delimiter: text that ends a step.
      width, depth, max_tokens: of a step, in steps, of a response.
      batch: questions decoded at a time.
    """

    model: Any
    judge: Any
    codec: Codec
    task: Arithmetic | Gsm8k
    questions: Sequence[Example]
    delimiter: str
    width: int
    depth: int
    max_tokens: int
    temperature: float
    batch: int
    seed: int

    @cached_property
    def sampler(self) -> StepSampler:
        stop = Stop.of(self.codec.text.eos)
        generator = Generator(
            self.model, Temperature(self.temperature), Categorical(), stop, self.max_tokens
        )
        ends = Stop.of((), [self.codec.piece(self.delimiter)])
        return StepSampler(generator, ends, self.width, self.depth)

    @cached_property
    def rewards(self) -> ProcessReward:
        return ProcessReward(self.judge, self.width)

    def a_star(self, children: int, evaluator: Evaluator | None = None, **options: Any) -> AStar:
        distinct = replace(self.sampler, distinct=True)
        return AStar(distinct, evaluator or self.rewards, children, **options)

    def particles(
        self, count: int, evaluator: Evaluator | None = None, iterations: int = 1
    ) -> Particles:
        return Particles(self.sampler, evaluator or self.rewards, count, iterations)

    def trees(self, samples: int, branch: int) -> StepBeams:
        return StepBeams.dvts(samples, branch, self.sampler, self.rewards)

    def beam(self, keep: int, branch: int) -> StepBeams:
        return StepBeams(self.sampler, self.rewards, keep=keep, branch=branch)

    def samples(self, count: int) -> BestOfN:
        growing = replace(self.sampler.generator, cache_growth=2)
        return BestOfN(growing, RewardScorer(self.judge), count)

    def oracle(self, noise: float) -> HostEvaluator:
        """A reward of a known quality: +-3 and normal noise of deviation `noise`, as a logit."""
        return replace(self.asking, given=(jnp.float32(noise),)).evaluator

    @cached_property
    def asking(self) -> HostJudge:
        """One judge, so that every noise shares its programs."""
        return HostJudge.of(self.worth, Tokens(), given=(0.0,))

    def worth(self, noise: Any, prompt: Sequence[int], said: Sequence[int]) -> float:
        """The reward of what was said so far, by tokens; its noise is the text's own."""
        text = self.codec.text
        asked = [t for t in prompt if t != text.bos]
        ended = bool(said) and said[-1] in text.eos
        fine = right_so_far(text.decode(asked), text.decode(said), ended)
        sign = 3.0 if not fine or fine[-1] else -3.0
        digest = zlib.crc32(np.asarray([*asked, -1, *said], np.int32).tobytes())
        normal = np.random.Generator(np.random.Philox(digest)).standard_normal()
        return 1 / (1 + np.exp(-(sign + float(noise) * normal)))

    def exactly(self, question: str, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The exact rewards of complete answers to one question."""
        asked, rows = self.codec.prompt(question), zip(tokens, lengths, strict=True)
        found = [self.worth(0.0, asked, row[:count].tolist()) for row, count in rows]
        return np.array(found, np.float32)

    @cached_property
    def prompts(self) -> list[list[int]]:
        return [self.codec.prompt(example.prompt) for example in self.questions]

    def prompt(self, first: int, count: int) -> Prompt:
        """Some questions in the one width of all."""
        width = bucket(max(map(len, self.prompts)))
        some = self.prompts[first : first + count]
        return Prompt.of(some, list(range(first, first + count)), width)

    @property
    def firsts(self) -> range:
        """Where batches begin; the questions are a whole number of them."""
        return range(0, len(self.questions), self.batch)

    def run(self, decoder: Decoder, first: int) -> dict[str, Any]:
        """One batch of questions: answers, tokens and passes; the first call compiles."""
        prompt = self.prompt(first, self.batch)
        begun = time.perf_counter()
        result = jax.device_get(decode(decoder, self.seed, prompt))
        seconds = time.perf_counter() - begun
        some = self.questions[first : first + self.batch]
        right = [
            self.task.extract(self.codec.decode(row[:count].tolist())) == example.meta["answer"]
            for row, count, example in zip(result.tokens, result.length, some, strict=True)
        ]
        return {
            "right": right,
            "tokens": result.usage.emitted,
            "passes": result.usage.scorer_passes - self._reads(decoder),
            "seconds": seconds,
            "trace": result.trace,
        }

    def _reads(self, decoder: Decoder) -> int:
        """Passes over the prompt alone: the same for all, and no text that was scored."""
        if isinstance(decoder, AStar | Particles | StepBeams):
            return int(isinstance(decoder.evaluator, ProcessReward))
        return 1

    def all(self, decoder: Decoder) -> list[dict[str, Any]]:
        """Every batch; one whose seconds are those of a compiler too takes the others' mean."""
        parts = [self.run(decoder, first) for first in self.firsts]
        others = parts[1:] or [self.run(decoder, 0)]
        return [parts[0] | {"seconds": np.mean([p["seconds"] for p in others])}, *parts[1:]]

    def share_outside(self, search: AStar) -> dict[str, float]:
        """Of one question's search: nodes a second, and the share of time outside the models.

        The models' time is that of as many calls, of the same shapes, in a loop of their own.
        """
        alone = replace(self, batch=1)
        trace = alone.run(search, 0)["trace"]
        calls, rounds = int(trace.slots[0]) // search.children, int(trace.rounds[0])
        arguments = (search, alone.prompt(0, 1), calls, rounds)
        jax.block_until_ready(_models_alone(*arguments))
        searches, models = [], []
        for _ in range(8):  # by turns, and the best of each: others may be using the machine
            searches.append(alone.run(search, 0)["seconds"])
            begun = time.perf_counter()
            jax.block_until_ready(_models_alone(*arguments))
            models.append(time.perf_counter() - begun)
        seconds = min(searches)
        return {
            "nodes/s": (int(trace.nodes[0]) - 1) / seconds,
            "outside the models, %": 100 * (1 - min(models) / seconds),
        }


@jax.jit
def _models_alone(search: AStar, prompt: Prompt, calls: Any, rounds: Any) -> Any:
    """`calls` tokens of all lanes by the generator, `rounds` pieces of them by the judge."""
    engine, lanes, steps = search.search, search.children, search.steps
    judge = search.evaluator
    assert isinstance(judge, ProcessReward)
    generator = steps.generator
    arena = start(
        steps.model,
        generator.transform,
        prompt,
        steps.max_tokens,
        steps.depth,
        engine.nodes,
        engine.slots,
    )
    state, _ = judge.init(arena)
    width = prompt.tokens.shape[1]

    def call(model: Any, cache: Cache, count: int, at: Any) -> Any:
        slots = jnp.arange(cache.capacity)
        view = View(
            position=jnp.broadcast_to(cache.length[:, None], (1, count)),
            start=width + (at * count) % (engine.slots - count + 1) + jnp.zeros((1,), jnp.int32),
            prefix=cache.length,
            valid=jnp.ones((1, count), bool),
            block=jnp.eye(count, dtype=bool)[None],
            beyond=jnp.broadcast_to(slots % 7 == 0, (1, count, cache.capacity)),
        )
        return model(jnp.full((1, count), 3), cache, view)

    def run(model: Any, cache: Cache, count: int, times: Any) -> Array:
        def body(at, carry):
            output = call(model, carry[0], count, at)
            return output.cache, carry[1] + output.logits.sum()

        return jax.lax.fori_loop(0, times, body, (cache, jnp.zeros(())))[1]

    spoken = run(steps.model, arena.cache, lanes, calls)
    assert state.cache is not None
    return spoken, run(judge.model, state.cache, lanes * steps.width, rounds)
