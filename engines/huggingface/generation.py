"""From a parsed request to a ticket and the form of its answer. Needs a loaded model; answers nothing
itself.
"""

import time
from dataclasses import dataclass

from engines.huggingface.answer import Echo, Form
from engines.huggingface.front import Front
from engines.huggingface.request import chat_params, check_known, completion_params, decode, prompts_of
from engines.huggingface.ticket import Ticket
from serving.errors import UnknownModel
from serving.openai import ChatCompletionRequest, CompletionRequest


@dataclass(frozen=True, slots=True)
class Started:
    """A request that has been queued. `choices` is how many sequences it has."""

    ticket: Ticket
    form: Form
    choices: int
    stream: bool


def start_chat(front: Front, model: str, body: bytes) -> Started:
    """Queue a chat completion.

    Raises:
        ApiError: it cannot be served; see `decode`, `chat_params` and `Front.submit`.
    """
    prompter = front.prompter
    request = decode(body, ChatCompletionRequest)
    check_model(request.model, model)
    prompt = prompter.chat(request)
    check_known(prompt, front.bounds)
    params = chat_params(request, len(prompt), front.bounds)
    n = request.n or 1
    ticket = front.submit([prompt], [params], n)
    options = request.stream_options
    form = Form(
        f"chatcmpl-{front.new_id()}",
        model,
        int(time.time()),
        True,
        prompter,
        len(prompt),
        n,
        params.logprobs,
        bool(options and options.include_usage),
    )
    return Started(ticket, form, n, bool(request.stream))


def start_completion(front: Front, model: str, body: bytes) -> Started:
    """Queue a completion, of one prompt or several.

    Raises:
        ApiError: it cannot be served; see `decode`, `completion_params` and `Front.submit`.
    """
    prompter = front.prompter
    request = decode(body, CompletionRequest)
    check_model(request.model, model)
    bounds = front.bounds
    given = prompts_of(request, bounds)
    prompts = [prompter.text(p) if isinstance(p, str) else p for p in given]
    for prompt in prompts:
        check_known(prompt, bounds)
    params = [completion_params(request, len(prompt), bounds) for prompt in prompts]
    echoes: tuple[Echo, ...] = ()
    if request.echo:
        texts = [p if isinstance(p, str) else prompter.decode(p) for p in given]
        echoes = tuple(Echo(tokens, text) for tokens, text in zip(prompts, texts, strict=True))
    n = request.n or 1
    ticket = front.submit(prompts, params, n)
    options = request.stream_options
    form = Form(
        f"cmpl-{front.new_id()}",
        model,
        int(time.time()),
        False,
        prompter,
        ticket.prompt_tokens,
        n,
        request.logprobs,
        bool(options and options.include_usage),
        echoes,
    )
    return Started(ticket, form, n * len(prompts), bool(request.stream))


def check_model(asked: str, served: str) -> None:
    """Refuse another model than the one served.

    Raises:
        UnknownModel: it is another one.
    """
    if asked != served:
        raise UnknownModel(f"the model {asked!r} does not exist here; this engine serves {served!r}", param="model")
