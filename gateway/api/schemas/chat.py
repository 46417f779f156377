"""Chat completions: `POST /v1/chat/completions`."""

from typing import Any, Literal

from pydantic import Field

from gateway.api.schemas.shape import Caller, Sampling, Shape, StreamOptions, Usage


class ImageUrl(Shape):
    """A picture."""

    url: str
    """`data:image/png;base64,...`, or an address that the engine fetches."""
    detail: str | None = None
    """`auto`, `low` or `high`."""


class InputAudio(Shape):
    """Sound."""

    data: str
    """Base64."""
    format: str
    """`wav` or `mp3`."""


class ContentPart(Shape):
    """A part of a message; which field it has goes by `type`."""

    type: str
    """`text`, `image_url`, `input_audio`, `file`, `video_url` or what else the engine knows."""
    text: str | None = None
    image_url: ImageUrl | None = None
    input_audio: InputAudio | None = None
    file: dict[str, Any] | None = None


class FunctionCall(Shape):
    """A call of a function."""

    name: str
    arguments: str
    """JSON, as the model wrote it: check it before use."""


class ToolCall(Shape):
    """A call that the model wants made."""

    id: str
    type: Literal["function"] | str = "function"
    function: FunctionCall


class Message(Shape):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"] | str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    """Tells participants of the same role apart."""
    tool_calls: list[ToolCall] | None = None
    """On a message of the assistant: the calls it made."""
    tool_call_id: str | None = None
    """On a message of a tool: the call it answers."""
    refusal: str | None = None


class FunctionDefinition(Shape):
    """A function the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of the arguments."""
    strict: bool | None = None
    """Make the arguments follow the schema exactly."""


class Tool(Shape):
    """Something the model may call."""

    type: Literal["function"] | str = "function"
    function: FunctionDefinition | None = None


class JsonSchemaFormat(Shape):
    """A JSON schema, with a name."""

    name: str
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Shape):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"] | str
    json_schema: JsonSchemaFormat | None = None


class ChatCompletionRequest(Sampling, Caller):
    """A conversation to be continued."""

    model: str
    """A model name or alias, as `GET /v1/models` lists them."""
    messages: list[Message]
    """The conversation so far."""
    stream: bool | None = None
    """Answer with server-sent events as tokens are generated."""
    stream_options: StreamOptions | None = None
    max_completion_tokens: int | None = None
    """Most tokens to generate."""
    max_tokens: int | None = None
    """Older name of `max_completion_tokens`."""
    n: int | None = None
    """How many answers to generate."""
    stop: str | list[str] | None = None
    """Text that ends the answer; up to four."""
    logprobs: bool | None = None
    """Give the log probability of each token."""
    top_logprobs: int | None = None
    """0 to 20. Give as many of the likeliest tokens at each place."""
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    """What the model may call."""
    tool_choice: str | dict[str, Any] | None = None
    """`none`, `auto`, `required`, or one function."""
    parallel_tool_calls: bool | None = None
    """Allow several calls in one answer."""
    reasoning_effort: str | None = None
    """`none`, `minimal`, `low`, `medium`, `high` or `xhigh`."""
    verbosity: str | None = None
    """`low`, `medium` or `high`."""
    modalities: list[str] | None = None
    """`text`, `audio`."""
    audio: dict[str, Any] | None = None
    """Voice and format of spoken answers."""
    prediction: dict[str, Any] | None = None
    """Text that most of the answer is expected to equal."""
    web_search_options: dict[str, Any] | None = None
    """Passed on to the engine."""
    moderation: dict[str, Any] | None = None
    """Passed on to the engine."""
    prompt_cache_options: dict[str, Any] | None = None
    """Passed on to the engine."""
    functions: list[FunctionDefinition] | None = None
    """Older form of `tools`."""
    function_call: str | dict[str, Any] | None = None
    """Older form of `tool_choice`."""
    add_generation_prompt: bool | None = None
    """Engine extension: end the prompt where the assistant's message begins; on by default."""
    continue_final_message: bool | None = None
    """Engine extension: continue the last message, which is the assistant's, and not start a new one."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Engine extension: values for the chat template."""


class TopLogprob(Shape):
    """A token and its log probability."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    """UTF-8 of the token."""


class TokenLogprob(TopLogprob):
    """A token of the answer."""

    top_logprobs: list[TopLogprob] | None = None


class ChatLogprobs(Shape):
    """Log probabilities of an answer."""

    content: list[TokenLogprob] | None = None
    refusal: list[TokenLogprob] | None = None


class ChatChoice(Shape):
    """One answer."""

    index: int
    message: Message
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "function_call"] | str | None = None
    logprobs: ChatLogprobs | None = None


class ChatCompletion(Shape):
    """The answers to a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    """Unix time, seconds."""
    model: str
    choices: list[ChatChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None


class Delta(Shape):
    """What is new in a message."""

    role: str | None = None
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    """Pieces of calls, to be joined by `index`."""
    refusal: str | None = None
    reasoning_content: str | None = None
    """Engine extension: reasoning, apart from the answer."""


class ChatChunkChoice(Shape):
    """What is new in one answer."""

    index: int
    delta: Delta
    finish_reason: str | None = None
    logprobs: ChatLogprobs | None = None


class ChatCompletionChunk(Shape):
    """One event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    """Empty on the chunk that carries `usage`."""
    usage: Usage | None = None
