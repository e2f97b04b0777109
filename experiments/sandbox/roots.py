"""The wall "root": a root of its own for a process, with what it may read and its folder in it.

Whatever else the machine's files are named, sockets among them, is not there to be named: a path
leads nowhere, whether or not another wall looks at it. Needs mounts of one's own. Standard library
only.
"""

import os
import sys
from collections.abc import Iterable

import walls

_SIZE = b"size=262144,nr_inodes=4096,mode=755"  # holds folders to mount on, no files


def own_root(place: str, shown: Iterable[str]) -> bool:
    """Leave for a root in which nothing but `shown` exists, at the paths it had, and what every
    interpreter reads.

    Args:
      place: an empty folder, on which the root is put together.
    Returns:
      False where it cannot be had; this process is then where it was, but for mounts of its own
      that nobody else sees.
    """
    here = os.getcwd()
    if not walls.mounts_apart() or not walls.put_file_system(place, _SIZE):
        return False
    try:
        for path in (*walls.READABLE, sys.base_prefix, sys.prefix, *shown):
            if os.path.lexists(path) and not _appear(path, place):
                return False
        return walls.change_root(place) and _back(here)
    except OSError:
        return False


def _appear(path: str, root: str) -> bool:
    """Have `path` lead within `root` where it leads outside."""
    inside = root + path
    if os.path.lexists(inside):  # within another, or what it stands for is
        return True
    os.makedirs(os.path.dirname(inside), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), inside)
        target = os.path.join(os.path.dirname(path), os.readlink(path))
        return not os.path.lexists(target) or _appear(os.path.normpath(target), root)
    if os.path.isdir(path):
        os.mkdir(inside)
    else:
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
    return walls.show(path, inside)


def _back(folder: str) -> bool:
    os.chdir(folder)
    return True
