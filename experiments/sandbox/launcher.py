"""The parent of a sandboxed program: walls it in, waits for it, sees to it that nothing stays.

    python -I launcher.py REQUEST REPORT LIFE

The arguments are numbers of open files. The request is JSON with `files` (name to text, one of
them program.py), `folder`, `disk`, `wall`, `limits`, `processes`; the report gets one line a wall
and a last line `end CODE SECONDS`, where CODE is the exit status, minus the number of a signal,
`late` (its time was over) or `ended`. A program that is not there to be waited for leaves a report
without an end. LIFE is a pipe that nobody writes to: where its other end closes, whoever asked is
gone or wants no more, and everything is ended at once.

    launcher, outside        may be root; unshares; waits for the keeper
      keeper                  first process of the program's own process space, so that the kernel
                              kills whatever is left there when the keeper ends; without such a
                              space it adopts what the program leaves behind, and kills it
        program               a root of its own, resource limits, stranger's user id, Landlock,
                              then exec
"""

import json
import os
import select
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import roots
import syscalls
import walls

_POLL = 0.005  # seconds
_SCRIPT = "program.py"
_PROC = os.path.isdir("/proc")


def main() -> None:
    request_file, report_file, life = (int(argument) for argument in sys.argv[1:])
    with open(request_file) as file:
        request = json.load(file)
    for kept in (report_file, life):
        os.set_inheritable(kept, False)
    user = walls.stranger(os.getpid())
    work, home, root = folders = _folders(request)
    for folder in folders:
        os.mkdir(folder)
    os.chmod(request["folder"], 0o711)  # a stranger may pass
    standing = walls.namespaces()
    keeper = os.fork()
    if keeper:
        os.waitpid(keeper, 0)
        if _abandoned(life):
            _clear(work, home, root)
        return
    walls.die_with_parent()
    if not walls.adopt_orphans():
        standing.discard("processes")
    if "mounts" in standing and not walls.own_mounts():
        standing.discard("mounts")
    python = os.path.realpath(sys.executable)
    if user is not None and not walls.open_to_all(python):
        within = os.path.relpath(python, sys.base_prefix)
        if "mounts" in standing and walls.show(sys.base_prefix, home):
            python = os.path.join(home, within)
        if not walls.open_to_all(python):
            user = None
    owner = os.getuid() if user is None else user
    if "mounts" in standing and walls.small_disk(work, request["disk"], owner):
        standing.add("disk")
    os.chdir(work)
    for name, text in request["files"].items():
        with open(name, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
    if user is not None:
        for path in (".", *request["files"]):
            os.chown(path, user, user)
    start = time.monotonic()
    program = os.fork()
    if program == 0:
        _enter(request, user, standing, python, report_file)
    code = _wait(program, start + request["wall"], life)
    seconds = time.monotonic() - start
    _sweep("processes" in standing)
    os.write(report_file, f"end {code} {seconds}\n".encode())


def _folders(request: dict) -> list[str]:
    """Where the program works, where its interpreter is shown, where its root is put together."""
    return [os.path.join(request["folder"], name) for name in ("work", "python", "root")]


def _abandoned(life: int) -> bool:
    """Whether the other end of the pipe is closed."""
    return bool(select.select([life], [], [], 0)[0])


def _clear(work: str, home: str, root: str) -> None:
    """What the one who asked would have removed. `home` may show the interpreter: never emptied."""
    for folder in (work, home):
        walls.hide(folder)
    if not os.path.ismount(work):
        shutil.rmtree(work, ignore_errors=True)
    try:
        os.rmdir(home)
        os.rmdir(root)
        os.rmdir(os.path.dirname(work))
    except OSError:
        return


def _enter(request: dict, user: int | None, standing: set, python: str, report: int) -> None:
    """Put up the walls that hold this process only, and become the program."""
    try:
        os.setsid()
        most = dict(request["limits"])
        others = 0 if user is not None or _mapped() else _tasks(os.getuid())
        most["NPROC"] = request["processes"] + others
        work, home, root = _folders(request)
        if "mounts" in standing and roots.own_root(root, (work, home)):
            standing.add("root")
        standing |= walls.landlock(".")
        if user is not None and walls.become(user):
            standing.add("user")
        standing |= walls.limits(most)
        if syscalls.refuse_calls():
            standing.add("calls")
        if os.getuid() == 0:  # root's processes are not counted
            standing.discard("limit NPROC")
        os.write(report, "".join(f"wall {name}\n" for name in sorted(standing)).encode())
        os.execve(python, [python, "-I", "-S", "-B", "-X", "utf8", _SCRIPT], {})
    except OSError as error:
        os.write(2, f"the program was not started: {error}\n".encode())
        os._exit(127)


def _mapped() -> bool:
    """Whether this process has a user space of its own, where its tasks are counted apart."""
    try:
        with open("/proc/self/uid_map") as file:
            return file.read().split()[2:] == ["1"]
    except OSError:
        return False


def _tasks(user: int) -> int:
    """Threads that a user runs now."""
    count = 0
    for name in _processes():
        try:
            if os.stat(f"/proc/{name}").st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue
    return count


def _wait(program: int, until: float, life: int) -> int | str:
    """Exit status of the program, reaping whatever else ends; "late" or "ended" before that."""
    while time.monotonic() < until:
        if _abandoned(life):
            return "ended"
        done, status = os.waitpid(-1, os.WNOHANG)
        if done == program:
            return os.waitstatus_to_exitcode(status)
        if done == 0:
            time.sleep(_POLL)
    return "late"


def _sweep(alone: bool) -> None:
    """Kill every descendant; for one that is `alone` in a process space, all others."""
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        for process in [-1] if alone else _descendants():
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        time.sleep(_POLL)


def _descendants() -> list[int]:
    """Children of this process, theirs, and so on."""
    parents = {}
    for name in _processes():
        try:
            with open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family, found = {os.getpid()}, []
    while family:
        family = {child for child, parent in parents.items() if parent in family}
        found += family
    return found


def _processes() -> list[str]:
    """Names in /proc, none where there is no such folder."""
    return [name for name in os.listdir("/proc") if name.isdigit()] if _PROC else []


if __name__ == "__main__":
    main()
