"""The small values of the local cluster: back-off, routes, statuses, environments, ports."""

import socket

import pytest

from autoscaler.local.backoff import Backoff
from autoscaler.local.ports import FIRST, LAST, FreePorts
from autoscaler.local.process import environment
from autoscaler.local.status import Phase, ReplicaStatus, ServiceStatus
from autoscaler.local.table import Seen, route
from engines.launch import Launch
from tests.autoscaler.samples import service


def test_back_off_doubles_up_to_its_limit_and_never_overflows() -> None:
    backoff = Backoff(first_s=0.5, most_s=60.0)
    assert [backoff.delay_s(n) for n in (1, 2, 3, 8, 10_000)] == [0.5, 1.0, 2.0, 60.0, 60.0]


def test_an_engine_that_served_well_starts_with_a_clean_record() -> None:
    backoff = Backoff(forgive_s=30.0, loop=3)
    assert backoff.crashes(5, ready_s=29.0) == 6
    assert backoff.crashes(5, ready_s=30.0) == 1
    assert [backoff.is_loop(n) for n in (2, 3)] == [False, True]


def test_a_route_has_ready_and_draining_replicas_and_the_weights() -> None:
    seen = [
        Seen("new", "m2", ((Phase.READY, "u1"), (Phase.STARTING, "u2"), (Phase.UNREADY, "u3"))),
        Seen("old", "m1", ((Phase.DRAINING, "u4"), (Phase.CRASHED, "u5"))),
        Seen("none", "m1", ((Phase.STARTING, "u6"),)),
    ]
    found = route(service(timeout=7), ("m2", "demo"), [("new", 1)], seen, 99)
    assert [(r.name, r.weight) for r in found.revisions] == [("new", 1), ("old", 0)]
    assert [(e.url, e.model, e.draining) for e in found.endpoints] == [("u1", "m2", False), ("u4", "m1", True)]
    assert (found.models, found.timeout_s, found.created_s) == (("m2", "demo"), 7.0, 99)
    assert route(service(), ("m",), [], [], 0).timeout_s == 600.0


def replica(phase: Phase) -> ReplicaStatus:
    return ReplicaStatus("r", phase, 0, 0, 0, 0.0, "")


@pytest.mark.parametrize(
    ("wanted", "ready", "phases", "word"),
    [
        (1, 1, [Phase.READY], "ready"),
        (2, 1, [Phase.READY, Phase.STARTING], "starting"),
        (1, 0, [], "starting"),
        (1, 0, [Phase.CRASHED], "crashed"),
        (2, 1, [Phase.READY, Phase.CRASHED], "degraded"),
        (0, 0, [], "stopped"),
    ],
)
def test_a_service_in_one_word(wanted: int, ready: int, phases: list[Phase], word: str) -> None:
    status = ServiceStatus("s", (), "r", wanted, ready, 0.0, tuple(map(replica, phases)))
    assert status.phase == word


def test_the_environment_is_inherited_and_the_python_path_joined() -> None:
    launch = Launch(argv=(), env=(("A", "1"), ("PYTHONPATH", "/code")))
    assert environment(launch, {"A": "0", "B": "0"}) == {"A": "1", "B": "0", "PYTHONPATH": "/code"}
    assert environment(launch, {"PYTHONPATH": "/x"})["PYTHONPATH"] == "/code:/x"
    assert environment(Launch(argv=()), {"PYTHONPATH": "/x"}) == {"PYTHONPATH": "/x"}


def test_ports_are_free_and_not_given_out_twice() -> None:
    ports = FreePorts()
    taken = [ports.take() for _ in range(100)]
    assert len(set(taken)) == 100
    assert all(FIRST <= port < LAST for port in taken)


def test_a_port_in_use_is_passed_over_and_the_range_goes_round() -> None:
    first = FreePorts(start=0).take()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", first))
        listener.listen()
        assert FreePorts(start=first - FIRST).take() > first
    at_the_end = FreePorts(start=LAST - FIRST - 1)
    assert {at_the_end.take(), at_the_end.take()} & set(range(FIRST, FIRST + 1000))
