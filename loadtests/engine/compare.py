"""Our Hugging Face engine beside `transformers serve --continuous-batching`, on one model, in one run.

python -m loadtests.engine.compare [--model DIR] [--rounds 3] [--concurrency 1,8,32] [--json FILE]

Each engine runs alone, the two alternating, and answers the same greedy chats with streams of `--tokens`
tokens. The model is copied first and its end-of-text token replaced by one that does not come, so that both
generate exactly as many tokens. Compare the two within a run; figures of different runs differ with
whatever else the machine does. transformers serve needs the package `accelerate`.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep

import uvloop

from engines.demo import model_dir
from loadtests.engine.stream_client import Figures, measure

_QUESTIONS = (
    "What is Penstock?",
    "How does continuous batching work, and why does it help?",
    "What is time to first token?",
    "Explain what a canary rollout is and when I should use one for my models.",
    "Does it need Kubernetes?",
    "What happens to running requests when a replica is shut down?",
)
_START_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Contender:
    """A server: its name, its command (PORT and MODEL are filled in), the path that says it is ready, the
    model's name, and what its requests need besides."""

    name: str
    command: tuple[str, ...]
    ready_path: str
    model: str
    extra: dict[str, object]
    env: dict[str, str]


_TRANSFORMERS = (
    str(Path(sys.executable).with_name("transformers")),
    *("serve", "MODEL", "--device", "cpu", "--dtype", "float32", "--port", "PORT"),
    *("--continuous-batching", "--attn-implementation", "sdpa"),
    *("--cb-block-size", "32", "--cb-num-blocks", "512", "--cb-max-batch-tokens", "512"),
)
_PENSTOCK = (
    *(sys.executable, "-m", "engines.huggingface", "--model_dir", "MODEL", "--model_name", "m"),
    *("--host", "127.0.0.1", "--port", "PORT"),
)
CONTENDERS = (
    Contender("penstock", _PENSTOCK, "/health/ready", "m", {"ignore_eos": True}, {}),
    # Threads that wait for each other suffer from anything else that runs, so both ways are measured.
    Contender("transformers serve, 1 thread", _TRANSFORMERS, "/health", "MODEL", {}, {"OMP_NUM_THREADS": "1"}),
    Contender("transformers serve", _TRANSFORMERS, "/health", "MODEL", {}, {}),
)


def main() -> None:
    """Run, print a table, and write all figures to --json if given."""
    args = _arguments()
    levels = [int(level) for level in args.concurrency.split(",")]
    contenders = [c for c in CONTENDERS if args.only in c.name]
    figures: dict[str, dict[int, list[Figures]]] = {c.name: {n: [] for n in levels} for c in contenders}
    with tempfile.TemporaryDirectory() as folder:
        model = _endless(args.model, Path(folder) / "model")
        for number in range(args.rounds):
            order = contenders if number % 2 == 0 else contenders[::-1]
            for contender in order:
                for level, found in _run(contender, model, levels, args.tokens, args.requests).items():
                    figures[contender.name][level].append(found)
                    print(f"round {number + 1} {contender.name} {level}: {found}", file=sys.stderr, flush=True)
    print(_table(figures, levels))
    if args.json:
        plain = {name: {n: [asdict(f) for f in all_] for n, all_ in by.items()} for name, by in figures.items()}
        args.json.write_text(json.dumps(plain, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=model_dir())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", default="1,8,32")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--requests", type=int, default=6, help="requests per connection and level")
    parser.add_argument("--only", default="", help="contenders whose names contain this")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _endless(source: Path, target: Path) -> Path:
    """A copy of the model that never ends its text by itself."""
    shutil.copytree(source, target)
    for name in ("config.json", "generation_config.json"):
        path = target / name
        if path.exists():
            settings = json.loads(path.read_text())
            settings["eos_token_id"] = json.loads((target / "config.json").read_text())["vocab_size"] - 1
            path.write_text(json.dumps(settings))
    return target


def _run(contender: Contender, model: Path, levels: list[int], tokens: int, requests: int) -> dict[int, Figures]:
    with _started(contender, model) as port:
        name = str(model) if contender.model == "MODEL" else contender.model
        bodies = [
            {
                "model": name,
                "messages": [{"role": "user", "content": question}],
                "max_tokens": tokens,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            | contender.extra
            for question in _QUESTIONS
        ]
        path = "/v1/chat/completions"
        uvloop.run(measure(port, path, bodies, connections=4, requests=3))
        uvloop.run(measure(port, path, bodies, connections=max(levels), requests=1))
        return {level: uvloop.run(measure(port, path, bodies, level, max(requests, 24 // level))) for level in levels}


@contextmanager
def _started(contender: Contender, model: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [str(port) if part == "PORT" else str(model) if part == "MODEL" else part for part in contender.command]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | contender.env
    )
    try:
        _await_ready(process, f"http://127.0.0.1:{port}{contender.ready_path}", contender.name)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(process: subprocess.Popen[bytes], url: str, name: str) -> None:
    deadline = monotonic() + _START_TIMEOUT_S
    while monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{name} ended with code {process.returncode} before it was ready")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            sleep(0.2)
    raise SystemExit(f"{name} was not ready after {_START_TIMEOUT_S:.0f} s")


def _table(figures: dict[str, dict[int, list[Figures]]], levels: list[int]) -> str:
    lines = [
        "| concurrent | engine | tokens/s | p50 TTFT ms | p99 TTFT ms | p50 gap ms |",
        "|---|---|---|---|---|---|",
    ]
    for level in levels:
        for name, by_level in figures.items():
            found = by_level[level]
            row = [statistics.median(getattr(f, part) for f in found) for part in _PARTS]
            low, high = min(f.tokens_s for f in found), max(f.tokens_s for f in found)
            speed = f"{row[0]:,.0f} ({low:,.0f}-{high:,.0f})"
            lines.append(f"| {level} | {name} | {speed} | {row[1]:.1f} | {row[2]:.1f} | {row[3]:.2f} |")
    return "\n".join(lines)


_PARTS = ("tokens_s", "ttft_p50_ms", "ttft_p99_ms", "gap_p50_ms")


if __name__ == "__main__":
    main()
