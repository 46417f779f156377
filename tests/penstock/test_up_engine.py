"""`penstock up` with the real engine and the demo model."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.autoscaler.local.processes import alive, soon
from tests.penstock.programs import Up, environment, penstock

pytestmark = pytest.mark.engine
FIRST = "Penstock is an OpenAI-compatible gateway for large language models"


def replica(folder: Path) -> dict[str, int]:
    """The demo's replica, as `penstock get` tells it."""
    found: dict[str, int] = json.loads(penstock("get", "--json", cwd=folder).stdout)[0]["replicas"][0]
    return found


def test_the_demo_answers_from_nothing_but_one_command(tmp_path: Path) -> None:
    """Without a file: the demo model is started, asked, talked to, and all is gone at the end."""
    with Up(tmp_path, "--ask", "What is Penstock?") as up:
        url = up.url
        soon(lambda: FIRST in up.out, 60)
        pid = replica(tmp_path)["pid"]
        ran = penstock("chat", "--url", url, cwd=tmp_path, stdin="Who are you?\nWhat is TTFT?\n")
        first, second = ran.stdout.splitlines()
        assert "demo model" in first
        assert "time to first token" in second
        assert penstock("models", "--url", url, cwd=tmp_path).stdout.splitlines()[1].startswith("demo ")
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(60) == 0
        assert not alive(pid)
    assert "serving demo" in penstock("logs", "demo", cwd=tmp_path).stdout


@pytest.mark.parametrize("moment_s", [1.5, 3.0, None])
def test_nothing_is_left_when_it_is_killed(tmp_path: Path, moment_s: float | None) -> None:
    with Up(tmp_path) as up:
        if moment_s is None:
            assert up.url
        else:
            soon(lambda: (tmp_path / ".penstock" / "control").exists())
            time.sleep(moment_s)
        pid = replica(tmp_path)["pid"]
        assert alive(pid)
        up.process.kill()
        up.process.wait()
        soon(lambda: not alive(pid))


def test_an_engine_that_is_killed_serves_again_without_the_user_doing_anything(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        url, pid = up.url, replica(tmp_path)["pid"]
        os.kill(pid, signal.SIGKILL)
        soon(lambda: up.err.count("is ready after") == 2, 100)
        body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "What is Penstock?"}]})
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", data=body.encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            assert json.load(response)["choices"][0]["message"]["content"].startswith(FIRST)
        assert "was ended by signal 9" in up.err


def test_an_engine_that_refuses_its_flags_says_why(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: bad}
spec: {predictor: {model: {modelFormat: {name: huggingface}, args: [--model_id=penstock/demo, --no_such_flag]}}}
"""
    )
    with Up(tmp_path, "-f", "bad.yaml") as up:
        soon(lambda: "no_such_flag" in up.err, 60)
        assert "exited with status 2" in up.err
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(60) == 0


def test_a_chat_at_a_terminal(tmp_path: Path) -> None:
    """Ctrl-C at the prompt does not leave, Ctrl-D does."""
    with Up(tmp_path) as up:
        url = up.url
        main, side = pty.openpty()
        command = [sys.executable, "-m", "penstock", "chat", "--url", url]
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command],
            cwd=tmp_path,
            env=environment(TERM="dumb"),
            stdin=side,
            stdout=side,
            stderr=side,
        )
        os.close(side)
        shown = b""

        def until(text: bytes, again: bytes = b"") -> None:
            """Read up to `text`. `again` is typed twice a second: a Ctrl-C just before `select` goes unnoticed."""
            nonlocal shown
            while text not in shown:
                if select.select([main], [], [], 0.5)[0]:
                    shown += os.read(main, 4096)
                elif again:
                    os.write(main, again)
            shown = shown[shown.index(text) + len(text) :]

        until(b"> ")
        os.write(main, b"What is Penstock?\n")
        until(FIRST.encode())
        until(b"> ")
        until(b"Ctrl-D or /exit leaves", again=b"\x03")
        until(b"> ")
        os.write(main, b"/clear\n")
        until(b"forgotten")
        until(b"> ")
        os.write(main, b"\x04")
        assert process.wait(30) == 0
        os.close(main)
