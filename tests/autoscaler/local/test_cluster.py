"""The local cluster with real processes: start, crash, hang, roll over, drain, delete."""

import asyncio
import os
import signal
import urllib.request
from dataclasses import replace

import pytest

from autoscaler.local.status import Phase
from engines.launch import Probe
from serving.validation import SpecError
from tests.autoscaler.local.conftest import Rig
from tests.autoscaler.local.processes import alive, eventually
from tests.autoscaler.samples import service


def post(url: str, path: str) -> None:
    """Give a stand-in an order; it may not live to answer."""
    try:
        urllib.request.urlopen(urllib.request.Request(url + path, data=b"{}"), timeout=0.5).close()
    except OSError:
        return


async def test_a_service_is_started_and_routed_to(rig: Rig) -> None:
    rig.start(rig.service("--start_s=0.2", "--model_name=llm", timeout=9))
    await rig.until_ready()
    (route,) = rig.tables[-1].routes
    assert (route.service, route.models, route.timeout_s) == ("demo", ("llm", "demo"), 9.0)
    assert route.endpoints[0].model == "llm"
    (status,) = rig.cluster.statuses()
    assert (status.phase, status.ready, status.wanted, status.models) == ("ready", 1, 1, ("llm", "demo"))
    assert alive(status.replicas[0].pid)
    assert rig.tables[0].routes[0].endpoints == ()  # known before it is ready, so that clients are told to wait


async def test_a_crashed_engine_serves_again(rig: Rig) -> None:
    rig.start(rig.service())
    await rig.until_ready()
    (url,) = rig.urls()
    await asyncio.to_thread(post, url, "/crash")
    await eventually(lambda: rig.ready() == 1 and rig.urls() != [url])
    assert rig.said("exited with status 3 after")
    (crash,) = [e for e in rig.events if e.detail]
    assert crash.detail == ("told to crash",)
    assert rig.cluster.statuses()[0].replicas[0].restarts == 1


@pytest.mark.parametrize("whom", ["engine", "guard"])
async def test_an_engine_or_guard_that_is_killed_serves_again_and_leaves_nothing(rig: Rig, whom: str) -> None:
    rig.start(rig.service("--child"))
    await rig.until_ready()
    (url,), before = rig.urls(), rig.pids()
    engine = rig.cluster.statuses()[0].replicas[0].pid
    victim = engine if whom == "engine" else parent_of(engine)
    os.kill(victim, signal.SIGKILL)
    await eventually(lambda: rig.ready() == 1 and rig.urls() != [url])
    assert rig.said("was ended by signal 9")
    await eventually(lambda: not any(map(alive, before)))


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


async def test_a_crash_loop_is_told_with_the_last_log_lines_and_goes_on(rig: Rig) -> None:
    rig.start(rig.service("--crash_at_start"))
    await eventually(lambda: rig.said("failed 4 times in a row (crash loop)"))
    last = [e for e in rig.events if "crash loop" in e.text][-1]
    assert last.detail == ("line one", "the weights are not there")
    assert last.level == "error"
    assert rig.cluster.statuses()[0].phase == "crashed"
    assert not rig.said("failed 2 times")


async def test_a_hanging_engine_is_left_out_ended_and_started_again(rig: Rig) -> None:
    ready = Probe("/health/ready", period_s=0.1, timeout_s=1.0, failures=2)
    live = Probe("/health", period_s=0.1, timeout_s=1.0, failures=2)
    rig.engines["hf"] = replace(rig.engines["hf"], ready=ready, live=live)
    rig.start(rig.service())
    await rig.until_ready()
    (url,) = rig.urls()
    await asyncio.to_thread(post, url, "/hang")
    await eventually(lambda: rig.said("does not say that it is ready"))
    await eventually(lambda: rig.ready() == 1 and rig.urls() != [url])
    assert rig.said("stopped answering and was ended")


async def test_an_engine_that_never_becomes_ready_is_ended(rig: Rig) -> None:
    rig.engines["hf"] = replace(rig.engines["hf"], startup_s=0.1)
    rig.start(rig.service("--start_s=3600"))
    await eventually(lambda: rig.said("was not ready within 0.1 s and was ended"))


async def test_a_changed_spec_is_rolled_over_without_a_gap(rig: Rig) -> None:
    rig.start(rig.service(minReplicas=2))
    await rig.until_ready(2)
    old = set(rig.urls())
    mark = len(rig.tables)
    rig.start(rig.service("--start_s=0.3", minReplicas=2))
    await eventually(lambda: rig.ready() == 2 and not old & set(rig.urls()))
    for table in rig.tables[mark:]:
        taking = [e for r in table.routes for e in r.endpoints if not e.draining]
        assert len(taking) >= 2
    await eventually(lambda: len(rig.cluster.statuses()[0].replicas) == 2)
    assert rig.said("the spec has changed; the new revision starts first")


async def test_a_draining_replica_is_ended_only_when_nothing_is_in_flight(rig: Rig) -> None:
    rig.start(rig.service())
    await rig.until_ready()
    (url,) = rig.urls()
    pid = rig.cluster.statuses()[0].replicas[0].pid
    rig.busy.add(url)
    rig.start(rig.service("--word_s=0"))
    await eventually(lambda: rig.ready() == 1 and rig.urls() != [url])
    await asyncio.sleep(0.3)
    assert alive(pid)
    assert [e.draining for r in rig.tables[-1].routes for e in r.endpoints if e.url == url] == [True]
    rig.busy.clear()
    await eventually(lambda: not alive(pid))


