"""The running Python's own standard library as a corpus: real text that is always at hand.

Files are taken in an order that hashes their path, so that a size cap keeps a fair sample rather
than the letters a to d, and are split into train, validation and test whole. Tests and installed
packages are left out. Nothing is held in memory but the file being read.
"""

import hashlib
import os
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.tasks.task import Split, check_split, split_of
from experiments.tasks.tokenizer import TaskTokenizer, byte_pairs

_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True)
class StandardLibrary:
    """The ``*.py`` files under ``root``, at most ``largest_file`` bytes each and ``cap`` in all."""

    root: Path = field(default_factory=lambda: Path(sysconfig.get_path("stdlib")))
    cap: int = 8_000_000
    largest_file: int = 200_000

    def files(self, split: Split) -> list[Path]:
        """The files of a split, within the cap, in hashed order."""
        check_split(split)
        names = []
        for folder, inside, files in os.walk(self.root):
            inside[:] = [name for name in inside if name not in _LEFT_OUT]  # never walked into
            here = Path(folder).relative_to(self.root)
            names += [here / name for name in files if name.endswith(".py")]
        if not names:
            raise ValueError(f"root {self.root} holds no Python files: pass a source folder")
        names.sort(key=lambda name: hashlib.sha256(name.as_posix().encode()).digest())
        chosen, used = [], 0
        for name in names:
            size = (self.root / name).stat().st_size
            if not 0 < size <= self.largest_file or used + size > self.cap:
                continue
            used += size
            if split_of(name.as_posix()) == split:
                chosen.append(self.root / name)
        return chosen

    def texts(self, split: Split) -> Iterator[str]:
        """The source of each file, decoded as Python itself would."""
        for path in self.files(split):
            with tokenize.open(path) as file:
                yield file.read()

    def chunks(self, split: Split, size: int) -> Iterator[str]:
        """Consecutive pieces of at most ``size`` characters, cut after a line where one ends.

        The pieces of a file, joined, are the file.
        """
        if size < 1:
            raise ValueError(f"size is {size}: pass a positive number of characters")
        for text in self.texts(split):
            start = 0
            while start < len(text):
                stop = min(start + size, len(text))
                if stop < len(text):
                    stop = (text.rfind("\n", start, stop) + 1) or stop
                yield text[start:stop]
                start = stop

    def tokenizer(self, vocab_size: int) -> TaskTokenizer:
        """A byte-level BPE learned from the train files."""
        return byte_pairs(self.texts("train"), vocab_size)

    def tokens(
        self, codec: TaskTokenizer, split: Split, most: int | None = None
    ) -> NDArray[np.int32]:
        """The files of a split as one array of ids, each file closed by an end token.

        Args:
          most: ids to return at the most; no file is read that does not add to them.
        """
        rows, count = [np.zeros(0, np.int32)], 0
        for text in self.texts(split):
            rows.append(np.array([*codec.encode(text), codec.eos_id], np.int32))
            count += len(rows[-1])
            if most is not None and count >= most:
                break
        return np.concatenate(rows)[:most]
