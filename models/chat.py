"""Chat templates: jinja2 programs that turn messages into the text a model was trained on.

They come with checkpoints, so they are rendered in a process of their own; see
`models.chat_worker` for what that process cannot do. It is started at a template's first call,
which takes about a tenth of a second, and serves the others in a millisecond or two.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxdecode.child import Child
from models.chat_parts import Message, has_parts, joined, probes

WORKER = Path(__file__).with_name("chat_worker.py")
# Put behind the words that an answer goes on with; its own blank tells whether blanks are kept.
TAG = "[it goes on from here] "
# Published templates have at most a few ten thousand characters.
TEMPLATE_LIMIT = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What rendering may use.

    Attributes:
      seconds: of CPU time a call, and twice that on the wall.
      characters: of all texts together.
      memory: bytes of address space.
    """

    seconds: int = 10
    characters: int = 10_000_000
    memory: int = 2**30


@dataclass(frozen=True)
class ChatTemplate:
    """A template and the special tokens it may name.

    Attributes:
      source: jinja2.
      tokens: "bos_token", "eos_token", ... -> text, given to the template as variables.
      limits: of every call of `render`.
    """

    source: str
    tokens: Mapping[str, Any]
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if len(self.source) > TEMPLATE_LIMIT:
            raise ValueError(
                f"chat template: {len(self.source)} characters, more than the {TEMPLATE_LIMIT} "
                "any real one has"
            )

    def render(
        self,
        conversations: Sequence[Sequence[Message]],
        add_generation_prompt: bool = False,
        today: datetime.date | None = None,
        **variables: Any,
    ) -> list[str]:
        """The text of every conversation.

        Args:
          conversations: lists of {"role": ..., "content": ...}; JSON data throughout. A content
            that is a list of texts is joined by line breaks where the template reads no such lists.
          add_generation_prompt: end with the opening of the assistant's turn.
          today: the date that templates may print; pass one to get the same text tomorrow.
          variables: whatever else the template reads, such as `tools`.
        Raises:
          ValueError: the template refuses the messages, breaks out of its sandbox or its
            limits, fails, or begins a text with two BOS tokens; a content has a part that is no
            text.
        """
        talks = [list(messages) for messages in conversations]
        # All are looked through before any is rendered.
        if any([has_parts(talk) for talk in talks]) and not self.reads_parts:
            talks = [joined(talk) for talk in talks]
        texts = self._rendered(talks, add_generation_prompt, today, variables)
        for text in texts:
            self._check_bos(text)
        return texts

    @cached_property
    def reads_parts(self) -> bool:
        """Whether it goes through the parts of a content, as seen by what it makes of one."""
        try:
            one, other = (self._rendered([talk], True, None, {}) for talk in probes())
        except ValueError:  # it refuses lists, or so short a conversation
            return False
        return one == other

    def _rendered(
        self,
        talks: Sequence[Sequence[Message]],
        add_generation_prompt: bool,
        today: datetime.date | None,
        variables: Mapping[str, Any],
    ) -> list[str]:
        fixed = {"tools": None, "documents": None, "add_generation_prompt": add_generation_prompt}
        day = today or datetime.date.today()
        now = (
            day
            if isinstance(day, datetime.datetime)
            else datetime.datetime.combine(day, datetime.time())
        )
        request = {
            "template": self.source,
            "conversations": talks,
            "variables": {**self.tokens, **fixed, **variables},
            "today": now.isoformat(),
        }
        try:
            json.dumps(request)
        except (TypeError, ValueError) as error:
            raise ValueError(f"messages or variables are no plain JSON data: {error}") from error
        limits = self.limits
        # A character is at most 12 bytes of JSON, an escaped surrogate pair.
        most = 12 * limits.characters + 2**16
        answer = self._child.ask(request, 2 * limits.seconds, most=most)
        if answer is None:
            raise ValueError(
                f"chat template: not done after {limits.seconds} seconds of CPU time or "
                f"{2 * limits.seconds} on the wall, or its process broke down"
            )
        if "memory" in answer:
            self._child.stop()  # little may be left of it
            raise ValueError(f"chat template: it needs more than {limits.memory} bytes of memory")
        if "error" in answer:
            raise ValueError(f"chat template: {answer['error']}")
        return answer["texts"]

    @cached_property
    def _child(self) -> Child:
        """One for each template, so that none can change what another renders."""
        settings = asdict(self.limits) | {"paths": _libraries()}
        environment = {k: os.environ[k] for k in ("PATH", "LD_LIBRARY_PATH") if k in os.environ}
        return Child([sys.executable, "-I", str(WORKER), json.dumps(settings)], environment)

    def opened(self, conversations: Sequence[Sequence[Message]], **variables: Any) -> list[str]:
        """What each conversation is answered after.

        That is the opening of the assistant's turn; where the assistant spoke last, its own words,
        with no end put behind them, for the answer to go on with.

        Args:
          variables: as `render`; those that the template does not read are refused.
        Raises:
          ValueError: as `render`, or for last words that the template leaves out.
        """
        for name, value in variables.items():
            if name != "today" and not re.search(rf"\b{re.escape(name)}\b", self.source):
                raise ValueError(
                    f"{name}={value!r}: the chat template does not read {name}; leave it out"
                )
        goes_on = [bool(talk) and talk[-1].get("role") == "assistant" for talk in conversations]
        found: dict[int, str] = {}
        for going in sorted(set(goes_on)):
            members = [i for i, one in enumerate(goes_on) if one == going]
            talks = [conversations[i] for i in members]
            given = [_tagged(talk) for talk in talks] if going else talks
            texts = self.render(given, add_generation_prompt=not going, **variables)
            if going:
                texts = [_cut(text, talk) for text, talk in zip(texts, talks, strict=True)]
            found |= dict(zip(members, texts, strict=True))
        return [found[i] for i in range(len(conversations))]

    def _check_bos(self, text: str) -> None:
        bos = self.tokens.get("bos_token")
        if bos and text.startswith(bos) and text.removeprefix(bos).lstrip().startswith(bos):
            raise ValueError(
                f"chat template: the text begins with a second {bos!r} ({text[:60]!r}); remove "
                "one from the template, or from the message that already carries it"
            )


