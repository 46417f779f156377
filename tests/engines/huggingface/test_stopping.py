"""Stop strings, also when they arrive in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.huggingface.stopping import Shown, shown


@pytest.mark.parametrize(
    ("text", "new_from", "stops", "expected"),
    [
        ("hello", 0, ("END",), Shown(5)),
        ("hello E", 5, ("END",), Shown(6)),
        ("hello ENx", 7, ("END",), Shown(9)),
        ("hello END tail", 5, ("END",), Shown(6, "END")),
        ("aab", 2, ("b", "ab"), Shown(1, "ab")),
        ("xab", 2, ("ab", "xab"), Shown(0, "xab")),
        ("aaaa", 3, ("aab",), Shown(2)),
        ("END", 2, ("END", "ENDING"), Shown(0, "END")),
    ],
)
def test_how_much_may_be_shown(text: str, new_from: int, stops: tuple[str, ...], expected: Shown) -> None:
    assert shown(text, new_from, stops) == expected


def test_the_stop_string_itself_can_be_included() -> None:
    assert shown("hello END tail", 5, ("END",), include=True) == Shown(9, "END")


@given(st.text("ab\n", max_size=30), st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3), st.data())
def test_in_whatever_pieces_a_text_comes_the_same_is_shown(text: str, stops: list[str], data: st.DataObject) -> None:
    found = [text.find(stop) for stop in stops if stop in text]
    expected = text[: min(found)] if found else text
    out, held, rest = "", "", text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        piece, rest = rest[:size], rest[size:]
        new_from, held = len(held), held + piece
        seen = shown(held, new_from, stops)
        out += held[: seen.upto]
        held = held[seen.upto :]
        if seen.stop is not None:
            # The first stop string to be complete ends the text; a longer one that began earlier may not be.
            assert out == text[: len(out)]
            assert not any(stop in out for stop in stops)
            return
    assert out + held == expected
