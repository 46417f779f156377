"""Token ids to text, one token at a time."""

from collections.abc import Sequence
from typing import Protocol

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_LOOK_BACK_TOKENS = 5
_LONGEST_WAIT_TOKENS = 8
_LONGEST_RUN_TOKENS = 64
_LONGEST_WINDOW_TOKENS = 64


class Decoder(Protocol):
    """The one method of a tokenizer used here."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = ...) -> str: ...


class Detokenizer:
    """The text of a growing sequence. A character is given out when all its bytes have come, never half of
    it.

    Decoding depends on what precedes (spaces, ligatures of byte tokens), so each step decodes a short
    window of tokens with and without the new one and gives out the difference.
    """

    __slots__ = ("_decoder", "_ids", "_read", "_skip", "_window")

    def __init__(self, decoder: Decoder, prompt: Sequence[int], skip_special_tokens: bool = True) -> None:
        self._decoder = decoder
        self._skip = skip_special_tokens
        self._ids = list(prompt[-_LOOK_BACK_TOKENS:])
        self._read = len(self._ids)
        self._window = 0

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is unfinished."""
        self._ids.append(token)
        text = self._new_text()
        if not text and not self._decode([token]):
            # A hidden special token. Forgotten at once, or a long run of them would be decoded over and over.
            self._ids.pop()
            return ""
        waiting = len(self._ids) - self._read
        if (not text or text.endswith(UNFINISHED)) and waiting <= _LONGEST_RUN_TOKENS:
            # A character has at most four bytes: a longer wait is for bytes that are no text at all.
            return self._give_up_waiting(text) if waiting > _LONGEST_WAIT_TOKENS else ""
        self._advance(len(self._ids))
        return text

    def flush(self) -> str:
        """What is left at the end: an unfinished character shows as U+FFFD, as a tokenizer decodes it."""
        text = self._new_text()
        self._read = len(self._ids)
        return text

    def _advance(self, read: int) -> None:
        self._window, self._read = self._read, read
        if self._window > _LONGEST_WINDOW_TOKENS:
            del self._ids[: self._window]
            self._read -= self._window
            self._window = 0

    def _give_up_waiting(self, text: str) -> str:
        """The text before a place where cutting changes nothing, so that no character is cut in two."""
        newest = len(self._ids)
        for cut in range(newest - 1, max(self._read, newest - _LONGEST_WAIT_TOKENS), -1):
            head, tail = self._decode(self._ids[self._read : cut]), self._decode(self._ids[cut:])
            if head and head + tail == text:
                self._advance(cut)
                return head
        return ""

    def _new_text(self) -> str:
        before = self._decode(self._ids[self._window : self._read])
        return self._decode(self._ids[self._window :])[len(before) :]

    def _decode(self, ids: Sequence[int]) -> str:
        return self._decoder.decode(ids, skip_special_tokens=self._skip)
