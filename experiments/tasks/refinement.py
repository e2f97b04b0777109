"""Questions with feedback on earlier answers, as text, and examples to learn refining from.

    QUESTION best ANSWER scores 7 worst ANSWER scores 2 answer ANSWER

Scores are shown in tenths, rounded down, so that 10 is said of a perfect answer only. A context
may lack the worst answer, or both; then it is the bare question.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.tasks.programs import near_miss
from experiments.tasks.sql import Question, intent
from experiments.tasks.task import Example, Split, Task

Scored = tuple[str, float]
Guess = Callable[[np.random.Generator, Example, float], str]
_NEAR = 0.3  # how often a part of a near miss is drawn anew


def review(prompt: str, best: Scored | None = None, worst: Scored | None = None) -> str:
    """A question and the answers to do better than, each with its score."""
    shown = [
        f"{name} {text} scores {tenths(score)}"
        for name, given in (("best", best), ("worst", worst))
        if given is not None
        for text, score in [given]
    ]
    return " ".join([prompt, *shown, "answer"]) if shown else prompt


def tenths(score: float) -> int:
    """0..10; what lies outside 0..1 is shown as the nearest of these."""
    return int(np.floor(10 * min(max(score, 0.0), 1.0) + 1e-9))


def guess_query(rng: np.random.Generator, example: Example, anew: float) -> str:
    """A query of which each part is drawn by the odds with a chance of `anew`, else meant."""
    question = Question.parse(example.prompt)
    drawn = question.draw(rng)
    parts = zip(drawn, intent(example.prompt), strict=True)
    return question.query([some if rng.random() < anew else right for some, right in parts])


def guess_program(rng: np.random.Generator, example: Example, anew: float) -> str:
    """A program that is the reference but for the steps that are drawn anew."""
    return near_miss(rng, example.target, anew)


@dataclass(frozen=True)
class Refinements:
    """A task with feedback: a third of its prompts are bare questions, the others show answers.

    Half of the others show a best answer, half a worst one too. The answers shown are the best
    and the worst of a few guesses, some random, some near misses; the target is always the
    reference. It cannot be copied from the context, which only makes some answers likelier than
    others.

    Attributes:
      task: the bare questions.
      guess: (rng, example, chance of every part to be drawn anew) -> an answer.
      most: guesses of which two are shown.
    """

    task: Task
    guess: Guess
    most: int = 8

    @property
    def name(self) -> str:
        return f"{self.task.name} refined"

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """``meta``: that of the task, and ``question``, the bare prompt."""
        return [
            Example(
                self.context(rng, example),
                example.target,
                {**example.meta, "question": example.prompt},
            )
            for example in self.task.sample(rng, count, split)
        ]

    def verify(self, prompt: str, completion: str) -> float:
        """The task's, of the question that the prompt begins with."""
        return self.task.verify(prompt.split(" best ")[0], completion)

    def extract(self, completion: str) -> str | None:
        return self.task.extract(completion)

    def context(self, rng: np.random.Generator, example: Example) -> str:
        """A question with feedback on random guesses, or without."""
        kind, prompt = int(rng.integers(3)), example.prompt
        if kind == 0:
            return review(prompt)
        anew = _NEAR if rng.random() < 0.5 else 1.0
        count = int(rng.integers(1, self.most + 1))
        texts = [self.guess(rng, example, anew) for _ in range(count)]
        scores = [self.task.verify(prompt, text) for text in texts]
        order = np.argsort(scores, kind="stable")
        best, worst = ((texts[i], scores[i]) for i in (order[-1], order[0]))
        return review(prompt, best, worst if kind == 2 and len(set(texts)) > 1 else None)
