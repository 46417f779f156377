"""The generate part of the Open Inference Protocol (v2 REST): shapes of messages, and errors. No I/O.

A request is `{"text_input", "parameters": {...}}`; its answer `{"text_output", "model_name", "model_version",
"details"}`; a stream is server-sent events, each the same shape with the text that is new. An error is
`{"error": "text"}`.
"""

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct

from serving.errors import ClientError, ServiceError

DEFAULT_MAX_TOKENS = 20
MOST_TOKENS = 2**31 - 1
UNKNOWN_TOKEN_ID = -1

FinishReason = Literal["length", "eos_token", "stop_sequence"]


class InvalidInput(ClientError):
    """A generate request is malformed; `param` names the field."""

    status = 422
    code = "invalid_input"


class GenerationFailed(ServiceError):
    """The engine gave up on the answer."""

    status = 424
    code = "generation_failed"
    retry_after_s = None


class GenerateRequest(Struct, frozen=True):
    """What a client asks. `parameters` is kept as it came (empty: absent): what is not known is passed on."""

    text_input: str
    parameters: Raw = Raw()


class GenerateParameters(Struct, frozen=True):
    """The parameters the protocol names; None is the same as absent."""

    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=MOST_TOKENS)] | None = None
    stop: list[str] | None = None
    details: bool | None = None
    n: Annotated[int, Meta(ge=1, le=1)] | None = None
    """Not of the protocol, whose answer has room for one text; more would be paid for and thrown away."""


class Token(Struct, frozen=True):
    """One generated token. `id` is -1 and `logprob` (natural logarithm) None where the engine does not tell.

    `special` says that the token is a mark such as `</s>`, which is not part of the text.
    """

    id: int
    text: str
    logprob: float | None
    special: bool


class Details(Struct, frozen=True):
    """Why an answer ended, and its tokens, if they were asked for with `details: true`."""

    finish_reason: FinishReason
    logprobs: list[Token]


class GenerateResponse(Struct, frozen=True, omit_defaults=True):
    """A whole answer."""

    text_output: str
    model_name: str
    model_version: str | None = None
    details: Details | None = None


class StreamDetails(Struct, frozen=True, omit_defaults=True):
    """The token of a frame, if asked for; and on the last frame why the answer ended."""

    finish_reason: FinishReason | None = None
    token: Token | None = None


class GenerateStreamResponse(Struct, frozen=True, omit_defaults=True):
    """One frame of a stream. `text_output` is the text that is new."""

    text_output: str
    model_name: str
    model_version: str | None = None
    details: StreamDetails | None = None


class GenerateError(Struct, frozen=True):
    """The body of every answer that is not 2xx, and the frame that ends a stream which failed."""

    error: str
