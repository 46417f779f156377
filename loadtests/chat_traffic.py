"""What chat clients send and how they read it: lengths, prompts, the text of a stream. No I/O.

Lengths follow log-normal distributions with the median and the spread (of the logarithm) of the conversation trace
that Azure published for 2023: 19,366 requests in an hour. A token is taken as four characters.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, cycle, islice

import msgspec

_CHARACTERS_PER_TOKEN = 4
_DONE = b"data: [DONE]"
_WORDS = ("the", "gate", "lets", "water", "through", "and", "the", "governor", "opens", "turbines")


@dataclass(frozen=True, slots=True)
class Lengths:
    """A log-normal distribution of lengths in tokens: `median`, and `sigma` of the logarithm; cut at `most`."""

    median: int
    sigma: float
    most: int

    def draw(self, chance: random.Random) -> int:
        """One length, at least 1."""
        return max(1, min(self.most, round(self.median * chance.lognormvariate(0.0, self.sigma))))


PROMPT_TOKENS = Lengths(median=1020, sigma=0.99, most=14_000)
ANSWER_TOKENS = Lengths(median=129, sigma=0.86, most=1_000)


class Delta(msgspec.Struct, frozen=True):
    """What one event adds to the answer."""

    content: str | None = None


class Choice(msgspec.Struct, frozen=True):
    """One answer of an event."""

    delta: Delta = Delta()


class Event(msgspec.Struct, frozen=True):
    """An event of a stream: an error, or a piece of an answer."""

    choices: list[Choice] = []
    error: object = None


_EVENT = msgspec.json.Decoder(Event)


class BrokenStreamError(Exception):
    """A stream with an error event, without its [DONE], or with something that is no event."""


def prompt(chance: random.Random, tokens: int) -> str:
    """Words of about `tokens` tokens, beginning unlike any other so that no cache of prefixes helps."""
    opening = f"Question {chance.randrange(10**9)}:"
    length = max(len(opening), tokens * _CHARACTERS_PER_TOKEN)
    words = islice(chain([opening], cycle(_WORDS)), length // 2 + 1)
    return " ".join(words)[:length]


def contents(lines: Iterator[bytes]) -> Iterator[str]:
    """Pure. The pieces of text in a stream's lines, as they come.

    Raises:
        BrokenStreamError: an error event, something that is no event, or an end without [DONE].
    """
    for line in lines:
        if line.startswith(_DONE):
            return
        if not line.startswith(b"data:"):
            continue
        try:
            event = _EVENT.decode(line[5:])
        except msgspec.DecodeError as error:
            raise BrokenStreamError(f"not an event: {line[:80]!r}") from error
        if event.error is not None:
            raise BrokenStreamError(f"error event: {event.error}")
        yield from (choice.delta.content for choice in event.choices if choice.delta.content)
    raise BrokenStreamError("the stream ended without [DONE]")
