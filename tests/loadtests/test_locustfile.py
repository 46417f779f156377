"""Chat traffic: the lengths it draws, how it reads streams, and locust itself against the stand-in."""

import csv
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.chat_traffic import ANSWER_TOKENS, PROMPT_TOKENS, BrokenStreamError, Lengths, contents, prompt
from loadtests.gateway.processes import ROOT, child
from loadtests.gateway.transcript import ERROR_EVENT, Call, whole_stream


def test_lengths_have_the_median_asked_for_and_stay_within_bounds() -> None:
    chance = random.Random(7)
    drawn = [PROMPT_TOKENS.draw(chance) for _ in range(4000)]
    assert 900 < statistics.median(drawn) < 1150
    assert min(drawn) >= 1
    assert max(drawn) <= PROMPT_TOKENS.most
    assert {Lengths(median=10, sigma=5.0, most=3).draw(chance) for _ in range(200)} <= {1, 2, 3}
    assert ANSWER_TOKENS.most == 1000


def test_prompts_have_their_length_and_differ_from_the_start() -> None:
    chance = random.Random(7)
    assert len(prompt(chance, 500)) == 2000
    assert prompt(chance, 100)[:18] != prompt(chance, 100)[:18]
    assert prompt(chance, 1)


def test_the_text_of_a_stream_is_read_event_by_event() -> None:
    stream = b": keep-alive\n\n" + whole_stream(Call(3, stream=True, seed=5).ask(), 230)
    texts = list(contents(iter(stream.splitlines(keepends=True))))
    assert [text[:4] for text in texts] == ["5.0 ", "5.1 ", "5.2 "]


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b'data: {"choices":[]}\n\n', "without"),
        (b"", "without"),
        (b"data: {\n\n", "not an event"),
        (ERROR_EVENT + b"data: [DONE]\n\n", "out of blocks"),
    ],
)
def test_a_broken_stream_is_named(stream: bytes, message: str) -> None:
    with pytest.raises(BrokenStreamError, match=message):
        list(contents(iter(stream.splitlines(keepends=True))))


def test_locust_runs_both_kinds_of_user_and_reports_time_to_first_token(tmp_path: Path) -> None:
    # In a process of its own: locust replaces the standard library's sockets when it is imported.
    log = tmp_path / "engine.log"
    engine = [sys.executable, "-m", "loadtests.gateway.engine", "--gap-ms", "1"]
    with child(engine, log) as process:
        while not (port := log.read_text().strip()):
            assert process.poll() is None
        locust = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--only-summary"]
        amount = ["--users", "8", "--spawn-rate", "8", "--run-time", "4s", "--stop-timeout", "20"]
        where = ["--host", f"http://127.0.0.1:{port}", "--csv", str(tmp_path / "rows")]
        settings = {"PENSTOCK_MODEL": "m", "PENSTOCK_MAX_TOKENS": "20", "PYTHONWARNINGS": "default"}
        run = subprocess.run(
            [*locust, *amount, *where],
            cwd=ROOT,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=90,
        )
    assert run.returncode == 0, run.stderr
    with (tmp_path / "rows_stats.csv").open() as file:
        rows = {(row["Type"], row["Name"]): row for row in csv.DictReader(file)}
    whole, stream = rows["POST", "chat (whole)"], rows["POST", "chat (stream)"]
    ttft, tpot = rows["TTFT", "chat (stream)"], rows["TPOT", "chat (stream)"]
    for row in (whole, stream, ttft, tpot):
        assert int(row["Request Count"]) > 0
        assert int(row["Failure Count"]) == 0
    assert int(ttft["Request Count"]) == int(stream["Request Count"])
    assert float(ttft["Average Response Time"]) < float(stream["Average Response Time"])
