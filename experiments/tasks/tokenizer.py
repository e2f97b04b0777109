"""Tokenizers for the small models: character, word and byte-level BPE, in the published format.

A ``TaskTokenizer`` wraps one ``tokenizers.Tokenizer`` whose vocabulary begins with the three
specials ``<pad>`` (0), ``<bos>`` (1) and ``<eos>`` (2). ``save`` writes the same ``tokenizer.json``
that published checkpoints carry, so anything that reads those reads these.

Encoding is strict: a character or word outside the vocabulary is an error, never a silent
unknown token, because a verifier that scores decoded text must see exactly what was encoded.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

SPECIALS = ("<pad>", "<bos>", "<eos>")


class TaskTokenizer:
    """Text to ids and back. Ids 0, 1, 2 are pad, begin and end in every tokenizer built here."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        ids = [token for name in SPECIALS if (token := inner.token_to_id(name)) is not None]
        if len(ids) < len(SPECIALS):
            raise ValueError(
                f"the tokenizer lacks some of {SPECIALS}: build it with characters(), words() or "
                "byte_pairs(), or add the missing special tokens"
            )
        self.inner = inner
        # The text "<eos>" inside a corpus is ordinary text, not the end of a document.
        self.inner.encode_special_tokens = True
        self.special_ids = tuple(ids)
        self._specials = frozenset(ids)
        self.pad_id, self.bos_id, self.eos_id = ids
        self.vocab_size = inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """The ids of ``text`` alone; ValueError where a piece is outside the vocabulary."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of every text, in parallel where that helps."""
        encodings = self.inner.encode_batch_fast(list(texts), add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        for text, row in zip(texts, rows, strict=True):
            if not self._specials.isdisjoint(row):
                raise ValueError(self._complaint(text))
        return rows

    def _complaint(self, text: str) -> str:
        encoding = self.inner.encode(text, add_special_tokens=False)
        bad = next(i for i, token in enumerate(encoding.ids) if token in self._specials)
        start, stop = encoding.offsets[bad]
        return (
            f"text {text[:60]!r} has {text[start:stop]!r} at character {start}, which this "
            f"tokenizer of {self.vocab_size} tokens cannot encode: remove it, or build the "
            "tokenizer with it"
        )

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids`` up to the first end token; pads and begins are dropped."""
        kept = []
        for token in ids:
            if token == self.eos_id:
                break
            if token not in (self.pad_id, self.bos_id):
                kept.append(int(token))
        return self.inner.decode(kept)

    def decode_rows(self, tokens: NDArray[np.integer], lengths: NDArray[np.integer]) -> list[str]:
        """``decode`` of each row's first ``length`` tokens: tokens [B,T], lengths [B]."""
        return [
            self.decode(row[:length].tolist())
            for row, length in zip(np.asarray(tokens), np.asarray(lengths), strict=True)
        ]

    def fingerprint(self) -> str:
        """sha256 of the tokenizer's canonical JSON: names the very vocabulary and rules."""
        canonical = json.dumps(
            json.loads(self.inner.to_str()), sort_keys=True, separators=(",", ":")
        )
        return hashlib.sha256(canonical.encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Writes ``tokenizer.json`` and ``tokenizer_config.json`` into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        self.inner.save(str(folder / "tokenizer.json"))
        pad, bos, eos = SPECIALS
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": pad,
            "bos_token": bos,
            "eos_token": eos,
            "add_bos_token": True,
            "clean_up_tokenization_spaces": False,
        }
        text = json.dumps(config, indent=2) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def load(folder: Path) -> TaskTokenizer:
    """The tokenizer saved in ``folder``."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"{path} is not a file: pass a folder that TaskTokenizer.save wrote")
    return TaskTokenizer(tokenizers.Tokenizer.from_file(str(path)))


def characters(alphabet: str) -> TaskTokenizer:
    """One token a character; decoding joins them without spaces."""
    inner = _word_level(alphabet)
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    return TaskTokenizer(inner)


def words(vocabulary: Sequence[str]) -> TaskTokenizer:
    """One token a space-separated word; decoding joins them with single spaces."""
    spaced = [word for word in vocabulary if not word or word.split() != [word]]
    if spaced:
        raise ValueError(f"words {spaced[:5]} are empty or hold spaces: pass single words")
    inner = _word_level(vocabulary)
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return TaskTokenizer(inner)


def byte_pairs(texts: Iterable[str], vocab_size: int) -> TaskTokenizer:
    """Byte-level BPE learned from ``texts``: encodes any string, losslessly."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(alphabet) + len(SPECIALS)
    if vocab_size < smallest:
        raise ValueError(f"vocab_size is {vocab_size}: bytes and specials alone need {smallest}")
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return TaskTokenizer(inner)


def _word_level(pieces: Iterable[str]) -> tokenizers.Tokenizer:
    pieces = list(pieces)
    clash = [piece for piece, seen in _counts(SPECIALS, pieces).items() if seen > 1]
    if clash:
        raise ValueError(f"the vocabulary repeats {clash[:5]}: pass each piece once, no specials")
    vocabulary = {piece: index for index, piece in enumerate([*SPECIALS, *pieces])}
    # An unknown piece becomes a pad, which encode() then reports: a WordLevel model needs some
    # unknown token, and an id of its own would be one more row that no text ever trains.
    inner = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIALS[0]))
    inner.add_special_tokens(list(SPECIALS))
    return inner


def _counts(*groups: Iterable[str]) -> dict[str, int]:
    seen: dict[str, int] = {}
    for group in groups:
        for piece in group:
            seen[piece] = seen.get(piece, 0) + 1
    return seen
