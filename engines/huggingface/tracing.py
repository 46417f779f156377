"""Recording a model's forward pass as a graph, where that is faster and gives the same numbers.

For a small model on a CPU, Python between the operations costs more than the operations: a pass of the demo
model takes 1.2 ms, its graph 0.5 ms. The graph also runs without the interpreter lock, so that answers are
written on another core meanwhile. A recording is only right for models whose operations do not depend on
the data, so it is made only for known families, and used only if it gives the model's own logits on shapes
other than the one recorded.
"""

import logging
import warnings
from typing import Any

import torch
from torch import Tensor

from engines.huggingface.forward import Masks, Step, Steps, step_of
from engines.huggingface.kv_cache import KvCache

_log = logging.getLogger("penstock.engine")

TRACEABLE = frozenset(
    (
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "gpt2",
        "gpt_neox",
        "phi",
        "phi3",
        "gemma",
        "gemma2",
        "olmo2",
        "smollm3",
        "granite",
    )
)
"""`model_type`s whose pass is the same operations for any input. No mixtures of experts: they choose by
data.
"""
_OTHER_SHAPES = ((1, 13), (2, 70), (5, 300))
_DATA_DEPENDENT_ROPE = frozenset(("dynamic", "longrope"))


def steps_for(model: Any, masks: Masks, cache: KvCache, trace: bool) -> Steps:
    """The model's steps: recorded where asked, possible and right, else as they are."""
    plain = step_of(model, masks, model.dtype)
    scored = step_of(model, masks, model.dtype, last_only=False)
    if trace and _may_trace(model.config):
        decode = _recorded(plain, cache, queries=1)
        prefill = _recorded(plain, cache, queries=min(5, cache.limits.context_tokens))
        if decode is not None and prefill is not None:
            return Steps(decode, prefill, scored)
        _log.warning("recording the forward pass gave other numbers; running it step by step")
    return Steps(plain, plain, scored)


def _may_trace(config: Any) -> bool:
    rope = getattr(config, "rope_parameters", None) or {}
    return config.model_type in TRACEABLE and rope.get("rope_type", "default") not in _DATA_DEPENDENT_ROPE


def _recorded(step: Step, cache: KvCache, queries: int) -> Step | None:
    """The step as a graph, None if it cannot be recorded or differs from the step itself."""
    most = cache.limits.context_tokens
    try:
        with warnings.catch_warnings():
            # Deprecation of the recorder, and its doubts about branches, which the comparison below settles.
            warnings.simplefilter("ignore")
            graph: Step = torch.jit.trace(step, _example(cache, 3, min(29, most), queries), check_trace=False)
    except RuntimeError as error:
        _log.info("the forward pass cannot be recorded: %s", error)
        return None
    for rows, tokens in _OTHER_SHAPES:
        inputs = _example(cache, rows, min(tokens, most), queries if queries == 1 else min(9 + rows, most))
        if not torch.allclose(step(*inputs), graph(*inputs), rtol=1e-4, atol=1e-4):
            return None
    return graph


def _example(cache: KvCache, rows: int, tokens: int, queries: int) -> tuple[Tensor, ...]:
    """Inputs of a step whose last tokens are `queries` new ones per row."""
    ids = (torch.arange(rows * queries) * 7 % 97).reshape(rows, queries)
    at = torch.arange(tokens - queries, tokens).expand(rows, queries).contiguous()
    # What is cached must matter, or a graph with the wrong mask would pass.
    chance = torch.Generator(cache.device).manual_seed(rows)
    return (ids, at, at, *(t.normal_(generator=chance) for t in cache.scratch(rows, tokens)))
