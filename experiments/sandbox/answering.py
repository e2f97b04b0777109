"""The side of the program under test: calls come in as literals, results go out as literals.

Runs within the program's own walls, and in its own process: whatever a program does here, it can
only spoil its own answers. What they ought to be never comes to this process. See `calls`.
"""

import os
import sys
import traceback
import types

import literals


def main(source):
    """Run `source` as the module `solution`, then answer calls until no more come."""
    line = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    try:
        exec(compile(source, "solution.py", "exec"), module.__dict__)
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    for request in os.fdopen(os.dup(line), "rb"):
        name, arguments, named = literals.loads(request.decode())
        try:
            answer = _say("value", module.__dict__[name](*arguments, **named))
        except BaseException as error:
            try:
                answer = _say("raised", (type(error).__name__, str(error)[:1000]))
            except BaseException:  # an exception whose text raises another
                answer = _say("raised", (type(error).__name__, ""))
        data = memoryview(answer.encode() + b"\n")
        while data:
            data = data[os.write(line, data) :]


def _say(kind, value):
    try:
        return literals.dumps((kind, value))
    except literals.Unspeakable as reason:
        return literals.dumps(("other", str(reason)))
