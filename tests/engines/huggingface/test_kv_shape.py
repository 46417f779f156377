"""The key/value rectangle stays within its budget and keeps what it must."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.huggingface.kv_shape import Limits, Shape, fits, reshape, rounded

LIMITS = Limits(max_rows=8, context_tokens=1000, budget_tokens=4000)


def test_lengths_are_whole_blocks_up_to_the_context() -> None:
    assert [rounded(n, LIMITS) for n in (1, 64, 65, 990, 1000)] == [64, 64, 128, 1000, 1000]


def test_what_holds_is_kept_as_it_is() -> None:
    assert reshape(Shape(8, 128), 3, 100, LIMITS) == Shape(8, 128)


def test_the_first_shape_takes_all_rows_the_budget_allows() -> None:
    assert reshape(Shape(0, 0), 1, 10, LIMITS) == Shape(8, 64)


def test_a_longer_sequence_makes_it_longer_by_half_at_least() -> None:
    assert reshape(Shape(8, 320), 4, 321, LIMITS) == Shape(7, 512)


def test_more_rows_make_a_long_rectangle_shorter() -> None:
    assert reshape(Shape(4, 1000), 6, 200, LIMITS) == Shape(8, 256)


def test_what_does_not_fit_is_refused() -> None:
    assert not fits(5, 1000, LIMITS)
    with pytest.raises(ValueError, match="do not fit"):
        reshape(Shape(0, 0), 5, 1000, LIMITS)


@given(
    st.integers(1, 40),
    st.integers(1, 3000),
    st.integers(0, 50),
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 3000))),
)
def test_whatever_comes_the_budget_holds_and_so_does_the_shape(
    max_rows: int, context: int, spare: int, needs: list[tuple[int, int]]
) -> None:
    limits = Limits(max_rows, context, context + spare * 64)
    shape = Shape(0, 0)
    for rows, tokens in needs:
        if tokens > context or not fits(rows, tokens, limits):
            continue
        shape = reshape(shape, rows, tokens, limits)
        assert shape.holds(rows, tokens)
        assert shape.cells <= limits.budget_tokens
        assert shape.rows <= max_rows
        assert shape.tokens <= context
