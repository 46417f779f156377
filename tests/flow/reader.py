"""A reader who types in what a document says: a shell, and a Python session that lasts as long as the document."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.flow.documents import Block, Step, same
from tests.flow.programs import ENVIRONMENT, PENSTOCK, ROOT, Stack

ADDRESSES = ("127.0.0.1:8080", "localhost:8080")
STEP_S = 20.0

# What a reader's commands are here. `make run` shows what it showed when these tests began (`program`); other targets
# are only looked at. Nothing may be installed by a test.
PROGRAMS = {
    "penstock": f'exec {" ".join(PENSTOCK)} "$@"',
    "python": f'exec {sys.executable} "$@"',
    "make": f'if [ "$*" = run ]; then exec cat "$MAKE_RUN_OUT"; fi; exec /usr/bin/make --dry-run -C {ROOT} "$@"',
    "pip": "echo 'a test installs nothing: write <!-- not run: REASON --> above the block' >&2; exit 1",
    "sudo": "echo 'a test is nobody special: write <!-- not run: REASON --> above the block' >&2; exit 1",
}


@dataclass
class Reader:
    """Reads with a stack at hand; works in `folder`, which has `manifests/`."""

    stack: Stack
    folder: Path
    environment: dict[str, str]
    session: subprocess.Popen[str]
    patience_s: float = STEP_S

    def write(self, block: Block) -> None:
        """Make the file that a block is to be."""
        (self.folder / block.comments["file"]).write_text(self._here(block.text) + "\n")

    def follow(self, step: Step) -> str | None:
        """Do what it says; None if it went well, else what went wrong."""
        if step.needs is not None and not _installed(step.needs):
            return None
        done, output = self._python(step) if step.python else self._shell(step)
        if not done:
            return f"line {step.line} failed:\n{step.text}\n{output}"
        if step.expected is not None and not same(self._here(step.expected), output):
            return f"line {step.line} has another output:\n{step.text}\nexpected: {step.expected}\nfound: {output}"
        return None

    def _shell(self, step: Step) -> tuple[bool, str]:
        shell = subprocess.Popen(
            ("bash", "-euo", "pipefail", "-c", self._here(step.text)),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = shell.communicate(timeout=self.patience_s)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            out, err = shell.communicate()
            return False, f"{out}{err}\nit does not end by itself"
        return shell.returncode == 0, out if shell.returncode == 0 else out + err

    def _python(self, step: Step) -> tuple[bool, str]:
        assert self.session.stdin is not None
        assert self.session.stdout is not None
        piece = {"where": f"line {step.line}", "text": self._here(step.text)}
        self.session.stdin.write(json.dumps(piece) + "\n")
        self.session.stdin.flush()
        line = self.session.stdout.readline()
        if not line:
            return False, "the Python session ended with it"
        answer = json.loads(line)
        return not answer["error"], answer["out"] + answer["error"]

    def _here(self, text: str) -> str:
        """The text with the address that a document has replaced by the stack's."""
        for address in ADDRESSES:
            text = text.replace(address, self.stack.url.removeprefix("http://"))
        return text


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package it would be in
        return False


@contextmanager
def reader(stack: Stack, key: str, shown_by_make: Path, folder: Path) -> Iterator[Reader]:
    """Someone who begins with a document."""
    programs = folder / "programs"
    programs.mkdir()
    for name, script in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    (folder / "manifests").symlink_to(ROOT / "manifests")
    environment = {
        **ENVIRONMENT,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PENSTOCK_URL": stack.url,
        "PENSTOCK_STATE": str(stack.state),
        "PENSTOCK_API_KEY": key,
        "MAKE_RUN_OUT": str(shown_by_make),
    }
    session = subprocess.Popen(
        (sys.executable, "-m", "tests.flow.python_session"),
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with session:
        try:
            yield Reader(stack, folder, environment, session)
        finally:
            assert session.stdin is not None
            session.stdin.close()
            try:
                session.wait(STEP_S)
            finally:
                session.kill()
