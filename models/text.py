"""A tokenizer as a model needs it: text to ids and back, end tokens, padding, chats.

`models.tokenizer_files.load_tokenizer` opens the one of a published folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from models.chat import ChatTemplate, Message


class HasVocabulary(Protocol):
    """Any wrapper of a `tokenizers.Tokenizer`."""

    @property
    def inner(self) -> Any:
        """The library's tokenizer."""
        ...


@dataclass(frozen=True)
class Tokenizer:
    """See the module.

    Attributes:
      inner: the `tokenizers.Tokenizer`.
      bos: id that begins a text, where the model has one.
      eos: ids that end a text, in increasing order.
      pad: id of padding, where the model has one; it may be one of `eos`.
      template: of chats, where the folder has one.
    """

    inner: Any
    bos: int | None = None
    eos: tuple[int, ...] = ()
    pad: int | None = None
    template: ChatTemplate | None = None

    @cached_property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return max(self.inner.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the tokenizer's canonical JSON: names the very vocabulary and rules."""
        data = json.loads(self.inner.to_str())
        canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        """Ids of a text; the names of special tokens in it become those tokens.

        Args:
          add_special: put BOS before and EOS after it, as the model was trained.
        Raises:
          ValueError: a second BOS would come out.
        """
        ids: list[int] = self.inner.encode(text, add_special_tokens=add_special).ids
        if self.bos is not None and ids[:2] == [self.bos, self.bos]:
            raise ValueError(
                f"text begins with a second {self.inner.id_to_token(self.bos)!r} "
                f"({text[:60]!r}): it carries one already; pass add_special=False, or use "
                "encode_chat for a rendered chat"
            )
        return ids

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of ids; nothing is tidied up."""
        return self.inner.decode([int(i) for i in ids], skip_special_tokens=skip_special)

    def decode_rows(self, tokens: Any, lengths: Any, skip_special: bool = True) -> list[str]:
        """`decode` of the first `length` tokens of every row: tokens [B, T], lengths [B]."""
        rows = zip(np.asarray(tokens), np.asarray(lengths), strict=True)
        return [self.decode(row[:length], skip_special) for row, length in rows]

    def render_chat(
        self, messages: Sequence[Message], add_generation_prompt: bool = False, **options: Any
    ) -> str:
        """The text of one conversation; see `ChatTemplate.render`, which takes many at once."""
        return self.chat_template.render([messages], add_generation_prompt, **options)[0]

    def encode_chat(
        self, messages: Sequence[Message], add_generation_prompt: bool = False, **options: Any
    ) -> list[int]:
        """Ids of one conversation. The template writes all special tokens itself."""
        text = self.render_chat(messages, add_generation_prompt, **options)
        return self.encode(text, add_special=False)

    @property
    def chat_template(self) -> ChatTemplate:
        """`template`, or an error that says there is none."""
        if self.template is None:
            raise ValueError(
                "the tokenizer's folder has no chat template; encode the text itself, or replace "
                "`template` by a ChatTemplate"
            )
        return self.template

    def check_rows(self, rows: int) -> int:
        """`vocab_size`, for loading a model whose embedding table has `rows` rows.

        Rows beyond the vocabulary pad the table; a model loaded with `vocab_size` never
        emits them.
        """
        if self.vocab_size > rows:
            raise ValueError(
                f"the tokenizer knows {self.vocab_size} ids, the model has {rows} rows: id {rows} "
                f"({self.inner.id_to_token(rows)!r}) would have no embedding; the two belong to "
                "different models"
            )
        return self.vocab_size


def check_same_tokenizer(a: HasVocabulary, b: HasVocabulary) -> None:
    """Refuse two models that mean different text by the same ids.

    Raises:
      ValueError: naming the first id at which the vocabularies differ.
    """
    ours, theirs = _by_id(a), _by_id(b)
    for token in sorted(ours.keys() | theirs.keys()):
        if ours.get(token) != theirs.get(token):
            raise ValueError(
                f"the tokenizers differ, first at id {token}: {ours.get(token)!r} here, "
                f"{theirs.get(token)!r} there; use models that share a vocabulary"
            )


def _by_id(tokenizer: HasVocabulary) -> dict[int, str]:
    vocabulary = tokenizer.inner.get_vocab(with_added_tokens=True)
    return {index: token for token, index in vocabulary.items()}
