"""A foreign tokenizer, at work in a process of its own: what `Tokenizer.inner` of a folder is.

It has the methods of a `tokenizers.Tokenizer` that this project uses. `models.tokenizer_worker`
says what its process cannot do. A text that overruns the limits is a `ValueError`, and the next one
finds a new process. The vocabulary is kept here, so that little but encoding and decoding goes
there, at about a tenth of a millisecond a call.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from jaxdecode.child import Child

WORKER = Path(__file__).with_name("tokenizer_worker.py")


@dataclass(frozen=True)
class Limits:
    """What a tokenizer may use.

    Attributes:
      seconds: of wall time a call, and a second more for every 100,000 characters.
      characters: what a call may give back: tokens of texts, or characters of tokens.
      memory: bytes of address space, and sixteen more for every byte of its file.
    """

    seconds: float = 4.0
    characters: int = 10_000_000
    memory: int = 2**30


class Encoding:
    """What the library's own has of a text, as far as it is used here.

    Attributes:
      ids: of its tokens.
    """

    def __init__(self, ids: list[int], again: Callable[[], list[list[int]]]) -> None:
        self.ids, self._again = ids, again

    @cached_property
    def offsets(self) -> list[tuple[int, int]]:
        """The characters [first, last) that each token stands for; asked for when they are read."""
        return [(first, last) for first, last in self._again()]


class WalledTokenizer:
    """See the module.

    Attributes:
      source: names the tokenizer in errors.
      encode_special_tokens: take the names of special tokens in a text as text.
    """

    def __init__(self, text: str, source: str, limits: Limits | None = None) -> None:
        self.source, self.limits = source, limits or Limits()
        self.encode_special_tokens = False
        memory = self.limits.memory + 16 * len(text)
        settings = asdict(self.limits) | {"memory": memory, "paths": _libraries()}
        environment = {k: os.environ[k] for k in ("PATH", "LD_LIBRARY_PATH") if k in os.environ}
        environment["TOKENIZERS_PARALLELISM"] = "false"  # it may start no threads
        command = [sys.executable, "-I", str(WORKER), json.dumps(settings)]
        self._child = Child(command, environment)
        self._open: dict[str, Any] = {"open": text, "around": None}
        self._vocabulary: dict[str, int] = self._ask(self._open, len(text))

    def to_str(self) -> str:
        """The library's canonical JSON."""
        return self._ask({"text": True}, len(self._open["open"]))

    def get_vocab(self, with_added_tokens: bool = True) -> dict[str, int]:
        """Token -> id, added tokens among them."""
        if not with_added_tokens:
            raise ValueError("with_added_tokens=False: the vocabulary is kept whole; pass True")
        return dict(self._vocabulary)

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        """How many tokens have an id."""
        return len(self.get_vocab(with_added_tokens))

    def get_added_tokens_decoder(self) -> dict[int, str]:
        """Id -> text of the tokens that are no part of the model's own vocabulary."""
        return {
            entry["id"]: entry["content"] for entry in json.loads(self.to_str())["added_tokens"]
        }

    def token_to_id(self, token: str) -> int | None:
        """The id of a token, None for what is none."""
        return self._vocabulary.get(token)

    def id_to_token(self, token: int) -> str | None:
        """The token of an id, None where it has none."""
        return self._by_id.get(token)

    def encode(self, text: str, add_special_tokens: bool = True) -> Encoding:
        """Ids of a text; a `ValueError` for one that overruns the limits."""
        return self.encode_batch([text], add_special_tokens)[0]

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[Encoding]:
        """Ids of several texts, in one exchange with the process."""
        request = {
            "encode": [_valid(text) for text in texts],
            "what": "ids",
            "add_special": add_special_tokens,
            "names_as_text": self.encode_special_tokens,
        }
        found = self._ask(request, sum(map(len, texts)))

        def offsets(text: str) -> list[list[int]]:
            return self._ask(request | {"encode": [text], "what": "offsets"}, len(text))[0]

        return [
            Encoding(ids, partial(offsets, text)) for ids, text in zip(found, texts, strict=True)
        ]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of ids."""
        return self.decode_batch([ids], skip_special_tokens)[0]

    def decode_batch(
        self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = True
    ) -> list[str]:
        """Texts of several rows of ids."""
        request = {"decode": [list(row) for row in rows], "skip_special": skip_special_tokens}
        return self._ask(request, 8 * sum(map(len, rows)))

    def surround(self, single: Sequence[str], special_tokens: Sequence[tuple[str, int]]) -> None:
        """Put tokens around every text: a template in which `$A` is the text."""
        self._open |= {"around": (list(single), list(special_tokens))}
        self._ask(self._open, len(self._open["open"]))

    @cached_property
    def _by_id(self) -> Mapping[int, str]:
        return {index: token for token, index in self._vocabulary.items()}

    def _ask(self, request: Mapping[str, Any], size: int) -> Any:
        patience = self.limits.seconds + size / 10_000 + 10.0  # its own alarm comes first
        answer = self._child.ask(request, patience, missing=self._open)
        if answer is None:
            raise ValueError(
                f"{self.source}: its tokenizer was ended: it was not done after "
                f"{self.limits.seconds:g} seconds, took more than {self.limits.memory} bytes of "
                "memory, or broke down; a sound tokenizer needs a small part of that"
            )
        if "error" in answer:
            raise ValueError(f"{self.source} holds no tokenizer that works ({answer['error']})")
        return answer["out"]


def _valid(text: str) -> str:
    """Lone surrogates are no text to any tokenizer."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text {text[:60]!r}: character {error.start} is half of a surrogate pair, which is no "
            "text; decode the bytes it came from as UTF-8"
        ) from error
    return text


def _libraries() -> list[str]:
    """Folders in which the process finds the library, wherever it was installed."""
    import tokenizers

    return [str(Path(tokenizers.__file__).resolve().parents[1])]
