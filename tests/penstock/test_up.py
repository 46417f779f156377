"""`penstock up` with stand-in engines: it serves, mends, and leaves nothing behind, however it ends."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.autoscaler.local.processes import alive, soon
from tests.penstock.programs import Up, environment, penstock, standin_file


def call(url: str, model: str = "demo", stream: bool = False, key: str | None = None) -> Any:
    """A chat; the decoded answer, or the body of a stream."""
    body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(f"{url}/v1/chat/completions", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.read() if stream else json.load(response)


def gone(up: Up) -> bool:
    """Whether every process the stand-ins noted has ended."""
    return not any(map(alive, up.pids()))


def test_it_serves_asks_and_ends_cleanly(tmp_path: Path) -> None:
    with Up(tmp_path, "-f", str(standin_file(tmp_path, "--child", "--start_s=0.2")), "--ask", "Who?") as up:
        url = up.url
        assert call(url)["model"] == "demo"
        assert b"stand-in" in call(url, stream=True)
        soon(lambda: "demo is asked: Who?\nHello from the stand-in.\n" in up.out)
        assert f"curl -N {url}/v1/chat/completions" in up.out
        assert len(up.pids()) == 2
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(60) == 0
        assert gone(up)
        assert "is ready after" in up.err
        assert "Traceback" not in up.err
    assert "hi" not in (tmp_path / ".penstock" / "access.log").read_text().replace("this", "")


def test_the_curl_that_is_printed_works(tmp_path: Path) -> None:
    with Up(tmp_path, "-f", str(standin_file(tmp_path))) as up:
        assert up.url
        command = up.out[up.out.index("curl ") : up.out.index("\n\npenstock chat")]
        ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
        assert "stand-in" in ran.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_too(tmp_path: Path, number: signal.Signals) -> None:
    with Up(tmp_path, "-f", str(standin_file(tmp_path))) as up:
        assert up.url
        up.process.send_signal(number)
        assert up.process.wait(60) == 0
        assert gone(up)


def test_a_running_stream_is_finished_first(tmp_path: Path) -> None:
    with Up(tmp_path, "-f", str(standin_file(tmp_path, "--word_s=0.3"))) as up:
        url, answers = up.url, list[bytes]()
        caller = threading.Thread(target=lambda: answers.append(call(url, stream=True)))
        caller.start()
        time.sleep(0.5)
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(60) == 0
        caller.join()
        assert answers[0].rstrip().endswith(b"[DONE]")
        assert gone(up)


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    with Up(tmp_path, "-f", str(standin_file(tmp_path, "--ignore_term", "--child"))) as up:
        assert up.url
        up.process.send_signal(signal.SIGINT)
        soon(lambda: "Ctrl-C again stops at once" in up.err)
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(20) == 130
        assert gone(up)


@pytest.mark.parametrize("delay_s", [0.3, 0.6, 0.8, 1.0, 1.2, None])
def test_nothing_is_left_when_it_is_killed(tmp_path: Path, delay_s: float | None) -> None:
    """In the middle of its start, at several moments, and when it serves."""
    flags = ["--child", "--stray_child"]
    with Up(tmp_path, "-f", str(standin_file(tmp_path, *flags, extra="minReplicas: 2"))) as up:
        if delay_s is None:
            assert up.url
            assert len(up.pids()) == 4
        else:
            time.sleep(delay_s)
        up.process.kill()
        up.process.wait()
        soon(lambda: gone(up))
        time.sleep(0.3)  # an engine that was only being started would show itself
        soon(lambda: gone(up))
    again = penstock("get", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (1, "")
    assert "does not run" in again.stderr


def test_it_starts_again_after_it_was_killed(tmp_path: Path) -> None:
    file = str(standin_file(tmp_path))
    for _ in range(2):
        with Up(tmp_path, "-f", file) as up:
            assert call(up.url)["model"] == "demo"


def test_a_crashed_engine_serves_again(tmp_path: Path) -> None:
    with Up(tmp_path, "-f", str(standin_file(tmp_path))) as up:
        url = up.url
        first = call(url)["pid"]
        os.kill(first, signal.SIGKILL)
        soon(lambda: served(url) not in (None, first))
        assert "was ended by signal 9" in up.err
        assert gone_but(up, served(url))


def served(url: str) -> int | None:
    """The process that answers, or None while none does."""
    try:
        return int(call(url)["pid"])
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (502, 503):
            return None
        raise


def gone_but(up: Up, survivor: int | None) -> bool:
    return [pid for pid in up.pids() if alive(pid)] == [survivor]


def test_a_crash_loop_is_told_and_ctrl_c_still_works(tmp_path: Path) -> None:
    with Up(tmp_path, "-f", str(standin_file(tmp_path, "--crash_at_start"))) as up:
        soon(lambda: "crash loop" in up.err, 100)
        assert "the weights are not there" in up.err
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(60) == 0
        assert gone(up)


def test_a_changed_file_is_rolled_over_with_no_request_lost(tmp_path: Path) -> None:
    with Up(tmp_path, "-f", str(standin_file(tmp_path))) as up:
        url, first = up.url, up.pids()
        stop, failures, answered = threading.Event(), list[object](), list[int]()

        def load() -> None:
            while not stop.is_set():
                try:
                    answered.append(call(url)["pid"])
                except Exception as error:
                    failures.append(error)

        callers = [threading.Thread(target=load) for _ in range(4)]
        for caller in callers:
            caller.start()
        standin_file(tmp_path, "--start_s=0.5")
        soon(lambda: len(up.pids()) == 2 and not alive(first[0]))
        time.sleep(0.2)
        stop.set()
        for caller in callers:
            caller.join()
        assert failures == []
        assert set(answered) == set(up.pids())
        assert "has changed and is applied" in up.err


def test_services_come_and_go_by_command(tmp_path: Path) -> None:
    with Up(tmp_path, "-f", str(standin_file(tmp_path))) as up:
        url = up.url
        other = str(standin_file(tmp_path, name="other", file="other.yaml"))
        planned = penstock("plan", "-f", other, cwd=tmp_path)
        assert "create other-" in planned.stdout
        applied = penstock("apply", "-f", "-", cwd=tmp_path, stdin=Path(other).read_text())
        assert (applied.returncode, applied.stdout) == (0, planned.stdout)
        soon(lambda: "other-" in up.err and up.err.count("is ready after") == 2)
        table = penstock("get", cwd=tmp_path).stdout
        assert [row.split()[:3] for row in table.splitlines()[1:]] == [
            ["demo", "ready", "1/1"],
            ["other", "ready", "1/1"],
        ]
        assert json.loads(penstock("get", "--json", cwd=tmp_path).stdout)[1]["name"] == "other"
        assert call(url, "other")["model"] == "other"
        models = penstock("models", "--url", url, cwd=tmp_path).stdout
        assert [row.split()[0] for row in models.splitlines()] == ["MODEL", "demo", "other"]
        logs = penstock("logs", "other", cwd=tmp_path).stdout
        assert "--- penstock: " in logs
        assert penstock("delete", "other", cwd=tmp_path).returncode == 0
        soon(lambda: "other: is deleted" in up.err)
        for command in (["delete", "other"], ["logs", "nothing"], ["apply", "-f", "none.yaml"]):
            ran = penstock(*command, cwd=tmp_path)
            assert ran.returncode == 1
            assert ran.stderr.startswith("penstock: ")
        thief = str(standin_file(tmp_path, "--model_name=demo", name="thief", file="thief.yaml"))
        assert "claimed by two services" in penstock("apply", "-f", thief, cwd=tmp_path).stderr
        assert "claimed by two services" in penstock("plan", "-f", thief, cwd=tmp_path).stderr


def test_a_chat_through_a_pipe(tmp_path: Path) -> None:
    with Up(tmp_path, "-f", str(standin_file(tmp_path))) as up:
        ran = penstock("chat", "--url", up.url, cwd=tmp_path, stdin="hello\nagain\n/exit\nnever\n")
        assert (ran.returncode, ran.stdout) == (0, "Hello from the stand-in.\n" * 2)
        ran = penstock("chat", "none", cwd=tmp_path, stdin="hello\n", PENSTOCK_URL=up.url)
        assert ran.returncode == 1
        assert "none" in ran.stderr


def test_keys(tmp_path: Path) -> None:
    made = penstock("keys", "create", "--file", "keys", "--tenant", "me", cwd=tmp_path)
    key = made.stdout.strip()
    assert key.startswith("sk-")
    assert key not in (tmp_path / "keys").read_text()
    file = str(standin_file(tmp_path))
    refused = penstock("up", "-f", file, "--keys", "keys", "--ask", "Who?", cwd=tmp_path)
    assert (refused.returncode, "PENSTOCK_API_KEY" in refused.stderr) == (1, True)
    with Up(tmp_path, "-f", file, "--keys", "keys", "--ask", "Who?", PENSTOCK_API_KEY=key) as up:
        url = up.url
        soon(lambda: "Hello from the stand-in." in up.out)
        assert "Bearer $PENSTOCK_API_KEY" in up.out
        assert key not in up.out + up.err
        assert call(url, key=key)["model"] == "demo"
        assert "(HTTP 401)" in penstock("models", "--url", url, cwd=tmp_path).stderr
        assert penstock("models", "--url", url, "--key", key, cwd=tmp_path).returncode == 0


def test_only_one_per_state_directory_and_port(tmp_path: Path) -> None:
    file = str(standin_file(tmp_path))
    with Up(tmp_path, "-f", file) as up:
        url = up.url
        same = penstock("up", "-f", file, "--port", "0", cwd=tmp_path)
        assert (same.returncode, "already runs with the state directory" in same.stderr) == (1, True)
        port = url.rpartition(":")[2]
        taken = penstock("up", "-f", file, "--port", port, "--state", "other", cwd=tmp_path)
        assert taken.returncode == 1
        assert taken.stderr == (
            f"penstock: cannot listen on 127.0.0.1:{port}: Address already in use; give another with --port\n"
        )
        assert len(up.pids()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-f", "none.yaml"], "none.yaml: cannot be read: No such file or directory"),
        (["-f", "."], ".: cannot be read: Is a directory"),
        (["-f", "bad.yaml"], "bad.yaml: spec.predictor.minReplica: no such field; did you mean minReplicas?"),
        (["-f", "onnx.yaml"], "demo: spec.predictor.model.modelFormat: no runtime serves 'onnx'"),
        (["-f", "good.yaml", "-f", "good.yaml"], "'demo' is in another file too"),
        (["-f", "good.yaml", "--keys", "none"], "none: cannot be read"),
        (["-f", "good.yaml", "--log-level", "loud"], "'loud' is not allowed; it must be one of debug, info"),
        (["-f", "good.yaml", "--state", "/dev/null/state"], "/dev/null/state cannot be used: Not a directory"),
        (["-f", "good.yaml", "--host", "203.0.113.9"], "cannot listen on 203.0.113.9:0"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    good = standin_file(tmp_path, file="good.yaml")
    standin_file(tmp_path, file="bad.yaml", extra="minReplica: 1")
    (tmp_path / "onnx.yaml").write_text(good.read_text().replace("huggingface", "onnx"))
    ran = penstock("up", "--port", "0", *arguments, cwd=tmp_path)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert not (tmp_path / "pids").exists()


def test_an_engine_that_is_not_installed_is_told(tmp_path: Path) -> None:
    """The interpreter knows that there is no torch."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    command = [sys.executable, "-m", "penstock", "up", "--port", "0"]
    env = environment()
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert ran.stderr == (
        'penstock: demo: torch is not installed; install them with: pip install "penstock[huggingface]"\n'
    )


