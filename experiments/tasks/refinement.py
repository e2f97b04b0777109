"""Questions with feedback on earlier answers, as text, and examples to learn refining from.

    QUESTION best QUERY scores 7 worst QUERY scores 2 answer QUERY

Scores are shown in tenths, rounded down, so that 10 is said of a perfect answer only. A context
may lack the worst answer, or both; then it is the bare question.
"""

from dataclasses import dataclass

import numpy as np

from experiments.tasks.batches import Batch, pack
from experiments.tasks.sql import Question, Sql, intent
from experiments.tasks.task import Split
from experiments.tasks.tokenizer import TaskTokenizer

Scored = tuple[str, float]
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


@dataclass(frozen=True)
class Refinements:
    """Batches to learn from: the stream's ``step`` -> Batch.

    A third of the rows are bare questions, a third show a best answer, a third a worst one too.
    The answers shown are the best and the worst of a few guesses by the odds, or near misses; the
    completion is always the query meant. It cannot be copied from the context, which only makes
    some queries likelier than others.
    """

    task: Sql
    codec: TaskTokenizer
    rows: int
    width: int
    seed: int
    split: Split = "train"
    most: int = 8  # guesses

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step))
        examples = self.task.sample(rng, self.rows, self.split)
        pairs = [(self.context(rng, example.prompt), example.target) for example in examples]
        return pack(self.codec, pairs, (self.width,))

    def context(self, rng: np.random.Generator, prompt: str) -> str:
        """A question with feedback on random guesses, or without."""
        kind = int(rng.integers(3))
        if kind == 0:
            return review(prompt)
        question, anew = Question.parse(prompt), _NEAR if rng.random() < 0.5 else 1.0
        texts = [
            question.query(
                [
                    drawn if rng.random() < anew else right
                    for drawn, right in zip(question.draw(rng), intent(prompt), strict=True)
                ]
            )
            for _ in range(int(rng.integers(1, self.most + 1)))
        ]
        scores = [self.task.verify(prompt, text) for text in texts]
        order = np.argsort(scores, kind="stable")
        best, worst = ((texts[i], scores[i]) for i in (order[-1], order[0]))
        return review(prompt, best, worst if kind == 2 and len(set(texts)) > 1 else None)
