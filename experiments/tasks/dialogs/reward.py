"""The known reward of the dialog task: a dense, exactly computable function of prompt and text.

Every token of a reply has a value

    v_t = u[topic, w_t] + bonus 1{w_t is the object asked about} - 1{other object}
          - repeat 1{w_t is a content word already said within the last 12 tokens}

with hidden utilities u[topic, word] = tone(word) + g(word) + h(topic, word), g and h normal. The
reward of the first m tokens is the damped mean

    r = scale(prompt) gain (sum_{t <= m} v_t - m centre[topic]) / (m + damping),

so that a prefix of any length has a reward, prefixes predict what they grow into, and very short
replies do not win by chance. ``centre`` and ``gain`` put the grammar's own full replies at mean
zero and unit variance. ``scale`` is 1, or differs by prompt over 2 ``scale_span`` decades.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from experiments.tasks.dialogs.grammar import Grammar, Prompts
from experiments.tasks.dialogs.words import MODIFIERS, OBJECTS, PARTS, SLOTS, TOPICS

# What a word adds by belonging to a slot of one tone.
_TONE = {
    **dict.fromkeys(("rude", "insult"), -2.0),
    **dict.fromkeys(("hazy", "hazily", "stuff"), -1.0),
    **dict.fromkeys(("lovely", "support"), 1.0),
    **dict.fromkeys(("exact", "count", "unit", "part"), 1.5),
}
_WINDOW = 12
_CALIBRATION = 1200  # replies behind centre and gain


@dataclass(frozen=True)
class DialogReward:
    """The reward of one world; ``world`` seeds the hidden utilities and the prompts' scales."""

    grammar: Grammar
    world: int = 0
    scale_span: float = 0.0
    word_noise: float = 1.0  # standard deviation of g
    topic_noise: float = 0.3  # standard deviation of h
    bonus: float = 0.5
    repeat: float = 0.5
    damping: float = 16.0

    @cached_property
    def utilities(self) -> NDArray[np.float64]:
        """u: f64[topics, vocabulary]; the three special tokens are worth nothing."""
        rng = np.random.default_rng((self.world, 0))
        codec = self.grammar.tokenizer
        size = codec.vocab_size
        word = self.word_noise * rng.standard_normal(size)
        table = word + self.topic_noise * rng.standard_normal((len(TOPICS), size))
        for slot, words in [*SLOTS.items(), ("part", " ".join(PARTS))]:
            table[:, codec.encode(words)] += _TONE.get(slot, 0.0)
        table[:, list(codec.special_ids)] = 0.0
        return table

    def prompt_keys(self, prompt_ids: NDArray[np.integer]) -> tuple[NDArray, NDArray]:
        """(object, modifier) indices [B] of prompts [B,P], wherever their words stand."""
        objects, modifiers = self._objects[prompt_ids], self._modifiers[prompt_ids]
        for name, found in (("object", objects), ("modifier", modifiers)):
            missing = np.flatnonzero(found.max(axis=1) < 0)
            if len(missing):
                row = prompt_ids[missing[0]]
                raise ValueError(
                    f"prompt {self.grammar.tokenizer.decode(row)!r} names no {name} of the dialog "
                    "task: pass prompts that Dialog made"
                )
        return objects.max(axis=1), modifiers.max(axis=1)

    def scale(self, prompt_ids: NDArray[np.integer]) -> NDArray[np.float64]:
        """The factor on each prompt's rewards: f64[B], within 10 ** (-span .. span)."""
        thing, modifier = self.prompt_keys(prompt_ids)
        by_object, by_modifier = self._exponents
        return 10.0 ** (by_object[thing] + by_modifier[modifier])

    def prefixes(
        self, prompt_ids: NDArray[np.integer], ids: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """The reward of every prefix: f64[B,L+1] for replies ids [B,L]; column m is m tokens.

        Columns past a reply's own length count its padding as words of no value.
        """
        values = self._values(prompt_ids, ids) - self._centre_of(prompt_ids)[:, None]
        total = np.concatenate([np.zeros((len(ids), 1)), np.cumsum(values, axis=1)], axis=1)
        mean = total / (np.arange(ids.shape[1] + 1) + self.damping)
        return self.scale(prompt_ids)[:, None] * self._gain * mean

    def __call__(
        self,
        prompt_ids: NDArray[np.integer],
        ids: NDArray[np.integer],
        length: NDArray[np.integer],
    ) -> NDArray[np.float64]:
        """The rewards f64[B] of replies ids [B,L] cut at length [B]; prompts [B,P], any padding.

        ``length`` counts words: an end token inside it raises, as do prompts of another task.
        """
        prompt_ids, ids, length = (np.asarray(array) for array in (prompt_ids, ids, length))
        if prompt_ids.ndim != 2 or ids.ndim != 2 or len(prompt_ids) != len(ids):
            raise ValueError(
                f"prompt_ids has shape {prompt_ids.shape} and ids {ids.shape}: pass [B,P] and [B,L]"
            )
        if length.shape != (len(ids),) or (length < 0).any() or (length > ids.shape[1]).any():
            raise ValueError(f"length must be [B] within 0..{ids.shape[1]}, got {length}")
        said = np.arange(ids.shape[1]) < length[:, None]
        if (said & (ids == self.grammar.tokenizer.eos_id)).any():
            raise ValueError("ids hold an end token within length: leave it out of length")
        return self.prefixes(prompt_ids, np.where(said, ids, 0))[np.arange(len(ids)), length]

    @cached_property
    def _objects(self) -> NDArray[np.int64]:
        return self._index_of(OBJECTS)

    @cached_property
    def _modifiers(self) -> NDArray[np.int64]:
        return self._index_of(MODIFIERS)

    def _index_of(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Which of ``words`` a token is: [vocabulary], -1 where none."""
        codec = self.grammar.tokenizer
        table = np.full(codec.vocab_size, -1)
        table[codec.encode(" ".join(words))] = np.arange(len(words))
        return table

    @cached_property
    def _content(self) -> NDArray[np.bool_]:
        """Whether repeating a token soon is dull: the words that fill slots."""
        codec = self.grammar.tokenizer
        table = np.zeros(codec.vocab_size, bool)
        for words in [*SLOTS.values(), " ".join(PARTS)]:
            table[codec.encode(words)] = True
        return table

    @cached_property
    def _exponents(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Decades by object and by modifier; even steps in hidden order, so each is learnable."""
        rng = np.random.default_rng((self.world, 1))
        half = self.scale_span / 2.0
        return (
            rng.permutation(np.linspace(-half, half, len(OBJECTS))),
            rng.permutation(np.linspace(-half, half, len(MODIFIERS))),
        )

    def _values(self, prompt_ids: NDArray, ids: NDArray) -> NDArray[np.float64]:
        """v_t before centring: f64[B,L]; zero at the special tokens."""
        thing, _ = self.prompt_keys(prompt_ids)
        topic = self.grammar.topic_of_object[thing]
        values = self.utilities[topic[:, None], ids]
        named = self._objects[ids]
        values = values + self.bonus * (named == thing[:, None])
        values = values - (named >= 0) * (named != thing[:, None])
        again = np.zeros(ids.shape, bool)
        for lag in range(1, min(_WINDOW + 1, ids.shape[1])):
            again[:, lag:] |= ids[:, lag:] == ids[:, :-lag]
        return values - self.repeat * (again & self._content[ids])

    def _centre_of(self, prompt_ids: NDArray) -> NDArray[np.float64]:
        thing, _ = self.prompt_keys(prompt_ids)
        return self._calibration[0][self.grammar.topic_of_object[thing]]

    @property
    def _gain(self) -> float:
        return self._calibration[1]

    @cached_property
    def _calibration(self) -> tuple[NDArray[np.float64], float]:
        """(mean token value by topic, gain) over replies that the grammar itself gives."""
        rng = np.random.default_rng((self.world, 2))
        grammar = self.grammar
        objects = len(OBJECTS)
        thing = np.arange(_CALIBRATION) % objects
        prompts = Prompts(thing % 8, (thing + np.arange(_CALIBRATION) // objects) % 8, thing)
        ids, length = grammar.replies(rng, prompts)
        prompt_ids = grammar.encode_prompts(grammar.prompt_texts(prompts))
        said = np.arange(ids.shape[1]) < length[:, None]
        total = (self._values(prompt_ids, ids) * said).sum(axis=1)
        topic = grammar.topic_of_object[thing]
        tokens = np.bincount(topic, length)
        centre = np.bincount(topic, total) / tokens
        mean = (total - length * centre[topic]) / (length + self.damping)
        return centre, float(1.0 / mean.std())
