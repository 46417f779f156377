"""How long a relay waits for what, and what it does when that is over. Pure."""

from enum import Enum, auto

from msgspec import Struct

DONE_GRACE_S = 1.0  # an engine that keeps the connection open after [DONE] is not waited for


class Patience(Struct, frozen=True):
    """How long a relay waits; all in seconds. `comment_s`: between keep-alive comments, 0 for none."""

    first_byte_s: float
    idle_s: float
    total_s: float
    comment_s: float


class Due(Enum):
    """What it is time for."""

    NOTHING = auto()
    COMMENT = auto()
    END = auto()
    GIVE_UP = auto()


class Wait(Struct, gc=False):
    """Where a request stands. Times in seconds of one monotonic clock.

    Attributes:
        start_s: it was accepted.
        sent_s: it was last sent to an engine; None while it waits for a connection.
        last_s: the engine was last heard of, once the answer runs; None before.
        comment_s: the last keep-alive comment, or the start; None if none may be sent.
        done: the answer is complete, save for the end of its body.
    """

    start_s: float
    sent_s: float | None
    last_s: float | None
    comment_s: float | None
    done: bool = False


def judge(patience: Patience, wait: Wait, now: float) -> tuple[Due, str]:
    """Pure. What is due at `now`, and why where the relay is to give up."""
    if now - wait.start_s > patience.total_s:
        return Due.GIVE_UP, f"The answer took longer than {patience.total_s:g} s in all."
    if wait.last_s is not None:
        if wait.done and now - wait.last_s > DONE_GRACE_S:
            return Due.END, ""
        if now - wait.last_s > patience.idle_s:
            return Due.GIVE_UP, f"The engine fell silent for {patience.idle_s:g} s."
        return Due.NOTHING, ""
    if wait.sent_s is not None and now - wait.sent_s > patience.first_byte_s:
        return Due.GIVE_UP, f"The engine gave no first byte within {patience.first_byte_s:g} s."
    if wait.comment_s is not None and patience.comment_s and now - wait.comment_s >= patience.comment_s:
        return Due.COMMENT, ""
    return Due.NOTHING, ""
