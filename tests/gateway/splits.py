"""Streams of events and every way to cut them into pieces, for property tests."""

import json
from itertools import pairwise

from hypothesis import strategies as st

from tests.gateway.chat import DONE, FINISH, ROLE, USAGE, says

TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["é", "😀", "data: [DONE]", '{"error": 1}', '"usage":{"prompt_tokens":1}', "\r\n\r\n", "}\n\n", "a" * 300]
    ),
)


def escaped(text: str) -> bytes:
    """An event whose text has every character beyond ASCII escaped, as Python writes JSON."""
    return b'data: {"choices":[{"index":0,"delta":{"content":%b}}]}\n\n' % json.dumps(text).encode()


EVENTS = st.one_of(
    TEXTS.filter(lambda t: all(ord(c) < 0xD800 or ord(c) > 0xDFFF for c in t)).map(says),
    TEXTS.map(escaped),
    st.just(b": ping\n\n"),
    st.just(b'event: x\nid: 7\ndata: {"choices":[{"delta":{"content":"named"}}]}\n\n'),
    st.just(b'data: {"choices":[{"delta":{"content":"two"}}],\ndata: "more":1}\n\n'),
)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """The events of a stream, as an engine that was asked for usage sends them."""
    middle = draw(st.lists(EVENTS, max_size=12))
    events = [ROLE, *middle, FINISH, USAGE, DONE]
    if draw(st.booleans()):
        events = [event.replace(b"\n", b"\r\n") for event in events]
    return events


def wanted(events: list[bytes], *, strip_usage: bool) -> bytes:
    """What the client is to get of `events`."""
    return b"".join(events[:-2] if strip_usage else events[:-1]) + DONE


@st.composite
def cuts(draw: st.DrawFn, whole: bytes) -> list[bytes]:
    """`whole` in pieces, cut anywhere, at the ends of lines more often."""
    natural = [i + 1 for i, byte in enumerate(whole) if byte in b"\r\n:"]
    places = st.one_of(st.integers(0, len(whole)), st.sampled_from(natural)) if natural else st.integers(0, len(whole))
    at = sorted({0, len(whole), *draw(st.lists(places, max_size=25))})
    return [whole[a:b] for a, b in pairwise(at)]
