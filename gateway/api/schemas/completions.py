"""Text completions: `POST /v1/completions`."""

from typing import Literal

from gateway.api.schemas.shape import Sampling, Shape, StreamOptions, Usage


class CompletionRequest(Sampling):
    """A text to be continued."""

    model: str
    """A model name or alias, as `GET /v1/models` lists them."""
    prompt: str | list[str] | list[int] | list[list[int]] | None = None
    """Text, token ids, or a list of either."""
    stream: bool | None = None
    """Answer with server-sent events as tokens are generated."""
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    """Most tokens to generate; engines take 16 where it is absent."""
    n: int | None = None
    """How many continuations to generate."""
    best_of: int | None = None
    """Generate this many and give the `n` best."""
    stop: str | list[str] | None = None
    """Text that ends the continuation; up to four."""
    logprobs: int | None = None
    """0 to 5. Give the log probability of each token and of as many of the likeliest."""
    echo: bool | None = None
    """Give the prompt before the continuation."""
    suffix: str | None = None
    """Text that comes after the continuation."""
    user: str | None = None
    """The end user, as a name that means nothing outside; passed on to the engine."""
    return_token_ids: bool | None = None
    """Engine extension: give the ids of the tokens too."""


class CompletionLogprobs(Shape):
    """Log probabilities of a continuation; the lists run in parallel."""

    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int] | None = None


class CompletionChoice(Shape):
    """One continuation."""

    index: int
    text: str
    finish_reason: Literal["stop", "length", "content_filter"] | str | None = None
    logprobs: CompletionLogprobs | None = None


class Completion(Shape):
    """Continuations of a text; the events of a stream have the same shape."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    """Unix time, seconds."""
    model: str
    choices: list[CompletionChoice]
    """Empty on the chunk of a stream that carries `usage`."""
    usage: Usage | None = None
    system_fingerprint: str | None = None
