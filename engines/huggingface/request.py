"""From a request's bytes to what the engine is asked to do. Pure.

Every refusal names the field, the value that was sent, and what is allowed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from engines.huggingface.params import SamplingParams
from serving.errors import ApiError, ContextExceeded, InvalidJson, InvalidRequest
from serving.openai import ChatCompletionRequest, CompletionRequest, SamplingRequest

T = TypeVar("T", ChatCompletionRequest, CompletionRequest)
_PATH = re.compile(r" - at `\$(.*)`$")
_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+)\]")
_LONGEST_VALUE = 60
_MOST_STOPS = 16


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the model allows: its context and vocabulary in tokens, and the sampling values it asks for by
    default.
    """

    context_tokens: int
    vocabulary_tokens: int
    defaults: Mapping[str, float]


def decode(body: bytes, kind: type[T]) -> T:
    """Pure. The request in `body`.

    Raises:
        InvalidJson: it is not JSON.
        InvalidRequest: a field is missing, of the wrong type, or out of range.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), _generic(body)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from None


def _generic(body: bytes) -> Any:
    """The whole body: what is behind a wrong field may not even be JSON."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from None


def _refusal(message: str, body: Any) -> ApiError:
    """msgspec's complaint with the value it is about."""
    found = _PATH.search(message)
    complaint = message[: found.start()] if found else message
    if not found:
        missing = re.search(r"missing required field `(\w+)`", complaint)
        return InvalidRequest(complaint, param=missing.group(1) if missing else None)
    steps = [name or int(number) for name, number in _STEP.findall(found.group(1))]
    value = body
    for step in steps:
        value = value[step]
    param = found.group(1).lstrip(".")
    shown = repr(value)
    shown = shown if len(shown) <= _LONGEST_VALUE else shown[:_LONGEST_VALUE] + "..."
    return InvalidRequest(f"{param} is {shown}: {complaint[:1].lower()}{complaint[1:]}", param=param)


def chat_params(request: ChatCompletionRequest, prompt_tokens: int, bounds: Bounds) -> SamplingParams:
    """Pure. How to sample the answers to a chat.

    Raises:
        InvalidRequest: values that do not go together, or are no tokens of this model.
    """
    if request.top_logprobs and not request.logprobs:
        raise InvalidRequest(
            f"top_logprobs is {request.top_logprobs}: it needs logprobs to be true", param="top_logprobs"
        )
    name = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
    wanted: int | None = getattr(request, name)
    if wanted == 0:
        raise InvalidRequest(f"{name} is 0: expected at least 1", param=name)
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    return _params(request, _room(prompt_tokens, wanted, bounds), logprobs, False, bounds)


def completion_params(request: CompletionRequest, prompt_tokens: int, bounds: Bounds) -> SamplingParams:
    """Pure. How to sample a completion; OpenAI's default for `max_tokens` here is 16.

    Raises:
        InvalidRequest: values that do not go together, or are no tokens of this model.
    """
    if request.suffix:
        raise InvalidRequest(f"suffix is {request.suffix!r}: inserting text is not supported", param="suffix")
    if request.best_of is not None and request.best_of != (request.n or 1):
        raise InvalidRequest(f"best_of is {request.best_of}: only the value of n is supported", param="best_of")
    wanted = 16 if request.max_tokens is None else request.max_tokens
    if wanted == 0 and not request.echo:
        raise InvalidRequest("max_tokens is 0: expected at least 1, or echo to be true", param="max_tokens")
    score_prompt = bool(request.echo) and request.logprobs is not None
    return _params(request, _room(prompt_tokens, wanted, bounds), request.logprobs, score_prompt, bounds)


def check_known(prompt: list[int], bounds: Bounds) -> None:
    """Pure. Refuse tokens the model has no embedding for, which some models' tokenizers can produce.

    Raises:
        InvalidRequest: there is one.
    """
    if prompt and max(prompt) >= bounds.vocabulary_tokens:
        raise InvalidRequest(
            f"the prompt has the token {max(prompt)}: this model knows tokens below {bounds.vocabulary_tokens}"
        )
    if not prompt:
        raise InvalidRequest("the prompt has no tokens: expected at least one", param="prompt")


