"""The side of the tests: functions that are called here and run in the other process.

    ask("half")(5)      # sends the name and the arguments, gives back the value that came

Runs within walls of its own, without a byte of the program under test. An exception comes as the
built-in one of its name, else as RuntimeError; a value that is no literal raises TypeError, so a
comparison here is always one of plain values. See `calls`.
"""

import builtins
import os

import literals

_LONGEST = literals.TEXT + 1


class Gone(RuntimeError):
    """The other process answers no more."""


class _Line:
    """Lines of bounded length from the socket that is standard input."""

    def __init__(self) -> None:
        self.file = os.fdopen(os.dup(0), "rb")

    def ask(self, text):
        try:
            data = memoryview(text.encode() + b"\n")
            while data:
                data = data[os.write(0, data) :]
            answer = self.file.readline(_LONGEST)
        except OSError:
            answer = b""
        if not answer.endswith(b"\n"):
            raise Gone("the program under test gave no answer")
        return literals.loads(answer.decode())


_line = _Line()


def ask(name):
    """The function of that name in the program under test."""

    def function(*arguments, **named):
        answer = _line.ask(literals.dumps((name, arguments, named)))
        if type(answer) is not tuple or len(answer) != 2:
            raise TypeError("the program under test gave no answer of the agreed form")
        kind, value = answer
        if kind == "value":
            return value
        if kind == "raised" and type(value) is tuple and len(value) == 2:
            _raise(*value)
        raise TypeError(f"{name} gave {value}")

    return function


def _raise(kind, text):
    error = getattr(builtins, kind, None) if type(kind) is str else None
    if not (isinstance(error, type) and issubclass(error, Exception)):
        text, error = f"{kind}: {text}", RuntimeError
    try:
        raised = error(text)
    except TypeError:  # a few take other arguments, as UnicodeDecodeError does
        raised = RuntimeError(f"{kind}: {text}")
    raise raised
