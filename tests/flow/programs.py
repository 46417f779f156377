"""Penstock's own programs as separate processes: started through the command line, read, ended by a signal."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.autoscaler.local.processes import alive, soon

ROOT = Path(__file__).parents[2]
PENSTOCK = (sys.executable, "-m", "penstock")
START_S = 100.0  # importing torch takes half a minute on a machine that is busy with other things
STOP_S = 60.0
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "OPENAI_"))},
    "PYTHONPATH": str(ROOT),
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "NO_COLOR": "1",
    "COLUMNS": "200",
}


def run(*arguments: str, cwd: Path = ROOT) -> str:
    """What a `penstock` command prints; it has to succeed."""
    command = (*PENSTOCK, *arguments)
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Program:
    """A running program; what it prints is in `folder`."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def out(self) -> str:
        """Standard output so far."""
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        """Standard error so far."""
        return (self.folder / "err").read_text()

    def until(self, pattern: str) -> str:
        """Wait until the output has this; the pattern's first group."""
        found: list[str] = []

        def said() -> bool:
            match = re.search(pattern, self.out + self.err)
            found[:] = [match.group(1)] if match else []
            return bool(found) or self.process.poll() is not None

        soon(said, START_S)
        assert found, f"it ended with {self.process.returncode}: {self.out}\n{self.err}"
        return found[0]


@contextmanager
def program(folder: Path, arguments: Sequence[str], end_with: int) -> Iterator[Program]:
    """`penstock ARGUMENTS`, ended with a signal; then it says that all went well, and no process of it is left."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            (*PENSTOCK, *arguments),
            cwd=folder,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,  # Ctrl-C in the terminal of the tests is theirs
        )
    running = Program(process, folder)
    try:
        yield running
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        if end_with == signal.SIGINT:
            os.killpg(process.pid, end_with)  # as a terminal does it: to all of them
        else:
            process.send_signal(end_with)
        status = process.wait(STOP_S)
        soon(lambda: not any(map(alive, family)), STOP_S)
        assert status == 0, f"it ended with {status}: {running.err}"
    finally:
        if process.poll() is None:  # its engines end with it
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Stack:
    """A gateway and its engine: `url` without `/v1`; `keys` by tenant, none where anyone may ask."""

    program: Program
    url: str
    state: Path
    keys: Mapping[str, str] = field(repr=False)

    @property
    def api(self) -> str:
        """What OpenAI clients call the base URL."""
        return f"{self.url}/v1"

    @property
    def engine(self) -> str:
        """The engine's URL."""
        (service,) = json.loads(run("get", "--json", "--state", str(self.state)))
        return f"http://127.0.0.1:{service['replicas'][0]['port']}"

    def log(self, tenant: str) -> list[dict[str, Any]]:
        """The access log's lines of one tenant."""
        lines = (self.state / "access.log").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line.get("tenant") == tenant]


@contextmanager
def stack(
    folder: Path, tenants: Sequence[str] = (), *, end_with: int = signal.SIGTERM, options: Sequence[str] = ()
) -> Iterator[Stack]:
    """`penstock up` with the demo model on a free port, ready; with keys for these tenants if there are any."""
    keys_file, state = folder / "keys.txt", folder / "state"
    arguments = ["up", *options, "--port", "0", "--state", str(state)]
    keys = {t: run("keys", "create", "--file", str(keys_file), "--tenant", t).strip() for t in tenants}
    if keys:
        arguments += ["--keys", str(keys_file)]
    with program(folder, arguments, end_with) as started:
        url = started.until(r"(http://127\.0\.0\.1:\d+)/v1")
        yield Stack(started, url, state, keys)
    with socket.socket() as caller:
        assert caller.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == errno.ECONNREFUSED


def samples(url: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The metrics of a process at `url`, by name and labels."""
    with urlopen(f"{url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def metric(url: str, name: str, **labels: str) -> float:
    """One metric; 0 where it is not there."""
    return samples(url).get((name, frozenset(labels.items())), 0.0)
