"""What every command owes its terminal: one clear line for what went wrong, and never a traceback.

A text is shown whatever the terminal's encoding and the text's characters; a reader that leaves,
a full disk and an interrupt end a command quietly, with an exit status that says so.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator

INVALID = 3  # exit status of a run some of whose answers no numbers stand behind


def visible(text: str) -> str:
    """Text that cannot drive a terminal: control characters but newline and tab are shown."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Run a command within it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what an encoding has no sign for is spelled out
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        _leave("stopped", 128 + signal.SIGINT)
    except BrokenPipeError:  # whoever read what we print has left
        _leave("", 128 + signal.SIGPIPE)
    except (ValueError, OSError, RecursionError) as error:
        _leave(f"error: {error or type(error).__name__}", 1)
    except MemoryError:
        _leave("error: out of memory", 1)
    except RuntimeError as error:
        # What a device has no room for comes as an error of the compiler's own kind.
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _leave(f"error: {str(error)[:200]} Ask for fewer rows, samples or beams at a time", 1)


def _leave(said: str, status: int) -> None:
    """Say it in one line and exit; what still waits to be printed may have nowhere to go."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    line = visible(" ".join(said.split()))
    if line:
        with contextlib.suppress(OSError):
            print(line[:4000], file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    raise SystemExit(status)
