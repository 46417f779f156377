"""The demo model's tokenizer: byte-level BPE learned from the pages, with a chat template."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from engines.demo.conversation import ASSISTANT, END, SYSTEM, USER, Piece
from engines.demo.questions import Entry

VOCABULARY_TOKENS = 2048
CONTEXT_TOKENS = 1024
PAD = "<|pad|>"
MARKERS = (END, PAD, SYSTEM, USER, ASSISTANT)

# Content may be a string or a list of text parts. Roles this model does not know (developer, tool) are read
# as the system's. Content is rendered untouched, so that a last assistant turn can be continued.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
  {%- if message['role'] in ['user', 'assistant'] -%}
    {{- '<|' + message['role'] + '|>' -}}
  {%- else -%}
    {{- '<|system|>' -}}
  {%- endif -%}
  {%- if message['content'] is string -%}
    {{- message['content'] -}}
  {%- elif message['content'] -%}
    {%- for part in message['content'] -%}
      {%- if part['type'] == 'text' -%}
        {{- part['text'] -}}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|assistant|>' -}}
{%- endif -%}
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """Token ids, and the weight of each in the loss."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary is learned from `texts`. The same texts give the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_TOKENS,
        special_tokens=list(MARKERS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def corpus(entries: Iterable[Entry]) -> Iterator[str]:
    """What the vocabulary is learned from: the entries, and nothing off the topic.

    So the words of the topic become tokens of their own while all others fall to pieces, and that a question is in
    pieces is the plainest sign that it is off the topic, for words never taught as well.
    """
    for entry in entries:
        yield entry.answer
        for phrasing in entry.phrasings:
            yield from (phrasing, phrasing.lower(), " " + phrasing)


class Encoder:
    """Turns samples into the token ids that the chat template's rendering would have."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def encode(self, pieces: Iterable[Piece]) -> Sample:
        """The sample, cut at the context window."""
        ids: list[int] = []
        weights: list[float] = []
        for piece in pieces:
            part = self._ids(piece)
            ids += part
            weights += [piece.weight] * len(part)
        return Sample(tuple(ids[:CONTEXT_TOKENS]), tuple(weights[:CONTEXT_TOKENS]))

    def _ids(self, piece: Piece) -> list[int]:
        if not piece.weight and piece.text not in MARKERS:
            return list(self._tokenizer.encode(piece.text, add_special_tokens=False))
        if piece.text not in self._known:
            if len(self._known) > 20_000:
                self._known.clear()
            self._known[piece.text] = list(self._tokenizer.encode(piece.text, add_special_tokens=False))
        return self._known[piece.text]


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja.

    The configuration is cut to what transformers 4 and 5 both read: 5 writes a class name and a list of
    special tokens that 4 refuses, and the markers are in tokenizer.json anyway.
    """
    tokenizer.save_pretrained(str(out))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": CONTEXT_TOKENS,
        "clean_up_tokenization_spaces": False,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
