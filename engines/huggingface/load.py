"""Loading a model from disk or hub: weights, tokenizer, and what the engine must know about both."""

import json
import os
from pathlib import Path
from typing import Any

import torch
import transformers

from engines.demo import MODEL_ID as DEMO_ID
from engines.demo import model_dir as demo_dir
from engines.huggingface.core import TorchCore
from engines.huggingface.forward import Masks, Runner
from engines.huggingface.kv_cache import KvCache, LayerDims, cell_bytes
from engines.huggingface.kv_shape import Limits
from engines.huggingface.loaded import Loaded, LoadError
from engines.huggingface.options import Options
from engines.huggingface.tracing import steps_for

_DEFAULT_CONTEXT_TOKENS = 2048
_MEMORY_SHARE = 0.4
_PASS_TOKENS = 24
"""On a CPU a pass costs as much as this many tokens of a small model; on a GPU a short pass is as long as a
full one.
"""
_SMALL_MODEL_WEIGHTS = 30_000_000


def load(options: Options) -> Loaded:
    """Load what the options name.

    Raises:
        LoadError: it is not there, or is not something this engine can serve.
    """
    source = _source(options)
    device = _device(options.device)
    try:
        keys = {"trust_remote_code": options.trust_remote_code, "revision": options.model_revision}
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **keys)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            source, dtype=_dtype(options.dtype, device), attn_implementation="sdpa", **keys
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise LoadError(f"{source} cannot be loaded: {error}") from error
    model = model.to(device).eval().requires_grad_(False)
    if device == "cpu":
        torch.set_num_threads(options.threads or threads_for(model.num_parameters(), physical_cores()))
    if options.chat_template is not None:
        tokenizer.chat_template = options.chat_template.read_text()
    context = _context(model.config, options.max_length)
    core = _core(model, options, device, context)
    settings = _generation_settings(source)
    return Loaded(
        core,
        tokenizer,
        context,
        model.get_input_embeddings().num_embeddings,
        _eos(model, tokenizer, settings),
        _defaults(settings),
    )


def threads_for(weights: int, cores: int) -> int:
    """Pure. CPU threads for a model of this many weights.

    A second thread makes a pass of a small model a fifth faster on an idle machine. But threads meet after
    every operation, so on a busy one (by the gateway or this server's own event loop, say) passes of 2 ms
    took 70.
    """
    return 1 if weights < _SMALL_MODEL_WEIGHTS else cores


def physical_cores() -> int:
    """Cores this process may use; hyperthreads of one core count once where the system says so."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = set()
    for cpu in allowed:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(path.read_text() if path.exists() else str(cpu))
    return len(siblings)


def _source(options: Options) -> str:
    if options.model_dir is not None:
        if not (options.model_dir / "config.json").is_file():
            raise LoadError(f"{options.model_dir} has no config.json, so it is not a model folder")
        return str(options.model_dir)
    assert options.model_id is not None
    return str(demo_dir()) if options.model_id == DEMO_ID else options.model_id


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise LoadError(f"device {name!r} cannot be used: {error}") from error
    return name


def _dtype(name: str, device: str) -> Any:
    """float32 on a CPU unless asked otherwise: half precision is emulated on many, and slower."""
    if name == "auto":
        return torch.float32 if device == "cpu" else "auto"
    return getattr(torch, name)


def _context(config: Any, wanted: int) -> int:
    own = getattr(config.get_text_config(), "max_position_embeddings", None) or getattr(config, "n_ctx", None)
    if wanted and own and wanted > own:
        raise LoadError(f"--max_length {wanted} is more than the model's {own} positions")
    return wanted or own or _DEFAULT_CONTEXT_TOKENS


def _core(model: Any, options: Options, device: str, context: int) -> TorchCore:
    dims, masks = _layers(model)
    per_token = cell_bytes(dims, model.dtype.itemsize)
    wanted = options.kv_cache_tokens or options.max_batch_size * context
    budget = wanted if options.kv_cache_tokens else min(wanted, int(_free_bytes(device) * _MEMORY_SHARE) // per_token)
    if budget < context:
        raise LoadError(
            f"the key/value cache has room for {budget} tokens, fewer than the context of {context}: "
            "give a smaller --max_length or a larger --kv_cache_tokens"
        )
    cache = KvCache(dims, Limits(options.max_batch_size, context, budget), model.dtype, device)
    with torch.inference_mode():
        steps = steps_for(model, masks, cache, options.trace and device == "cpu")
    return TorchCore(
        Runner(steps, cache, device), cache, _PASS_TOKENS if device == "cpu" else options.max_prefill_tokens
    )


def _layers(model: Any) -> tuple[list[LayerDims], Masks]:
    """What each layer caches, found by a pass over two tokens.

    Raises:
        LoadError: the model keeps a state that is no list of keys and values, such as a recurrent one.
    """
    with torch.inference_mode():
        output = model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=model.device), use_cache=True)
    layers = getattr(output.past_key_values, "layers", None)
    if not layers or any(getattr(each, "keys", None) is None for each in layers):
        raise LoadError(f"{type(model).__name__} keeps no plain key/value cache, which batching needs here")
    if "chunked_attention" in (getattr(model.config, "layer_types", None) or ()):
        raise LoadError(f"{type(model).__name__} uses chunked attention, which is not supported")
    dims = [LayerDims(e.keys.shape[1], e.keys.shape[3], e.values.shape[3]) for e in layers]
    windows = {e.sliding_window if e.is_sliding else None for e in layers}
    if len(windows - {None}) > 1:
        raise LoadError(f"{type(model).__name__} has several window sizes, which is not supported")
    return dims, Masks(next(iter(windows - {None}), None), mixed=len(windows) > 1)


def _free_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _generation_settings(source: str) -> dict[str, Any]:
    """The generation config as written: what it does not say must not look as if it did."""
    path = Path(source) / "generation_config.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    try:
        diff: dict[str, Any] = transformers.GenerationConfig.from_pretrained(source).to_diff_dict()
    except OSError:
        return {}
    return diff


def _eos(model: Any, tokenizer: Any, settings: dict[str, Any]) -> frozenset[int]:
    found: set[int] = set()
    for value in (
        settings.get("eos_token_id"),
        model.config.get_text_config().eos_token_id,
        tokenizer.eos_token_id,
    ):
        found.update(value if isinstance(value, list) else [] if value is None else [value])
    return frozenset(found)


def _defaults(settings: dict[str, Any]) -> dict[str, float]:
    """Sampling values the model's author chose; an explicit `do_sample: false` is temperature 0."""
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    chosen = {name: settings[name] for name in names if settings.get(name) is not None}
    if settings.get("do_sample") is False:
        chosen["temperature"] = 0.0
    return chosen
