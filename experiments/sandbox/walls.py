"""The walls around a program, one function each, put up by the process that is to stand inside.

Every function says whether its wall stands: what the system does not permit is left out and
reported, never assumed. Standard library only, for this runs in a bare interpreter.
"""

import ctypes
import os
import resource
import stat
import struct
import sys
from collections.abc import Iterable

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 0x1000, 0x4000, 0x40000
_MNT_DETACH = 2
_SET_NO_NEW_PRIVS, _SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 38, 1, 36
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_EXECUTE, _WRITE, _READ, _READ_DIR = 1, 2, 4, 8
_NOBODY = 65534
READABLE = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/urandom", "/dev/null", "/dev/zero")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    """A function of the C library; OSError where it fails or there is none such."""
    try:
        result = getattr(_libc(), name)(*arguments)
    except AttributeError as missing:
        raise OSError(f"no {name} on this system") from missing
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def _permitted(name: str, *arguments: object) -> bool:
    try:
        _call(name, *arguments)
    except OSError:
        return False
    return True


def namespaces() -> set[str]:
    """Own processes, network, messages and mounts, as far as they can be had."""
    user, group = os.getuid(), os.getgid()
    if user != 0 and _permitted("unshare", _NEWUSER):
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    flags = {"network": _NEWNET, "processes": _NEWPID, "messages": _NEWIPC, "mounts": _NEWNS}
    return {name for name, flag in flags.items() if _permitted("unshare", flag)}


def own_mounts() -> bool:
    """Keep what is mounted from here on to this process and its children."""
    return _permitted("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)


def small_disk(folder: str, size: int, owner: int) -> bool:
    """A file system of `size` bytes on `folder`."""
    return put_file_system(folder, f"size={size},nr_inodes=256,mode=700,uid={owner}".encode())


def put_file_system(folder: str, options: bytes) -> bool:
    """An empty file system in memory on `folder`."""
    return _permitted("mount", b"tmpfs", folder.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, options)


def mounts_apart() -> bool:
    """What is mounted from here on is this process's alone, and not its parent's."""
    return _permitted("unshare", _NEWNS) and own_mounts()


def change_root(folder: str) -> bool:
    """Have `folder`, a mount, be all there is; the old root is gone for good."""
    os.chdir(folder)
    # The old root is put upon the new one, and taken away from there.
    return _permitted("pivot_root", b".", b".") and hide(".")


def show(place: str, folder: str) -> bool:
    """Have `place` appear at `folder` too, where others can reach it."""
    return _permitted("mount", place.encode(), folder.encode(), None, _MS_BIND | _MS_REC, None)


def hide(folder: str) -> bool:
    """Take away what was mounted on `folder`."""
    return _permitted("umount2", folder.encode(), _MNT_DETACH)


def die_with_parent() -> None:
    _permitted("prctl", _SET_PDEATHSIG, 9, 0, 0, 0)


def adopt_orphans() -> bool:
    """Descendants that lose their parent become children of this process."""
    return _permitted("prctl", _SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def limits(most: dict[str, int]) -> set[str]:
    """Resource limits by name ("AS", "CPU", ...); past that of CPU time a second to be told so."""
    standing = set()
    for name, value in most.items():
        try:
            kind = getattr(resource, f"RLIMIT_{name}")
            resource.setrlimit(kind, (value, value + (name == "CPU")))
            standing.add(f"limit {name}")
        except (AttributeError, ValueError, OSError):
            continue
    return standing


def stranger(seed: int) -> int | None:
    """A user id that owns nothing, where this process is root and may take one."""
    return None if os.getuid() else 0x40000000 + seed


def become(user: int) -> bool:
    """Give up root for good."""
    for one in (user, _NOBODY):  # a container may map few ids
        try:
            os.setgroups([])
            os.setresgid(one, one, one)
            os.setresuid(one, one, one)
            return True
        except OSError:
            continue
    return False


def open_to_all(path: str) -> bool:
    """Whether a stranger can reach a file."""
    while True:
        mode = os.stat(path).st_mode
        if not mode & (stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH):
            return False
        if path == os.path.dirname(path):
            return True
        path = os.path.dirname(path)


def landlock(folder: str | None) -> set[str]:
    """Write inside `folder` alone, read it and the interpreter; no signals or sockets outwards.

    With None for a folder nothing can be written.

    Linux 5.13 and later; what is covered grows with the version of the interface.
    """
    libc = _libc()
    version = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return set()
    every = (1 << (13 + (version > 1) + (version > 2) + (version > 4))) - 1
    attributes = struct.pack("QQQ", every, 3, 3)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        return set()
    if folder is not None:
        _allow(rules, every, folder)
    for path in _existing((*READABLE, sys.base_prefix, sys.prefix)):
        inside = _READ_DIR if os.path.isdir(path) else 0
        special = _WRITE if path.startswith("/dev") else _EXECUTE
        _allow(rules, _READ | inside | special, path)
    stands = _permitted("prctl", _SET_NO_NEW_PRIVS, 1, 0, 0, 0) and not libc.syscall(
        _RESTRICT_SELF, rules, 0
    )
    os.close(rules)
    if not stands:
        return set()
    return {"files"} | ({"tcp"} if version > 3 else set()) | ({"signals"} if version > 5 else set())


def _existing(paths: Iterable[str]) -> set[str]:
    return {path for path in paths if os.path.exists(path)}


def _allow(rules: int, access: int, path: str) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = struct.pack("=Qi", access, handle)
    _libc().syscall(_ADD_RULE, rules, 1, rule, 0)
    os.close(handle)
