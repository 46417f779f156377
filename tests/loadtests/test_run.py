"""The runner: order of rounds, what is skipped, and one real measurement of the engine alone."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from loadtests.gateway.accounting import NOTHING, tree_usage
from loadtests.gateway.answer import Stats
from loadtests.gateway.load import Tally
from loadtests.gateway.measure import NotReadyError, Settings, measure, running
from loadtests.gateway.peers import GATEWAYS, Gateway, Site, missing
from loadtests.gateway.processes import ROOT, child, free_port, last_words
from loadtests.gateway.run import Report, main, order
from loadtests.gateway.soak import Sample, batches, growth, verdict
from loadtests.gateway.streams import Outcome, faults
from loadtests.gateway.transcript import Call

SMALL = Settings(gap_ms=1.0, connections=4, whole_connections=2, whole_s=0.2, stream_tokens=4, repeats=2)


def site(folder: Path) -> Site:
    return Site(19000, 19100, 19300, folder, folder / "peers")


def test_each_round_starts_with_the_engine_and_then_another_gateway() -> None:
    names = ["penstock", "direct", "nginx", "litellm"]
    assert order(names, 0) == ["direct", "penstock", "nginx", "litellm"]
    assert order(names, 1) == ["direct", "nginx", "litellm", "penstock"]
    assert order(names, 5) == ["direct", "litellm", "penstock", "nginx"]
    assert order([], 3) == ["direct"]


@pytest.mark.parametrize("name", ["sglang-router", "vllm-router", "portkey", "litellm"])
def test_a_peer_that_is_not_installed_is_named_with_the_way_to_install_it(name: str, tmp_path: Path) -> None:
    reason = missing(GATEWAYS[name], site(tmp_path))
    assert reason is not None
    assert "is not installed (loadtests/gateway/install_peers.sh" in reason


def test_a_folder_of_the_same_name_is_not_a_program(tmp_path: Path) -> None:
    (tmp_path / "no-such-gateway").mkdir()
    gateway = Gateway("x", lambda _: ["no-such-gateway"], "", "build it")
    with contextlib.chdir(tmp_path):
        assert missing(gateway, site(tmp_path)) == "no-such-gateway is not installed (build it)"


def test_every_gateway_is_told_its_ports(tmp_path: Path) -> None:
    for gateway in GATEWAYS.values():
        if gateway.argv is not None:
            told = " ".join(gateway.argv(site(tmp_path)))
            told += "".join(path.read_text() for path in tmp_path.iterdir())
            told += "".join(gateway.headers(site(tmp_path)))
            assert "19100" in told
            assert "127.0.0.1:19000" in told


def test_the_engine_alone_is_measured() -> None:
    figures = measure(GATEWAYS["direct"], SMALL)
    assert (figures.errors, figures.incomplete) == ({}, 0)
    assert figures.request_us > 0
    assert figures.chunk_us > 0
    assert figures.rss_mb > 1
    assert figures.ttft_p50_ms > 0


@pytest.mark.skipif(not shutil.which("nginx", path="/usr/sbin:/usr/bin"), reason="nginx is not installed")
def test_a_real_gateway_is_measured_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "figures.json"
    assert main(["--only", "nginx", "--quick", "--conc", "4", "--gap", "1", "--json", str(report)]) == 0
    written = msgspec.json.decode(report.read_bytes(), type=Report)
    assert written.ratios["nginx"]["chunk_us/nginx"] == 1.0
    assert written.medians["nginx"].errors == {}
    assert written.settings.repeats == 2
    assert "nginx" in capsys.readouterr().out


def test_a_gateway_that_ends_at_once_is_reported_with_its_last_words() -> None:
    gateway = Gateway("broken", lambda _: [sys.executable, "-c", "raise SystemExit('no such option')"], "")
    with pytest.raises(NotReadyError, match="no such option"), running(gateway, SMALL):
        raise AssertionError("it cannot be ready")


@pytest.mark.parametrize(
    "arguments",
    [["--only", "apache"], ["--chunk-bytes", "1"], ["--rounds", "0"], ["--conc", "0"], ["--gap", "-1"]],
)
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2


def test_the_accounts_cover_children_and_forgive_the_dead(tmp_path: Path) -> None:
    spin = "import time\nwhile time.process_time() < 0.2: pass\nprint('spun', flush=True); time.sleep(60)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])"
    log = tmp_path / "log"
    with child([sys.executable, "-c", program], log) as process:
        while "spun" not in log.read_text():
            assert process.poll() is None
        usage = tree_usage(process.pid)
        family = psutil.Process(process.pid).children(recursive=True)
    assert usage.cpu_s >= 0.2
    assert usage.descriptors >= 6
    assert not any(psutil.pid_exists(member.pid) for member in family)
    assert tree_usage(process.pid) == NOTHING


def test_a_child_that_ignores_the_polite_signal_is_ended_too(tmp_path: Path) -> None:
    program = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(600)"
    log = tmp_path / "log"
    with child([sys.executable, "-c", program], log) as process:
        while "deaf" not in log.read_text():
            assert process.poll() is None
    assert process.returncode == -signal.SIGKILL
    assert last_words(log) == "deaf"


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_killed_leaves_no_process_behind(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "loadtests.gateway.run", "--only", "direct"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        family: list[psutil.Process] = []
        while not family:
            assert run.poll() is None
            family = psutil.Process(run.pid).children(recursive=True)
        os.kill(run.pid, number)
        run.wait(60)
        gone, alive = psutil.wait_procs(family, 30)
    assert len(gone) == len(family)
    assert not alive


def test_a_free_port_can_be_bound() -> None:
    assert 1024 < free_port() < 65536


# --- soak and streams: their judgements ---


def sample(done: int, rss_mb: float, descriptors: int = 20, running: int = 0, broken: str = "") -> Sample:
    return Sample("requests", done, 0.0, int(rss_mb * 1e6), descriptors, Stats(started=running), broken)


def test_growth_in_the_warm_up_is_forgiven_and_later_growth_is_not() -> None:
    flat = [sample(1, 40.0), sample(2, 60.0), *(sample(n, 62.0) for n in range(3, 20))]
    assert growth(flat) == []
    assert growth([*flat, sample(20, 63.5)]) == ["requests: memory grew from 60.0 to 63.5 MB"]


def test_a_peak_in_the_middle_is_growth_too() -> None:
    samples = [sample(1, 60.0), sample(2, 60.0), sample(3, 70.0), sample(4, 60.0)]
    assert len(growth(samples)) == 1


def test_descriptors_and_work_left_over_are_seen() -> None:
    assert growth([sample(1, 9.0), sample(2, 9.0, 20), sample(3, 9.0, 28)]) == []
    assert growth([sample(1, 9.0), sample(2, 9.0, 20), sample(3, 9.0, 29)]) == [
        "requests: descriptors grew from 20 to 29"
    ]
    assert "still worked on 2" in growth([sample(1, 9.0), sample(2, 9.0, running=2)])[0]


def test_faults_and_a_single_sample_are_judged() -> None:
    assert growth([sample(1, 9.0)]) == []
    assert growth([sample(1_000, 9.0, broken="errors {'502': 1}")]) == ["requests: after 1,000: errors {'502': 1}"]
    assert verdict([]) == []


@pytest.mark.parametrize(("total", "count"), [(200_000, 20), (7, 7), (1, 1), (0, 0), (21, 20)])
def test_batches_add_up(total: int, count: int) -> None:
    parts = batches(total)
    assert (sum(parts), len(parts)) == (total, count)
    assert all(parts)


def outcome(tally: Tally, peak: int = 10) -> Outcome:
    return Outcome(tally, Stats(peak=peak), 1.0, 1)


def test_streams_pass_only_when_nothing_is_wrong() -> None:
    assert faults(outcome(Tally(answered=10, max_gap_s=0.9)), 10, 0.1) == []
    wrong = Tally(incomplete=1, mismatched=2, max_gap_s=1.2)
    wrong.errors["cut"] = 1
    assert len(faults(outcome(wrong, peak=9), 10, 0.1)) == 5


def test_a_call_without_orders_sends_no_field_that_an_engine_would_not_know() -> None:
    assert set(msgspec.json.decode(Call(4).body())) == {"model", "messages", "max_tokens"}
