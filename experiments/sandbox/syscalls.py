"""The wall "calls": system calls that lead around the other walls are refused, by seccomp.

Shared memory, semaphores and messages of System V, POSIX queues and `memfd` files are memory that
no limit of a process counts. A Unix socket found by its path is reached from a network of one's
own, and Landlock does not look at it; pairs of sockets within a program stay. The rest (tracing,
mounting, new name spaces, keys, rings of requests) no program under test has a use for. Refused
calls fail as not permitted. Standard library only.
"""

import ctypes
import os
import struct

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE, _ABSENT = 0x7FFF0000, 0x00050001, 0x00050026  # permitted; EPERM; ENOSYS
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in what the filter sees
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_UNIX = 1
_NEW_SPACES = 0x7E020000  # bits of `clone` that ask for name spaces
_X32 = 0x40000000  # a second set of numbers on x86-64

_NAMES = (
    *("shmget", "shmat", "semget", "msgget", "mq_open", "memfd_create", "memfd_secret"),
    *("io_uring_setup", "ptrace", "process_vm_readv", "process_vm_writev", "mount", "umount2"),
    *("unshare", "setns", "keyctl", "add_key", "request_key", "bpf", "userfaultfd"),
    *("perf_event_open", "pivot_root", "chroot", "open_by_handle_at"),
)
# By machine: its number for the kernel, `socket`, `clone`, and the names above in their order.
_TABLES = {
    "x86_64": (
        *(0xC000003E, 41, 56),
        *(29, 30, 64, 68, 240, 319, 447, 425, 101, 310, 311, 165),
        *(166, 272, 308, 250, 248, 249, 321, 323, 298, 155, 161, 304),
    ),
    "aarch64": (
        *(0xC00000B7, 198, 220),
        *(194, 196, 190, 186, 180, 279, 447, 425, 117, 270, 271, 40),
        *(39, 97, 268, 219, 217, 218, 280, 282, 241, 41, 51, 265),
    ),
}
_CLONE3 = 435  # its flags lie in memory, where no filter looks; libraries then use `clone`


def refuse_calls() -> bool:
    """Put the filter up for this process and whatever it becomes; False where it cannot be."""
    table = _TABLES.get(os.uname().machine)
    if table is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    machine, socket, clone, *refused = table
    rules = b"".join(
        [
            _rule(_LOAD, _MACHINE),
            _rule(_EQUAL, machine, 1, 0),
            _rule(_RETURN, _REFUSE),
            _rule(_LOAD, _NUMBER),
            _rule(_AT_LEAST, _X32, 0, 1),
            _rule(_RETURN, _REFUSE),
            *(_rule(_EQUAL, number, 0, 1) + _rule(_RETURN, _REFUSE) for number in refused),
            _rule(_EQUAL, _CLONE3, 0, 1) + _rule(_RETURN, _ABSENT),
            _rule(_EQUAL, socket, 0, 3),
            _rule(_LOAD, _FIRST_ARGUMENT),
            _rule(_EQUAL, _UNIX, 0, 4) + _rule(_RETURN, _REFUSE),
            _rule(_EQUAL, clone, 0, 3),
            _rule(_LOAD, _FIRST_ARGUMENT),
            _rule(_ANY_BIT, _NEW_SPACES, 0, 1) + _rule(_RETURN, _REFUSE),
            _rule(_RETURN, _ALLOW),
        ]
    )
    held = ctypes.create_string_buffer(rules, len(rules))
    program = struct.pack("HxxxxxxQ", len(rules) // 8, ctypes.addressof(held))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    return prctl(_SET_SECCOMP, _FILTER, program, 0, 0) == 0


def _rule(code: int, operand: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("HBBI", code, then, otherwise, operand)
