"""Failure 8 for the scanner alone: whatever the pieces, the same events come out."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.relay.sse import MAX_HELD_BYTES, EventScanner, Payloads, needs_look
from tests.gateway.chat import DONE, FINISH, ROLE, STREAM, USAGE, says
from tests.gateway.client import payloads
from tests.gateway.splits import cuts, streams, wanted


def scanned(pieces: list[bytes], *, strip_usage: bool = True) -> tuple[bytes, EventScanner]:
    scanner = EventScanner(strip_usage=strip_usage)
    out = b"".join([scanner.feed(piece) for piece in pieces])
    return out + scanner.finish(), scanner


@settings(deadline=None)
@given(st.data(), streams(), st.booleans())
def test_f08_any_split_gives_the_same_bytes(data: st.DataObject, events: list[bytes], strip: bool) -> None:
    out, scanner = scanned(data.draw(cuts(b"".join(events))), strip_usage=strip)
    assert out == wanted(events, strip_usage=strip)
    assert out.count(b"data: [DONE]\n\n") - b"".join(events[:-1]).count(b"data: [DONE]\n\n") == 1
    assert scanner.done
    assert scanner.error is None
    assert scanner.usage is not None
    assert (scanner.usage.tokens_in, scanner.usage.tokens_out) == (7, 3)


@settings(deadline=None)
@given(st.data(), streams())
def test_f08_any_split_of_a_stream_with_an_error(data: st.DataObject, events: list[bytes]) -> None:
    error = b'data: {"error":"broken"}\n\n'
    out, scanner = scanned(data.draw(cuts(b"".join([*events[:-3], error, *events[-3:]]))))
    told = b'data: {"error":{"message":"broken","type":"api_error","param":null,"code":null}}\n\n' + DONE
    assert out == b"".join(events[:-3]) + told
    assert scanner.error is not None


@settings(deadline=None)
@given(st.data(), streams())
def test_f08_payloads_do_not_depend_on_the_split(data: st.DataObject, events: list[bytes]) -> None:
    reader = Payloads()
    whole = b"".join(events)
    found = [p.decode() for piece in data.draw(cuts(whole)) for p in reader.feed(piece)]
    assert [p for p in found if p] == [p.strip() for p in payloads(whole)]


@pytest.mark.parametrize("size", [1, 7, 1000, 65_536, 2_000_000])
def test_f08_an_event_of_a_megabyte_passes_in_any_pieces(size: int) -> None:
    events = [ROLE, says("x" * 1_000_000 + "\n\n😀"), says("after"), FINISH, USAGE, DONE]
    whole = b"".join(events)
    if size == 1:
        near = [*range(MAX_HELD_BYTES, MAX_HELD_BYTES + 500), *range(1_000_100, len(whole))]
        at = [0, *near, len(whole)]
    else:
        at = [*range(0, len(whole), size), len(whole)]
    out, scanner = scanned([whole[a:b] for a, b in pairwise(at)])
    assert out == wanted(events, strip_usage=True)
    assert scanner.usage is not None


def test_a_long_event_is_not_held() -> None:
    scanner = EventScanner(strip_usage=True)
    assert scanner.feed(b"data: {" + b"x" * (MAX_HELD_BYTES + 10))
    assert scanner.cut
    assert scanner.feed(b"}\n\n").endswith(b"}\n\n")
    assert not scanner.cut


def test_a_long_event_that_ends_with_the_body_gets_its_blank_line() -> None:
    event = b'data: {"a":"%b"}' % (b"x" * MAX_HELD_BYTES)
    assert scanned([event])[0] == event + b"\n\n"


ENDS = [
    ([], b"", False),
    ([b"\n\n"], b"\n\n", False),
    ([b"\n"], b"", False),
    ([DONE], DONE, True),
    ([b"data:[DONE]\r\n\r\n"], DONE, True),
    ([b"data: [DONE]"], DONE, True),
    ([b"data: [DONE]\n"], DONE, True),
    ([DONE, DONE, says("late")], DONE, True),
    ([says("a"), b'data: {"choices":'], says("a") + b'data: {"choices":\n\n', False),
    ([says("a")[:-2]], says("a"), False),
    ([b"data: not json\n\n"], b"data: not json\n\n", False),
    ([b'data: "text"\n\n'], b'data: "text"\n\n', False),
    ([b"id: 7\n\n"], b"id: 7\n\n", False),
    ([b'data: {"choices":[]}\n\n'], b'data: {"choices":[]}\n\n', False),
]


@pytest.mark.parametrize(("pieces", "out", "done"), ENDS)
def test_ends(pieces: list[bytes], out: bytes, *, done: bool) -> None:
    got, scanner = scanned(pieces)
    assert (got, scanner.done) == (out, done)


CONTENT = [
    (ROLE, False),
    (b'data: {"choices":[{"delta":{"content":""}}]}\n\n', False),
    (b'data: {"choices":[{"delta":null}]}\n\n', False),
    (b'data: {"choices":[{"delta":{"tool_calls":[]}}]}\n\n', False),
    (b'data: {"choices":[]}\n\n', False),
    (b'data: {"type":"response.created","response":{"usage":null}}\n\n', False),
    (b'data: {"type":"x","delta":null}\n\n', False),
    (b": comment\n\n", False),
    (says("a"), True),
    (b'data: {"choices":[{"text":"a"}]}\n\n', True),
    (b'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}\n\n', True),
    (b'data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}\n\n', True),
    (b'data: {"type":"response.output_text.delta","delta":"a"}\n\n', True),
    (b"data: not json\n\n", True),
]


@pytest.mark.parametrize(("event", "content"), CONTENT)
def test_what_counts_as_content(event: bytes, *, content: bool) -> None:
    scanner = EventScanner(strip_usage=True)
    assert scanner.feed(event) == event
    assert scanner.content is content
    assert scanner.steady is content
    assert scanner.events == int(content)


def test_usage_of_a_responses_stream() -> None:
    event = b'data: {"type":"response.completed","response":{"usage":{"input_tokens":5,"output_tokens":6}}}\n\n'
    out, scanner = scanned([event], strip_usage=False)
    assert out == event
    assert scanner.usage is not None
    assert (scanner.usage.tokens_in, scanner.usage.tokens_out) == (5, 6)


def test_the_steady_path_counts_every_event() -> None:
    scanner = EventScanner(strip_usage=True)
    scanner.feed(says("a"))
    assert scanner.steady
    assert scanner.feed(says("b") + says("c")) == says("b") + says("c")
    assert scanner.events == 3


@pytest.mark.parametrize("event", [USAGE, DONE, b'data: {"error":"x"}\n\n'])
def test_what_needs_a_look(event: bytes) -> None:
    assert needs_look(event)
    assert not needs_look(b"".join(STREAM[:-2]))
