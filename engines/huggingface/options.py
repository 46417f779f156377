"""The command line. Flag names are those of KServe's Hugging Face runtime where it has one."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

MOUNTED_MODEL = Path("/mnt/models")
"""Where KServe mounts what `storageUri` names."""
_DTYPES = ("auto", "float32", "float16", "bfloat16", "float", "half")


@dataclass(frozen=True, slots=True)
class Options:
    """What one engine process serves, and how. `max_length` 0: the model's own context; `kv_cache_tokens`
    0: by memory.
    """

    model_name: str
    model_id: str | None = None
    model_dir: Path | None = None
    model_revision: str | None = None
    host: str = "0.0.0.0"  # noqa: S104  # as KServe's runtime: a container serves its pod's address
    port: int = 8080
    dtype: str = "auto"
    device: str = "auto"
    trust_remote_code: bool = False
    chat_template: Path | None = None
    max_length: int = 0
    max_batch_size: int = 32
    max_queue: int = 256
    max_prefill_tokens: int = 512
    kv_cache_tokens: int = 0
    threads: int = 0
    trace: bool = True
    drain_timeout_s: float = 30.0
    log_level: str = "info"


_DEFAULTS = Options("")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence instead of the usage text of all flags."""
        self.exit(2, f"{self.prog}: {message} (--help lists the flags)\n")


def parse(argv: Sequence[str]) -> Options:
    """The options of this command line.

    Raises:
        SystemExit: a flag is unknown, missing or out of range; what and why is on stderr, the code is 2.
    """
    parser = _parser()
    given = parser.parse_args(argv)
    if given.model_id is None and given.model_dir is None:
        if not MOUNTED_MODEL.is_dir():
            parser.error(f"give --model_id or --model_dir; there is no {MOUNTED_MODEL} either")
        given.model_dir = MOUNTED_MODEL
    if given.model_id is not None and given.model_dir is not None:
        parser.error("give --model_id or --model_dir, not both")
    name = given.model_name or given.model_id or given.model_dir.name
    return Options(
        model_name=name,
        model_id=given.model_id,
        model_dir=given.model_dir,
        model_revision=given.model_revision,
        host=given.host,
        port=given.port,
        dtype={"float": "float32", "half": "float16"}.get(given.dtype, given.dtype),
        device=given.device,
        trust_remote_code=given.trust_remote_code,
        chat_template=given.chat_template,
        max_length=given.max_length,
        max_batch_size=given.max_batch_size,
        max_queue=given.max_queue,
        max_prefill_tokens=given.max_prefill_tokens,
        kv_cache_tokens=given.kv_cache_tokens,
        threads=given.threads,
        trace=not given.no_trace,
        drain_timeout_s=given.drain_timeout,
        log_level=given.log_level,
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("python -m engines.huggingface", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--model_id", metavar="ID", help="model on the hub, or a folder; penstock/demo is the bundled one")
    add("--model_dir", metavar="DIR", type=Path, help=f"folder with the model (default {MOUNTED_MODEL})")
    add("--model_name", metavar="NAME", help="name clients use (default: the id or the folder's name)")
    add("--model_revision", metavar="REV", help="branch, tag or commit on the hub")
    add("--host", default=_DEFAULTS.host, help="address to listen on (default %(default)s)")
    add("--port", "--http_port", type=_within(0, 65535), default=_DEFAULTS.port, help="default %(default)s")
    add("--dtype", choices=_DTYPES, default="auto", help="auto: float32 on a CPU, else the model's own")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps")
    add("--task", choices=("text_generation",), default="text_generation", help="only text generation")
    add("--backend", choices=("auto", "huggingface"), default="auto", help="only huggingface")
    add("--trust_remote_code", action="store_true", help="run code that comes with the model")
    add("--chat_template", type=Path, metavar="FILE", help="a Jinja chat template instead of the model's")
    add(
        "--max_length",
        "--max_model_len",
        type=_within(0),
        default=0,
        help="context in tokens; 0: the model's",
    )
    add(
        "--max_batch_size",
        type=_within(1),
        default=_DEFAULTS.max_batch_size,
        help="sequences at once (%(default)s)",
    )
    add(
        "--max_queue",
        type=_within(0),
        default=_DEFAULTS.max_queue,
        help="sequences that may wait (%(default)s)",
    )
    add(
        "--max_prefill_tokens",
        type=_within(1),
        default=_DEFAULTS.max_prefill_tokens,
        help="per step (%(default)s)",
    )
    add("--kv_cache_tokens", type=_within(0), default=0, help="size of the cache; 0: what memory allows")
    threads = _within(0)(os.environ.get("PENSTOCK_ENGINE_THREADS", "0"))
    add("--threads", type=_within(0), default=threads, help="CPU threads; 0: by the model's size")
    add("--no_trace", action="store_true", help="never record the model's forward pass as a graph")
    add(
        "--drain_timeout",
        type=float,
        default=_DEFAULTS.drain_timeout_s,
        help="seconds on SIGTERM (%(default)s)",
    )
    add("--log_level", choices=("debug", "info", "warning", "error"), default=_DEFAULTS.log_level)
    return parser


class _within:  # noqa: N801  # reads as a type where argparse wants one
    """A whole number in a range."""

    def __init__(self, least: int, most: int | None = None) -> None:
        self._least, self._most = least, most

    def __call__(self, text: str) -> int:
        allowed = f"at least {self._least}" if self._most is None else f"from {self._least} to {self._most}"
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {allowed}") from None
        if value < self._least or (self._most is not None and value > self._most):
            raise argparse.ArgumentTypeError(f"{text} is out of range: {allowed}")
        return value
