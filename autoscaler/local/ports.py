"""Free TCP ports on this machine."""

import socket
from collections import deque

RECENT = 256  # ports not given out again for a while, so that an answer there is not taken for another engine's


class FreePorts:
    """Gives out ports that nobody listens on, none twice in a row."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=RECENT)

    def take(self) -> int:
        """A port that is free now.

        Somebody else may take it before the engine does; then the engine fails and is started on another.

        Raises:
            OSError: the machine has none.
        """
        held = []
        try:
            while True:
                probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                held.append(probe)
                probe.bind(("127.0.0.1", 0))
                port: int = probe.getsockname()[1]
                if port not in self._recent:
                    self._recent.append(port)
                    return port
        finally:
            for probe in held:
                probe.close()
