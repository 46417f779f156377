"""Free TCP ports on this machine."""

import contextlib
import os
import socket

FIRST, LAST = 20_000, 32_000
"""Below the range from which Linux gives ports to outgoing connections: none of those can take an engine's port in
the seconds until the engine listens."""


class FreePorts:
    """Gives out ports that nobody listens on, each again only when all others were."""

    def __init__(self, start: int | None = None) -> None:
        # Two controllers on one machine begin at different places.
        self._next = FIRST + (os.getpid() * 37 if start is None else start) % (LAST - FIRST)

    def take(self) -> int:
        """A port that is free now.

        Somebody else may take it before the engine does; then the engine fails and is started on another.

        Raises:
            OSError: the machine has none.
        """
        for _ in range(LAST - FIRST):
            port, self._next = self._next, FIRST + (self._next + 1 - FIRST) % (LAST - FIRST)
            if _is_free(port):
                return port
        raise OSError(f"no port from {FIRST} to {LAST} is free")


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as engines do: TIME_WAIT is no obstacle
        probe.bind(("127.0.0.1", port))
        return True
    return False
