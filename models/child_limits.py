"""What a process gives up before it works on something foreign. Standard library only."""

import resource


def give_up(memory: int, seconds: int | None = None) -> None:
    """Bound memory and CPU time; open no file and no socket, start no process, from here on."""
    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        if most is not None:
            resource.setrlimit(what, (most, most))
