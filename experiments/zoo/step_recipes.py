"""The process reward model of arithmetic: what it learns from, and its recipe.

The generator answers training questions, several times each, and reference solutions stand beside
ones that go wrong at a step, so that right and wrong go on from one prefix. Every token up to the
end of the first wrong step is labelled by whether what stands so far can still be gone on with to a
right solution. At the end of a step that is the label of a process reward: no step so far is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from flax import nnx

from algorithms.selection.best_of_n import BestOfN
from experiments.tasks.arithmetic import Arithmetic, right_so_far
from experiments.tasks.task import Split
from experiments.tasks.tokenizer import TaskTokenizer
from experiments.zoo import load
from experiments.zoo.recipe import Recipe, held_out
from experiments.zoo.skills.judges import Steps
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Temperature
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import LikelihoodScorer
from jaxdecode.stop import Stop
from jaxdecode.train.steps import correctness
from models.reward_heads import LinearHead
from models.rewards import RewardModel, headless

TASK = Arithmetic()
PROMPT, RESPONSE = 28, 58
QUESTIONS, ANSWERS, SHARES = 64, 8, 16  # of one draw, which serves SHARES steps
MADE = 32  # pairs of a reference solution and one that is wrong from some step on, a step
Rows = dict[str, np.ndarray]


@dataclass(frozen=True)
class Judged:
    """Batches of `jaxdecode.train.steps.correctness`: the generator's own answers, drawn at
    temperature 1, several to a question, and as many made ones."""

    generator: Callable[[], Any]
    split: Split
    seed: int
    _drawn: dict[int, Rows] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, step: int) -> Rows:
        index, share = divmod(step, SHARES)
        if index not in self._drawn:
            self._drawn.clear()
            self._drawn[index] = self.own(index)
        own = {name: values[share::SHARES] for name, values in self._drawn[index].items()}
        return joined(own, made(np.random.default_rng((self.seed, step, 1)), self.split, MADE))

    @cached_property
    def _decoder(self) -> BestOfN:
        stop = Stop.of(TASK.tokenizer().eos_id)
        rules = Generator(
            self.generator(), Temperature(1.0), Categorical(), stop, RESPONSE, cache_growth=2
        )
        return BestOfN(rules, LikelihoodScorer(), ANSWERS)

    def own(self, index: int) -> Rows:
        """The generator's answers of a draw, in random order."""
        codec, rng = TASK.tokenizer(), np.random.default_rng((self.seed, index))
        questions = [example.prompt for example in TASK.sample(rng, QUESTIONS, self.split)]
        prompt = Prompt.of([[codec.bos_id, *codec.encode(q)] for q in questions], width=PROMPT)
        key = jax.random.fold_in(jax.random.key(self.seed), index)
        pool = jax.device_get(decode(self._decoder, key, prompt).trace)
        rows = [
            labelled(codec, question, answer[:count].tolist())
            for question, answers, counts in zip(questions, pool.tokens, pool.length, strict=True)
            for answer, count in zip(answers, counts, strict=True)
        ]
        order = rng.permutation(len(rows))
        return {name: np.stack([rows[i][name] for i in order]) for name in rows[0]}


def made(rng: np.random.Generator, split: Split, count: int) -> Rows:
    """Reference solutions, each beside one that goes wrong at a step and stops behind it."""
    codec, rows = TASK.tokenizer(), []
    for example in TASK.sample(rng, count, split):
        whole = [*codec.encode(example.target), codec.eos_id]
        rows.append(labelled(codec, example.prompt, whole))
        rows.append(labelled(codec, example.prompt, codec.encode(spoiled(rng, example.target))))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def spoiled(rng: np.random.Generator, solution: str) -> str:
    """A solution up to a random step, whose result is another: by one, by ten, or in a digit."""
    lines = solution.split("\n")[:-1]
    at = int(rng.integers(len(lines)))
    left, result = lines[at].split("=")
    value = int(result)
    digit = int(rng.integers(len(str(abs(value)))))
    near = [value + 1, value - 1, value + 10, value - 10]
    near.append(value + int(rng.integers(1, 10)) * 10**digit)
    wrong = near[int(rng.integers(len(near)))]
    return "\n".join([*lines[:at], f"{left}={wrong}"]) + "\n"


def joined(one: Rows, other: Rows) -> Rows:
    return {name: np.concatenate([one[name], other[name]]) for name in one}


def labelled(codec: TaskTokenizer, question: str, answer: list[int]) -> Rows:
    """One row of a batch: begin token, question and answer, with the labels of the answer up to
    the end of its first wrong step."""
    begun = [codec.bos_id, *codec.encode(question)]
    text = "".join(codec.decode([token]) or "?" for token in answer if token != codec.eos_id)
    fine = right_so_far(question, text, ended=answer[-1] == codec.eos_id)
    length, first = len(begun) + len(answer), len(begun)
    width = PROMPT + RESPONSE
    tokens = np.full(width, codec.pad_id, np.int32)
    tokens[:length] = [*begun, *answer]
    place = np.arange(width)
    said = (place >= first) & (place < length)
    right = np.zeros(width, bool)
    right[first:length] = fine
    line = codec.encode("\n")[0]
    ends = said & ((tokens == line) | (tokens == codec.eos_id))
    over = np.cumsum(ends & ~right) - (ends & ~right) > 0
    return {
        "tokens": tokens,
        "right": right,
        "loss_mask": said & ~over,
        "ends": ends,
        "length": np.asarray(length, np.int32),
    }


def tested(generator: Callable[[], Any]) -> Rows:
    """The generator's answers to test questions."""
    judged = Judged(generator, "test", 15)
    parts = [judged.own(index) for index in range(4)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def question_of(tokens: Sequence[int]) -> tuple[int, ...]:
    """The question at the beginning of a row."""
    return tuple(tokens[: list(tokens).index(TASK.tokenizer().encode("=")[0])])


def arithmetic_steps() -> Recipe:
    """Begun from the generator, which can work out what a right step would have been, and goes on
    learning to."""
    loss = partial(correctness, language=1.0)

    def generator() -> Any:
        return load("arithmetic").model

    def create(rngs: nnx.Rngs) -> RewardModel:
        backbone = headless(generator())
        head = LinearHead.create(backbone.config.embed_width, 1, rngs, backbone.config.dtype)
        return RewardModel(backbone, head, "sigmoid")

    return Recipe(
        name="arithmetic-steps",
        kind="reward",
        about="process reward of arithmetic: the probability that no step so far is wrong",
        tokenizer=TASK.tokenizer,
        create=create,
        loss=loss,
        batches=lambda: Judged(generator, "train", 12),
        score=held_out(loss, lambda: Judged(generator, "validation", 13)),
        skills=Steps(lambda: tested(generator), question_of),
        steps=1000,
        peak=2e-3,
        stored="float16",
        target="arithmetic",
    )
