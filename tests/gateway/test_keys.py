"""API keys: reading the file, telling callers apart, reloading, and making new ones."""

import asyncio
import hashlib
import logging
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.keys import KeyFile, KeyFileError, KeyRing, create_key, parse_keys
from serving.errors import InvalidKey, MissingKey

SECRET = "sk-very-secret"


def hashed(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "keys"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def ring_of(text: str) -> KeyRing:
    return KeyRing(parse_keys(text).tenants)


def test_the_lines_of_a_file() -> None:
    text = f"""# keys of the team
{hashed("a")} team-a

  sha256:{hashed("b").removeprefix("sha256:").upper()}
\t{hashed("c")}\tteam.c_1   # leaves in May
plain#key plain
#{hashed("d")}
"""
    ring = ring_of(text)
    assert len(ring) == 4
    found = {key: ring.tenant_of(b"Bearer " + key.encode()) for key in ("a", "b", "c", "plain#key")}
    assert found == {"a": "team-a", "b": "default", "c": "team.c_1", "plain#key": "plain"}
    assert parse_keys(text).plain_lines == (6,)
    with pytest.raises(InvalidKey):
        ring.tenant_of(b"Bearer d")


def test_windows_line_ends() -> None:
    assert ring_of(f"{hashed('a')} t\r\n{hashed('b')}\r\n").tenant_of(b"Bearer b") == "default"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f"{SECRET} a b", "line 2: expected KEY"),
        (f"{SECRET} {'x' * 65}", "line 2: a tenant name is 1 to 64"),
        (f"{SECRET} a/b", "line 2: a tenant name"),
        (f"{SECRET}é", "line 2: a key has only printable ASCII"),
        (f"{SECRET}\x00", "line 2: a key has only printable ASCII"),
        (f"sha256:{SECRET}", "line 2: sha256: must be followed by 64"),
        ("sha256:", "line 2: sha256: must be followed by 64"),
        ("sha256:" + "0" * 65, "line 2: sha256: must be followed by 64"),
        ("sha256:" + "\u0660" * 64, "line 2: sha256: must be followed by 64"),
        (f"{SECRET}\n{hashed(SECRET)} t", "line 3: the same key is on line 2"),
    ],
)
def test_malformed_lines_name_the_line_and_not_the_key(tmp_path: Path, line: str, why: str) -> None:
    path = write(tmp_path, f"# first\n{line}\n")
    with pytest.raises(KeyFileError, match=f"keys file {path}: {why}") as caught:
        KeyRing.load(path)
    assert SECRET not in str(caught.value)
    assert hashed(SECRET) not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be read: No such file"):
        KeyRing.load(tmp_path / "none")
    with pytest.raises(KeyFileError, match="not UTF-8"):
        KeyRing.load(write(tmp_path, b"\xff\xfe"))
    with pytest.raises(KeyFileError, match="is empty"):
        KeyRing.load(write(tmp_path, ""))


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path: Path) -> None:
    ring = KeyRing.load(write(tmp_path, b"\xef\xbb\xbf" + hashed("a").encode()))
    assert ring.tenant_of(b"Bearer a") == "default"


def test_plain_keys_are_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    KeyRing.load(write(tmp_path, f"{SECRET} t\nother\n{hashed('a')}\n"))
    (record,) = caplog.records
    assert "2 keys are not hashed (lines 1, 2)" in record.getMessage()
    assert SECRET not in caplog.text


def test_hashed_keys_are_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    KeyRing.load(write(tmp_path, hashed("a")))
    assert not caplog.records


def test_comments_only_let_nobody_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring = KeyRing.load(write(tmp_path, "# nobody\n"))
    assert "every request will be refused" in caplog.text
    assert not ring.is_open
    with pytest.raises(InvalidKey):
        ring.tenant_of(b"Bearer a")


def test_without_keys_everyone_is_anonymous() -> None:
    ring = KeyRing.open()
    assert ring.is_open
    assert ring.tenant_of(None) == "anonymous"
    assert ring.tenant_of(b"Bearer whatever") == "anonymous"


@pytest.mark.parametrize("header", [b"Bearer k", b"bearer k", b"BEARER k", b"Bearer   k ", b"Bearer \tk"])
def test_the_scheme_in_any_case(header: bytes) -> None:
    assert ring_of("k t").tenant_of(header) == "t"


