"""What the gateway reads of an inference request, and how it changes the bytes it forwards.

Pure. Only the fields acted on are decoded; everything else stays the client's own bytes, known to us or not.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from serving.errors import ClientError, InvalidJson, InvalidRequest

CHARS_PER_TOKEN = 4  # English text averages about four bytes a token; only used to compare loads
DEFAULT_OUTPUT_TOKENS = 256  # what a request without a limit is taken to ask for
SHOWN_CHARS = 80  # of a wrong value, in an error message

Kind = Literal["chat", "completion", "embedding", "rerank", "response"]


class StreamOptions(Struct):
    """`stream_options`, as far as the gateway acts on it."""

    include_usage: bool | None = None


class InferenceRequest(Struct):
    """The fields of an OpenAI request that the gateway acts on.

    Attributes:
        model: the model name as the client wrote it.
        stream: whether the answer is to be streamed; None counts as false.
        max_tokens, max_completion_tokens, max_output_tokens: output limits, tokens.
        n: answers asked for.
    """

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | UnsetType | None = UNSET
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for the usage chunk of a stream."""
        options = self.stream_options
        return isinstance(options, StreamOptions) and options.include_usage is True


_decoder = msgspec.json.Decoder(InferenceRequest)
_fields_decoder = msgspec.json.Decoder(dict[str, Raw])
_INCLUDE_USAGE = b'"stream_options":{"include_usage":true}'
_TRUE = Raw(b"true")


def parse(body: bytes) -> InferenceRequest:
    """Pure. Decode what the gateway acts on.

    Raises:
        InvalidJson: the body is not JSON.
        InvalidRequest: a field acted on is missing or of the wrong type; `param` names it.
    """
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _explain(body, error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"The request body is not valid JSON: {error}.") from None
    if not request.model:
        raise InvalidRequest("'model' is empty; it must name a model, see GET /v1/models.", param="model")
    return request


def estimate_tokens(request: InferenceRequest, body_bytes: int) -> int:
    """Pure. Tokens the request is expected to cost an engine: prompt plus the most it may answer."""
    limit = request.max_completion_tokens or request.max_tokens or request.max_output_tokens
    return body_bytes // CHARS_PER_TOKEN + (limit or DEFAULT_OUTPUT_TOKENS) * max(1, request.n or 1)


def rewrite(body: bytes, request: InferenceRequest, *, model: str | None, include_usage: bool) -> bytes:
    """Pure. The body to forward: the client's bytes, unless the engine knows the model by another name (`model`) or
    the usage chunk has to be asked for (`include_usage`). Fields that are not changed keep their bytes.
    """
    add_usage = include_usage and not request.wants_usage
    if model is None and not add_usage:
        return body
    if model is None and request.stream_options is UNSET:
        start = body.index(b"{") + 1
        return b"%b%b,%b" % (body[:start], _INCLUDE_USAGE, body[start:])
    fields = _fields_decoder.decode(body)
    if model is not None:
        fields["model"] = Raw(msgspec.json.encode(model))
    if add_usage:
        given = request.stream_options
        options = _fields_decoder.decode(fields["stream_options"]) if isinstance(given, StreamOptions) else {}
        options["include_usage"] = _TRUE
        fields["stream_options"] = Raw(msgspec.json.encode(options))
    return msgspec.json.encode(fields)


_EXPECTED = {
    "model": "a string naming a model",
    "stream": "true or false",
    "stream_options": 'an object such as {"include_usage": true}',
    "include_usage": "true or false",
    "max_tokens": "a whole number",
    "max_completion_tokens": "a whole number",
    "max_output_tokens": "a whole number",
    "n": "a whole number",
}


def _explain(body: bytes, error: msgspec.ValidationError) -> ClientError:
    """Name the field, the value and what is allowed."""
    try:
        fields = _fields_decoder.decode(body)
    except msgspec.ValidationError:
        return InvalidRequest("The request body must be a JSON object.")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:  # behind the field that was wrong
        return InvalidJson(f"The request body is not valid JSON: {broken}.")
    if "model" not in fields:
        return InvalidRequest("You must provide a 'model' parameter: a string naming a model.", param="model")
    path = str(error).rpartition("`$.")[2].rstrip("`")
    name, _, inner = path.partition(".")
    value = bytes(fields[name])
    if inner:
        value = bytes(_fields_decoder.decode(value)[inner])
    allowed = _EXPECTED[inner or name]
    return InvalidRequest(f"'{path}' must be {allowed}, and is {_shown(value)}.", param=path)


def _shown(value: bytes) -> str:
    text = value.decode(errors="replace")
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "..."
