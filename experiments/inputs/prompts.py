"""Prompts from the command line, from text (one a line) and from JSON lines.

A line of a `.jsonl` file is an object with `prompt` (text) or `messages` (a list of
{"role": ..., "content": ...}, a content being a text or a list of {"type": "text", "text": ...}),
and optionally `id`, a text or a number of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.harness.files import parse, text_lines
from models.chat_parts import has_parts, joined

Messages = list[dict[str, Any]]
EXPECTED = (
    '{"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}, maybe with "id"'
)


@dataclass(frozen=True)
class Request:
    """Something to answer; `where` names it in messages to the user."""

    id: str | int
    prompt: str | Messages
    where: str

    @property
    def number(self) -> int:
        """Identity for random draws: the same wherever the request stands in whatever file."""
        if isinstance(self.id, int) and 0 <= self.id < 2**31:
            return self.id
        digest = hashlib.blake2b(str(self.id).encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") >> 1

    @property
    def words(self) -> str:
        """What was said last, to be shown."""
        return self.prompt if isinstance(self.prompt, str) else joined(self.prompt)[-1]["content"]


def of_texts(texts: Sequence[str]) -> list[Request]:
    """Requests 0, 1, ... from the command line."""
    return [_checked(Request(i, text, f"prompt {i}")) for i, text in enumerate(texts)]


def read(path: Path) -> list[Request]:
    """Every request of a file; those without an `id` are numbered by their lines, from 0.

    Raises:
      ValueError: naming file, line and what was expected there.
    """
    understand = _json if path.suffix in (".jsonl", ".json") else _text
    requests, first = [], {}
    for number, line in text_lines(path):
        where = f"{path}:{number}"
        request = understand(line, number - 1, where)
        if request.id in first:
            raise ValueError(f"{where}: the id {request.id!r} is that of {first[request.id]}")
        first[request.id] = where
        requests.append(_checked(request))
    if not requests:
        raise ValueError(f"{path} is empty; a prompt on each line was expected")
    return requests


def _text(line: str, index: int, where: str) -> Request:
    return Request(index, line, where)


def _json(line: str, index: int, where: str) -> Request:
    try:
        value = parse(line)
    except ValueError as error:
        raise ValueError(f"{where} is no JSON ({error}); expected {EXPECTED}") from error
    if not isinstance(value, dict) or ("prompt" in value) == ("messages" in value):
        raise ValueError(f"{where}: {line[:80]!r} was found where {EXPECTED} was expected")
    prompt = value["prompt"] if "prompt" in value else value["messages"]
    if not (isinstance(prompt, str) if "prompt" in value else _is_messages(prompt)):
        raise ValueError(f"{where}: {str(prompt)[:80]!r} was found; expected {EXPECTED}")
    name = value.get("id", index)
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise ValueError(f"{where}: id={name!r} was found; a text or a whole number was expected")
    return Request(name, prompt, where)


def _is_messages(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(message, dict)
            and set(message) == {"role", "content"}
            and isinstance(message["role"], str)
            and isinstance(message["content"], str | list)
            for message in value
        )
    )


def _checked(request: Request) -> Request:
    if isinstance(request.prompt, str) and not request.prompt.strip():
        raise ValueError(f"{request.where} is empty; a prompt was expected")
    talk = [{"": request.prompt}] if isinstance(request.prompt, str) else request.prompt
    try:
        has_parts(talk)
    except ValueError as error:
        raise ValueError(f"{request.where}: {error}") from error
    said = [text for message in joined(talk) for text in message.values()]
    for text in [str(request.id), *said]:
        check_text(text, request.where)
    return request


def check_text(text: str, where: str) -> None:
    """Refuse half a surrogate pair, which JSON can spell and no tokenizer can read."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: character {error.start} of {text[:60]!a} is half of a surrogate pair; "
            "text that can be written as UTF-8 was expected"
        ) from error
