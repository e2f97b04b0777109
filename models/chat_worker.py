"""The process in which chat templates are rendered; `models.chat` starts it by path.

A chat template is a program that came with a checkpoint. It runs in jinja2's sandbox, and the
sandbox runs in a process that has given up the rest: CPU time, memory and output are limited,
and no file or socket can be opened. Whatever escapes the first is caught by the second.

Reads one JSON request from standard input, writes {"texts": [...]} to standard output. A
template's own complaint ends it with status 3 and the message on standard error.
"""

from __future__ import annotations

import datetime
import importlib
import json
import os
import re
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from models.child_limits import give_up

del sys.path[0]  # nothing of ours hides a module that a library asks for

_LAZY = ("textwrap", "html", "html.entities", "pprint", "unicodedata", "encodings.idna")


def main() -> int:
    """Answer one request a line, until there are no more."""
    request: dict[str, Any] = json.load(sys.stdin)
    sys.path.extend(request["paths"])
    from jinja2 import TemplateError

    today = datetime.datetime.fromisoformat(request["today"])
    environment = _environment(today)
    # Whatever filters and formats import on first use must be in place before files can no longer
    # be opened: `wordwrap` a module, `striptags` the names of HTML's characters, and so on.
    for module in ("jinja2.debug", "jinja2.constants", *_LAZY):
        importlib.import_module(module)
    environment.from_string("{{ strftime_now('%d %b %Y') }}{{ messages | tojson }}").render(
        messages=[]
    )
    limits = request["limits"]
    give_up(limits["memory"], limits["seconds"])
    texts, total = [], 0
    try:
        template = environment.from_string(_without_generation(request["template"]))
        for messages in request["conversations"]:
            text = template.render(messages=messages, **request["variables"])
            texts.append(text)
            total += len(text)
            if total > limits["characters"]:
                raise TemplateError(f"it renders more than {limits['characters']} characters")
    except TemplateError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 3
    json.dump({"texts": texts}, sys.stdout)
    return 0


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
    sys.exit(main())
