"""Chat templates: jinja2 programs that turn messages into the text a model was trained on.

They come with checkpoints, so they are rendered in a process of their own; see
`models.chat_worker` for what that process cannot do. One process renders any number of
conversations, and costs about a tenth of a second.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Message = Mapping[str, Any]

WORKER = Path(__file__).with_name("chat_worker.py")
# Published templates have at most a few ten thousand characters.
TEMPLATE_LIMIT = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What rendering may use.

    Attributes:
      seconds: of CPU time, and twice that on the wall.
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

    def __post_init__(self):
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
          conversations: lists of {"role": ..., "content": ...}; JSON data throughout.
          add_generation_prompt: end with the opening of the assistant's turn.
          today: the date that templates may print; pass one to get the same text tomorrow.
          variables: whatever else the template reads, such as `tools`.
        Raises:
          ValueError: the template refuses the messages, breaks out of its sandbox or its
            limits, fails, or begins a text with two BOS tokens.
        """
        fixed = {"tools": None, "documents": None, "add_generation_prompt": add_generation_prompt}
        day = today or datetime.date.today()
        now = (
            day
            if isinstance(day, datetime.datetime)
            else datetime.datetime.combine(day, datetime.time())
        )
        request = {
            "template": self.source,
            "conversations": [list(messages) for messages in conversations],
            "variables": {**self.tokens, **fixed, **variables},
            "today": now.isoformat(),
            "limits": asdict(self.limits),
            "paths": _libraries(),
        }
        try:
            text = json.dumps(request)
        except (TypeError, ValueError) as error:
            raise ValueError(f"messages or variables are no plain JSON data: {error}") from error
        texts = _run(text, self.limits)
        for text in texts:
            self._check_bos(text)
        return texts

    def _check_bos(self, text: str) -> None:
        bos = self.tokens.get("bos_token")
        if bos and text.startswith(bos) and text.removeprefix(bos).lstrip().startswith(bos):
            raise ValueError(
                f"chat template: the text begins with a second {bos!r} ({text[:60]!r}); remove "
                "one from the template, or from the message that already carries it"
            )


def _libraries() -> list[str]:
    """Folders in which the worker finds jinja2, wherever it was installed."""
    import jinja2
    import markupsafe

    files = (jinja2.__file__, markupsafe.__file__)
    return sorted({str(Path(file).resolve().parents[1]) for file in files})


def _run(request: str, limits: Limits) -> list[str]:
    # Files, not pipes: the worker cannot flood the memory of this process.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, \
            tempfile.TemporaryFile() as complaint:  # fmt: skip
        given.write(request.encode())
        given.seek(0)
        environment = {k: os.environ[k] for k in ("PATH", "LD_LIBRARY_PATH") if k in os.environ}
        try:
            status = subprocess.run(
                [sys.executable, "-I", str(WORKER)],
                stdin=given,
                stdout=out,
                stderr=complaint,
                env=environment,
                cwd=WORKER.parent,
                timeout=2 * limits.seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"chat template: not done after {error.timeout} seconds") from error
        out.seek(0)
        complaint.seek(0)
        if status == 0:
            # A character is at most 12 bytes of JSON, an escaped surrogate pair.
            return json.loads(out.read(12 * limits.characters + 2**16))["texts"]
        last = complaint.read(2**20).decode(errors="replace").strip().rpartition("\n")[2]
    if status < 0:
        raise ValueError(f"chat template: not done after {limits.seconds} seconds of CPU time")
    if "MemoryError" in last:
        raise ValueError(f"chat template: it needs more than {limits.memory} bytes of memory")
    raise ValueError(f"chat template: {last}")