def _last_words(talk: Sequence[Message]) -> tuple[str, Callable[[str], Message]]:
    """The end of a conversation's last message, and that message with another end."""
    last = talk[-1]
    content = last.get("content")
    if isinstance(content, str):
        return content, lambda text: {**last, "content": text}
    content = content if isinstance(content, list | tuple) else []
    parts = [i for i, x in enumerate(content) if isinstance(x, Mapping) and "text" in x]
    if not parts:
        raise ValueError("messages: the assistant's last one has no text to go on with")
    at, part = parts[-1], content[parts[-1]]

    def ended(text: str) -> Message:
        return {**last, "content": [*content[:at], {**part, "text": text}, *content[at + 1 :]]}

    return part["text"], ended


def _tagged(talk: Sequence[Message]) -> list[Message]:
    words, ended = _last_words(talk)
    return [*talk[:-1], ended(words + TAG)]


def _cut(text: str, talk: Sequence[Message]) -> str:
    """A rendered text before the tag; without blanks there if the template takes them away."""
    words, _ = _last_words(talk)
    before, tag, behind = text.rpartition(TAG.rstrip())
    if not tag or words.strip() not in before:
        raise ValueError(
            f"chat template: it leaves out some of the assistant's last words ({words[:60]!r}), "
            "so that there is nothing to go on with"
        )
    return before if behind.startswith(" ") else before.rstrip()


def _libraries() -> list[str]:
    """Folders in which the worker finds jinja2, wherever it was installed."""
    import jinja2
    import markupsafe

    files = (jinja2.__file__, markupsafe.__file__)
    return sorted({str(Path(file).resolve().parents[1]) for file in files})
