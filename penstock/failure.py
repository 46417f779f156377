"""A failure that ends a command: one clear sentence for the user, no traceback."""

from collections.abc import Iterator
from contextlib import contextmanager


class Failure(Exception):
    """Printed as `penstock: TEXT`; the command exits with `status`."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn errors that explain themselves (a wrong value, a file that is not there) into failures."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{where}{error.strerror or error}") from error
    except ValueError as error:
        raise Failure(str(error)) from error
