"""From messages or text to token ids, and from token ids to what log probabilities show of them."""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from serving.errors import ContextExceeded, InvalidRequest
from serving.openai import ChatCompletionRequest, ChatMessage

_BYTE_LEVEL = "ByteLevel"


class Prompter:
    """Wraps a tokenizer. Safe to use beside the engine's thread: it changes nothing."""

    def __init__(self, tokenizer: Any, context_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens
        # The Rust tokenizer behind a fast one does the same as its wrapper, several times faster.
        self.decoder: Any = getattr(tokenizer, "backend_tokenizer", None) or tokenizer
        if self.decoder is not tokenizer:
            # What a tokenizer file may have set for training would cut or fill prompts here.
            self.decoder.no_truncation()
            self.decoder.no_padding()
        self._bytes_of = _byte_alphabet() if _BYTE_LEVEL in repr(getattr(self.decoder, "decoder", "")) else None
        # Splitting a text of megabytes would hold up the event loop for seconds. A byte-level tokenizer drops
        # nothing, so a text has at least its length over the longest token's.
        self._longest_token = max(map(len, tokenizer.get_vocab())) if self._bytes_of is not None else None

    def chat(self, request: ChatCompletionRequest) -> list[int]:
        """The token ids of a conversation, ready for the answer.

        With `continue_final_message` they end inside the last message, exactly as if the model had just
        written it.

        Raises:
            InvalidRequest: the messages do not fit the model's chat template.
        """
        messages = [_as_template_sees(message, n) for n, message in enumerate(request.messages)]
        go_on = bool(request.continue_final_message)
        prompt = request.add_generation_prompt is True or (request.add_generation_prompt is None and not go_on)
        if go_on and prompt:
            raise InvalidRequest(
                "continue_final_message and add_generation_prompt cannot both be true: an answer is either "
                "continued or begun",
                param="continue_final_message",
            )
        if self._tokenizer.chat_template is None:
            raise InvalidRequest("this model has no chat template: use /v1/completions", param="messages")
        if go_on:
            return self._continued(messages, request)
        return self.encode(self._rendered(messages, request, prompt), special=False)

    def text(self, prompt: str) -> list[int]:
        """The token ids of a plain prompt, with the special tokens the model expects around it."""
        return self.encode(prompt, special=True)

    def encode(self, text: str, special: bool) -> list[int]:
        """Token ids of `text`.

        Raises:
            ContextExceeded: it is so long that it need not be split to know that it has too many tokens.
        """
        if self._longest_token and len(text) > self._longest_token * self._context_tokens:
            raise ContextExceeded(
                f"the prompt has {len(text)} characters: this model's context is {self._context_tokens} tokens",
                param="messages",
            )
        if self.decoder is self._tokenizer:
            found: list[int] = self._tokenizer(text, add_special_tokens=special)["input_ids"]
        else:
            found = self.decoder.encode(text, add_special_tokens=special).ids
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these tokens, special ones included."""
        text: str = self.decoder.decode(list(ids), skip_special_tokens=False)
        return text

    def token(self, token: int) -> tuple[str, bytes]:
        """How a single token is shown, and its bytes. One that is no whole character shows its bytes as
        escapes.
        """
        own = self._bytes(token)
        try:
            return own.decode(), own
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{b:02x}" for b in own), own

    def _bytes(self, token: int) -> bytes:
        alphabet = self._bytes_of
        if alphabet is not None:
            piece: str = self._tokenizer.convert_ids_to_tokens(token) or ""
            if all(character in alphabet for character in piece):
                return bytes(alphabet[character] for character in piece)
        return self.decode([token]).encode()

    def _rendered(self, messages: list[dict[str, Any]], request: ChatCompletionRequest, prompt: bool) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(
                messages,
                tools=request.tools,
                add_generation_prompt=prompt,
                tokenize=False,
                **(request.chat_template_kwargs or {}),
            )
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            raise InvalidRequest(f"messages do not fit the model's chat template: {error}", param="messages") from error
        return text

    def _continued(self, messages: list[dict[str, Any]], request: ChatCompletionRequest) -> list[int]:
        last = messages[-1]
        if last["role"] != "assistant":
            raise InvalidRequest(
                f"messages[{len(messages) - 1}].role is {last['role']!r}: only 'assistant' can be continued",
                param="messages",
            )
        # What the model saw before it wrote the answer is the prompt without it. That, then the answer word
        # for word, is the exact state to go on from; the template might trim or edit the answer.
        before = self._rendered(messages[:-1], request, True) if len(messages) > 1 else ""
        ids = self.encode(before, special=False) if before else []
        answer = self.encode(last["content"], special=False)
        if self.decode(ids + answer) == self.decode(ids) + last["content"]:
            return ids + answer
        # This tokenizer marks the beginning of a text (with a space, say): both go through it together.
        return self.encode(before + last["content"], special=False)


def _as_template_sees(message: ChatMessage, number: int) -> dict[str, Any]:
    """A message as chat templates expect it: content a string."""
    content = message.content
    if isinstance(content, list):
        for place, part in enumerate(content):
            if part.type != "text" or part.text is None:
                raise InvalidRequest(
                    f"messages[{number}].content[{place}].type is {part.type!r}: only 'text' is supported",
                    param=f"messages[{number}].content[{place}]",
                )
        content = "".join(part.text or "" for part in content)
    found: dict[str, Any] = {"role": message.role, "content": content or ""}
    for name in ("name", "tool_calls", "tool_call_id", "reasoning_content"):
        value = getattr(message, name)
        if value is not None:
            found[name] = value
    return found


def _byte_alphabet() -> dict[str, int]:
    """The characters that byte-level tokenizers write bytes as: printable ones as themselves, others from
    U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(b): b for b in printable}
    others = (b for b in range(256) if b not in set(printable))
    return alphabet | {chr(0x100 + n): b for n, b in enumerate(others)}
