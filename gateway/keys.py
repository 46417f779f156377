"""API keys: who a request is from. Keys are kept as SHA-256 digests in a file, one a line: `KEY [TENANT]`.

SHA-256 and no slow password hash: keys are 256 random bits, which cannot be guessed from a digest, and each
request needs a look-up.
"""

import asyncio
import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serving.errors import InvalidKey, MissingKey

ANONYMOUS = "anonymous"
DEFAULT_TENANT = "default"
KEY_PREFIX = "sk-penstock-"
_HASH_MARK = "sha256:"
_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEX_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_PREFIX_BYTES = 16
_DUMMY = (bytes(32), "")
_HOW = 'send it as the header "Authorization: Bearer YOUR_KEY"'

_log = logging.getLogger(__name__)


class KeyFileError(ValueError):
    """A keys file that cannot be used. The text names the file and the line, never a key."""


@dataclass(frozen=True, slots=True)
class ParsedKeys:
    """What a keys file says: tenant by SHA-256 digest, and the numbers of lines that hold a key unhashed."""

    tenants: Mapping[bytes, str]
    plain_lines: tuple[int, ...]


def check_tenant(tenant: str) -> str:
    """Pure. `tenant` as it was given.

    Raises:
        KeyFileError: not 1 to 64 of letters, digits and `. _ -`.
    """
    if not _TENANT.fullmatch(tenant):
        raise KeyFileError("a tenant name is 1 to 64 letters, digits and . _ -")
    return tenant


def parse_keys(text: str) -> ParsedKeys:
    """Pure. Read the lines of a keys file. Blank lines and what follows a `#` that starts a word are skipped.

    Raises:
        KeyFileError: a line is malformed or repeats a key; names the line number, never the key.
    """
    tenants: dict[bytes, str] = {}
    first_seen: dict[bytes, int] = {}
    plain: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        words = re.sub(r"(?:^|\s)#.*", "", line).split()
        if not words:
            continue
        try:
            digest, tenant = _read_line(words)
        except KeyFileError as error:
            raise KeyFileError(f"line {number}: {error}") from None
        prefix = digest[:_PREFIX_BYTES]
        if prefix in first_seen:
            raise KeyFileError(f"line {number}: the same key is on line {first_seen[prefix]}; remove one")
        first_seen[prefix] = number
        tenants[digest] = tenant
        if not words[0].startswith(_HASH_MARK):
            plain.append(number)
    return ParsedKeys(tenants, tuple(plain))


def _read_line(words: list[str]) -> tuple[bytes, str]:
    if len(words) > 2:
        raise KeyFileError("expected KEY [TENANT], found more than two words")
    key = words[0]
    tenant = check_tenant(words[1]) if len(words) == 2 else DEFAULT_TENANT
    if not key.startswith(_HASH_MARK):
        if not (key.isascii() and key.isprintable()):
            raise KeyFileError("a key has only printable ASCII characters")
        return hashlib.sha256(key.encode()).digest(), tenant
    hex_digest = key.removeprefix(_HASH_MARK)
    if not _HEX_DIGEST.fullmatch(hex_digest):
        raise KeyFileError("sha256: must be followed by 64 hexadecimal digits")
    return bytes.fromhex(hex_digest), tenant


