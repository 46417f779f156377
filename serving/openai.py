"""The OpenAI message shapes an engine reads and writes. msgspec structs; no I/O.

Requests name the fields that are understood, vLLM's extensions included; unknown ones are accepted and
ignored. None always means "not given". Ranges are part of the types, so that decoding checks them.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Temperature = Annotated[float, Meta(ge=0, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Count = Annotated[int, Meta(ge=0)]
Alternatives = Annotated[int, Meta(ge=0, le=20)]
Choices = Annotated[int, Meta(ge=1, le=128)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
FinishReason = Literal["stop", "length"]


class StreamOptions(Struct, frozen=True):
    """`include_usage`: a last chunk with the token counts."""

    include_usage: bool | None = None


class ContentPart(Struct, frozen=True):
    """One part of a message's content."""

    type: str
    text: str | None = None


class ChatMessage(Struct, frozen=True, omit_defaults=True):
    """One message of a conversation."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class SamplingRequest(Struct, frozen=True, kw_only=True):
    """What chat and plain completions have in common."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    min_p: Probability | None = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None
    logit_bias: dict[str, Bias] | None = None
    max_tokens: Count | None = None
    min_tokens: Count | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[Count] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    user: str | None = None


class ChatCompletionRequest(SamplingRequest, frozen=True, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Alternatives | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None


class CompletionRequest(SamplingRequest, frozen=True, kw_only=True):
    """POST /v1/completions. `prompt` is a text, a list of texts, a list of token ids, or a list of such
    lists.
    """

    prompt: str | list[Any]
    echo: bool | None = None
    logprobs: Alternatives | None = None
    suffix: str | None = None
    best_of: Choices | None = None


class PromptTokensDetails(Struct, frozen=True):
    """Of the prompt's tokens, those that were not computed anew."""

    cached_tokens: int = 0


class Usage(Struct, frozen=True):
    """Token counts of a whole request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(Struct, frozen=True):
    """A token and its log probability. `bytes` are the token's own, which need not be whole characters."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct, frozen=True):
    """A generated token with its likeliest alternatives."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct, frozen=True):
    """Log probabilities in a chat choice."""

    content: list[TokenLogprob]
    refusal: None = None


class CompletionLogprobs(Struct, frozen=True):
    """Log probabilities in a completion choice; None for the first token of an echoed prompt."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class AnswerMessage(Struct, frozen=True):
    """The assistant's message in an answer."""

    content: str
    role: str = "assistant"
    refusal: None = None


class ChatChoice(Struct, frozen=True):
    """One of `n` answers."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class ChatCompletion(Struct, frozen=True):
    """The answer of POST /v1/chat/completions when it is not streamed."""

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    object: str = "chat.completion"


class ChatDelta(Struct, frozen=True, omit_defaults=True):
    """What a chunk adds to a message."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChunkChoice(Struct, frozen=True):
    """What a chunk adds to a choice."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None


class ChatCompletionChunk(Struct, frozen=True):
    """One event of a streamed chat completion. `usage` is there only if it was asked for, and null but in
    the last chunk.
    """

    id: str
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    object: str = "chat.completion.chunk"


class CompletionChoice(Struct, frozen=True):
    """One completion, or in a stream what a chunk adds to it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None


class Completion(Struct, frozen=True):
    """The answer of POST /v1/completions, and the shape of its chunks."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET
    object: str = "text_completion"


class ModelCard(Struct, frozen=True):
    """One entry of GET /v1/models. `max_model_len` is the context in tokens."""

    id: str
    created: int
    owned_by: str = "penstock"
    object: str = "model"
    max_model_len: int | UnsetType = UNSET


class ModelList(Struct, frozen=True):
    """GET /v1/models."""

    data: list[ModelCard]
    object: str = "list"


def schema_of(*types: type) -> dict[str, Any]:
    """JSON schemas of these structs by name, with references under `#/components/schemas/`."""
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    return dict(components)
