"""`penstock` as its users run it: a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.autoscaler.local.processes import STANDIN, noted, soon

ROOT = Path(__file__).parents[2]


def environment(**extra: str) -> dict[str, str]:
    """The environment of a child: this checkout's code, one thread, no colours."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", **extra}


def penstock(*arguments: str, cwd: Path, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "penstock", *arguments],
        cwd=cwd,
        env=environment(**extra),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def standin_file(folder: Path, *flags: str, name: str = "demo", file: str = "demo.yaml", extra: str = "") -> Path:
    """A service file whose engine is the stand-in; it notes its processes in `pids`."""
    args = [f"--pids={folder / 'pids'}", *flags]
    path = folder / file
    path.write_text(
        f"""
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: {name}}}
spec:
  predictor:
    {extra}
    model:
      modelFormat: {{name: huggingface}}
      command: ["{sys.executable}", "{STANDIN}"]
      args: {args!r}
"""
    )
    return path


class Up:
    """A running `penstock up`. Its output is in files; as a context manager it is ended if a test did not."""

    def __init__(self, folder: Path, *arguments: str, **extra: str) -> None:
        self.folder = folder
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "penstock", "up", "--port", "0", *arguments],
                cwd=folder,
                env=environment(**extra),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._err.read_text()

    @property
    def url(self) -> str:
        """The gateway's address, once it is printed."""
        soon(lambda: "Ctrl-C stops" in self.out or self.process.poll() is not None, 100)
        found = re.search(r"at (http://\S+)/v1$", self.out, re.MULTILINE)
        assert found, self.out + self.err
        return found.group(1)

    def pids(self) -> list[int]:
        """The stand-ins' processes so far."""
        return noted(self.folder / "pids")

    def __enter__(self) -> "Up":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def lines(text: str) -> Sequence[str]:
    """The lines that say something."""
    return [line for line in text.splitlines() if line.strip()]
