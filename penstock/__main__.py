"""`penstock`, and `python -m penstock`."""

import os
import signal
import sys

from penstock.cli import app
from penstock.failure import Failure


def main() -> None:
    """Run the command line; a failure is one clear text on standard error."""
    try:
        app(prog_name="penstock")
    except Failure as failure:
        for line in str(failure).splitlines():
            sys.stderr.write(f"penstock: {line}\n")
        sys.exit(failure.status)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # `penstock logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
