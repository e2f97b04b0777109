"""Messages whose content is a list of parts, as chat services take them.

    {"role": "user", "content": [{"type": "text", "text": "Who are you?"}]}

Templates of models that see go through the parts; others expect a text, and would show the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]
WORDS = "x"  # of a probe


def has_parts(talk: Sequence[Message]) -> bool:
    """Whether a message of a conversation has a list for its content.

    Raises:
      ValueError: one of the parts is no text.
    """
    found = False
    for place, message in enumerate(talk):
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, list | tuple):
            continue
        found = True
        for part in content:
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            if kind != "text" or not isinstance(part.get("text"), str):
                raise ValueError(
                    f"messages[{place}]: a part of its content is {str(kind)[:40]!r}; only parts "
                    '{"type": "text", "text": ...} can be read'
                )
    return found


def joined(talk: Sequence[Message]) -> list[Message]:
    """Every content as one text, the parts on lines of their own."""
    return [
        {**message, "content": "\n".join(part["text"] for part in message["content"])}
        if has_parts([message])
        else message
        for message in talk
    ]


def probes() -> tuple[list[Message], list[Message]]:
    """The same words as a text and as a part: a template that reads parts shows no difference."""
    parts = [{"type": "text", "text": WORDS}]
    return [{"role": "user", "content": WORDS}], [{"role": "user", "content": parts}]
