"""The process reward model of arithmetic: what it learns from, and its recipe.

The generator answers training questions, several times each; every token of an answer is
labelled by whether what stands so far can still be gone on with to a right solution. At the end
of a step that is the label of a process reward: no step so far is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
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
QUESTIONS, ANSWERS, SHARES = 128, 4, 8  # of one draw, which serves SHARES steps


def judged(
    generator: Callable[[], Any], split: Split, seed: int
) -> Callable[[int], dict[str, np.ndarray]]:
    """Batches of `jaxdecode.train.steps.correctness`, answers drawn at temperature 1."""
    codec = TASK.tokenizer()

    @cache
    def decoder() -> BestOfN:
        stop = Stop.of(codec.eos_id)
        rules = Generator(
            generator(), Temperature(1.0), Categorical(), stop, RESPONSE, cache_growth=2
        )
        return BestOfN(rules, LikelihoodScorer(), ANSWERS)

    drawn: dict[int, dict[str, np.ndarray]] = {}

    def draw(index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((seed, index))
        questions = [example.prompt for example in TASK.sample(rng, QUESTIONS, split)]
        prompt = Prompt.of([[codec.bos_id, *codec.encode(q)] for q in questions], width=PROMPT)
        key = jax.random.fold_in(jax.random.key(seed), index)
        pool = jax.device_get(decode(decoder(), key, prompt).trace)
        rows = [
            labelled(codec, question, answer[:count].tolist())
            for question, answers, counts in zip(questions, pool.tokens, pool.length, strict=True)
            for answer, count in zip(answers, counts, strict=True)
        ]
        batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        order = rng.permutation(len(rows))
        return {name: values[order] for name, values in batch.items()}

    def batch(step: int) -> dict[str, np.ndarray]:
        index, share = divmod(step, SHARES)
        if index not in drawn:
            drawn.clear()
            drawn[index] = draw(index)
        return {name: values[share::SHARES] for name, values in drawn[index].items()}

    return batch


def labelled(codec: TaskTokenizer, question: str, answer: list[int]) -> dict[str, np.ndarray]:
    """One row of a batch: begin token, question and answer, with the labels of the answer."""
    begun = [codec.bos_id, *codec.encode(question)]
    text = "".join(codec.decode([token]) or "?" for token in answer if token != codec.eos_id)
    fine = right_so_far(question, text, ended=answer[-1] == codec.eos_id)
    length, first = len(begun) + len(answer), len(begun)
    width = PROMPT + RESPONSE
    tokens = np.full(width, codec.pad_id, np.int32)
    tokens[:length] = [*begun, *answer]
    place = np.arange(width)
    mask = (place >= first) & (place < length)
    right = np.zeros(width, bool)
    right[first:length] = fine
    line = codec.encode("\n")[0]
    ends = mask & ((tokens == line) | (tokens == codec.eos_id))
    return {
        "tokens": tokens,
        "right": right,
        "loss_mask": mask,
        "ends": ends,
        "length": np.asarray(length, np.int32),
    }


def tested(generator: Callable[[], Any]) -> dict[str, np.ndarray]:
    """A draw of answers to test questions, whole."""
    batches = judged(generator, "test", 15)
    parts = [batches(step) for step in range(SHARES)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def question_of(tokens: Sequence[int]) -> tuple[int, ...]:
    """The question at the beginning of a row."""
    return tuple(tokens[: list(tokens).index(TASK.tokenizer().encode("=")[0])])


def arithmetic_steps() -> Recipe:
    """Begun from the generator, which can work out what a right step would have been."""

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
        loss=correctness,
        batches=lambda: judged(generator, "train", 12),
        score=held_out(correctness, lambda: judged(generator, "validation", 13)),
        skills=Steps(lambda: tested(generator), question_of),
        steps=400,
        peak=1e-3,
        stored="float16",
        target="arithmetic",
    )
