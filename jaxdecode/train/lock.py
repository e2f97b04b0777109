"""One process at a time: a lock on a file, and who has it."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def hold(file: int) -> str | None:
    """Lock an open file for as long as it stays open; who has it where that is another.

    File systems, and systems, that know no locks let everybody pass.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(file)
    except OSError:
        return None
    return None


def _holder(file: int) -> str:
    """Who holds a lock on an open file, as far as the system says."""
    inode = os.fstat(file).st_ino
    try:
        listed = Path("/proc/locks").read_text().splitlines()
        locks = [line.split() for line in listed if "->" not in line]  # an arrow only waits
        held = [int(lock[4]) for lock in locks if lock[5].endswith(f":{inode}")]
        command = Path(f"/proc/{held[0]}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return f"process {held[0]} on {socket.gethostname()} ({command.strip()[:200]})"
    except (OSError, ValueError, IndexError):
        return "another process"
