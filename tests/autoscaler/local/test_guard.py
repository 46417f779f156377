"""The guard, against everything that can happen to it, its parent and its engine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoscaler.local.process import GUARD
from tests.autoscaler.local.processes import STANDIN, alive, noted, soon

SLEEP = [sys.executable, "-c", "import time; time.sleep(3600)"]


class Guarded:
    """A guard with an engine, and the writing end of its pipe."""

    def __init__(self, *command: str, drain_s: float = 30.0, log: int | None = subprocess.DEVNULL) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", GUARD, str(drain_s), "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.pid = int(self.process.stdout.readline() or b"0")

    def close(self) -> None:
        """What the kernel does when the parent is gone."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def ended(self) -> int:
        """Its exit status; all pipes closed."""
        status = self.process.wait(30)
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        self.process.stdout.close()
        self.process.stdin.close()
        return status


def standin(pids: Path, *flags: str) -> list[str]:
    return [sys.executable, STANDIN, "--port", "0", "--pids", str(pids), *flags]


def test_the_exit_status_is_the_engines() -> None:
    assert Guarded(sys.executable, "-c", "raise SystemExit(7)").ended() == 7
    assert Guarded(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)").ended() == 137
    assert Guarded(sys.executable, "-c", "pass").ended() == 0


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        assert Guarded("/nowhere/engine", log=log.fileno()).ended() == 127
    assert (tmp_path / "log").read_text() == "cannot start /nowhere/engine: No such file or directory\n"


def test_output_of_both_kinds_goes_to_the_log(tmp_path: Path) -> None:
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr); print(repr(sys.stdin.read()))"
    with (tmp_path / "log").open("wb") as log:
        assert Guarded(sys.executable, "-c", code, log=log.fileno()).ended() == 0
    assert (tmp_path / "log").read_text() == "out\nerr\n''\n"


def test_a_closed_pipe_ends_the_engine() -> None:
    guarded = Guarded(*SLEEP)
    assert alive(guarded.pid)
    guarded.close()
    assert guarded.ended() == 128 + signal.SIGTERM
    assert not alive(guarded.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_guard_ends_the_engine(number: signal.Signals) -> None:
    guarded = Guarded(*SLEEP)
    guarded.process.send_signal(number)
    assert guarded.ended() == 128 + signal.SIGTERM


def test_an_engine_that_ignores_sigterm_is_killed_when_its_drain_time_is_over(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    guarded = Guarded(*standin(pids, "--ignore_term"), drain_s=0.3)
    soon(lambda: noted(pids))
    guarded.close()
    assert guarded.ended() == 128 + signal.SIGKILL
    assert not alive(guarded.pid)


def test_a_second_request_does_not_put_off_the_end(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    guarded = Guarded(*standin(pids, "--ignore_term"), drain_s=0.5)
    soon(lambda: noted(pids))
    guarded.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    guarded.process.send_signal(signal.SIGTERM)
    guarded.close()
    assert guarded.ended() == 128 + signal.SIGKILL


def test_the_byte_for_now_means_now(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    guarded = Guarded(*standin(pids, "--ignore_term"), drain_s=3600)
    soon(lambda: noted(pids))
    os.write(guarded.process.stdin.fileno() if guarded.process.stdin else -1, b"K")
    assert guarded.ended() == 128 + signal.SIGKILL


@pytest.mark.parametrize("kind", ["--child", "--stray_child"])
@pytest.mark.parametrize("how", ["pipe", "crash"])
def test_what_the_engine_started_goes_with_it(tmp_path: Path, kind: str, how: str) -> None:
    """A child in the engine's group, and one that left it for a session of its own."""
    pids = tmp_path / "pids"
    guarded = Guarded(*standin(pids, kind))
    soon(lambda: len(noted(pids)) == 2)
    if how == "pipe":
        guarded.close()
    else:
        os.kill(guarded.pid, signal.SIGKILL)
    guarded.ended()
    assert [pid for pid in noted(pids) if alive(pid)] == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_the_engine_goes_when_the_guard_is_killed() -> None:
    guarded = Guarded(*SLEEP)
    guarded.process.kill()
    assert guarded.ended() == -signal.SIGKILL
    soon(lambda: not alive(guarded.pid))


@pytest.mark.parametrize("delay_s", [0.0, 0.005, 0.01, 0.02, 0.03, 0.05])
def test_nothing_is_left_when_the_pipe_closes_while_the_engine_is_being_started(tmp_path: Path, delay_s: float) -> None:
    pids = tmp_path / "pids"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", GUARD, "30", "--", *standin(pids, "--child")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    time.sleep(delay_s)
    process.stdin.close()
    process.wait(20)  # well below the drain time: SIGTERM must have reached it
    assert [pid for pid in noted(pids) if alive(pid)] == []


def test_a_controller_that_is_gone_before_it_read_the_process_id() -> None:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", GUARD, "30", "--", *SLEEP],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.close()
    assert process.wait(20) == 128 + signal.SIGTERM
    assert process.stderr.read() == b""
    process.stderr.close()


def test_it_runs_as_a_module_too() -> None:
    command = [sys.executable, "-m", "autoscaler.local.guard", "1", "--", sys.executable, "-c", "raise SystemExit(3)"]
    ran = subprocess.run(command, stdin=subprocess.PIPE, capture_output=False, stdout=subprocess.PIPE, check=False)
    assert ran.returncode in (3, 128 + signal.SIGTERM)  # its input is closed at once
