"""Runs pieces of Python one after the other in one namespace, as a reader of a document would. A program of its own.

Each line of standard input is `{"where": ..., "text": ...}` in JSON; each line of the answer is
`{"out": ..., "error": ...}`.
"""

import contextlib
import io
import json
import sys
import traceback


def main() -> None:
    """Until standard input ends."""
    names: dict[str, object] = {"__name__": "__main__"}
    for line in sys.stdin:
        piece = json.loads(line)
        out, error = io.StringIO(), ""
        with contextlib.redirect_stdout(out):
            try:
                exec(compile(piece["text"], piece["where"], "exec"), names)
            except BaseException:  # a piece may raise what it wants, SystemExit too
                error = traceback.format_exc()
        sys.stdout.write(json.dumps({"out": out.getvalue(), "error": error}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
