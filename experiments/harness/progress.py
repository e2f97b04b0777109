"""Progress with an estimate of the end, and a notice while XLA compiles.

On a terminal a bar; elsewhere one line every ten seconds, and none for what is quicker.
"""

from __future__ import annotations

import sys
import threading
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from experiments.harness.measuring.compiles import Compiles

NOTICE = 1.0  # seconds in the compiler that are worth a word
SILENCE = 10.0  # seconds between lines where there is no terminal


class Progress:
    """Shows how far `total` steps of `title` have come, on stderr.

    with Progress("best-of-N", total=len(prompts)) as progress:
        for prompt in prompts:
            ...
            progress.advance(note=f"reward {reward:.2f}")
    """

    def __init__(self, title: str, total: int, console: Console | None = None) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self.note = ""
        self._paced: tuple[float, int] | None = None  # when the first steps were done, and how many
        self._console = console or Console(stderr=True)
        self._compiles = Compiles()
        self._ended = threading.Event()
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("to go"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total, note="")
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def advance(self, steps: int = 1, note: str = "") -> None:
        """`steps` more are done; `note` stands behind the bar until the next."""
        self.done += steps
        self.note = note
        if self._paced is None:
            self._paced = (time.perf_counter(), self.done)
        self._bar.update(self._task, advance=steps, note=note)

    def __enter__(self) -> Progress:
        self._started = time.perf_counter()
        self._compiles.__enter__()
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._bar.stop()
        self._compiles.__exit__()

    def _watch(self) -> None:
        """Beside the work: the notice of a compilation, or the line of a silent run."""
        terminal = self._console.is_terminal
        while not self._ended.wait(0.5 if terminal else SILENCE):
            if terminal:
                self._bar.update(self._task, note=self._compiling() or self.note)
            else:
                print(self._line(), file=sys.stderr, flush=True)

    def _compiling(self) -> str:
        name, seconds = self._compiles.pending, self._compiles.pending_seconds
        return f"compiling {name}, {seconds:.0f} s" if name and seconds >= NOTICE else ""

    def _line(self) -> str:
        elapsed = time.perf_counter() - self._started
        left = f", {self._left(elapsed):.0f} s to go" if self.done else ""
        note = self._compiling() or self.note
        return f"{self.title}: {self.done}/{self.total}, {elapsed:.0f} s{left}" + (
            f" ({note})" if note else ""
        )

    def _left(self, elapsed: float) -> float:
        """Seconds to go at the pace since the first steps were done: what was compiled before
        them, or done by a run before this one, says nothing of it."""
        assert self._paced is not None
        since, begun = self._paced
        if self.done > begun:
            pace = (time.perf_counter() - since) / (self.done - begun)
        else:
            pace = elapsed / self.done
        return pace * (self.total - self.done)
