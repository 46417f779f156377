"""Attempts, picks and health, as tables and short stories."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.attempts import Attempt, Failed, attempts
from gateway.routing.health import HEALTHY, Health, failed, succeeded
from gateway.routing.pick import DEFAULT_PROFILE, Candidate, NoEndpoint, Pick, RoutingRequest, pick
from serving.errors import EngineUnreachable

LOST = Failed(EngineUnreachable("lost"))
STALE = Failed(EngineUnreachable("stale"), stale=True)
HERE_ONLY = Failed(EngineUnreachable("no"), elsewhere=False)


def told(retries: int, endpoints: Sequence[int], *failures: Failed) -> tuple[list[Attempt], object]:
    """The attempts made when these failures come one after the other, and what is returned at the end."""

    def choose(tried: frozenset[int]) -> Pick | NoEndpoint:
        left = [e for e in endpoints if e not in tried]
        return Pick(left[0], "first") if left else NoEndpoint("none left")

    steps = attempts(choose, retries)
    made: list[Attempt] = []
    try:
        made.append(next(steps))
        for failure in failures:
            made.append(steps.send(failure))  # noqa: PERF401 - what came before the end must be kept
    except StopIteration as stop:
        return made, stop.value
    return made, "goes on"


@pytest.mark.parametrize(
    ("retries", "endpoints", "failures", "made", "end"),
    [
        (2, [], [], [], NoEndpoint("none left")),
        (2, [1], [], [Attempt(1)], "goes on"),
        (2, [1], [LOST], [Attempt(1)], None),
        (2, [1, 2], [LOST], [Attempt(1), Attempt(2)], "goes on"),
        (2, [1, 2, 3, 4], [LOST] * 3, [Attempt(1), Attempt(2), Attempt(3)], None),
        (0, [1, 2], [LOST], [Attempt(1)], None),
        (2, [1, 2], [HERE_ONLY], [Attempt(1)], None),
        (2, [1, 2], [STALE], [Attempt(1), Attempt(1, fresh=True)], "goes on"),
        (0, [1], [STALE, LOST], [Attempt(1), Attempt(1, fresh=True)], None),
        (1, [1, 2], [STALE, STALE, LOST], [Attempt(1), Attempt(1, fresh=True), Attempt(2)], None),
        (1, [1, 2], [STALE, HERE_ONLY], [Attempt(1), Attempt(1, fresh=True)], None),
    ],
)
def test_attempts(retries: int, endpoints: list[int], failures: list[Failed], made: list[Attempt], end: object) -> None:
    assert told(retries, endpoints, *failures) == (made, end)


def test_three_failures_in_a_row_eject_and_one_success_brings_back() -> None:
    health = HEALTHY
    for count in (1, 2):
        health = failed(health, 3)
        assert health == Health(count, ejected=False)
    health = failed(health, 3)
    assert health.ejected
    assert failed(health, 100).ejected
    assert succeeded() == HEALTHY


def test_failures_with_a_success_between_them_do_not_add_up() -> None:
    health = HEALTHY
    for _ in range(10):
        health = failed(health, 2)
        assert not health.ejected
        health = succeeded()


def at(id_: int, **given: object) -> Candidate:
    values: dict[str, object] = {"revision": "r", "weight": 100, "requests": 0, "tokens": 0} | given
    return Candidate(id_, **values)  # type: ignore[arg-type]  # tests name what they change


def chosen(*candidates: Candidate, draw: float = 0.0, tried: frozenset[int] = frozenset()) -> Pick | NoEndpoint:
    return pick(RoutingRequest("m", 10, tried), candidates, DEFAULT_PROFILE, 0.0, draw)


@pytest.mark.parametrize(
    ("candidates", "tried", "reason"),
    [
        ([], set(), "no replica of 'm' is ready"),
        ([at(1, draining=True)], set(), "every replica of 'm' is draining"),
        ([at(1), at(2, draining=True)], {1}, "all 2 replicas of 'm' have been tried or are draining"),
    ],
)
def test_why_there_is_no_endpoint(candidates: list[Candidate], tried: set[int], reason: str) -> None:
    assert chosen(*candidates, tried=frozenset(tried)) == NoEndpoint(reason)


@pytest.mark.parametrize(
    ("candidates", "id_", "reason"),
    [
        ([at(1)], 1, "the only endpoint"),
        ([at(1, healthy=False)], 1, "the only endpoint left, though ejected"),
        ([at(1, healthy=False), at(2)], 2, "the only endpoint"),
        ([at(1, draining=True), at(2)], 2, "the only endpoint"),
        ([at(1, tokens=9), at(2, tokens=3)], 2, "least load of 2 (3 tokens, 0 requests in flight)"),
        ([at(1, requests=2), at(2, requests=1)], 2, "least load of 2 (0 tokens, 1 requests in flight)"),
        ([at(1, tokens=100), at(2, tokens=10, requests=3)], 2, "least load of 2 (10 tokens, 3 requests in flight)"),
        (
            [at(1, healthy=False, tokens=1), at(2, healthy=False)],
            2,
            "least load of 2 (0 tokens, 0 requests in flight), though ejected: no healthy one is left",
        ),
    ],
)
def test_picks_and_their_reasons(candidates: list[Candidate], id_: int, reason: str) -> None:
    assert chosen(*candidates) == Pick(id_, reason)


def test_ties_are_settled_by_the_draw() -> None:
    picks = [chosen(at(1), at(2), at(3), at(4), draw=d / 100) for d in range(100)]
    assert [sum(1 for p in picks if isinstance(p, Pick) and p.id == i) for i in (1, 2, 3, 4)] == [25] * 4


def test_revisions_get_their_share_and_ties_within_them_are_even() -> None:
    pool = [at(1, revision="a", weight=90), at(2, revision="a", weight=90), at(3, revision="b", weight=10)]
    picks = [chosen(*pool, draw=d / 1000) for d in range(1000)]
    counts = [sum(1 for p in picks if isinstance(p, Pick) and p.id == i) for i in (1, 2, 3)]
    assert counts == [450, 450, 100]


def test_a_revision_without_weight_gets_nothing_unless_all_have_none() -> None:
    pool = [at(1, revision="a", weight=0), at(2, revision="b", weight=1)]
    assert all(isinstance(p, Pick) and p.id == 2 for p in (chosen(*pool, draw=d / 10) for d in range(10)))
    none = [at(1, revision="a", weight=0), at(2, revision="b", weight=0)]
    assert {p.id for p in (chosen(*none, draw=d / 10) for d in range(10)) if isinstance(p, Pick)} == {1, 2}


@given(
    st.lists(
        st.builds(
            at,
            st.integers(0, 50),
            revision=st.sampled_from("abc"),
            weight=st.integers(0, 3),
            requests=st.integers(0, 9),
            tokens=st.integers(0, 9999),
            healthy=st.booleans(),
            draining=st.booleans(),
        ),
        max_size=8,
    ),
    st.floats(0, 1, exclude_max=True),
    st.frozensets(st.integers(0, 50), max_size=3),
)
def test_a_pick_is_always_one_that_may_be_picked(pool: list[Candidate], draw: float, tried: frozenset[int]) -> None:
    usable = {c.id for c in pool if not c.draining and c.id not in tried}
    found = chosen(*pool, draw=draw, tried=tried)
    assert found.id in usable if isinstance(found, Pick) else not usable
