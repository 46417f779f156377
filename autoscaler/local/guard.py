"""The guard: a small process between the controller and one engine; no engine outlives the controller.

    controller --pipe--> guard --fork--> engine (own process group) --> whatever the engine starts

The guard holds the reading end of a pipe as its standard input. When the controller goes, however it goes,
the kernel closes the writing end, and the guard ends the engine's process group: SIGTERM,
then SIGKILL when the drain time is over. On Linux the kernel also kills the engine should the guard itself be
killed (PR_SET_PDEATHSIG), and whatever the engine starts outside its group is inherited by the guard
(PR_SET_CHILD_SUBREAPER), which ends it with the engine.

Standard library only, and run by path with `python -I -S`: the engine is started within 50 milliseconds.

    guard.py DRAIN_S -- PROGRAM [ARGUMENT ...]

stdin: the pipe; end of file means drain, the byte `K` means end at once. stdout: the engine's process id, one
line. stderr: the engine's output. Exit status: the engine's, or 128 + the signal that ended it; 127 if it
cannot be run.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CANNOT_RUN = 127
HEARD = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
REAP_S = 5.0  # how long killed processes may take to go; only an uninterruptible system call takes longer


def main(argv: list[str]) -> int:
    """Run the engine until it ends or is ended; the exit status for this process."""
    drain_s, command = float(argv[1]), argv[3:]
    wake = _wake_on_signals()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    engine = _start(command)
    try:
        with contextlib.suppress(BrokenPipeError):
            os.write(1, b"%d\n" % engine)
        return _watch(engine, drain_s, wake)
    finally:
        _end_the_rest(engine)


def _wake_on_signals() -> int:
    """A descriptor that becomes readable when a child ends or somebody asks the guard to stop."""
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in HEARD:
        signal.signal(number, lambda *_: None)
    return reader


def _start(command: list[str]) -> int:
    """Fork the engine into a process group of its own. Its process id.

    Signals are held back over the fork: one that comes while the child is still this program must end it.
    """
    guard = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    pid = os.fork()
    if pid == 0:
        _become(command, guard)
    with contextlib.suppress(OSError):  # either side may be first; the group exists when this returns
        os.setpgid(pid, pid)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    return pid


def _become(command: list[str], guard: int) -> NoReturn:
    """In the child: turn into the engine."""
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (*HEARD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # the guard went before the kernel knew whom to tell
            os._exit(CANNOT_RUN)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        os.execvp(command[0], command)  # noqa: S606 (no shell is the point)
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(CANNOT_RUN)


def _watch(engine: int, drain_s: float, wake: int) -> int:
    """Wait for the engine; end it when the pipe says so or closes. Its exit status."""
    inputs, kill_at = [0, wake], float("inf")
    while True:
        status = _reap(engine)
        if status is not None:
            return status
        if time.monotonic() >= kill_at:
            _signal_group(engine, signal.SIGKILL)
            kill_at = float("inf")
        pause = kill_at - time.monotonic()
        readable, _, _ = select.select(inputs, [], [], None if pause == float("inf") else max(0.0, pause))
        if wake in readable and not _only_children(os.read(wake, 512)):
            kill_at = _drain(engine, drain_s, kill_at)
        if 0 in readable:
            word = os.read(0, 64)
            if not word:
                inputs = [wake]
            kill_at = time.monotonic() if b"K" in word else _drain(engine, drain_s, kill_at)


def _drain(engine: int, drain_s: float, kill_at: float) -> float:
    """Ask the engine to end; when to kill it, which a second request does not put off."""
    if kill_at == float("inf"):
        _signal_group(engine, signal.SIGTERM)
        return time.monotonic() + drain_s
    return kill_at


def _only_children(signals: bytes) -> bool:
    return all(number == signal.SIGCHLD for number in signals)


def _reap(engine: int) -> int | None:
    """Collect every child that has ended. The engine's exit status if it was among them."""
    ended = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        if pid == engine:
            code = os.waitstatus_to_exitcode(status)
            ended = code if code >= 0 else 128 - code


def _end_the_rest(engine: int) -> None:
    """Kill what is left of the engine's group, and whatever this process inherited from it."""
    _signal_group(engine, signal.SIGKILL)
    give_up = time.monotonic() + REAP_S
    while time.monotonic() < give_up:
        for child in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)


def _children() -> list[int]:
    """Process ids of this process's children, on Linux; elsewhere nothing is inherited."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children") as listing:
        return [int(pid) for pid in listing.read().split()]
    return []


def _signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the pipe alone does the work."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
