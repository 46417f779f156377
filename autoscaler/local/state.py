"""The state directory: logs, the control socket's address, and a lock that keeps two controllers apart."""

import fcntl
import os
import tempfile
from pathlib import Path
from types import TracebackType

SOCKET_PATH_BYTES = 100  # the kernel takes 107 on Linux, 103 on macOS
IGNORE = "# Made by penstock up; may be deleted while it does not run.\n*\n"


class StateError(RuntimeError):
    """The state directory cannot be used; `str()` says why and what to do."""


class StateDir:
    """A directory of one running controller. As a context manager it holds the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @property
    def logs(self) -> Path:
        """Where engines write their output."""
        return self.path / "logs"

    def __enter__(self) -> "StateDir":
        """Make the directory and take the lock.

        Raises:
            StateError: it cannot be made or written, or another controller has it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.logs.mkdir(exist_ok=True, mode=0o700)
            (self.path / ".gitignore").write_text(IGNORE)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateError(f"the state directory {self.path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._lock, 32).decode("ascii", "replace").strip()
            os.close(self._lock)
            self._lock = -1
            raise StateError(
                f"penstock up already runs with the state directory {self.path}"
                f"{f' (process {holder})' if holder else ''}; stop it, or give another with --state"
            ) from error
        os.ftruncate(self._lock, 0)
        os.write(self._lock, b"%d\n" % os.getpid())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        (self.path / "control").unlink(missing_ok=True)
        (self.path / "control.sock").unlink(missing_ok=True)
        if self._temporary is not None:
            self._temporary.cleanup()
        os.close(self._lock)

    def new_socket(self) -> Path:
        """Where to listen for `penstock apply` and others; elsewhere when the path here is too long."""
        path = self.path.resolve() / "control.sock"
        if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
            self._temporary = tempfile.TemporaryDirectory(prefix="penstock-")
            path = Path(self._temporary.name) / "control.sock"
        path.unlink(missing_ok=True)  # left by a controller that was killed
        (self.path / "control").write_text(f"{path}\n")
        return path

    def socket(self) -> Path:
        """Where the running controller listens.

        Raises:
            StateError: none runs.
        """
        try:
            return Path((self.path / "control").read_text().strip())
        except OSError as error:
            raise StateError(
                f"penstock up does not run with the state directory {self.path}; start it, or give --state"
            ) from error
