"""How replies of the dialog task arise: a hidden quality, tones, sentences, words.

A reply is a chain of sentences, each of one of five tones from rude (0) to precise (4). Behind it
stands a hidden quality q that persists and drifts slowly,

    q_1 ~ N(0, 1),    q_{i+1} = a q_i + sqrt(1 - a^2) e_i,    e_i ~ N(0, 1),
    P(tone_i = s | q_i) proportional to exp(-(s - 2 - c q_i)^2 / (2 w^2)),

so the first sentences say much about the later ones, but not everything. Given its tone a sentence
is one of five templates whose slots are filled uniformly. After each sentence the reply may end,
with a chance that grows with the tokens written so far, and surely before it would be too long.

All draws are vectorised over replies: a batch of hundreds costs milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from experiments.tasks import tokenizer
from experiments.tasks.dialogs.words import (
    INTENTS,
    MODIFIERS,
    OBJECTS,
    SLOTS,
    TONES,
    TOPICS,
    vocabulary,
)

WIDTH = max(len(template.split()) for tone in TONES for template in tone)


@dataclass(frozen=True)
class Prompts:
    """Prompts as three columns of indices, [B] each, into intents, modifiers and objects.

    Objects are numbered topic by topic, six to a topic.
    """

    intent: NDArray[np.int64]
    modifier: NDArray[np.int64]
    object: NDArray[np.int64]


@dataclass(frozen=True)
class Grammar:
    """The reply process with its constants; ``typical`` and ``longest`` are lengths in tokens."""

    typical: int = 180
    longest: int = 250
    persistence: float = 0.97  # a
    contrast: float = 1.4  # c, in tones per standard deviation of quality
    spread: float = 0.7  # w, in tones

    def __post_init__(self) -> None:
        if not WIDTH < self.typical <= self.longest - WIDTH:
            raise ValueError(
                f"typical is {self.typical} and longest {self.longest}: pass more than {WIDTH} "
                f"(one sentence) and at least {WIDTH} more than typical"
            )

    @cached_property
    def tokenizer(self) -> tokenizer.TaskTokenizer:
        return tokenizer.words(vocabulary())

    @cached_property
    def topic_of_object(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(TOPICS)), len(OBJECTS) // len(TOPICS))

    @cached_property
    def _slots(self) -> NDArray[np.int64]:
        """The words a slot may hold: [slots, topics, 8], shorter lists repeated by draw range."""
        table = np.zeros((len(SLOTS) + 1, len(TOPICS), 8), np.int64)
        for slot, words in enumerate(SLOTS.values()):
            table[slot] = self.tokenizer.encode(words)
        for topic, (_, parts) in enumerate(TOPICS.values()):
            ids = self.tokenizer.encode(parts)
            table[-1, topic, : len(ids)] = ids
        return table

    @cached_property
    def _options(self) -> NDArray[np.int64]:
        """How many words each slot chooses from: [slots]."""
        parts = len(next(iter(TOPICS.values()))[1].split())
        return np.array([len(words.split()) for words in SLOTS.values()] + [parts])

    @cached_property
    def _templates(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Templates [tones, 5, WIDTH] of word ids (>= 0) or slot codes (< 0), and lengths."""
        names = ["verb", "modifier", "object", *SLOTS, "part"]  # coded -1, -2, -3, -4...
        table = np.zeros((len(TONES), len(TONES[0]), WIDTH), np.int64)
        lengths = np.zeros(table.shape[:2], np.int64)
        for tone, templates in enumerate(TONES):
            for index, template in enumerate(templates):
                words = template.split()
                lengths[tone, index] = len(words)
                table[tone, index, : len(words)] = [
                    -1 - names.index(word[1:-1])
                    if word.startswith("{")
                    else self.tokenizer.encode(word)[0]
                    for word in words
                ]
        return table, lengths

    def qualities(self, rng: np.random.Generator, count: int, sentences: int) -> NDArray:
        """The hidden quality of each sentence: f64[count, sentences]."""
        noise = rng.standard_normal((count, sentences))
        quality = np.empty_like(noise)
        quality[:, 0] = noise[:, 0]
        kick = np.sqrt(1.0 - self.persistence**2)
        for step in range(1, sentences):
            quality[:, step] = self.persistence * quality[:, step - 1] + kick * noise[:, step]
        return quality

    def replies(
        self, rng: np.random.Generator, prompts: Prompts
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """One reply a prompt: ids i32[B, longest] padded with 0, lengths i32[B] (no end token)."""
        count = len(prompts.object)
        table, template_lengths = self._templates
        sentences = self.longest // int(template_lengths.min()) + 1
        quality = self.qualities(rng, count, sentences)
        shape = (count, sentences)
        tone = self._tones(rng.random(shape), quality)
        choice = rng.integers(table.shape[1], size=shape)
        words = self._fill(table[tone, choice], rng.random((*shape, WIDTH)), prompts)
        lengths = template_lengths[tone, choice]

        ends = np.cumsum(lengths, axis=1)
        stops = rng.random(shape) < self.stop_chance(ends)
        last = stops.argmax(axis=1)  # the final chance is 1 well before the last sentence
        starts = ends - lengths
        position = starts[..., None] + np.arange(WIDTH)
        kept = (np.arange(WIDTH) < lengths[..., None]) & (np.arange(sentences) <= last[:, None])[
            ..., None
        ]
        ids = np.zeros((count, self.longest), np.int32)
        row = np.broadcast_to(np.arange(count)[:, None, None], kept.shape)
        ids[row[kept], position[kept]] = words[kept]
        return ids, ends[np.arange(count), last].astype(np.int32)

    def stop_chance(self, written: NDArray) -> NDArray:
        """The chance to end after a sentence that brings the reply to ``written`` tokens."""
        rise = 1.0 / (1.0 + np.exp(-(written - self.typical) / (0.08 * self.typical)))
        chance = 0.01 + 0.49 * rise
        return np.where(written + WIDTH > self.longest, 1.0, chance)

    def prompt_texts(self, prompts: Prompts) -> list[str]:
        """The questions, one a row."""
        asked = list(INTENTS.values())
        columns = (prompts.intent, prompts.modifier, prompts.object)
        return [
            asked[intent].format(modifier=MODIFIERS[modifier], object=OBJECTS[thing])
            for intent, modifier, thing in zip(*(c.tolist() for c in columns), strict=True)
        ]

    def encode_prompts(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Prompt ids i32[B,P], padded with 0 on the right to the longest."""
        rows = self.tokenizer.encode_many(texts)
        ids = np.zeros((len(rows), max(map(len, rows), default=0)), np.int32)
        for target, row in zip(ids, rows, strict=True):
            target[: len(row)] = row
        return ids

    def _tones(self, uniform: NDArray, quality: NDArray) -> NDArray[np.int64]:
        tones = np.arange(len(TONES))
        centre = 2.0 + self.contrast * quality[..., None]
        weight = np.exp(-((tones - centre) ** 2) / (2.0 * self.spread**2)) + 1e-12
        cumulative = np.cumsum(weight, axis=-1)
        return (uniform[..., None] * cumulative[..., -1:] >= cumulative[..., :-1]).sum(-1)

    def _fill(self, codes: NDArray, uniform: NDArray, prompts: Prompts) -> NDArray[np.int64]:
        """Word ids for templates [B,S,WIDTH] of ids and slot codes."""
        encode = self.tokenizer.encode
        verb = np.array(encode(" ".join(INTENTS)))[prompts.intent]
        modifier = np.array(encode(" ".join(MODIFIERS)))[prompts.modifier]
        thing = np.array(encode(" ".join(OBJECTS)))[prompts.object]
        topic = self.topic_of_object[prompts.object][:, None, None]
        slot = np.maximum(-codes - 4, 0)
        pick = (uniform * self._options[slot]).astype(np.int64)
        words = np.where(codes >= 0, codes, self._slots[slot, topic, pick])
        for code, column in ((-1, verb), (-2, modifier), (-3, thing)):
            words = np.where(codes == code, column[:, None, None], words)
        return words
