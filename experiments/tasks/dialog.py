"""Small talk with a known reward: short questions, long replies whose quality shows gradually.

    prompt   how do i fix my old bicycle ?
    target   first check the chain and adjust the pedal for two turns . i am happy to ...

Replies run to about 180 tokens and vary in length; how good one will be can be guessed from its
first words and is known well by its middle. This is the setting of methods that prune, steer or
align by a reward: early rejection (Sun et al. 2024, arXiv 2410.20290) and inference-aware
alignment (Balashankar et al. 2024, arXiv 2412.19792), whose prompts must differ in reward scale:
``scale_span=1`` spreads the scales over two decades.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.tasks import tokenizer
from experiments.tasks.dialogs.grammar import Grammar, Prompts
from experiments.tasks.dialogs.reward import DialogReward
from experiments.tasks.dialogs.words import INTENTS, MODIFIERS, OBJECTS, TONES, fillers
from experiments.tasks.task import SPLITS, Example, Split, check_split, split_of


class Preference(NamedTuple):
    """Two replies to one prompt, the better-liked first, as Bradley-Terry training reads them."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Dialog:
    """The dialog task. ``typical`` and ``longest`` are reply lengths in tokens (words).

    ``world`` seeds the hidden reward; ``sharpness`` is the slope of the preference sigmoid in
    units of reward (a pair of independent replies differs by about 1.1 on average).
    """

    typical: int = 180
    longest: int = 250
    scale_span: float = 0.0
    world: int = 0
    sharpness: float = 4.0

    def __post_init__(self) -> None:
        Grammar(self.typical, self.longest)  # refuses impossible lengths now, not at first use
        if self.scale_span < 0.0 or self.sharpness <= 0.0:
            raise ValueError(
                f"scale_span is {self.scale_span} and sharpness {self.sharpness}: pass a span of "
                "at least 0 and a positive sharpness"
            )

    @property
    def name(self) -> str:
        return "dialog"

    @cached_property
    def grammar(self) -> Grammar:
        return Grammar(self.typical, self.longest)

    @cached_property
    def reward(self) -> DialogReward:
        return DialogReward(self.grammar, self.world, self.scale_span)

    def tokenizer(self) -> tokenizer.TaskTokenizer:
        """One token a word; the same for every setting."""
        return self.grammar.tokenizer

    def prompts(self, split: Split) -> list[str]:
        """Every prompt of a split, in a fixed order."""
        check_split(split)
        return self.grammar.prompt_texts(Prompts(*self._splits[split].T))

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """``meta``: ``reward`` of the target and its ``length`` in tokens."""
        texts, prompts = self._draw_prompts(rng, count, split)
        return self._examples(rng, texts, prompts)

    def replies(self, rng: np.random.Generator, prompt: str, count: int) -> list[Example]:
        """``count`` independent replies of the grammar itself to one prompt of this task."""
        if prompt not in self._by_text:
            raise ValueError(f"prompt {prompt!r} is not of this task: take one from prompts(split)")
        row = np.tile(self._by_text[prompt], (count, 1))
        return self._examples(rng, [prompt] * count, Prompts(*row.T))

    def verify(self, prompt: str, completion: str) -> float:
        """The known reward of the completion."""
        return float(self.rewards([prompt], [completion])[0])

    def extract(self, completion: str) -> str | None:
        """None: a reply has no answer to vote on, whatever ``completion`` says."""
        return None

    def rewards(self, prompts: Sequence[str], completions: Sequence[str]) -> NDArray[np.float64]:
        """The known reward of each completion: f64[B]."""
        rows = self.grammar.tokenizer.encode_many(completions)
        lengths = np.array([len(row) for row in rows], np.int64)
        ids = np.zeros((len(rows), int(lengths.max(initial=0))), np.int32)
        for target, row in zip(ids, rows, strict=True):
            target[: len(row)] = row
        return self.reward(self.grammar.encode_prompts(prompts), ids, lengths)

    def preferences(self, rng: np.random.Generator, count: int, split: Split) -> list[Preference]:
        """Pairs of full replies, the first chosen with P = sigmoid(sharpness (r_1 - r_2))."""
        texts, prompts = self._draw_prompts(rng, count, split)
        first = self._examples(rng, texts, prompts)
        second = self._examples(rng, texts, prompts)
        gap = np.array(
            [a.meta["reward"] - b.meta["reward"] for a, b in zip(first, second, strict=True)]
        )
        wins = rng.random(count) < preference_chance(self.sharpness * gap)
        return [
            Preference(a.prompt, *((a.target, b.target) if win else (b.target, a.target)))
            for a, b, win in zip(first, second, wins, strict=True)
        ]

    def grammatical(self, completion: str) -> float:
        """The share of a completion's sentences that the grammar could have written.

        An unfinished last sentence does not count against it; with no whole sentence, 0.
        """
        sentences = [part.split() for part in completion.split(" .")[:-1]]
        if not sentences:
            return 0.0
        return sum(self._fits(words) for words in sentences) / len(sentences)

    def _fits(self, words: list[str]) -> bool:
        return any(
            len(words) == len(places)
            and all(word in place for word, place in zip(words, places, strict=True))
            for places in self._places
        )

    @cached_property
    def _places(self) -> list[list[frozenset[str]]]:
        """For every template, the words each of its places may hold."""
        filler = fillers()
        return [
            [filler.get(word, frozenset([word])) for word in template.split()[:-1]]
            for tone in TONES
            for template in tone
        ]

    def _draw_prompts(
        self, rng: np.random.Generator, count: int, split: Split
    ) -> tuple[list[str], Prompts]:
        check_split(split)
        rows = self._splits[split]
        prompts = Prompts(*rows[rng.integers(len(rows), size=count)].T)
        return self.grammar.prompt_texts(prompts), prompts

    def _examples(
        self, rng: np.random.Generator, texts: Sequence[str], prompts: Prompts
    ) -> list[Example]:
        ids, lengths = self.grammar.replies(rng, prompts)
        rewards = self.reward(self.grammar.encode_prompts(texts), ids, lengths)
        replies = self.grammar.tokenizer.decode_rows(ids, lengths)
        return [
            Example(text, reply, {"reward": float(reward), "length": int(length)})
            for text, reply, reward, length in zip(texts, replies, rewards, lengths, strict=True)
        ]

    @cached_property
    def _by_text(self) -> dict[str, NDArray[np.int64]]:
        rows = np.array(list(np.ndindex(len(INTENTS), len(MODIFIERS), len(OBJECTS))))
        return dict(zip(self.grammar.prompt_texts(Prompts(*rows.T)), rows, strict=True))

    @cached_property
    def _splits(self) -> dict[Split, NDArray[np.int64]]:
        """The prompts of each split as rows of (intent, modifier, object)."""
        members: dict[Split, list[NDArray[np.int64]]] = {split: [] for split in SPLITS}
        for text, row in self._by_text.items():
            members[split_of(text)].append(row)
        return {split: np.stack(rows) for split, rows in members.items()}


def preference_chance(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logistic function, without overflow."""
    return np.exp(-np.logaddexp(0.0, -logit))
