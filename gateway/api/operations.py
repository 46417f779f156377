"""What the gateway offers for inference: routes and documentation are made from it."""

from dataclasses import dataclass

from gateway.api.schemas.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionRequest
from gateway.api.schemas.completions import Completion, CompletionRequest
from gateway.api.schemas.embeddings import EmbeddingList, EmbeddingRequest, RerankRequest, RerankResponse
from gateway.api.schemas.generate import GenerateRequest, GenerateResponse, GenerateStreamResponse
from gateway.api.schemas.responses import Response, ResponseEvent, ResponseRequest
from gateway.api.schemas.shape import Shape

OPENAI_PREFIXES = ("/v1", "/openai/v1")
PROTOCOL_PREFIX = "/v2/models/{model:path}"


@dataclass(frozen=True, slots=True)
class Operation:
    """A `POST` that an engine answers.

    `answer` is the shape of a whole answer and `event` that of each event of a stream; either may be None.
    `done` says that a stream ends with `[DONE]`.
    """

    name: str
    path: str
    tag: str
    summary: str
    description: str
    request: type[Shape]
    answer: type[Shape] | None
    event: type[Shape] | None = None
    done: bool = True


OPENAI_OPERATIONS = (
    Operation(
        name="create_chat_completion",
        path="/chat/completions",
        tag="Chat",
        summary="Continue a conversation",
        description=(
            "Every field, known here or not, reaches the engine as it was sent. With `stream: true` the "
            "answer is server-sent events; while the first token is late, comment lines (`: keep-alive`) "
            "keep the connection open. An error inside a stream is an event "
            '`data: {"error": {...}}`, and ends it.'
        ),
        request=ChatCompletionRequest,
        answer=ChatCompletion,
        event=ChatCompletionChunk,
    ),
    Operation(
        name="create_completion",
        path="/completions",
        tag="Completions",
        summary="Continue a text",
        description="As chat completions, for a plain text.",
        request=CompletionRequest,
        answer=Completion,
        event=Completion,
    ),
    Operation(
        name="create_embedding",
        path="/embeddings",
        tag="Embeddings",
        summary="Turn texts into vectors",
        description="Relayed to an engine that serves an embedding model.",
        request=EmbeddingRequest,
        answer=EmbeddingList,
    ),
    Operation(
        name="rerank",
        path="/rerank",
        tag="Rerank",
        summary="Put documents in order for a query",
        description="Relayed to an engine that serves a reranking model.",
        request=RerankRequest,
        answer=RerankResponse,
    ),
    Operation(
        name="create_response",
        path="/responses",
        tag="Responses",
        summary="Answer, with items of several kinds",
        description="Relayed where the engine has it; otherwise the engine's own error comes back.",
        request=ResponseRequest,
        answer=Response,
        event=ResponseEvent,
        done=False,
    ),
)

GENERATE_OPERATIONS = (
    Operation(
        name="generate",
        path="/generate",
        tag="Open Inference Protocol",
        summary="Continue a text (Open Inference Protocol)",
        description="Translated to and from the engine's completions API.",
        request=GenerateRequest,
        answer=GenerateResponse,
    ),
    Operation(
        name="generate_stream",
        path="/generate_stream",
        tag="Open Inference Protocol",
        summary="Continue a text as a stream (Open Inference Protocol)",
        description=(
            "Server-sent events; the last one carries `details.finish_reason`. There is no `[DONE]`. An "
            'error inside a stream is an event `data: {"error": "..."}`, and ends it.'
        ),
        request=GenerateRequest,
        answer=None,
        event=GenerateStreamResponse,
        done=False,
    ),
)


def operation_id(prefix: str, name: str) -> str:
    """Pure. A name for an operation that no other prefix uses."""
    return f"{prefix.strip('/').replace('/', '_')}_{name}"
