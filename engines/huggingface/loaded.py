"""What loading a model yields. Knows no tensors, so that the port can open before they are imported."""

from dataclasses import dataclass
from typing import Any

from engines.huggingface.batch import Core


class LoadError(Exception):
    """The model cannot be served; the message says why and what can be done."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to serve. `defaults` are sampling values its generation config asks for."""

    core: Core
    tokenizer: Any
    context_tokens: int
    vocabulary_tokens: int
    eos: frozenset[int]
    defaults: dict[str, float]
