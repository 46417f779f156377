"""Files of the local cluster: services that change, logs, the state directory and its lock."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autoscaler.local.files import ServiceFiles
from autoscaler.local.log_file import ROTATE_BYTES, begin, log_name, logs_of, prune, tail
from autoscaler.local.state import StateDir, StateError
from autoscaler.local.status import Event
from serving.inference_service import InferenceService
from serving.validation import SpecError
from tests.autoscaler.local.processes import eventually

Write = Callable[[str, str], Path]


def text(*names: str, replicas: int = 1) -> str:
    return "---".join(
        f"""
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: {name}}}
spec: {{predictor: {{minReplicas: {replicas}, model: {{modelFormat: {{name: huggingface}}}}}}}}
"""
        for name in names
    )


class Applied:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.services: dict[str, int] = {}
        self.refuse = False

    def apply(self, services: tuple[InferenceService, ...]) -> list[tuple[str, ...]]:
        if self.refuse:
            raise SpecError("not here")
        self.services |= {s.key[1]: s.spec.predictor.wanted_replicas for s in services}
        return []

    def delete(self, key: tuple[str, str]) -> bool:
        return self.services.pop(key[1], None) is not None


async def test_changes_of_files_are_applied(write: Write) -> None:
    a, b = write("a.yaml", text("one", "two")), write("b.yaml", text("three"))
    target, events = Applied(), list[Event]()
    files = ServiceFiles((a, b), target, events.append)
    assert [s.key[1] for s in files.load()] == ["one", "two", "three"]
    watching = asyncio.create_task(files.watch(0.01))
    try:
        write("a.yaml", text("one", replicas=3))
        await eventually(lambda: target.services == {"one": 3, "three": 1})

        write("a.yaml", "kind: [")
        await eventually(lambda: "not valid YAML" in events[-1].text)
        assert target.services == {"one": 3, "three": 1}

        b.unlink()
        await eventually(lambda: "No such file" in events[-1].text)
        assert target.services == {"one": 3, "three": 1}

        target.refuse = True
        write("b.yaml", text("three", "four"))
        await eventually(lambda: "not here" in events[-1].text)
        target.refuse = False
        write("b.yaml", text("four"))
        await eventually(lambda: target.services == {"one": 3, "four": 1})
        count = len(events)
        await asyncio.sleep(0.1)
        assert len(events) == count
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def test_files_that_cannot_be_read(tmp_path: Path, write: Write) -> None:
    def told(*paths: Path) -> str:
        with pytest.raises(SpecError) as caught:
            ServiceFiles(paths, Applied(), lambda _: None).load()
        return str(caught.value)

    assert told(tmp_path / "none") == f"{tmp_path / 'none'}: cannot be read: No such file or directory"
    assert told(tmp_path).endswith("cannot be read: Is a directory")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert told(tmp_path / "binary").endswith("is not UTF-8 text")
    twice = told(write("a.yaml", text("one")), write("b.yaml", text("one")))
    assert twice.endswith("b.yaml: metadata.name: 'one' is in another file too; names must differ")


def test_logs_of_the_newest_revision_are_found(tmp_path: Path) -> None:
    for age, name in enumerate(
        [
            log_name("demo", "aaaaaaaa", 0),
            log_name("demo", "bbbbbbbb", 1),
            log_name("demo", "bbbbbbbb", 0),
            log_name("demo", "bbbbbbbb", 10),
            log_name("demo-x", "cccccccc", 0),
            log_name("team/demo", "dddddddd", 0),
            "penstock.log",
        ]
    ):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    found = [p.name for p in logs_of(tmp_path, "demo")]
    assert found == ["demo-bbbbbbbb-0.log", "demo-bbbbbbbb-1.log", "demo-bbbbbbbb-10.log"]
    assert [p.name for p in logs_of(tmp_path, "team/demo")] == ["team.demo-dddddddd-0.log"]
    assert logs_of(tmp_path, "none") == []
    assert logs_of(tmp_path / "none", "demo") == []


def test_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log, 3) == []
    log.write_bytes(b"old\n" + b"\xff\n\n" + b"".join(b"line %d\r\n" % n for n in range(5)))
    assert tail(log, 2) == ["line 3", "line 4"]
    assert tail(log, 100) == ["old", "\ufffd", *(f"line {n}" for n in range(5))]
    assert tail(log, 100, since=4)[0] == "\ufffd"
    log.write_bytes(b"x" * 1_000_000)
    assert len(tail(log, 1)[0]) == 64 * 1024


def test_a_new_process_is_marked_and_a_large_log_set_aside(tmp_path: Path) -> None:
    log = tmp_path / "demo-aaaaaaaa-0.log"
    start = begin(log, "first")
    assert log.read_text() == "--- penstock: first\n"
    assert start == log.stat().st_size
    assert log.stat().st_mode & 0o777 == 0o600
    os.truncate(log, ROTATE_BYTES + 1)
    begin(log, "second")
    assert log.read_text() == "--- penstock: second\n"
    assert (tmp_path / "demo-aaaaaaaa-0.log.1").exists()


def test_old_logs_are_deleted(tmp_path: Path) -> None:
    for age in range(6):
        path = tmp_path / f"demo-{age:08x}-0.log{'.1' if age % 2 else ''}"
        path.write_text("x")
        os.utime(path, (1000 + age, 1000 + age))
    (tmp_path / "other.txt").write_text("x")
    prune(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "demo-00000004-0.log",
        "demo-00000005-0.log.1",
        "other.txt",
    ]


def test_the_state_directory_is_its_owners_and_not_in_version_control(tmp_path: Path) -> None:
    with StateDir(tmp_path / "a" / "b") as state:
        assert state.path.stat().st_mode & 0o777 == 0o700
        assert "*" in (state.path / ".gitignore").read_text().splitlines()
        assert state.logs.is_dir()


def test_two_controllers_do_not_share_a_state_directory(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        with pytest.raises(StateError, match=rf"already runs .* \(process {os.getpid()}\); stop it") as caught:
            StateDir(tmp_path).__enter__()
        assert "--state" in str(caught.value)
        state.new_socket()
    with StateDir(tmp_path) as state, pytest.raises(StateError, match="does not run"):
        state.socket()


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from autoscaler.local.state import StateDir;"
        "StateDir(Path(sys.argv[1])).__enter__(); print('in', flush=True); time.sleep(3600)"
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, cwd=root) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StateError):
            StateDir(tmp_path).__enter__()
        holder.kill()
    with StateDir(tmp_path):
        pass


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be used: Not a directory"):
        StateDir(tmp_path / "file" / "state").__enter__()


def test_a_path_too_long_for_a_socket_has_it_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    with StateDir(deep) as state:
        path = state.new_socket()
        assert len(str(path)) < 100
        assert state.socket() == path
        folder = path.parent
        assert folder.exists()
    assert not folder.exists()
