"""Watchers for `fit`: TensorBoard event files, a line of progress, several at once.

    fit(..., watch=several(Events(folder / "events"), Progress(steps)))

`metrics.jsonl`, beside the checkpoints, is written without any of them. Only process 0 of several
writes and prints.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from jaxdecode.distributed import primary

Watcher = Callable[[int, Mapping[str, float]], None]


def several(*watchers: Watcher) -> Watcher:
    """One watcher that tells them all, in their order."""

    def watch(step: int, means: Mapping[str, float]) -> None:
        for watcher in watchers:
            watcher(step, means)

    return watch


class Events:
    """Scalars as TensorBoard reads them, without TensorFlow; needs `tensorboardX`.

    A resumed run writes a further file, whose first record tells TensorBoard to forget what a
    killed one had told of the steps that are run again. Every call reaches the disk.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: Any = None

    def __call__(self, step: int, means: Mapping[str, float]) -> None:
        if not primary():
            return
        if self.writer is None:
            from tensorboardX import SummaryWriter

            self.writer = SummaryWriter(
                str(self.folder), purge_step=step, filename_suffix=f".{step}"
            )
        for name, value in means.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        """Write what is pending."""
        if self.writer is not None:
            self.writer.close()


class Progress:
    """A line every time: how far, the metrics, the pace, and how long it will take.

    Attributes:
      steps: of the run.
      names: of the metrics shown; all if none are named.
    """

    def __init__(self, steps: int, *names: str, file: TextIO | None = None) -> None:
        self.steps: int = steps
        self.names: tuple[str, ...] = names
        self.file: TextIO | None = file

    def __call__(self, step: int, means: Mapping[str, float]) -> None:
        if not primary():
            return
        names = [name for name in self.names or means if name in means]
        parts = [f"{step}/{self.steps}", *(f"{name} {means[name]:.4g}" for name in names)]
        each = means.get("seconds_per_step")
        if each is not None:
            parts.append(f"{1 / each:.3g} steps/s, {each * (self.steps - step):.0f} s to go")
        print("  ".join(parts), file=self.file or sys.stderr, flush=True)