async def test_a_revision_that_never_gets_ready_does_not_take_the_old_one_away(rig: Rig) -> None:
    rig.start(rig.service())
    await rig.until_ready()
    before = rig.urls()
    rig.start(rig.service("--crash_at_start"))
    await eventually(lambda: rig.said("crash loop"))
    assert rig.urls() == before
    assert rig.cluster.statuses()[0].phase == "degraded"
    rig.start(rig.service())
    await eventually(lambda: len(rig.phases()) == 1)
    assert rig.urls() == before


async def test_a_spec_that_comes_back_while_it_drains(rig: Rig) -> None:
    rig.start(rig.service("--ignore_term", terminationGracePeriodSeconds=1))
    await rig.until_ready()
    rig.start(rig.service("--word_s=0"))
    await eventually(lambda: {Phase.DRAINING, Phase.ENDING} & set(rig.phases()))
    rig.start(rig.service("--ignore_term", terminationGracePeriodSeconds=1))
    await eventually(lambda: rig.phases() == [Phase.READY])
    assert rig.ready() == 1


async def test_replicas_follow_the_count_and_logs_have_their_own_files(rig: Rig) -> None:
    rig.start(rig.service(minReplicas=3))
    await rig.until_ready(3)
    rig.start(rig.service(minReplicas=1))
    await eventually(lambda: len(rig.phases()) == 1 and rig.ready() == 1)
    assert len(list(rig.folder.glob("demo-*-[012].log"))) == 3
    rig.start(rig.service(minReplicas=2))
    await rig.until_ready(2)


async def test_a_stopped_service_has_no_process_and_comes_back(rig: Rig) -> None:
    stop = {"annotations": {"serving.kserve.io/stop": "true"}}
    rig.start(rig.service())
    await rig.until_ready()
    rig.start(rig.service(metadata=stop))
    await eventually(lambda: rig.phases() == [])
    assert rig.cluster.statuses()[0].phase == "stopped"
    rig.start(rig.service())
    await rig.until_ready()


async def test_delete_drains_and_forgets(rig: Rig) -> None:
    rig.start(rig.service(), rig.service(name="other"))
    await rig.until_ready()
    await rig.until_ready(name="other")
    assert rig.cluster.delete(("default", "demo"))
    assert not rig.cluster.delete(("default", "demo"))
    assert not rig.cluster.delete(("default", "none"))
    await eventually(lambda: rig.said("is deleted"))
    assert [s.name for s in rig.cluster.statuses()] == ["other"]
    await rig.until_ready(name="other")


async def test_close_leaves_no_process_whatever_they_are_doing(rig: Rig) -> None:
    rig.start(
        rig.service("--child", "--stray_child"),
        rig.service("--start_s=3600", name="slow"),
        rig.service("--crash_at_start", name="broken"),
        rig.service("--ignore_term", name="deaf", terminationGracePeriodSeconds=1),
    )
    await rig.until_ready()
    await rig.until_ready(name="deaf")
    await eventually(lambda: rig.said("crash loop"))
    assert rig.task is not None
    rig.task.cancel()
    await rig.cluster.close()
    assert [pid for pid in rig.pids() if alive(pid)] == []


async def test_kill_is_at_once_also_in_the_middle_of_a_start(rig: Rig) -> None:
    rig.start(rig.service("--ignore_term", "--child", minReplicas=3))
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    await rig.cluster.kill()
    assert [pid for pid in rig.pids() if alive(pid)] == []


async def test_all_of_an_apply_or_none(rig: Rig) -> None:
    rig.start(rig.service())
    with pytest.raises(SpecError, match="model name 'demo' is claimed by two services"):
        rig.cluster.apply([rig.service(name="fine"), rig.service("--model_name=demo", name="thief")])
    with pytest.raises(SpecError, match="no runtime serves 'onnx'"):
        rig.cluster.apply([rig.service(name="fine"), service("onnx", model={"modelFormat": {"name": "onnx"}})])
    assert [s.name for s in rig.cluster.statuses()] == ["demo"]


async def test_a_plan_changes_nothing(rig: Rig) -> None:
    (sentences,) = rig.cluster.plans([rig.service(minReplicas=0)])
    assert sentences[1].startswith("create demo-")
    assert sentences[-1].startswith("minReplicas is 0: ")
    assert rig.cluster.statuses() == []


async def test_a_canary_gets_its_share(rig: Rig) -> None:
    rig.start(rig.service())
    await rig.until_ready()
    rig.start(rig.service("--word_s=0", canaryTrafficPercent=20))
    await rig.until_ready(2)
    await eventually(lambda: sorted(r.weight for r in rig.tables[-1].routes[0].revisions) == [20, 80])
    rig.start(rig.service("--word_s=0"))
    await eventually(lambda: len(rig.phases()) == 1)


async def test_a_full_disk_is_a_crash_that_is_told_and_not_a_busy_loop(rig: Rig) -> None:
    """The log cannot be opened; a directory stands in its place."""
    (sentences,) = rig.cluster.plans([rig.service()])
    revision = sentences[1].split()[1]
    (rig.folder / f"{revision}-0.log").mkdir()
    rig.start(rig.service())
    await eventually(lambda: rig.said("could not be started: Is a directory"))
    assert len(rig.events) < 20


async def test_what_has_no_effect_here_is_said_once(rig: Rig) -> None:
    rig.start(rig.service(maxReplicas=5))
    rig.start(rig.service(maxReplicas=5, timeout=9))
    assert len([e for e in rig.events if e.text.startswith("maxReplicas: ")]) == 1


async def test_restarts_leave_no_descriptor_and_no_task_behind(rig: Rig) -> None:
    rig.start(rig.service("--crash_at_start"))
    await eventually(lambda: rig.said("failed 3 times"))
    before = len(os.listdir("/proc/self/fd"))
    tasks = len(asyncio.all_tasks())
    await eventually(lambda: rig.said("failed 15 times"))
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    assert len(asyncio.all_tasks()) <= tasks + 3
