"""Generate requests of the Open Inference Protocol, to and from the completions API that engines speak.

Pure. Bytes in, bytes out.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from serving.errors import ApiError, EngineBroken, InvalidJson
from serving.oip import (
    DEFAULT_MAX_TOKENS,
    UNKNOWN_TOKEN_ID,
    Details,
    FinishReason,
    GenerateError,
    GenerateParameters,
    GenerateRequest,
    GenerateResponse,
    GenerateStreamResponse,
    GenerationFailed,
    InvalidInput,
    StreamDetails,
    Token,
)

DONE = b"[DONE]"
RESERVED = {
    "model": "the model is named in the path",
    "prompt": "the prompt is 'text_input'",
    "stream": "a stream is asked for with the path /generate_stream",
    "stream_options": "a generate stream has no options",
}
# The protocol knows four statuses; ours that say what it has no word for (401, 404, 413, 503, ...) are kept.
STATUS: Mapping[int, int] = {400: 422, 500: 500, 502: 424, 504: 424}
_TOKEN_ID = "token_id:"  # noqa: S105 - how vLLM writes a token when told to name tokens by id


class _Logprobs(Struct):
    tokens: list[str] = []
    token_logprobs: list[float | None] = []


class _Choice(Struct):
    text: str = ""
    index: int = 0
    finish_reason: str | None = None
    stop_reason: str | int | None = None  # vLLM: the stop string or token that was hit, None at the end of text
    logprobs: _Logprobs | None = None
    token_ids: list[int] | None = None  # vLLM, for `return_token_ids`


class _Completion(Struct):
    choices: list[_Choice] = []
    error: Raw = Raw()
    object: str = ""
    message: str = ""


_request_decoder = msgspec.json.Decoder(GenerateRequest)
_parameters_decoder = msgspec.json.Decoder(GenerateParameters)
_fields_decoder = msgspec.json.Decoder(dict[str, Raw])
_completion_decoder = msgspec.json.Decoder(_Completion)
_encode = msgspec.json.Encoder().encode


def to_completion(body: bytes, model: str, *, stream: bool) -> bytes:
    """Pure. A generate request as the `/v1/completions` request that asks an engine for the same.

    Raises:
        InvalidJson: the body is not JSON.
        InvalidInput: a field is missing, of the wrong type or out of range; `param` names it.
    """
    request = _decode(_request_decoder, body, "")
    raw = bytes(request.parameters)
    if raw in (b"", b"null"):
        raw = b"{}"
    known: GenerateParameters = _decode(_parameters_decoder, raw, "parameters")
    fields_given: dict[str, Raw] = _decode(_fields_decoder, raw, "parameters")
    given = {name: value for name, value in fields_given.items() if bytes(value) != b"null"}
    for name in given.keys() & RESERVED.keys():
        raise InvalidInput(f"'parameters.{name}' may not be set: {RESERVED[name]}.", param=f"parameters.{name}")
    given.pop("details", None)
    fields: dict[str, Any] = {"model": model, "prompt": request.text_input, "max_tokens": DEFAULT_MAX_TOKENS}
    if known.details:
        fields |= {"logprobs": 1, "return_token_ids": True}
    fields |= given
    if stream:
        fields["stream"] = True
    return _encode(fields)


def _decode(decoder: Any, body: bytes, where: str) -> Any:
    """Decode `body`; an error speaks of fields under `where`."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        reason, _, at = str(error).partition(" - at `$")
        path = (where + at.rstrip("`")).removeprefix(".") or None
        what = f"'{path}': " if path else "The request body: "
        raise InvalidInput(f"{what}{reason}.", param=path) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"The request body is not valid JSON: {error}.") from None


def from_completion(body: bytes, model: str, version: str | None = None) -> bytes:
    """Pure. An engine's completion as the answer to a generate request.

    Raises:
        EngineBroken: it is not a completion.
        GenerationFailed: it is an error, or the engine gave up.
    """
    answer = _answer(body)
    if not answer.choices:
        raise EngineBroken("The engine's answer holds no completion.")
    choice = answer.choices[0]
    details = Details(_finish(choice) or "eos_token", _tokens(choice))
    return _encode(GenerateResponse(choice.text, model, version, details))


