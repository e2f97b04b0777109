"""Right answers by kind of question, beside the answer to another question of the kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from experiments.tasks.task import Example, Task
from experiments.tasks.tokenizer import TaskTokenizer
from experiments.zoo.skills.skill import Skill, Skills
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Expander
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop

Rules = Callable[[Any], Expander]


def written(codec: TaskTokenizer, most: int) -> Rules:
    """Rows that go on by their likeliest tokens, at most so many."""
    stop = Stop.of(codec.eos_id)
    return lambda model: Generator(model, Identity(), Greedy(), stop, most)


def counted(name: str, unit: str) -> Callable[[Example], str]:
    """The kind of a question whose meta has a number of something: "operations: 3"."""
    return lambda example: f"{unit}: {example.meta[name]}"


@dataclass(frozen=True)
class Answers:
    """Test questions that a model answers by its likeliest tokens.

    The baseline answers a question as the next one of its kind should be answered: it knows what
    answers look like, and nothing of what is asked.

    Attributes:
      task: draws the questions and says what is right.
      kind: of a question.
      codec: of the model.
      rules: model -> how its rows go on.
      drawn: questions.
      seed: of the draw.
    """

    task: Task
    kind: Callable[[Example], str]
    codec: TaskTokenizer
    rules: Rules
    drawn: int = 240
    seed: int = 41

    def __call__(self, model: Any) -> Skills:
        asked = self.task.sample(np.random.default_rng(self.seed), self.drawn, "test")
        kinds: dict[str, list[tuple[Example, str]]] = {}
        for example, text in zip(asked, self._texts(model, asked), strict=True):
            kinds.setdefault(self.kind(example), []).append((example, text))
        of = {}
        for kind, answered in sorted(kinds.items()):
            others = [*answered[1:], *answered[:1]]
            right = [self.task.verify(example.prompt, text) for example, text in answered]
            blind = [
                self.task.verify(example.prompt, other.target)
                for (example, _), (other, _) in zip(answered, others, strict=True)
            ]
            of[kind] = Skill(float(np.mean(right)), float(np.mean(blind)), len(answered))
        return Skills("share of right answers", "the answer to another question of the kind", of)

    def _texts(self, model: Any, examples: Sequence[Example]) -> list[str]:
        codec = self.codec
        rows = codec.encode_many([example.prompt for example in examples])
        prompt = Prompt.of([[codec.bos_id, *ids] for ids in rows])
        decoder = Autoregressive(self.rules(model))
        result = jax.device_get(decode(decoder, jax.random.key(self.seed), prompt))
        return codec.decode_rows(result.tokens, result.length)