def _room(prompt_tokens: int, wanted: int | None, bounds: Bounds) -> int:
    """Tokens that may be generated: what is asked for, as far as the context reaches."""
    left = bounds.context_tokens - prompt_tokens
    if left < min(1, 1 if wanted is None else wanted):
        raise ContextExceeded(
            f"the prompt has {prompt_tokens} tokens: this model's context is {bounds.context_tokens} tokens, "
            "prompt and answer together",
            param="messages",
        )
    return left if wanted is None else min(wanted, left)


def _params(
    request: SamplingRequest, max_tokens: int, logprobs: int | None, score_prompt: bool, bounds: Bounds
) -> SamplingParams:
    def value(name: str, default: float) -> float:
        given = getattr(request, name)
        return bounds.defaults.get(name, default) if given is None else given

    if request.min_tokens and request.min_tokens > max_tokens:
        raise InvalidRequest(
            f"min_tokens is {request.min_tokens}: expected at most max_tokens, {max_tokens}",
            param="min_tokens",
        )
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options is only allowed when stream is true", param="stream_options")
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=value("temperature", 1.0),
        top_p=value("top_p", 1.0),
        top_k=max(0, int(value("top_k", 0))),
        min_p=value("min_p", 0.0),
        seed=request.seed,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        repetition_penalty=value("repetition_penalty", 1.0),
        logit_bias=_biases(request.logit_bias or {}, bounds),
        min_tokens=request.min_tokens or 0,
        ignore_eos=bool(request.ignore_eos),
        stop=_stops(request.stop),
        stop_token_ids=frozenset(_tokens("stop_token_ids", request.stop_token_ids or [], bounds)),
        include_stop=bool(request.include_stop_str_in_output),
        skip_special_tokens=request.skip_special_tokens is not False,
        logprobs=logprobs,
        score_prompt=score_prompt,
    )


def _biases(biases: Mapping[str, float], bounds: Bounds) -> dict[int, float]:
    found = {}
    for text, bias in biases.items():
        if not text.isascii() or not text.isdigit() or int(text) >= bounds.vocabulary_tokens:
            raise InvalidRequest(
                f"logit_bias has the key {text!r}: expected token ids below {bounds.vocabulary_tokens}",
                param="logit_bias",
            )
        found[int(text)] = bias
    return found


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > _MOST_STOPS:
        raise InvalidRequest(f"stop has {len(stops)} strings: expected at most {_MOST_STOPS}", param="stop")
    if "" in stops and stop != "":
        raise InvalidRequest("stop has an empty string: expected strings of one character or more", param="stop")
    return tuple(s for s in stops if s)


def _tokens(name: str, ids: list[int], bounds: Bounds) -> list[int]:
    for token in ids:
        if not 0 <= token < bounds.vocabulary_tokens:
            raise InvalidRequest(
                f"{name} has {token}: expected token ids from 0 to {bounds.vocabulary_tokens - 1}", param=name
            )
    return ids


def prompts_of(request: CompletionRequest, bounds: Bounds) -> list[str | list[int]]:
    """Pure. The prompts of a completion request, each a text or token ids.

    Raises:
        InvalidRequest: `prompt` is empty, or a mixture.
    """
    prompt = request.prompt
    if isinstance(prompt, str):
        return [prompt]
    expected = "expected a string, a list of strings, a list of token ids, or a list of such lists"
    if prompt and all(isinstance(p, str) for p in prompt):
        return list(prompt)
    if prompt and all(_is_id(p) for p in prompt):
        return [_tokens("prompt", prompt, bounds)]
    if prompt and all(isinstance(p, list) and p and all(_is_id(t) for t in p) for p in prompt):
        return [_tokens("prompt", p, bounds) for p in prompt]
    shown = repr(prompt)[:_LONGEST_VALUE]
    raise InvalidRequest(f"prompt is {shown}: {expected}, not empty", param="prompt")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