def _answer(data: bytes) -> _Completion:
    try:
        answer = _completion_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EngineBroken("The engine's answer is not a completion.") from None
    if bytes(answer.error) not in (b"", b"null") or answer.object == "error":
        raise GenerationFailed(engine_message(data))
    return answer


def _finish(choice: _Choice) -> FinishReason | None:
    """The protocol's word for why the answer ended; None where it has not.

    Raises:
        GenerationFailed: the engine gave up.
    """
    match choice.finish_reason:
        case None:
            return None
        case "length":
            return "length"
        case "abort" | "error":
            raise GenerationFailed("The engine gave up on the answer.")
        case _:
            return "eos_token" if choice.stop_reason is None else "stop_sequence"


def _tokens(choice: _Choice) -> list[Token]:
    if choice.logprobs is None:
        return []
    texts, logprobs = choice.logprobs.tokens, choice.logprobs.token_logprobs
    ids = choice.token_ids or []
    return [
        Token(
            id=ids[i] if i < len(ids) else _id_in(text),
            text=text,
            logprob=logprobs[i] if i < len(logprobs) else None,
            special=text.startswith("<") and text.endswith(">") and text not in choice.text,
        )
        for i, text in enumerate(texts)
    ]


def _id_in(text: str) -> int:
    digits = text.removeprefix(_TOKEN_ID)
    return int(digits) if digits != text and digits.isdecimal() else UNKNOWN_TOKEN_ID


class StreamTranslator:
    """Turns the events of a completions stream into the frames of a generate stream. Values in, values out.

    Attributes:
        ended: the last frame has been given (`failed`: it was an error); what comes after is dropped.
    """

    __slots__ = ("_model", "_version", "ended", "failed")

    def __init__(self, model: str, version: str | None = None) -> None:
        self._model = model
        self._version = version
        self.ended = False
        self.failed = False

    def event(self, data: bytes) -> bytes:
        """Frames for the payload of one event: JSON, `[DONE]` or an error object. May be empty."""
        if self.ended:
            return b""
        if data == DONE:
            self.ended = True
            return b""
        try:
            return b"".join([self._frames(c) for c in _answer(data).choices if c.index == 0])
        except ApiError as error:
            return self.error(error)

    def error(self, error: ApiError) -> bytes:
        """The frame that says the stream failed; empty if it has already ended."""
        if self.ended:
            return b""
        self.ended = self.failed = True
        return _frame(GenerateError(error.message))

    def _frames(self, choice: _Choice) -> bytes:
        finish = _finish(choice)
        tokens = _tokens(choice)
        if len(tokens) < 2:
            token = tokens[0] if tokens else None
            details = StreamDetails(finish, token) if finish or token else None
            # A chunk of nothing (some engines open with one) is no frame.
            return self._one(choice.text, details) if choice.text or details else b""
        texts = [t.text for t in tokens]
        if "".join(texts) != choice.text:  # part of a character, or a mark that is not in the text: no clean cut
            texts = [choice.text, *[""] * (len(tokens) - 1)]
        ends = [*[None] * (len(tokens) - 1), finish]
        return b"".join(self._one(x, StreamDetails(e, t)) for x, t, e in zip(texts, tokens, ends, strict=True))

    def _one(self, text: str, details: StreamDetails | None) -> bytes:
        return _frame(GenerateStreamResponse(text, self._model, self._version, details))


def _frame(message: Struct) -> bytes:
    return b"data: " + _encode(message) + b"\n\n"


def error_body(error: ApiError) -> tuple[int, bytes]:
    """Pure. Status and body in the protocol's shape for an error of ours."""
    return STATUS.get(error.status, error.status), _encode(GenerateError(error.message))


def engine_error(status: int, body: bytes) -> tuple[int, bytes]:
    """Pure. Status and body in the protocol's shape for an engine's answer that is not 2xx."""
    if status == 422 or status == 429:
        mapped = status
    elif 500 <= status <= 599:
        mapped = 424
    else:
        mapped = STATUS.get(status, 424)
    return mapped, _encode(GenerateError(engine_message(body)))


def engine_message(body: bytes) -> str:
    """Pure. The text of an engine's error, in whichever shape it came."""
    try:
        whole = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = None
    found = whole.get("error", whole) if isinstance(whole, dict) else whole
    text = found.get("message") or found.get("detail") if isinstance(found, dict) else found
    return text if isinstance(text, str) and text else "The engine failed without saying why."
