"""One engine process under its guard."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path

from engines.launch import Launch

GUARD = str(Path(__file__).with_name("guard.py"))


def environment(launch: Launch, inherited: Mapping[str, str]) -> dict[str, str]:
    """Pure. The engine's environment: the launch's own laid over `inherited`; `PYTHONPATH` is put before."""
    own = dict(launch.env)
    if inherited.get("PYTHONPATH") and own.get("PYTHONPATH"):
        own["PYTHONPATH"] += os.pathsep + inherited["PYTHONPATH"]
    return {**inherited, **own}


class EngineProcess:
    """A running engine. `drain` and `kill` return at once; `wait` says when all it started is gone."""

    def __init__(self, guard: Process, lifeline: int, pid: int) -> None:
        self._guard = guard
        self._lifeline = lifeline
        self.pid = pid

    @classmethod
    async def start(cls, launch: Launch, log: Path) -> "EngineProcess":
        """Start `launch` (its port filled in), its output appended to `log`.

        Raises:
            OSError: the guard could not be started, or the log not be opened.
        """
        reader, lifeline = os.pipe()
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                guard = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", GUARD, str(launch.drain_s), "--", *launch.argv),
                    stdin=reader,
                    stdout=PIPE,
                    stderr=output,
                    env=environment(launch, os.environ),
                    start_new_session=True,  # Ctrl-C at the terminal is for the controller alone
                )
            finally:
                os.close(output)
            assert guard.stdout is not None
            return cls(guard, lifeline, int(await guard.stdout.readline() or b"0"))
        except BaseException:
            os.close(lifeline)  # the guard, if there is one, reads the end of file and goes
            raise
        finally:
            os.close(reader)

    async def wait(self) -> int:
        """Wait until the engine is gone. Its exit status; 128 + N when signal N ended it."""
        assert self._guard.stdout is not None
        await self._guard.stdout.read()  # to its end, so that the pipe is closed when this returns
        status = await self._guard.wait()
        self._close()
        if status < 0:  # the guard itself was killed: the kernel killed the engine, this is for what it started
            self._kill_group()
        return status if status >= 0 else 128 - status

    def drain(self) -> None:
        """Let the engine finish: SIGTERM now, SIGKILL when its drain time is over."""
        self._close()

    def kill(self) -> None:
        """End the engine and all it started at once."""
        if self._lifeline >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._lifeline, b"K")
        else:
            self._kill_group()

    def _close(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def _kill_group(self) -> None:
        if self.pid > 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