@pytest.mark.parametrize("header", [None, b"", b"k", b"Bearer", b"Bearer ", b"Bearer  ", b"Basic aw==", b"Bearerk"])
def test_no_key(header: bytes | None) -> None:
    with pytest.raises(MissingKey, match='"Authorization: Bearer YOUR_KEY"') as caught:
        ring_of("k").tenant_of(header)
    assert caught.value.status == 401


@pytest.mark.parametrize("sent", [b"K", b"kk", b"k k", b"\xff", b"k\x00", b"x" * 65_000, hashed("k").encode()])
def test_a_wrong_key(sent: bytes) -> None:
    with pytest.raises(InvalidKey) as caught:
        ring_of("k").tenant_of(b"Bearer " + sent)
    assert sent.decode("latin-1") not in caught.value.message.replace("YOUR_KEY", "").replace("API key", "")


def test_half_a_digest_is_not_enough() -> None:
    digest = hashlib.sha256(b"k").digest()
    ring = KeyRing({digest[:16] + bytes(16): "t"})
    with pytest.raises(InvalidKey):
        ring.tenant_of(b"Bearer k")


def replace(path: Path, text: str) -> None:
    """As editors and Kubernetes do it: a new file in the place of the old."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, hashed("a"))
    keys = KeyFile.load(path)
    first = keys.ring
    assert not keys.check()
    replace(path, hashed("b"))
    assert keys.check()
    assert not keys.check()
    assert keys.ring.tenant_of(b"Bearer b") == "default"
    assert first.tenant_of(b"Bearer a") == "default"
    with pytest.raises(InvalidKey):
        keys.ring.tenant_of(b"Bearer a")


@pytest.mark.parametrize("broken", ["", "a b c d", "sha256:1"])
def test_a_broken_file_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str) -> None:
    path = write(tmp_path, hashed("a"))
    keys = KeyFile.load(path)
    replace(path, broken)
    assert not keys.check()
    assert not keys.check()
    assert keys.ring.tenant_of(b"Bearer a") == "default"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "the keys read before stay in force" in record.getMessage()
    replace(path, hashed("b"))
    assert keys.check()
    assert keys.ring.tenant_of(b"Bearer b") == "default"


def test_a_file_that_goes_and_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, hashed("a"))
    keys = KeyFile.load(path)
    path.unlink()
    assert not keys.check()
    assert not keys.check()
    assert keys.ring.tenant_of(b"Bearer a") == "default"
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    path.write_text(hashed("b"))
    assert keys.check()


async def test_watching(tmp_path: Path) -> None:
    path = write(tmp_path, hashed("a"))
    keys = KeyFile.load(path)
    task = asyncio.create_task(keys.watch(0.01))
    first = keys.ring
    replace(path, hashed("b"))
    async with asyncio.timeout(30):
        while keys.ring is first:  # noqa: ASYNC110 - the reload runs in a thread and signals nobody
            await asyncio.sleep(0.01)
    assert keys.ring.tenant_of(b"Bearer b") == "default"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_new_key(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    key = create_key(path, "team-a")
    other = create_key(path)
    assert key.startswith("sk-penstock-")
    assert len(key) == len("sk-penstock-") + 43
    assert key != other
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key not in path.read_text()
    ring = KeyRing.load(path)
    assert ring.tenant_of(f"Bearer {key}".encode()) == "team-a"
    assert ring.tenant_of(f"Bearer {other}".encode()) == "default"


def test_a_new_key_after_a_line_without_an_end(tmp_path: Path) -> None:
    path = write(tmp_path, hashed("a"))
    key = create_key(path)
    assert len(KeyRing.load(path)) == 2
    assert KeyRing.load(path).tenant_of(f"Bearer {key}".encode()) == "default"


def test_a_tenant_that_is_not_allowed_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="a tenant name"):
        create_key(tmp_path / "keys", "a b")
    assert not (tmp_path / "keys").exists()


def test_many_writers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    threads = [threading.Thread(target=lambda: [create_key(path) for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(KeyRing.load(path)) == 160


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from gateway.keys import create_key
path = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = path.stat().st_size + 10
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    create_key(path)
except OSError as error:
    sys.exit(f"refused: {error}")
"""


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """A process of its own may write so many bytes only: its write is cut short, as on a full disk."""
    path = write(tmp_path, hashed("a") + "\n")
    before = path.read_bytes()
    root = Path(__file__).parents[2]
    command = [sys.executable, "-B", "-c", FULL_DISK, str(path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.startswith("refused: only 10 of ")
    assert path.read_bytes() == before
