"""One request on its way: the sequences it asked for, and what they have produced and nobody has read yet."""

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType

from engines.huggingface.sequence import Delta

News = list[tuple[int, Delta]]
"""Choice numbers with what was added to each."""


class Ticket:
    """A context manager: leaving it stops whatever still runs. One reader; lives on the event loop."""

    def __init__(
        self, keys: Iterable[int], arrived_s: float, prompt_tokens: int, on_leave: Callable[[set[int]], None]
    ) -> None:
        self._choice_of = {key: choice for choice, key in enumerate(keys)}
        self.arrived_s = arrived_s
        self.prompt_tokens = prompt_tokens
        self.last_s: dict[int, float] = {}
        self._open = set(self._choice_of)
        self._on_leave = on_leave
        self._news: News = []
        self._reader: asyncio.Future[None] | None = None

    @property
    def done(self) -> bool:
        """Whether every sequence has ended and all its news were read."""
        return not self._open and not self._news

    def push(self, key: int, delta: Delta) -> None:
        """Take news of one sequence."""
        if delta.finish_reason is not None:
            self._open.discard(key)
        self._news.append((self._choice_of[key], delta))
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def news(self) -> News:
        """All that is new, as soon as there is any. Several steps' worth comes at once if the reader was
        slow.
        """
        if not self._news:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        news, self._news = self._news, []
        return news

    def __enter__(self) -> "Ticket":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        unfinished, self._open = self._open, set()
        self._on_leave(unfinished)
