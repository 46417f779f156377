"""A chat in the terminal: history, streamed answers, and Ctrl-C that stops an answer and not the program."""

import sys
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from penstock.client import Message
from penstock.failure import Failure

HELP = """\
  /clear   forget the conversation
  /help    this list
  /exit    leave (Ctrl-D does too)
  Ctrl-C   stop the answer"""


class Answers(Protocol):
    """Who is spoken to."""

    def chat(self, model: str, messages: list[Message]) -> Generator[str, None, None]: ...


@dataclass(slots=True)
class Chat:
    """One conversation with `model`. `out` gets the answers, `note` what is said beside them."""

    client: Answers
    model: str
    out: TextIO
    note: Callable[[str], None]
    history: list[Message] = field(default_factory=list)

    def say(self, text: str) -> bool:
        """Send one message, or carry out one command. False when the user wants to leave.

        Raises:
            Failure: the answer failed; the message is taken back.
        """
        match text.strip():
            case "":
                return True
            case "/exit" | "/quit":
                return False
            case "/clear":
                self.history.clear()
                self.note("The conversation is forgotten.")
            case "/help":
                self.note(HELP)
            case command if command.startswith("/"):
                self.note(f"There is no command {command.split()[0]}; /help lists them.")
            case message:
                self._answer(message)
        return True

    def _answer(self, message: str) -> None:
        """Stream one answer. What was shown of it stays in the conversation, also when it was stopped."""
        self.history.append({"role": "user", "content": message})
        shown: list[str] = []
        try:
            with closing(self.client.chat(self.model, self.history)) as pieces:
                for piece in pieces:
                    shown.append(piece)
                    self.out.write(piece)
                    self.out.flush()
        except KeyboardInterrupt:
            self.note("\nStopped.")
        finally:
            if shown:
                self.out.write("\n")
                self.out.flush()
                self.history.append({"role": "assistant", "content": "".join(shown)})
            else:
                self.history.pop()


def converse(chat: Chat, source: TextIO, terminal: bool) -> None:
    """Talk until the user leaves. At a terminal errors are shown and the conversation goes on.

    Raises:
        Failure: an answer failed, and nobody is there to decide what to do.
    """
    ask = _prompt if terminal else lambda: _line(source)
    if terminal:
        import readline  # noqa: F401  (line editing and history for input())

        chat.note(f"You are talking to {chat.model}. /help lists commands, Ctrl-D leaves.")
    interrupted = False
    while True:
        try:
            if interrupted:  # said in here, so that Ctrl-C pressed twice does not leave either
                interrupted = False
                chat.note("\n(Ctrl-D or /exit leaves.)")
            text = ask()
            if text is None or not chat.say(text):
                break
        except KeyboardInterrupt:
            interrupted = True
        except Failure as failure:
            if not terminal:
                raise
            chat.note(f"penstock: {failure}")
    if terminal:
        chat.note("")


def _prompt() -> str | None:
    try:
        return input("> ")
    except EOFError:
        return None


def _line(source: TextIO) -> str | None:
    line = source.readline()
    return line if line else None


def at_terminal() -> bool:
    """Whether a person sits at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()
