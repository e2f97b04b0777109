"""Selecting among responses that were drawn once: what every rule makes of every number of them.

A pool is Q questions with M responses each. A rule is judged on subsets of the responses, the
same subsets for every rule, so that rules differ by what they choose and by nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial
from numpy.typing import NDArray

from experiments.harness.statistics import Floats
from jaxdecode.types import Array, Float, Int


@dataclass(frozen=True)
class ResponsePool:
    """Responses, what they answer and how they score.

    Attributes:
      answers: i32[Q, M], one number for every distinct answer of a question, -1 for none.
      right: bool[Q, M], whether the answer is the correct one.
      length: i32[Q, M], tokens of text.
      scores: measure -> f32[Q, M]; NaN where a response has none.
      greedy: bool[Q], whether the greedy response is right.
      level: i32[Q], difficulty; 0 where the task has none.
    """

    answers: NDArray[np.int32]
    right: NDArray[np.bool_]
    length: NDArray[np.int32]
    scores: Mapping[str, NDArray[np.float32]]
    greedy: NDArray[np.bool_]
    level: NDArray[np.int32]

    @classmethod
    def of(cls, questions: Sequence[Mapping[str, Any]]) -> ResponsePool:
        """From one record a question: answers and references as text, None for no answer."""
        answers, right = [], []
        for question in questions:
            seen: dict[str | None, int] = {None: -1}
            given = question["answers"]
            answers.append([seen.setdefault(answer, len(seen) - 1) for answer in given])
            right.append([answer == question["reference"] for answer in given])
        return cls(
            answers=np.array(answers, np.int32),
            right=np.array(right),
            length=np.array([question["length"] for question in questions], np.int32),
            scores={
                name: np.array([question["scores"][name] for question in questions], np.float32)
                for name in questions[0]["scores"]
            },
            greedy=np.array([q["greedy"] == q["reference"] for q in questions]),
            level=np.array([question["level"] for question in questions], np.int32),
        )

    def subsets(self, size: int, repetitions: int, seed: int) -> NDArray[np.int32]:
        """i32[X, Q, size]: random subsets in random order."""
        rng = np.random.default_rng((seed, size))
        drawn = rng.random((repetitions, *self.answers.shape)).argsort(axis=2)
        return drawn[:, :, :size].astype(np.int32)

    def accuracy(
        self, rule: Partial, score: NDArray[np.float32], subsets: NDArray[np.int32]
    ) -> Floats:
        """f64[Q]: how often the response that `rule` chooses is right, over the subsets.

        `rule` maps (answers, confidences) to an index, see `jaxdecode.voting`.
        """
        chosen = _choose(rule, self.answers, score, subsets)
        return _pick(self.right, np.asarray(chosen)).mean(axis=0)

    def oracle(self, subsets: NDArray[np.int32]) -> Floats:
        """f64[Q]: how often some response of the subset is right."""
        rows = np.arange(len(self.right))[:, None]
        return self.right[rows, subsets].any(axis=2).mean(axis=0)


@jax.jit
def _choose(
    rule: Partial, answers: Int[Array, "Q M"], score: Float[Array, "Q M"], subsets: Array
) -> Int[Array, "X Q"]:
    """The chosen response of each subset; subsets one after the other, to bound memory."""

    def question(answers: Array, score: Array, subset: Array) -> Array:
        return subset[rule(answers[subset], score[subset])]

    return jax.lax.map(lambda subset: jax.vmap(question)(answers, score, subset), subsets)


def _pick(values: NDArray[Any], index: NDArray[np.int32]) -> NDArray[Any]:
    """values[q, index[x, q]]."""
    return values[np.arange(len(values)), index]
