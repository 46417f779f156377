"""Writing answers: the events of a stream, or one object at the end.

Events are built from parts that are encoded once per request, because at thousands of tokens a second the
encoding of everything that never changes would cost more than the model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from engines.huggingface.prompt import Prompter
from engines.huggingface.sampled import TokenScores
from engines.huggingface.scores import chat_logprobs, completion_logprobs
from engines.huggingface.sequence import Delta
from engines.huggingface.ticket import News
from serving.errors import Internal
from serving.openai import (
    AnswerMessage,
    ChatChoice,
    ChatCompletion,
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    Usage,
)

_OPENING = b'{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}'
DONE = b"data: [DONE]\n\n"
_json = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Echo:
    """A completion's prompt that is to be repeated before its answer: its tokens, and their text."""

    tokens: list[int]
    text: str


@dataclass(frozen=True, slots=True)
class Form:
    """What a request's answer looks like. `logprobs` is the number of alternatives wanted, None for no log
    probabilities.

    `echoes` has one entry per prompt, or none; choices are numbered prompt by prompt, `n` each.
    """

    id: str
    model: str
    created: int
    chat: bool
    prompter: Prompter
    prompt_tokens: int
    n: int = 1
    logprobs: int | None = None
    include_usage: bool = False
    echoes: tuple[Echo, ...] = ()

    def echo(self, choice: int) -> Echo | None:
        """The prompt to repeat before this choice."""
        return self.echoes[choice // self.n] if self.echoes else None


@dataclass(slots=True)
class _Choice:
    """A choice so far."""

    texts: list[str] = field(default_factory=list)
    scored: list[tuple[int, TokenScores | None]] = field(default_factory=list)
    finish_reason: str | None = None
    tokens: int = 0
    shown_characters: int = 0


class Answer:
    """Collects what a request's sequences produce, and writes it as events or as one object."""

    def __init__(self, form: Form, choices: int) -> None:
        self._form = form
        self._choices = [_Choice() for _ in range(choices)]
        self._begun: set[int] = set()
        kind = "chat.completion.chunk" if form.chat else "text_completion"
        head = _json({"id": form.id, "object": kind, "created": form.created, "model": form.model})[:-1]
        self._head = b"data: " + head + b',"choices":['
        self._tail = b"]}\n\n" if not form.include_usage else b'],"usage":null}\n\n'

    @property
    def usage(self) -> Usage:
        """Tokens of the prompts and of all choices, exact."""
        generated = sum(choice.tokens for choice in self._choices)
        return Usage(self._form.prompt_tokens, generated, self._form.prompt_tokens + generated)

    def events(self, news: News, last: bool) -> bytes:
        """The events for these news, in one piece; with `last`, also those that end the stream.

        Raises:
            Internal: a sequence failed.
        """
        parts: list[bytes] = []
        for number, delta in news:
            _raise_if_failed(delta)
            self._choices[number].tokens += delta.tokens
            parts.extend(self._event(number, delta))
        if last:
            if self._form.include_usage:
                parts += (self._head, b'],"usage":', _json(self.usage), b"}\n\n")
            parts.append(DONE)
        return b"".join(parts)

    def add(self, news: News) -> None:
        """Keep these news for `whole`.

        Raises:
            Internal: a sequence failed.
        """
        for number, delta in news:
            _raise_if_failed(delta)
            choice = self._choices[number]
            text, scored = self._with_echo(number, delta)
            choice.texts.append(text)
            choice.scored += scored
            choice.tokens += delta.tokens
            choice.finish_reason = delta.finish_reason

    def whole(self) -> bytes:
        """The answer as one JSON object."""
        form = self._form
        if form.chat:
            return _json(ChatCompletion(form.id, form.created, form.model, list(self._chat_choices()), self.usage))
        choices = [
            CompletionChoice(number, "".join(c.texts), self._completion_logprobs(c.scored, 0), c.finish_reason)
            for number, c in enumerate(self._choices)
        ]
        return _json(Completion(form.id, form.created, form.model, choices, self.usage))

    def _chat_choices(self) -> Iterator[ChatChoice]:
        for number, choice in enumerate(self._choices):
            scores = [(token, scored) for token, scored in choice.scored if scored is not None]
            logprobs = None if self._form.logprobs is None else chat_logprobs(scores, self._form.prompter)
            yield ChatChoice(number, AnswerMessage("".join(choice.texts)), logprobs, choice.finish_reason)

    def _event(self, number: int, delta: Delta) -> Iterator[bytes]:
        """The events of one step of one choice; none if there is nothing to show yet."""
        chat = self._form.chat
        if number not in self._begun:
            self._begun.add(number)
            if chat:
                yield self._head + _OPENING % number + self._tail
        text, scored = self._with_echo(number, delta)
        if not text and not scored and delta.finish_reason is None:
            return
        ending = b"null" if delta.finish_reason is None else _json(delta.finish_reason)
        logprobs = self._logprobs(number, text, scored)
        if chat:
            content = b'{"content":%b}' % _json(text) if text or delta.finish_reason is None else b"{}"
            shape = b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}' % (
                number,
                content,
                logprobs,
                ending,
            )
        else:
            shape = b'{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}' % (
                number,
                _json(text),
                logprobs,
                ending,
            )
        yield self._head + shape + self._tail

    def _with_echo(self, number: int, delta: Delta) -> tuple[str, Sequence[tuple[int, TokenScores | None]]]:
        """Text and scored tokens of a step; before the first, those of the prompt if it is to be repeated."""
        choice = self._choices[number]
        echo = self._form.echo(number)
        if echo is None or choice.shown_characters:
            return delta.text, delta.scores
        choice.shown_characters = 1
        if self._form.logprobs is None:
            return echo.text + delta.text, ()
        prompt = zip(echo.tokens, (None, *delta.prompt_scores), strict=True)
        return echo.text + delta.text, [*prompt, *delta.scores]

    def _logprobs(self, number: int, text: str, scored: Sequence[tuple[int, TokenScores | None]]) -> bytes:
        if self._form.logprobs is None:
            return b"null"
        if self._form.chat:
            return _json(chat_logprobs([(t, s) for t, s in scored if s is not None], self._form.prompter))
        choice = self._choices[number]
        encoded = _json(self._completion_logprobs(scored, len("".join(choice.texts))))
        choice.texts.append(text)
        return encoded

    def _completion_logprobs(
        self, scored: Sequence[tuple[int, TokenScores | None]], offset: int
    ) -> CompletionLogprobs | None:
        top = self._form.logprobs
        return None if top is None else completion_logprobs(scored, top, self._form.prompter, offset)


def _raise_if_failed(delta: Delta) -> None:
    if delta.error is not None:
        raise Internal(f"generation failed: {delta.error}")
