"""The methods of the tour on a real model: questions, sums, an instruction, a rewriting."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.search.beam_search import BeamSearch
from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.self_certainty import SelfCertainty
from algorithms.selection.speculative_rejection import SpeculativeRejection
from algorithms.speculative.prompt_lookup import prompt_lookup
from experiments.inputs.sources import Source
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder
from jaxdecode.logits import Identity, Temperature
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.voting import borda, majority
from models.judging import function_judge

QUESTIONS = (
    "What is the capital of France?",
    "Why is the sky blue? Answer in one sentence.",
    "Write a haiku about the sea.",
    "Give me three names for a cat.",
)
TASK = "Describe the {} in one sentence of twelve words."
THINGS = ("sea", "moon", "forest", "rain")
PASSAGE = (
    "The old lighthouse stands on a rocky cliff above the harbour. Every evening the keeper climbs "
    "the narrow stairs, lights the lamp and watches the boats come home. In winter the waves reach "
    "the door, and the keeper sleeps beside the lamp with his coat on."
)
REWRITE = "Copy this text, and replace the word keeper by the word captain:\n\n" + PASSAGE


@dataclass(frozen=True)
class Course:
    """How much is shown.

    Attributes:
      answer_tokens: of each answer to `QUESTIONS`.
      sums, samples, sum_tokens: questions, responses to each, and tokens of a response.
      things, drawn, width, sentence_tokens: instructions, N of best-of-N, responses that
        speculative rejection begins with, and tokens of a sentence.
      rewritten: tokens of the rewriting.
      turns: how often plain and drafted decoding take turns at it.
      temperature: of whatever is drawn.
    """

    answer_tokens: int = 40
    sums: int = 24
    samples: int = 8
    sum_tokens: int = 20
    things: int = 4
    drawn: int = 8
    width: int = 16
    sentence_tokens: int = 32
    rewritten: int = 96
    turns: int = 3
    temperature: float = 0.7


@dataclass(frozen=True)
class Run:
    """One method on all prompts of a task.

    Attributes:
      texts: what it returned, one for each prompt.
      tokens, judged, passes: means a prompt, those of dropped responses included.
      seconds, compiling: of all prompts together.
      result: everything.
    """

    method: str
    texts: list[str]
    tokens: float
    judged: float
    passes: float
    seconds: float
    compiling: float
    result: Result


by_majority, by_ranks = jax.jit(jax.vmap(majority)), jax.jit(jax.vmap(borda, (0, 0, None)))


@jax.jit
def _counted(decoder: Decoder, key: jax.Array, prompt: Prompt) -> Result:
    return decoder(key, prompt)


@dataclass(frozen=True)
class Tour:
    """A model on its way through the tasks; `told` hears of every method that is done."""

    source: Source
    course: Course
    seed: int
    told: Callable[[str], None]

    def generator(self, tokens: int, drawn: bool = True) -> Generator:
        warm = Temperature(self.course.temperature) if drawn else Identity()
        sampler = Categorical() if drawn else Greedy()
        return Generator(self.source.model, warm, sampler, self.source.codec.stop(), tokens)

    def prompt(self, texts: Sequence[str]) -> Prompt:
        chats = [[{"role": "user", "content": text}] for text in texts]
        return Prompt.of([self.source.codec.prompt(chat) for chat in chats])

    def timed(self, method: str, decoder: Decoder, prompt: Prompt) -> Run:
        """Compile, then run and time."""
        decoder.check(prompt)
        key = jax.random.key(self.seed)
        start = time.perf_counter()
        program = _counted.lower(decoder, key, prompt).compile()
        compiled = time.perf_counter()
        result = jax.block_until_ready(program(decoder, key, prompt))
        ended = time.perf_counter()
        result = jax.device_get(result)
        rows = zip(result.tokens, result.length, strict=True)
        texts = [self.source.codec.decode(row[:length].tolist()) for row, length in rows]
        usage = result.usage
        self.told(method)
        return Run(
            method,
            texts,
            float(usage.emitted.mean()),
            float(usage.scorer_tokens.mean()),
            float(usage.target_passes.mean()),
            ended - compiled,
            compiled - start,
            result,
        )

    def questions(self) -> Run:
        greedy = Autoregressive(self.generator(self.course.answer_tokens, drawn=False))
        return self.timed("greedy", greedy, self.prompt(QUESTIONS))

    def sums(self) -> tuple[list[tuple[int, int]], list[Run]]:
        """Sums of two digits, by search, by certainty and by votes."""
        course = self.course
        every = [(a, b) for a in range(2, 10) for b in range(2, 10)]
        chosen = np.random.default_rng(self.seed).permutation(len(every))[: course.sums]
        pairs = [every[int(index)] for index in chosen]
        prompt = self.prompt([f"What is {a} + {b}?" for a, b in pairs])
        likely = self.generator(course.sum_tokens, drawn=False)
        many = SelfCertainty(self.generator(course.sum_tokens), course.samples)
        runs = [
            self.timed("beam search, 4 beams", BeamSearch(likely, 4), prompt),
            self.timed(f"most certain of {course.samples}", many, prompt),
        ]
        return pairs, [*self.samples_of(runs[-1]), *runs]

    def samples_of(self, run: Run) -> list[Run]:
        """One sample of each pool, and its votes: the same draws, so that they cost no pass."""
        pool = run.result.trace
        texts = [
            [self.source.codec.decode(row[:n].tolist()) for row, n in zip(rows, ns, strict=True)]
            for rows, ns in zip(pool.tokens, pool.length, strict=True)
        ]
        found = [[number(text) for text in some] for some in texts]
        answers = jnp.asarray([[-1 if n is None else n for n in some] for some in found])
        chosen = {
            "one sample": np.zeros(len(texts), int),
            f"majority of {self.course.samples}": by_majority(answers, pool.score),
            f"Borda vote of {self.course.samples}": by_ranks(answers, pool.score, 0.5),
        }
        share = {"one sample": 1 / self.course.samples}
        return [
            replace(
                run,
                method=method,
                texts=[some[int(k)] for some, k in zip(texts, index, strict=True)],
                tokens=run.tokens * share.get(method, 1.0),
                passes=run.passes * share.get(method, 1.0),
                seconds=float("nan"),
                compiling=0.0,
            )
            for method, index in chosen.items()
        ]

    def sentences(self) -> list[Run]:
        """One instruction, judged by `twelve_words`."""
        course = self.course
        prompt = self.prompt([TASK.format(thing) for thing in THINGS[: course.things]])
        judge = function_judge(twelve_words, self.source.codec.text)
        generator = self.generator(course.sentence_tokens)
        room = prompt.tokens.shape[1] + course.sentence_tokens // 3
        return [
            self.timed("one sample", BestOfN(generator, judge, 1), prompt),
            self.timed(f"best of {course.drawn}", BestOfN(generator, judge, course.drawn), prompt),
            self.timed(
                f"speculative rejection from {course.width}",
                SpeculativeRejection(generator, judge, course.width * room, course.width),
                prompt,
            ),
        ]

    def rewriting(self) -> list[Run]:
        """One text, plain and drafted from the prompt."""
        generator = self.generator(self.course.rewritten, drawn=False)
        prompt = self.prompt([REWRITE])
        decoders = {
            "plain decoding": Autoregressive(generator),
            "prompt lookup": Autoregressive(prompt_lookup(generator)),
        }
        # In turns, and the best of them: another program's slow spell hits both alike.
        laps = [
            {name: self.timed(name, decoder, prompt) for name, decoder in decoders.items()}
            for _ in range(self.course.turns)
        ]
        return [
            replace(laps[0][name], seconds=min(lap[name].seconds for lap in laps))
            for name in decoders
        ]


def number(text: str) -> int | None:
    """What a response says the sum is: its last whole number."""
    found = re.findall(r"\d{1,6}", text)
    return int(found[-1]) if found else None


def twelve_words(prompt: str, text: str) -> float:
    """1 for a sentence of exactly twelve words, less for each too many or too few, and nothing
    for what is not one sentence."""
    whole = text.strip()
    if len(re.findall(r"[.!?](?:\s|$)", whole)) != 1 or not whole.endswith((".", "!", "?")):
        return 0.0
    return max(0.0, 1.0 - abs(len(whole.split()) - 12) / 12)


def kept(run: Run) -> Any:
    """The tokens that a run returned for its first prompt."""
    return run.result.tokens[0, : run.result.length[0]].tolist()
