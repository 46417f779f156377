"""Stop strings: how much of a text may be shown. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shown:
    """`upto` characters of the text may be shown. `stop` is the stop string that was found, if one was."""

    upto: int
    stop: str | None = None


def shown(text: str, new_from: int, stops: Sequence[str], include: bool = False) -> Shown:
    """Pure. How much of `text` can be shown, when the characters from `new_from` on have just been added.

    The earliest stop string ends the text, before it or, with `include`, behind it. Otherwise an end of the
    text that a stop string begins with is held back, because what comes next may complete it.
    """
    best: tuple[int, str] | None = None
    for stop in stops:
        at = text.find(stop, max(0, new_from - len(stop) + 1))
        if at >= 0 and (best is None or (at, len(stop)) < (best[0], len(best[1]))):
            best = at, stop
    if best is not None:
        at, stop = best
        return Shown(at + len(stop) if include else at, stop)
    return Shown(len(text) - max((_overlap(text, stop) for stop in stops), default=0))


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper beginning of `stop` that `text` ends with."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