class KeyRing:
    """The keys in force. Immutable: a reload makes a new ring."""

    __slots__ = ("_by_prefix", "is_open")

    def __init__(self, tenants: Mapping[bytes, str] | None) -> None:
        """A ring of `tenants` by SHA-256 digest; None lets everyone in."""
        self.is_open = tenants is None
        # The dict finds a candidate by half of the digest; equality is then decided in constant time. What
        # the time spent in the dict could tell is about a digest, from which no key can be found.
        self._by_prefix = {d[:_PREFIX_BYTES]: (d, t) for d, t in (tenants or {}).items()}

    def __len__(self) -> int:
        return len(self._by_prefix)

    @classmethod
    def open(cls) -> "KeyRing":
        """No keys: every caller is the tenant `anonymous`."""
        return cls(None)

    @classmethod
    def load(cls, path: Path) -> "KeyRing":
        """The ring that a keys file describes; warns once when keys in it are not hashed.

        A file of comments only is a ring that lets nobody in.

        Raises:
            KeyFileError: the file cannot be read, is empty, or has a malformed line.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
            if not text:
                raise KeyFileError("is empty; write a comment line in it if nobody is to be let in")
            parsed = parse_keys(text)
        except OSError as error:
            raise KeyFileError(f"keys file {path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise KeyFileError(f"keys file {path}: is not UTF-8 text") from None
        except KeyFileError as error:
            raise KeyFileError(f"keys file {path}: {error}") from None
        if parsed.plain_lines:
            lines = ", ".join(map(str, parsed.plain_lines[:10]))
            _log.warning(
                "keys file %s: %d keys are not hashed (lines %s); write sha256:HEX instead of the key",
                path,
                len(parsed.plain_lines),
                lines,
            )
        if not parsed.tenants:
            _log.warning("keys file %s: has no keys; every request will be refused", path)
        return cls(parsed.tenants)

    def tenant_of(self, authorization: bytes | None) -> str:
        """Pure. The tenant of a request, from the raw value of its Authorization header.

        Raises:
            MissingKey: no header, or not of the form `Bearer KEY`.
            InvalidKey: the key is not in the ring.
        """
        if self.is_open:
            return ANONYMOUS
        if not authorization:
            raise MissingKey(f"An API key is needed; {_HOW}.")
        if authorization[:7].lower() != b"bearer " or not (token := authorization[7:].strip()):
            raise MissingKey(f"The Authorization header holds no bearer key; {_HOW}.")
        digest = hashlib.sha256(token).digest()
        stored, tenant = self._by_prefix.get(digest[:_PREFIX_BYTES], _DUMMY)
        if hmac.compare_digest(digest, stored):
            return tenant
        raise InvalidKey(f"The API key is not valid; {_HOW}.")


_Signature = tuple[int, int, int]


def _signature(path: Path) -> _Signature | None:
    """What changes when a file does; None where there is none."""
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_ino, seen.st_size


@dataclass(slots=True)
class KeyFile:
    """A keys file that is read again when it changes. `ring` is the one in force."""

    path: Path
    ring: KeyRing
    _seen: _Signature | None = field(default=None, repr=False)

    @classmethod
    def load(cls, path: Path) -> "KeyFile":
        """Read the file for the first time.

        Raises:
            KeyFileError: as `KeyRing.load`.
        """
        seen = _signature(path)  # before the read: a change in between is then found by the next check
        return cls(path, KeyRing.load(path), seen)

    def check(self) -> bool:
        """Read the file again if it changed; True if a new ring is in force.

        A file that is gone or broken leaves the old ring in force, and is logged once.
        """
        seen = _signature(self.path)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self.ring = KeyRing.load(self.path)
        except KeyFileError as error:
            _log.error("%s; the keys read before stay in force", error)
            return False
        _log.info("keys file %s: read again, %d keys", self.path, len(self.ring))
        return True

    async def watch(self, interval_s: float = 1.0) -> None:
        """Check every `interval_s` seconds, for ever; cancel to end."""
        while True:
            await asyncio.sleep(interval_s)
            await asyncio.to_thread(self.check)


def create_key(path: Path, tenant: str = DEFAULT_TENANT) -> str:
    """Make a key for `tenant` and append its hash to the file, which is made (mode 0600) if it is not there.

    The key itself is returned and stored nowhere. A reader, or a second writer, sees whole lines only.

    Raises:
        KeyFileError: the tenant name is not allowed.
        OSError: the file cannot be written; it is then as it was before.
    """
    check_tenant(tenant)
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    line = f"{_HASH_MARK}{hashlib.sha256(key.encode()).hexdigest()} {tenant}\n".encode()
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        _append(handle, line)
    finally:
        os.close(handle)
    return key


def _append(handle: int, line: bytes) -> None:
    """Append `line` with one write, after a line end; a write cut short (a full disk) is taken back."""
    size = os.fstat(handle).st_size
    if size and os.pread(handle, 1, size - 1) != b"\n":
        line = b"\n" + line
    written = os.write(handle, line)
    if written < len(line):
        os.ftruncate(handle, size)
        raise OSError(f"only {written} of {len(line)} bytes could be written; is the disk full?")
    os.fsync(handle)
