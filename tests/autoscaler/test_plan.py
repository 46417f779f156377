"""Plans: stories of a service's life, and what holds in every one of them."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.plan import Create, Delete, Keep, Plan, PlanConfig, Replace, Workload, plan, replicas
from autoscaler.revision import revision
from autoscaler.template import template
from serving.inference_service import InferenceService
from tests.autoscaler.samples import runtime, service

OLD = Workload("00000000", 1, 1, rolled_out=True)
SURGE = 1


def planned(of: InferenceService, *live: Workload, **config: Any) -> Plan:
    return plan(of, runtime(), live, PlanConfig(**config))


NEW = revision(template(service(), runtime()))


def test_a_new_service_is_created() -> None:
    found = planned(service(minReplicas=3))
    assert found.creates == (Create(NEW, 3, "minReplicas is 3"),)
    assert (found.replaces, found.keeps, found.deletes, found.traffic, found.rolled_out) == (
        (),
        (),
        (),
        (),
        None,
    )
    assert found.sentences == (f"create demo-{NEW} (3 replicas): minReplicas is 3",)


def test_a_service_as_it_should_be_is_kept() -> None:
    found = planned(service(), Workload(NEW, 1, 1))
    assert found.keeps == (Keep(NEW, 1, "minReplicas is 1"),)
    assert found.traffic == ((NEW, 1),)
    assert found.rolled_out == NEW


def test_the_count_changes_without_a_new_revision() -> None:
    assert planned(service(minReplicas=4), Workload(NEW, 1, 1)).keeps[0].replicas == 4
    assert planned(service(minReplicas=1), Workload(NEW, 4, 4)).keeps[0].replicas == 1


def test_a_changed_spec_starts_the_new_revision_before_the_old_one_goes() -> None:
    first = planned(service(), OLD)
    assert first.replaces == (Replace(OLD.revision, NEW, 1, "the spec has changed; the new revision starts first"),)
    assert first.keeps == (Keep(OLD.revision, 1, f"it serves until {NEW} is ready"),)
    assert first.deletes == ()
    assert first.traffic == ((OLD.revision, 1),)
    assert first.rolled_out is None

    second = planned(service(), OLD, Workload(NEW, 1, 0))
    assert second.deletes == ()
    assert [k.revision for k in second.keeps] == [NEW, OLD.revision]

    third = planned(service(), OLD, Workload(NEW, 1, 1))
    assert third.deletes == (Delete(OLD.revision, f"{NEW} is ready and has taken its place"),)
    assert third.traffic == ((OLD.revision, 1), (NEW, 1))
    assert third.rolled_out is None
    assert "replace" in first.sentences[0]
    assert third.sentences[1].startswith("delete demo-00000000: ")


def test_several_replicas_are_rolled_over_one_by_one() -> None:
    four = service(minReplicas=4)
    old = Workload(OLD.revision, 4, 4)
    found = planned(four, old)
    assert (found.replaces[0].replicas, found.keeps[0].replicas) == (1, 4)
    found = planned(four, old, Workload(NEW, 1, 1))
    assert [(k.revision, k.replicas) for k in found.keeps] == [(NEW, 2), (OLD.revision, 3)]
    assert found.keeps[0].reason == "minReplicas is 4; the rest starts as the old ones go"
    assert planned(four, old, max_surge=4).replaces[0].replicas == 4


def test_an_old_revision_that_serves_nobody_goes_at_once() -> None:
    found = planned(service(), replace(OLD, ready=0))
    assert found.creates == (Create(NEW, 1, "minReplicas is 1"),)
    assert found.deletes[0].reason == f"the spec has changed to {NEW}, and no replica of this one is ready"


def test_of_several_old_revisions_the_readiest_serves_on() -> None:
    older = Workload("11111111", 2, 2)
    found = planned(service(minReplicas=2), Workload(OLD.revision, 1, 1), older)
    assert [k.revision for k in found.keeps] == ["11111111"]
    assert [d.revision for d in found.deletes] == [OLD.revision]


def test_a_stopped_service_has_nothing() -> None:
    stopped = service(metadata={"annotations": {"serving.kserve.io/stop": "true"}})
    assert planned(stopped).sentences == ()
    found = planned(stopped, Workload(NEW, 1, 1), OLD)
    assert [d.revision for d in found.deletes] == [NEW, OLD.revision]
    assert found.traffic == ()


def test_how_many_replicas() -> None:
    def count(config: PlanConfig, **fields: Any) -> int:
        return replicas(service(**fields), config)[0]

    assert count(PlanConfig()) == 1
    assert count(PlanConfig(), minReplicas=0) == 1
    assert count(PlanConfig(replicas=3), minReplicas=0) == 3
    assert count(PlanConfig(wakes_from_zero=True), minReplicas=0) == 0
    assert count(PlanConfig(replicas=5), maxReplicas=3) == 3
    assert count(PlanConfig(replicas=5)) == 5
    assert count(PlanConfig(replicas=5), maxReplicas=0) == 5
    assert count(PlanConfig(replicas=1), minReplicas=2) == 2


def test_a_canary_stands_beside_what_was_rolled_out() -> None:
    canary = service(minReplicas=4, canaryTrafficPercent=25)
    old = Workload(OLD.revision, 4, 4, rolled_out=True)
    found = planned(canary, old)
    assert found.creates == (Create(NEW, 1, "canaryTrafficPercent gives it 25 % of the traffic"),)
    assert found.keeps == (Keep(OLD.revision, 4, f"it has the rest of the traffic until {NEW} is rolled out"),)
    assert found.traffic == ((OLD.revision, 100),)

    found = planned(canary, old, Workload(NEW, 1, 1))
    assert [(k.revision, k.replicas) for k in found.keeps] == [(NEW, 1), (OLD.revision, 3)]
    assert found.traffic == ((NEW, 25), (OLD.revision, 75))
    assert found.rolled_out is None

    promoted = planned(service(minReplicas=4), old, Workload(NEW, 4, 4))
    assert [d.revision for d in promoted.deletes] == [OLD.revision]


def test_a_canary_with_nothing_beside_it_has_all() -> None:
    found = planned(service(canaryTrafficPercent=25), Workload(NEW, 1, 1))
    assert found.traffic == ((NEW, 1),)
    assert found.rolled_out == NEW
    assert planned(service(canaryTrafficPercent=100), OLD, Workload(NEW, 1, 1)).deletes != ()


def test_a_canary_at_zero_percent_runs_and_gets_nothing() -> None:
    found = planned(service(canaryTrafficPercent=0), OLD, Workload(NEW, 1, 1))
    assert found.traffic == ((OLD.revision, 100),)
    assert found.keeps[0].replicas == 1


def test_a_canary_serves_alone_when_the_other_is_down() -> None:
    found = planned(service(canaryTrafficPercent=10), replace(OLD, ready=0), Workload(NEW, 1, 1))
    assert found.traffic == ((NEW, 100),)


def test_a_canary_replaces_the_canary_before_it() -> None:
    before = Workload("11111111", 1, 1)
    found = planned(service(canaryTrafficPercent=10), OLD, before)
    assert found.deletes == (Delete("11111111", f"{NEW} is the canary now"),)


def carried_out(found: Plan, live: dict[str, Workload]) -> dict[str, Workload]:
    """What runs once a plan is carried out; nothing new is ready yet."""
    result = {}
    steps: tuple[Create | Keep, ...] = (*found.creates, *found.keeps)
    for step in steps:
        before = live.get(step.revision, Workload(step.revision, 0, 0))
        result[step.revision] = replace(before, replicas=step.replicas, ready=min(before.ready, step.replicas))
    for change in found.replaces:
        result[change.new] = Workload(change.new, change.replicas, 0)
    if found.rolled_out in result:
        result[found.rolled_out] = replace(result[found.rolled_out], rolled_out=True)
    return result


@given(wanted=st.integers(1, 6), before=st.integers(1, 6), surge=st.integers(1, 3), luck=st.data())
def test_a_rollout_never_serves_with_fewer_and_always_ends(
    wanted: int, before: int, surge: int, luck: st.DataObject
) -> None:
    """Replicas become ready in any order: enough serve, not too many run, and in the end all are new."""
    live = {OLD.revision: Workload(OLD.revision, before, before)}
    floor = min(wanted, before)
    done = {NEW: Workload(NEW, wanted, wanted, rolled_out=True)}
    for _ in range(40):
        found = plan(service(minReplicas=wanted), runtime(), list(live.values()), PlanConfig(max_surge=surge))
        live = carried_out(found, live)
        assert sum(w.ready for w in live.values()) >= floor
        assert sum(w.replicas for w in live.values()) <= max(wanted, floor) + surge
        if live == done:
            return
        for position, workload in enumerate(w for w in live.values() if w.ready < w.replicas):
            most = workload.replicas - workload.ready
            more = luck.draw(st.integers(0 if position else 1, most))
            live[workload.revision] = replace(workload, ready=workload.ready + more)
    assert live == done


@given(
    st.lists(
        st.builds(
            Workload,
            revision=st.sampled_from([NEW, "00000000", "11111111", "22222222"]),
            replicas=st.integers(1, 5),
            ready=st.integers(0, 5),
            rolled_out=st.booleans(),
        ),
        unique_by=lambda w: w.revision,
    ),
    st.one_of(st.none(), st.integers(0, 100)),
    st.integers(0, 5),
    st.one_of(st.none(), st.integers(0, 5)),
)
def test_every_live_revision_is_kept_or_deleted_exactly_once(
    live: list[Workload], canary: int | None, least: int, asked: int | None
) -> None:
    of = service(minReplicas=least, canaryTrafficPercent=canary)
    found = plan(of, runtime(), live, PlanConfig(replicas=asked, wakes_from_zero=True))
    named = [k.revision for k in found.keeps] + [d.revision for d in found.deletes]
    assert sorted(named) == sorted(w.revision for w in live)
    started = [c.revision for c in found.creates] + [r.new for r in found.replaces]
    assert set(started) <= {NEW} - {w.revision for w in live}
    counts = [c.replicas for c in found.creates] + [r.replicas for r in found.replaces]
    assert all(count > 0 for count in (*counts, *(k.replicas for k in found.keeps)))
    assert {name for name, _ in found.traffic} <= {w.revision for w in live if w.ready}
