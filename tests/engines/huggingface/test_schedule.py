"""The scheduler's decisions, as stories and as properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.huggingface.kv_shape import Limits, fits
from engines.huggingface.schedule import Plan, Row, compact, passes, schedule

LIMITS = Limits(max_rows=4, context_tokens=1024, budget_tokens=4096)


def test_nothing_to_do_is_an_empty_plan() -> None:
    assert schedule([], [], LIMITS, 512) == Plan()


def test_running_sequences_all_get_one_token() -> None:
    assert schedule([Row(9, 10), Row(3, 4)], [], LIMITS, 512).decode == 2


def test_new_sequences_join_while_others_run() -> None:
    plan = schedule([Row(9, 10)], [Row(0, 20), Row(0, 30)], LIMITS, 512)
    assert (plan.decode, plan.admit, plan.longest_tokens) == (1, (20, 30), 30)


def test_a_long_prompt_is_cut_so_that_running_streams_go_on() -> None:
    plan = schedule([Row(9, 10)], [Row(0, 900)], LIMITS, 512)
    assert (plan.decode, plan.admit) == (1, (512,))
    plan = schedule([Row(10, 11), Row(512, 900)], [Row(0, 20)], LIMITS, 512)
    assert (plan.decode, plan.resume, plan.admit) == (1, 388, (20,))


def test_prompts_that_exceed_the_step_wait_in_order() -> None:
    plan = schedule([], [Row(0, 300), Row(0, 300), Row(0, 5)], LIMITS, 512)
    assert plan.admit == (300, 212)
    plan = schedule([], [Row(0, 512), Row(0, 5)], LIMITS, 512)
    assert plan.admit == (512,)
    assert plan.reasons == ("the step's prefill tokens are spent",)


def test_a_full_batch_takes_nobody() -> None:
    plan = schedule([Row(9, 10)] * 4, [Row(0, 5)], LIMITS, 512)
    assert plan.admit == ()
    assert plan.reasons == ("all 4 rows are taken",)


def test_a_full_cache_takes_nobody() -> None:
    limits = Limits(max_rows=8, context_tokens=1024, budget_tokens=1024)
    plan = schedule([Row(400, 401)], [Row(0, 5), Row(0, 5)], limits, 512)
    assert plan.admit == (5,)
    assert plan.reasons == ("the key/value cache has no room for the next sequence",)


def test_when_running_sequences_outgrow_the_cache_the_youngest_wait_again() -> None:
    limits = Limits(max_rows=8, context_tokens=1024, budget_tokens=1024)
    plan = schedule([Row(512, 513), Row(20, 21), Row(3, 4)], [Row(0, 9)], limits, 512)
    assert (plan.decode, plan.preempt, plan.admit) == (1, 2, ())
    assert plan.reasons == ("2 of 3 sequences wait again: the key/value cache is full",)


def test_a_sequence_longer_than_the_whole_cache_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        schedule([Row(900, 901)], [], Limits(4, 1024, 500), 512)


@given(
    rows=st.lists(st.integers(1, 1000), max_size=12),
    partial=st.one_of(st.none(), st.tuples(st.integers(0, 500), st.integers(502, 1000))),
    waiting=st.lists(st.integers(1, 1000), max_size=12),
    budget=st.integers(1024, 9000),
    prefill=st.integers(1, 700),
)
def test_every_plan_fits_and_gets_somewhere(
    rows: list[int], partial: tuple[int, int] | None, waiting: list[int], budget: int, prefill: int
) -> None:
    limits = Limits(max_rows=13, context_tokens=1024, budget_tokens=budget)
    running = [Row(n, n + 1) for n in rows] + ([Row(*partial)] if partial else [])
    plan = schedule(running, [Row(0, n) for n in waiting], limits, prefill)
    kept = len(running) - plan.preempt
    if running or waiting:
        assert plan.decode + plan.resume + len(plan.admit) > 0
        assert fits(kept + len(plan.admit), plan.longest_tokens, limits)
    assert plan.decode == kept - (1 if plan.resume else 0)
    assert plan.resume + sum(plan.admit) <= prefill
    assert all(chunk == n for chunk, n in zip(plan.admit[:-1], waiting, strict=False))


@given(kept=st.lists(st.booleans(), min_size=1, max_size=12), partial=st.booleans())
def test_holes_are_closed_and_the_half_done_prompt_stays_last(kept: list[bool], partial: bool) -> None:
    rows: list[int | None] = [n if keep else None for n, keep in enumerate(kept)]
    for source, target in compact(kept, partial):
        assert rows[target] is None
        assert rows[source] is not None
        rows[target], rows[source] = rows[source], None
    left = sum(kept)
    assert sorted(n for n in rows[:left] if n is not None) == [n for n, keep in enumerate(kept) if keep]
    if partial and kept[-1]:
        assert rows[left - 1] == len(kept) - 1


def test_prompts_of_like_length_share_a_pass() -> None:
    assert passes([10, 10, 11, 40, 41], 16) == (3, 2)
    assert passes([10, 10, 11, 40, 41], 1000) == (5,)
    assert passes([], 16) == ()


@given(st.lists(st.integers(1, 600), max_size=20), st.integers(0, 300))
def test_passes_cover_all_prompts_and_waste_no_more_than_a_pass(sizes: list[int], pass_tokens: int) -> None:
    found = passes(sizes, pass_tokens)
    assert sum(found) == len(sizes)
    start = 0
    for count in found:
        group = sizes[start : start + count]
        assert max(group) * count - sum(group) <= pass_tokens
        start += count
