"""A process of one's own for work that cannot be trusted to end, or to stay small.

What comes with a checkpoint or from a model (a tokenizer, a query) is worked on in a process that
is ended when it overruns its time; its program gives up what rights it can before it begins. It
reads a line of JSON a request from its standard input and answers with a line on its standard
output; it is started when it is needed, and again after it was ended. A process that has lost its
state says {"missing": ...}, and is then sent what restores it.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

_START = 60.0  # seconds for starting and for restoring, on a busy machine
_PIECE = 1 << 20


class Child:
    """The process, for any thread; one request is worked on at a time.

    Attributes:
      command: what is run; its first line of output is its greeting.
      environment: all that it inherits of this process's variables.
      greeting: what it said first, once it was started.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.command: tuple[str, ...] = tuple(command)
        self.environment: dict[str, str] = dict(environment or {})
        self.greeting: Any = None
        self.process: subprocess.Popen[bytes] | None = None
        self._lock, self._owner = threading.Lock(), 0
        self._ender: weakref.finalize | None = None

    def ask(
        self, request: Any, seconds: float, missing: Any = None, most: int = 1 << 30
    ) -> dict[str, Any] | None:
        """The answer; None where the process ended, or was ended, before it came whole.

        Args:
          seconds: until it is ended, apart from starting and restoring.
          missing: the request that restores its state.
          most: bytes of an answer, past which it is ended.
        """
        with self._lock:
            try:
                if self.process is None or self._owner != os.getpid():
                    self._start()
                answer = None
                if self.process is not None:
                    answer = self._exchange(request, seconds, most)
                    if answer is not None and "missing" in answer:
                        restored = self._exchange(missing, _START, most)
                        if restored is not None and "error" in restored:
                            return restored
                        again = restored is not None
                        answer = self._exchange(request, seconds, most) if again else None
            except BaseException:  # an answer that comes late is nobody else's
                self._end()
                raise
            if answer is None:
                self._end()
            return answer

    def stop(self) -> None:
        """End it; the next request starts another."""
        with self._lock:
            self._end()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self.environment,
            cwd="/",
            start_new_session=True,  # an interrupt at the terminal is ours alone
        )
        self._owner = os.getpid()
        self._ender = weakref.finalize(self, _kill, self.process)
        self.greeting = self._receive(_START, _PIECE)
        if self.greeting is None:
            self._end()

    def _end(self) -> None:
        if self.process is not None and self._owner == os.getpid() and self._ender is not None:
            self._ender()
        self.process = None

    def _exchange(self, request: Any, seconds: float, most: int) -> dict[str, Any] | None:
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        return self._receive(seconds, most)

    def _receive(self, seconds: float, most: int) -> dict[str, Any] | None:
        assert self.process is not None and self.process.stdout is not None
        until, line = time.monotonic() + seconds, bytearray()
        file = self.process.stdout.fileno()
        while not line.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or len(line) > most or not select.select([file], [], [], left)[0]:
                return None
            part = os.read(file, _PIECE)
            if not part:
                return None
            line += part
        return json.loads(line)


def _kill(process: subprocess.Popen) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except OSError:  # bytes that it will not read any more
                continue
    process.wait()
