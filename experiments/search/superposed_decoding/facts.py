"""Facts completed by superposed decoding: is the answer among the drafts of one pass a token?

A fact is the result of one operation, in the place it has in a solution: everything before its
"=" is given and right, the number is to be completed. What was trained for a while knows some
of these and not others, as a language model knows some answers to short questions. As published
the n-grams are left out; drafts end with the line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from algorithms.search.beam_search import BeamSearch
from algorithms.search.superposed_decoding import SuperposedDecoding
from algorithms.selection.best_of_n import BestOfN
from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import points
from experiments.inputs.sources import Source
from experiments.search.superposed_decoding.setting import COOLED, NUCLEUS
from experiments.tasks.arithmetic import Arithmetic
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder, decode
from jaxdecode.logits import Identity, Temperature, TopP, chain
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import LikelihoodScorer
from jaxdecode.stop import Stop

LONGEST = 4  # tokens of a number and its line break
LEAST = -1.0  # points that the first draft may be behind greedy search and count as no worse


@dataclass(frozen=True)
class Facts:
    """Unfinished solutions and the numbers that complete their last lines."""

    given: Sequence[str]
    answers: Sequence[str]

    @classmethod
    def of(cls, count: int, seed: int) -> Facts:
        task, rng = Arithmetic((2, 4)), np.random.default_rng(seed)
        given, answers = [], []
        for example in task.sample(rng, count, "test"):
            lines = example.target.split("\n")[:-1]
            left, answer = lines[-1].split("=")
            given.append(example.prompt + "".join(f"{line}\n" for line in lines[:-1]) + left + "=")
            answers.append(answer)
        return cls(given, answers)


@dataclass(frozen=True)
class Knower:
    """A model that completes facts, `batch` at a time.

    Attributes:
      drafts: k, of every method.
    """

    source: Source
    facts: Facts
    drafts: int
    batch: int
    seed: int

    def generator(self, drawn: bool = False) -> Generator:
        codec = self.source.codec
        return Generator(
            self.source.model,
            chain(Temperature(COOLED), TopP(NUCLEUS)) if drawn else Identity(),
            Categorical() if drawn else Greedy(),
            Stop.of([*codec.text.eos, *codec.piece("\n")]),
            LONGEST,
        )

    @cached_property
    def prompts(self) -> list[list[int]]:
        return [self.source.codec.prompt(text) for text in self.facts.given]

    def superposed(self, temperature: float) -> Decoder:
        return SuperposedDecoding(
            self.generator(), self.drafts, 3 * self.drafts, 0.0, temperature, rescored=False
        )

    @property
    def methods(self) -> dict[str, Callable[[], Decoder]]:
        """The others."""
        drawn = self.generator(drawn=True)
        return {
            "greedy": lambda: BeamSearch(self.generator(), 1),
            "beam search": lambda: BeamSearch(self.generator(), self.drafts),
            "nucleus": lambda: BestOfN(drawn, LikelihoodScorer(drawn.model), self.drafts),
        }

    def right(self, decoder: Decoder, rows: range) -> NDArray[np.bool_]:
        """Whether each place of each list has the answer, bool[N, K]."""
        width, found = max(map(len, self.prompts)), []
        for first in rows[:: self.batch]:
            ids = [min(first + i, rows[-1]) for i in range(self.batch)]
            prompt = Prompt.of([self.prompts[i] for i in ids], ids, width)
            trace = jax.device_get(decode(decoder, self.seed, prompt)).trace
            for i, texts, lengths in zip(ids, trace.tokens, trace.length, strict=True):
                pairs = zip(texts, lengths, strict=True)
                said = [self.source.codec.decode(text[:n].tolist()).strip() for text, n in pairs]
                found.append([text == self.facts.answers[i] for text in said])
        return np.array(found)[: len(rows)]

    def measure(self, temperatures: Sequence[float]) -> dict[str, Any]:
        """Every method on the second half; the temperature is chosen on the first."""
        half = len(self.prompts) // 2
        known, asked = range(half), range(half, len(self.prompts))
        tried = [self.right(self.superposed(t), known).any(axis=1).mean() for t in temperatures]
        chosen = temperatures[int(np.argmax(tried))]
        methods = {"superposed": partial(self.superposed, chosen)} | self.methods
        found = {name: self.right(make(), asked) for name, make in methods.items()}
        return {"temperature": chosen, "right": found}


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """P@k of every method, in percent."""
    table = []
    for name, right in found["right"].items():
        right = np.asarray(right)
        at = np.logical_or.accumulate(right, axis=1).mean(axis=0)
        row: dict[str, Any] = {"method": f"facts, {name}"}
        table.append(row | {f"P@{k}, %": 100 * float(x) for k, x in enumerate(at, 1)})
    table[0]["temperature"] = found["temperature"]
    return table


def claims(found: dict[str, Any]) -> list[Claim]:
    """The paper's on questions, by rules fixed before measuring."""
    right = {name: np.asarray(one, float) for name, one in found["right"].items()}
    own, greedy = right["superposed"], right["greedy"][:, 0]
    stated = []
    for claim, paper, one, least in (
        (
            f"the answer is among {own.shape[1]} drafts more often than greedy search gives it",
            "58.18 against 55.46 % (TriviaQA), 20.33 against 18.39 % (Natural Questions)",
            own.max(axis=1),
            0.0,
        ),
        (
            "the first draft answers no worse than greedy search",
            "55.42 against 55.46 %, 18.06 against 18.39 %",
            own[:, 0],
            LEAST,
        ),
    ):
        values = f"{100 * one.mean():.2f} against {100 * greedy.mean():.2f} %"
        gain = points(one, greedy)
        stated.append(Claim.tested(claim, paper, above(gain, f"{least} points"), measured=values))
    return stated
