"""Text comes out as whole characters, and adds up to what the tokenizer decodes at once."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.huggingface.detokenize import UNFINISHED, Detokenizer
from tests.engines.huggingface.tiny import tokenizer

TOKENIZER = tokenizer()
BACKEND = TOKENIZER.backend_tokenizer


def pieces(ids: list[int], prompt: list[int] | None = None) -> list[str]:
    found = Detokenizer(BACKEND, prompt or [])
    return [*(found.push(token) for token in ids), found.flush()]


@pytest.mark.parametrize(
    "text",
    ["plain words", "früher Übergänge", "漢字かな", "🎉🚀🎉", "👩‍👩‍👧 family", "a\N{REPLACEMENT CHARACTER}b", ""],
)
def test_no_piece_has_half_a_character(text: str) -> None:
    ids = BACKEND.encode(text).ids
    found = pieces(ids)
    assert "".join(found) == text
    assert text.count(UNFINISHED) == sum(piece.count(UNFINISHED) for piece in found)


def test_the_end_shows_an_unfinished_character_as_the_tokenizer_does() -> None:
    ids = BACKEND.encode("ok 🎉").ids[:-1]
    assert "".join(pieces(ids)) == BACKEND.decode(ids)


def test_bytes_that_never_become_text_do_not_pile_up() -> None:
    """Bytes that are no text are given out after a while, and cost no more the more of them there are."""
    byte = next(t for t in range(4, 512) if BACKEND.decode([t]) == UNFINISHED)
    found = Detokenizer(BACKEND, [])
    given = [found.push(byte) for _ in range(400)]
    assert "".join(given) + found.flush() == BACKEND.decode([byte] * 400)
    assert max(map(len, given)) < 20


def test_hidden_tokens_do_not_pile_up_either() -> None:
    """A model made to ignore its end token repeats it: the work per token must not grow."""
    decoded: list[int] = []

    class Counting:
        def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
            decoded.append(len(ids))
            return str(BACKEND.decode(list(ids), skip_special_tokens=skip_special_tokens))

    found = Detokenizer(Counting(), BACKEND.encode("Tokens").ids)
    assert "".join(found.push(0) for _ in range(300)) == ""
    assert found.push(BACKEND.encode("s").ids[0]) + found.flush() == "s"
    assert max(decoded) < 12


def test_special_tokens_are_hidden_unless_asked_for() -> None:
    ids = [*BACKEND.encode("a").ids, 0, *BACKEND.encode("b").ids]
    assert "".join(pieces(ids)) == "ab"
    shown = Detokenizer(BACKEND, [], skip_special_tokens=False)
    assert "".join([*(shown.push(t) for t in ids), shown.flush()]) == "a<|end|>b"


@given(st.lists(st.integers(4, 480), max_size=80), st.lists(st.integers(4, 480), max_size=6))
def test_any_tokens_add_up_to_their_decoding(ids: list[int], prompt: list[int]) -> None:
    text = "".join(pieces(ids, prompt))
    # The prompt may end inside a character, which then belongs to neither.
    if not BACKEND.decode(prompt).endswith(UNFINISHED):
        assert text == BACKEND.decode(ids)