def test_the_display_of_a_terminal(tmp_path: Path) -> None:
    """Under a pseudo-terminal: progress, then the welcome; Ctrl-C typed there ends it, engines are not hit by it."""
    file = str(standin_file(tmp_path, "--start_s=0.5"))
    main, side = pty.openpty()
    command = [sys.executable, "-m", "penstock", "up", "--port", "0", "-f", file]
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command],
        cwd=tmp_path,
        env=environment(TERM="xterm"),
        stdin=side,
        stdout=side,
        stderr=side,
    )
    os.close(side)
    shown = b""
    while b"Ctrl-C stops" not in shown:
        shown += os.read(main, 4096)
    assert b"demo is starting" in shown
    os.write(main, b"\x03")
    assert process.wait(60) == 0
    os.close(main)


def test_a_gateway_of_its_own(tmp_path: Path) -> None:
    with Up(tmp_path, "-f", str(standin_file(tmp_path))) as up:
        assert up.url
        engine = json.loads(penstock("get", "--json", cwd=tmp_path).stdout)[0]["replicas"][0]["port"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = ["gateway", "--engine", f"mine=http://127.0.0.1:{engine}", "--port", str(port)]
        gateway = subprocess.Popen(
            [sys.executable, "-m", "penstock", *command],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            soon(lambda: penstock("models", "--url", f"http://127.0.0.1:{port}", cwd=tmp_path).returncode == 0)
            assert call(f"http://127.0.0.1:{port}", "mine")["model"] == "mine"
            gateway.send_signal(signal.SIGTERM)
            assert gateway.wait(60) == 0
        finally:
            gateway.kill()
            gateway.wait()
    for arguments, said in (
        (["--engine", "nonsense"], "NAME=URL"),
        ([], "give --config FILE, or --engine NAME=URL"),
        (["--config", "none.yaml"], "none.yaml: cannot be read"),
        (["--engine", "a=http://x", "--config", "b"], "give --config FILE, or --engine"),
        (["--engine", "a=http://127.0.0.1:1", "--port", "0", "--host", "203.0.113.9"], "cannot listen on"),
    ):
        ran = penstock("gateway", *arguments, cwd=tmp_path)
        assert ran.returncode == 1
        assert said in ran.stderr
        assert len(ran.stderr.splitlines()) == 1


def test_ctrl_c_in_a_chat_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    with Up(tmp_path, "-f", str(standin_file(tmp_path, "--word_s=1.5"))) as up:
        main, side = pty.openpty()
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", sys.executable, "-m", "penstock", "chat", "--url", up.url],
            cwd=tmp_path,
            env=environment(TERM="dumb"),
            stdin=side,
            stdout=side,
            stderr=side,
        )
        os.close(side)
        shown = b""
        for awaited, typed in ((b"> ", b"hello\n"), (b"Hello", b"\x03"), (b"Stopped.", b""), (b"> ", b"\x04")):
            while awaited not in shown:
                shown += os.read(main, 4096)
            shown = shown[shown.index(awaited) + len(awaited) :]
            os.write(main, typed)
        assert process.wait(30) == 0
        os.close(main)


def test_a_terminal_or_pipe_that_is_gone_does_not_end_the_service(tmp_path: Path) -> None:
    """Nobody reads what it prints; it serves on, and stops cleanly."""
    file = str(standin_file(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock", "up", "--port", "0", "-f", file],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    try:
        soon(lambda: '"phase": "ready"' in penstock("get", "--json", cwd=tmp_path).stdout)
        engine = json.loads(penstock("get", "--json", cwd=tmp_path).stdout)[0]["replicas"][0]["pid"]
        os.kill(engine, signal.SIGKILL)
        soon(lambda: '"restarts": 1' in penstock("get", "--json", cwd=tmp_path).stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_logs_into_a_pipe_that_closes_early(tmp_path: Path) -> None:
    logs = tmp_path / ".penstock" / "logs"
    logs.mkdir(parents=True)
    (logs / "demo-aaaaaaaa-0.log").write_text("line\n" * 100_000)
    command = f"{sys.executable} -m penstock logs demo -n 100000 | head -1"
    ran = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("line\n", "")
