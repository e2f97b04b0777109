"""Words to a sentence: given some words, a grammatical sentence that has them all.

    prompt   sentence river see dogs :
    target   the dogs see a small cat near this river

The stand-in for ParallelBench's text writing (arXiv 2510.04767), whose grammar is judged by
LanguageTool: here a grammar of three frames with agreement of determiner and noun, and of subject
and verb, so that a parse is exact and cannot pass everything.

    sentence    NP verb NP | NP preposition NP verb NP | NP verb NP preposition NP
    NP          determiner [adjective] noun

A sentence is drawn first and the words are taken from it; the target is thus one draw of the law
of sentences given the words. How hard a question is, is told by `placements`: in how many ways
the words can stand in a frame, every one of which fixes the roles of all of them.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.tasks import tokenizer
from experiments.tasks.task import Example, Split, check_split, split_of

NAME, END = "sentence", ":"
_NOUNS = ["dog", "cat", "bird", "farmer", "teacher", "river", "garden", "house", "road", "bridge"]
_VERBS = ["see", "find", "like", "paint", "follow"]
# One letter a class: determiners of one, of several and of both; nouns and verbs of one (small)
# and of several (capital); adjectives; prepositions.
LEXICON: dict[str, str] = {
    **dict.fromkeys(("a", "this"), "s"),
    **dict.fromkeys(("some", "these"), "p"),
    "the": "b",
    **dict.fromkeys(_NOUNS, "n"),
    **{noun + "s": "N" for noun in _NOUNS},
    **{verb + "s": "v" for verb in _VERBS},
    **dict.fromkeys(_VERBS, "V"),
    **dict.fromkeys(["small", "old", "quiet", "red", "happy"], "a"),
    **dict.fromkeys(["near", "behind", "beside"], "r"),
}
_ONE, _SEVERAL = "[sb]a?n", "[pb]a?N"
_NP = f"(?:{_ONE}|{_SEVERAL})"
_GRAMMAR = re.compile(
    "|".join(
        f"{np_}(?:r{_NP}{verb}{_NP}|{verb}{_NP}(?:r{_NP})?)"
        for np_, verb in ((_ONE, "v"), (_SEVERAL, "V"))
    )
)
LEVELS = {"easy": (1, 9), "medium": (10, 25), "hard": (26, 10**9)}
"""Placements, fewest and most."""


@dataclass(frozen=True)
class Sentences:
    """Questions of `given` (fewest, most) words of the open classes."""

    given: tuple[int, int] = (2, 4)
    levels: tuple[str, ...] = tuple(LEVELS)

    def __post_init__(self) -> None:
        fewest, most = self.given
        if not 1 <= fewest <= most <= 4:
            raise ValueError(f"given is {self.given}: pass 1 <= fewest <= most <= 4")
        if not self.levels or not set(self.levels) <= set(LEVELS):
            raise ValueError(f"levels is {self.levels}: pass some of {', '.join(LEVELS)}")

    @property
    def name(self) -> str:
        return NAME

    def words(self) -> tuple[str, ...]:
        return (NAME, END, *LEXICON)

    def tokenizer(self) -> tokenizer.TaskTokenizer:
        return tokenizer.words(self.words())

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """``meta``: ``level``, ``placements``."""
        check_split(split)
        examples = []
        while len(examples) < count:
            said = sentence(rng)
            content = list(dict.fromkeys(word for word in said if LEXICON[word] in "nNvVa"))
            number = int(rng.integers(self.given[0], self.given[1] + 1))
            words = [content[i] for i in rng.permutation(len(content))[:number]]
            prompt = " ".join([NAME, *words, END])
            ways = placements(words)
            level = next(name for name, (least, most) in LEVELS.items() if least <= ways <= most)
            if level in self.levels and split_of(prompt) == split:
                meta = {"level": level, "placements": ways}
                examples.append(Example(prompt, " ".join(said), meta))
        return examples

    def verify(self, prompt: str, completion: str) -> float:
        """1 where the text is a sentence of the grammar and has every word of the prompt."""
        said = completion.split()
        return float(parses(said) and set(prompt.split()[1:-1]) <= set(said))

    def extract(self, completion: str) -> str | None:
        return completion if parses(completion.split()) else None


def parses(words: Sequence[str]) -> bool:
    """Whether the grammar makes this sentence."""
    classes = [LEXICON.get(word) for word in words]
    return None not in classes and bool(_GRAMMAR.fullmatch("".join(map(str, classes))))


def sentence(rng: np.random.Generator) -> list[str]:
    """A random one: frame, numbers, adjectives and words all drawn evenly."""
    forms = skeletons()
    return [_word(rng, kind) for kind in forms[int(rng.integers(len(forms)))]]


def _word(rng: np.random.Generator, kind: str) -> str:
    choices = by_class()[kind]
    return choices[int(rng.integers(len(choices)))]


@functools.cache
def by_class() -> dict[str, tuple[str, ...]]:
    """The words of a class; of d and D, the determiners that one and several things take."""
    table = {kind: tuple(w for w, k in LEXICON.items() if k == kind) for kind in "nNvVar"}
    table["d"] = tuple(word for word, kind in LEXICON.items() if kind in "sb")
    table["D"] = tuple(word for word, kind in LEXICON.items() if kind in "pb")
    return table


@functools.cache
def skeletons() -> tuple[str, ...]:
    """Every sequence of classes: frame, number and adjective of each NP."""
    phrases = ("dn", "dan", "DN", "DaN")
    found = []
    for count, frame in ((2, "0v1"), (3, "0r1v2"), (3, "0v1r2")):
        for chosen in itertools.product(phrases, repeat=count):
            verb = "v" if chosen[0].endswith("n") else "V"
            text = frame.replace("v", verb)
            for place, phrase in enumerate(chosen):
                text = text.replace(str(place), phrase)
            found.append(text)
    return tuple(found)


def placements(words: Sequence[str]) -> int:
    """In how many ways the words can stand in the frames.

    Words are told apart; determiners, and adjectives that nobody gave, make no other way.
    """
    return _placements("".join(sorted(LEXICON[word] for word in words)))


@functools.cache
def _placements(kinds: str) -> int:
    found = set()
    for form in skeletons():
        phrase = np.cumsum([letter in "dD" for letter in form]).tolist()
        places = list(zip(form, phrase, strict=True))
        frame = re.sub("[dDa]", "", form).lower()
        options = [[place for place in places if place[0] == kind] for kind in kinds]
        for chosen in itertools.product(*options):
            if len(set(chosen)) == len(chosen):
                found.add((frame, chosen))
    return len(found)
