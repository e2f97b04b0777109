"""The process in which chat templates are rendered; `models.chat` starts it by path.

    python -I chat_worker.py LIMITS          # JSON: memory, seconds, characters, paths

A chat template is a program that came with a checkpoint. It runs in jinja2's sandbox, and the
sandbox runs in a process that has given up the rest: CPU time, memory and output are limited,
and no file or socket can be opened. Whatever escapes the first is caught by the second.

Requests are lines of JSON, {"template", "conversations", "variables", "today"}; answers are lines
of JSON: {"texts": [...]}, {"error": ...} for what the template or the sandbox refuses, or
{"memory": true}.
"""

from __future__ import annotations

import datetime
import functools
import importlib
import json
import os
import re
import signal
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from models.child_limits import give_up

del sys.path[0]  # nothing of ours hides a module that a library asks for

_LAZY = ("textwrap", "html", "html.entities", "pprint", "unicodedata", "encodings.idna")


def main() -> None:
    """Answer requests until no more come."""
    limits = json.loads(sys.argv[1])
    sys.path.extend(limits["paths"])
    # Whatever filters and formats import on first use must be in place before files can no longer
    # be opened: `wordwrap` a module, `striptags` the names of HTML's characters, and so on.
    for module in ("jinja2.debug", "jinja2.constants", *_LAZY):
        importlib.import_module(module)
    environment = _environment(datetime.datetime.now())
    environment.from_string("{{ strftime_now('%d %b %Y') }}{{ messages | tojson }}").render(
        messages=[]
    )
    say = os.fdopen(os.dup(1), "w")
    give_up(limits["memory"])
    print(json.dumps({"ready": True}), file=say, flush=True)
    for line in sys.stdin:
        # The default action of this signal ends the process, whatever it is busy with.
        signal.setitimer(signal.ITIMER_PROF, limits["seconds"])
        try:
            answer = {"texts": rendered(json.loads(line), limits["characters"])}
        except MemoryError:
            answer = {"memory": True}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:1000]}
        text = json.dumps(answer)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(text, file=say, flush=True)


def rendered(request: dict[str, Any], most: int) -> list[str]:
    """The text of every conversation, `most` characters in all."""
    template = _compiled(request["template"])
    today = datetime.datetime.fromisoformat(request["today"])
    template.environment.globals["strftime_now"] = today.strftime
    texts, total = [], 0
    for messages in request["conversations"]:
        text = template.render(messages=messages, **request["variables"])
        texts.append(text)
        total += len(text)
        if total > most:
            raise ValueError(f"it renders more than {most} characters")
    return texts


@functools.lru_cache(maxsize=1)
def _compiled(source: str) -> Any:
    environment = _environment(datetime.datetime.now())
    return environment.from_string(_without_generation(source))


def _environment(today: datetime.datetime):
    """What published templates expect to find."""
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: today.strftime(form)
    environment.globals["dict"] = lambda *args, **kwargs: dict(*args, **kwargs)
    return environment


def _without_generation(template: str) -> str:
    """{% generation %} only marks the assistant's words for training: its body stays."""
    template = re.sub(r"(\{%[-+]?\s*)generation(\s*[-+]?%\})", r"\1if true\2", template)
    return re.sub(r"(\{%[-+]?\s*)endgeneration(\s*[-+]?%\})", r"\1endif\2", template)


if __name__ == "__main__":
    main()
