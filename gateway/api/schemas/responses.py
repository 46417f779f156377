"""Responses: `POST /v1/responses`, relayed where the engine has it."""

from typing import Any, Literal

from gateway.api.schemas.shape import Caller, Shape


class ResponseRequest(Caller):
    """What to answer. Ids of earlier responses only mean something to the engine that gave them."""

    model: str
    """A model name or alias, as `GET /v1/models` lists them."""
    input: str | list[dict[str, Any]] | None = None
    """Text, or a list of messages, calls and their results."""
    instructions: str | None = None
    """A system message put first."""
    stream: bool | None = None
    """Answer with server-sent events."""
    stream_options: dict[str, Any] | None = None
    max_output_tokens: int | None = None
    """Most tokens to generate, reasoning included."""
    max_tool_calls: int | None = None
    """Most calls of built-in tools."""
    temperature: float | None = None
    """0 to 2."""
    top_p: float | None = None
    """0 to 1."""
    top_logprobs: int | None = None
    """0 to 20."""
    tools: list[dict[str, Any]] | None = None
    """What the model may call."""
    tool_choice: str | dict[str, Any] | None = None
    """`none`, `auto`, `required`, or one tool."""
    parallel_tool_calls: bool | None = None
    """Allow several calls in one answer."""
    text: dict[str, Any] | None = None
    """`format` of the text (plain, JSON schema) and its `verbosity`."""
    reasoning: dict[str, Any] | None = None
    """`effort` and `summary`."""
    previous_response_id: str | None = None
    """The response this one follows."""
    conversation: str | dict[str, Any] | None = None
    """The conversation this belongs to, where the engine keeps them."""
    include: list[str] | None = None
    """What else to give, for instance `message.output_text.logprobs`."""
    background: bool | None = None
    """Answer at once and go on working, where the engine does so."""
    truncation: str | None = None
    """`auto` or `disabled`."""
    prompt: dict[str, Any] | None = None
    """A stored prompt, where the engine has them."""
    context_management: list[dict[str, Any]] | None = None
    """Passed on to the engine."""
    moderation: dict[str, Any] | None = None
    """Passed on to the engine."""
    image: dict[str, Any] | None = None
    """Passed on to the engine."""
    access_programs: list[Any] | dict[str, Any] | None = None
    """Passed on to the engine."""
    prompt_cache_options: dict[str, Any] | None = None
    """Passed on to the engine."""


class ResponseUsage(Shape):
    """Tokens a response cost."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: dict[str, Any] | None = None
    output_tokens_details: dict[str, Any] | None = None


class Response(Shape):
    """An answer, as a list of items: messages, calls, reasoning."""

    id: str
    object: Literal["response"] = "response"
    created_at: float
    """Unix time, seconds."""
    status: str | None = None
    """`completed`, `in_progress`, `incomplete`, `failed`, `cancelled` or `queued`."""
    model: str
    output: list[dict[str, Any]]
    usage: ResponseUsage | None = None
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = None
    previous_response_id: str | None = None


class ResponseEvent(Shape):
    """One event of a stream, for instance `response.output_text.delta`."""

    type: str
    sequence_number: int | None = None
    delta: str | None = None
    response: dict[str, Any] | None = None
