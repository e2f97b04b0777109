"""Names of special tokens in a user's words, kept as words.

A rendered chat has special tokens that its template wrote, and words of users that may name some:
as one text the two cannot be told apart. So the latter are marked before a template sees them, by a
character that no word holds, put within each name; after it the text is cut at the names that are
left. Their ids stand between the pieces, which are encoded as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

MARKS = tuple(map(chr, range(0xE000, 0xE100)))  # for private use: seldom met, and looked for


@dataclass(frozen=True)
class SpecialNames:
    """The special tokens of a tokenizer.

    Attributes:
      inner: a `tokenizers.Tokenizer`.
    """

    inner: Any

    @cached_property
    def strips(self) -> dict[str, tuple[bool, bool]]:
        """Name -> whether the token takes the blanks before and after it."""
        added = json.loads(self.inner.to_str())["added_tokens"]
        return {x["content"]: (x["lstrip"], x["rstrip"]) for x in added if x["special"]}

    @cached_property
    def _found(self) -> re.Pattern[str]:
        longest_first = sorted(self.strips, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def marked(self, words: Any) -> tuple[Any, str]:
        """Messages, JSON data, with every name in them broken by a mark, and the mark.

        Raises:
          ValueError: a name of one character, which nothing can break, or every mark occurs.
        """
        said = json.dumps(words, ensure_ascii=False)
        mark = next((mark for mark in MARKS if mark not in said), None)
        if mark is None:
            raise ValueError("messages: they hold all characters by which names could be marked")
        return self._broken(words, mark), mark

    def _broken(self, words: Any, mark: str) -> Any:
        if isinstance(words, str):
            while name := self._found.search(words):
                if len(name[0]) == 1:
                    raise ValueError(
                        f"text holds {name[0]!r}, the name of a special token: one character "
                        "cannot be told from the token in a chat; leave it out"
                    )
                words = words[: name.start() + 1] + mark + words[name.start() + 1 :]
            return words
        if isinstance(words, dict):
            return {key: self._broken(value, mark) for key, value in words.items()}
        if isinstance(words, list | tuple):
            return [self._broken(value, mark) for value in words]
        return words

    def encode(self, text: str, mark: str) -> list[int]:
        """Ids of a rendered chat whose users' words were marked.

        Raises:
          ValueError: this tokenizer reads a piece otherwise than the same text within a whole.
        """
        plain = text.replace(mark, "")
        if plain == text:  # nobody named anything
            return self.inner.encode(text, add_special_tokens=False).ids
        harmless = re.sub(f"\\S?{mark}", "", text)
        whole = self.inner.encode(harmless, add_special_tokens=False).ids
        if self._pieces(harmless, mark) != whole:
            raise ValueError(
                "text holds names of special tokens, and this tokenizer does not read texts piece "
                "by piece: names cannot be kept as text in its chats"
            )
        return self._pieces(text, mark)

    def _pieces(self, text: str, mark: str) -> list[int]:
        names = [*self._found.finditer(text)]
        ends = [0, *(name.end() for name in names)]
        starts = [*(name.start() for name in names), len(text)]
        pieces = [text[a:b].replace(mark, "") for a, b in zip(ends, starts, strict=True)]
        for place, name in enumerate(names):
            before, after = self.strips[name[0]]
            pieces[place] = pieces[place].rstrip() if before else pieces[place]
            pieces[place + 1] = pieces[place + 1].lstrip() if after else pieces[place + 1]
        found = encode_all(self.inner, pieces)
        for place, name in enumerate(names):
            found[place] = [*found[place], self.inner.token_to_id(name[0])]
        return [token for ids in found for token in ids]


def encode_all(inner: Any, texts: Sequence[str], add_special: bool = False) -> list[list[int]]:
    """Ids of texts in which names of special tokens are text."""
    before = inner.encode_special_tokens
    inner.encode_special_tokens = True
    try:
        return [x.ids for x in inner.encode_batch(list(texts), add_special_tokens=add_special)]
    finally:
        inner.encode_special_tokens = before
