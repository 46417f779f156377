"""Tiny random models of several architectures, with a byte-level tokenizer, for tests that need a real
one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CORPUS = [
    "Penstock is a gateway for large language models. Tokens per second, time to first token.",
    "Das Größte daran: Übergänge wie früher, déjà vu, 漢字かな交じり文, 🎉🚀 emoji.",
    "for i in range(10): print(i)  # a line of code, and some more words to merge",
]


@dataclass(frozen=True)
class Architecture:
    """A model family, and what makes a tiny one of it."""

    name: str
    config: str
    model: str
    settings: dict[str, Any]


_COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
# Where `vocab_size` is given, a family's own tokenizer class adds special tokens.
ARCHITECTURES = (
    Architecture("llama", "LlamaConfig", "LlamaForCausalLM", _COMMON | {"num_key_value_heads": 4, "head_dim": 16}),
    Architecture("llama-long", "LlamaConfig", "LlamaForCausalLM", _COMMON | {"max_position_embeddings": 100_000}),
    Architecture("llama-gqa", "LlamaConfig", "LlamaForCausalLM", _COMMON | {"num_key_value_heads": 2}),
    Architecture("qwen2", "Qwen2Config", "Qwen2ForCausalLM", _COMMON | {"num_key_value_heads": 2, "vocab_size": 640}),
    Architecture(
        "qwen3",
        "Qwen3Config",
        "Qwen3ForCausalLM",
        _COMMON | {"num_key_value_heads": 2, "head_dim": 32, "vocab_size": 640},
    ),
    Architecture(
        "mistral-window",
        "MistralConfig",
        "MistralForCausalLM",
        _COMMON | {"num_key_value_heads": 2, "sliding_window": 12},
    ),
    Architecture(
        "gpt2",
        "GPT2Config",
        "GPT2LMHeadModel",
        {"vocab_size": 640, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256},
    ),
    Architecture("gpt-neox", "GPTNeoXConfig", "GPTNeoXForCausalLM", _COMMON),
    Architecture(
        "gemma3-mixed-windows",
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        _COMMON
        | {
            "num_hidden_layers": 3,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "sliding_window": 10,
            "vocab_size": 640,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
)


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer: any text, and halves of characters as tokens."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    inner.train_from_iterator(CORPUS, trainer)
    found = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", pad_token="<|end|>")
    found.chat_template = TEMPLATE
    return found


def save(architecture: Architecture, folder: Path) -> Path:
    """A random model of this architecture in `folder`, its weights large enough that no two logits are
    close.
    """
    tok = tokenizer()
    tok.save_pretrained(folder)
    torch.manual_seed(5)
    settings = {"vocab_size": len(tok), "eos_token_id": 0, "pad_token_id": 0, "bos_token_id": None}
    config = getattr(transformers, architecture.config)(**(settings | architecture.settings), initializer_range=0.4)
    getattr(transformers, architecture.model)(config).save_pretrained(folder)
    return folder
