"""When a crashed engine is started again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """The first restart after `first_s`, each further one after twice as long, at most `most_s`.

    An engine that was ready for `forgive_s` starts with a clean record. From the `loop`-th crash in a row it
    is called a crash loop.
    """

    first_s: float = 0.5
    most_s: float = 60.0
    forgive_s: float = 30.0
    loop: int = 3

    def delay_s(self, crashes: int) -> float:
        """Pure. How long to wait after this many crashes in a row, the first being 1."""
        return min(self.most_s, self.first_s * 2.0 ** min(crashes - 1, 32))

    def crashes(self, before: int, ready_s: float) -> int:
        """Pure. Crashes in a row, after one more, of an engine that had been ready for `ready_s`."""
        return 1 if ready_s >= self.forgive_s else before + 1

    def is_loop(self, crashes: int) -> bool:
        """Pure. Whether the user should be told that this will not mend itself."""
        return crashes >= self.loop
