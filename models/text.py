"""A tokenizer as a model needs it: text to ids and back, end tokens, padding, chats.

`models.tokenizer_files.load_tokenizer` opens the one of a published folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from models.chat import ChatTemplate, Message
from models.special_names import SpecialNames, encode_all

# How a decoder shows bytes that are no character, or not yet.
BROKEN = "\N{REPLACEMENT CHARACTER}"
CONTEXT = 8  # ids at least of a prompt's end that a response is decoded after
SURPLUS = 64  # added tokens at most that a model may have no embedding for


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
      named_eos: the one of `eos` that the tokenizer itself names, where it names one.
      pad: id of padding, where the model has one; it may be one of `eos`.
      template: of chats, where the folder has one.
      rows: ids that the model has an embedding for, where it knows fewer than the tokenizer.
    """

    inner: Any
    bos: int | None = None
    eos: tuple[int, ...] = ()
    pad: int | None = None
    template: ChatTemplate | None = None
    rows: int | None = None
    named_eos: int | None = None

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

    def encode(self, text: str, add_special: bool = True, split_special: bool = False) -> list[int]:
        """Ids of a text; the names of special tokens in it become those tokens.

        Args:
          add_special: put BOS before and EOS after it, as the model was trained.
          split_special: names in the text are text, and no tokens of their own.
        Raises:
          ValueError: a second BOS would come out, or an id that the model has no embedding for.
        """
        if split_special:
            return self._known(encode_all(self.inner, [text], add_special)[0], text)
        ids: list[int] = self.inner.encode(text, add_special_tokens=add_special).ids
        if self.bos is not None and ids[:2] == [self.bos, self.bos]:
            raise ValueError(
                f"text begins with a second {self.inner.id_to_token(self.bos)!r} "
                f"({text[:60]!r}): it carries one already; pass add_special=False, or use "
                "encode_chat for a rendered chat"
            )
        return self._known(ids, text)

    def _known(self, ids: list[int], text: str) -> list[int]:
        if self.rows is not None and ids and max(ids) >= self.rows:
            raise ValueError(
                f"text names {self.inner.id_to_token(max(ids))!r} ({text[:60]!r}): the model has "
                f"{self.rows} embeddings and none for that token, id {max(ids)}; leave it out"
            )
        return ids

    def encode_prompt(self, text: str, split_special: bool = False) -> list[int]:
        """`encode`, without what the tokenizer puts behind a text: a prompt is to be gone on with.

        What the text itself ends with stays, an end token too.
        """
        ids, own = (self.encode(text, around, split_special) for around in (True, False))
        before = self._before
        # An end token is only taken off where the text's own tokens are all there without it.
        return ids[: before + len(own)] if ids[before : before + len(own)] == own else ids

    @cached_property
    def _before(self) -> int:
        """How many tokens are put before every text."""
        for probe in ("a", "1", ".", " "):
            own: list[int] = self.inner.encode(probe, add_special_tokens=False).ids
            ids: list[int] = self.inner.encode(probe, add_special_tokens=True).ids
            for before in range(len(ids) - len(own) + 1):
                if own and ids[before : before + len(own)] == own:
                    return before
        return 0

    def decode(
        self, ids: Iterable[int], skip_special: bool = True, after: Sequence[int] = ()
    ) -> str:
        """The text of ids; nothing is tidied up.

        Args:
          after: the ids before them. Some decoders treat the beginning of a text apart (Llama 2,
            Gemma and Mistral drop its first space): what is decoded after the end of a prompt is
            what is added to the prompt's text.
        """
        ids = [int(i) for i in ids]
        given = self.context(after)
        text = self.inner.decode([*given, *ids], skip_special_tokens=skip_special)
        if not given:
            return text
        before = self.inner.decode(given, skip_special_tokens=skip_special)
        # Bytes that were no character before may have become one.
        settled = before.rstrip(BROKEN)
        return text[len(before) if text.startswith(before) else len(settled) :]

    def decode_pair(self, prompt: Sequence[int], response: Sequence[int]) -> tuple[str, str]:
        """A prompt, its special tokens shown, and what a response adds to it, without them."""
        return self.decode(prompt, skip_special=False), self.decode(response, after=prompt)

    def context(self, ids: Sequence[int]) -> list[int]:
        """As many of the last ids as decoding goes on from: some, and no half character first."""
        count = CONTEXT
        while count < len(ids):
            last = [int(i) for i in ids[-count:]]
            if BROKEN not in self.inner.decode(last, skip_special_tokens=False):
                return last
            count *= 2
        return [int(i) for i in ids]

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

    def encode_opened(
        self,
        conversations: Sequence[Sequence[Message]],
        split_special: bool = False,
        **variables: Any,
    ) -> list[list[int]]:
        """Ids of what each conversation is answered after; see `ChatTemplate.opened`.

        Args:
          split_special: names of special tokens in the messages are text; the template's own are
            tokens.
        Raises:
          ValueError: as `ChatTemplate.opened`, and see `models.special_names`.
        """
        template = self.chat_template
        if not split_special:
            texts = template.opened(conversations, **variables)
            return [self.encode(text, add_special=False) for text in texts]
        names = SpecialNames(self.inner)
        marked, mark = names.marked([list(talk) for talk in conversations])
        texts = template.opened(marked, **variables)
        return [self._known(names.encode(text, mark), text) for text in texts]

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
        """The `vocab_size` to load a model with whose embedding table has `rows` rows.

        Rows beyond the vocabulary pad the table; a model loaded with `vocab_size` never
        emits them. Tokens that were added beyond the table (Gemma 3's images, a padding token)
        are no tokens of the model: see `fitted`.
        """
        if self.vocab_size <= rows:
            return self.vocab_size
        added = self.inner.get_added_tokens_decoder()
        beyond = [index for index in _by_id(self) if index >= rows]
        if len(beyond) > SURPLUS or any(index not in added for index in beyond):
            raise ValueError(
                f"the tokenizer knows {self.vocab_size} ids, the model has {rows} rows: id {rows} "
                f"({self.inner.id_to_token(rows)!r}) would have no embedding; the two belong to "
                "different models"
            )
        return rows

    def fitted(self, rows: int) -> Tokenizer:
        """For a model with `rows` embeddings: a text that uses an id beyond them is refused.

        Raises:
          ValueError: it is another model's tokenizer; see `check_rows`.
        """
        rows = self.check_rows(rows) if self.rows is None else min(self.rows, rows)
        return self if rows == self.vocab_size else replace(self, rows=rows)


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
    """The ids that mean something to the model."""
    vocabulary = tokenizer.inner.get_vocab(with_added_tokens=True)
    rows = getattr(tokenizer, "rows", None)
    rows = len(vocabulary) + max(vocabulary.values(), default=0) if rows is None else rows
    return {index: token for token, index in vocabulary.items() if index < rows}
