"""What is read of a request, and how its bytes are changed."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.request import estimate_tokens, parse, rewrite
from serving.errors import InvalidJson, InvalidRequest

WRONG: list[tuple[bytes, str | None, str]] = [
    (b"{}", "model", "You must provide a 'model' parameter"),
    (b'{"model":""}', "model", "'model' is empty"),
    (b'{"model":5}', "model", "'model' must be a string naming a model, and is 5"),
    (b'{"model":null}', "model", "and is null"),
    (b'{"model":"m","stream":"yes"}', "stream", "'stream' must be true or false, and is \"yes\""),
    (b'{"model":"m","stream":1}', "stream", "true or false"),
    (b'{"model":"m","max_tokens":"many"}', "max_tokens", "a whole number"),
    (b'{"model":"m","max_tokens":1.5}', "max_tokens", "a whole number, and is 1.5"),
    (b'{"model":"m","max_completion_tokens":[]}', "max_completion_tokens", "a whole number"),
    (b'{"model":"m","max_output_tokens":{}}', "max_output_tokens", "a whole number"),
    (b'{"model":"m","n":"1"}', "n", "a whole number"),
    (b'{"model":"m","stream_options":[]}', "stream_options", "an object such as"),
    (b'{"model":"m","stream_options":{"include_usage":1}}', "stream_options.include_usage", "true or false"),
    (b'{"model":"m","stream":"%b"}' % (b"x" * 200), "stream", "..."),
    (b"[]", None, "must be a JSON object"),
    (b"[" * 100_000, None, "must be a JSON object"),
    (b'{"model":"m","stream":"\xff"}', "stream", "true or false"),
    (b'"text"', None, "must be a JSON object"),
    (b"null", None, "must be a JSON object"),
    (b"5", None, "must be a JSON object"),
]


@pytest.mark.parametrize(("body", "param", "text"), WRONG)
def test_a_wrong_field_is_named_with_its_value_and_what_is_allowed(body: bytes, param: str | None, text: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse(body)
    assert raised.value.param == param
    assert text in raised.value.message
    assert len(raised.value.message) < 250


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"model":"m"} x',
        b'{"model":"\xff"}',
        b'{"model":5,"a":',
        b'{"model":"m","a":%b' % (b"[" * 100_000),
    ],
)
def test_what_is_not_json_is_said_to_be_not_json(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        parse(body)


def test_absent_and_null_fields() -> None:
    request = parse(b'{"model":"m","stream":null,"stream_options":null,"max_tokens":null,"n":null,"new":1}')
    assert request.stream is None
    assert not request.wants_usage
    assert not parse(b'{"model":"m","stream_options":{}}').wants_usage
    assert not parse(b'{"model":"m","stream_options":{"include_usage":false}}').wants_usage
    assert parse(b'{"model":"m","stream_options":{"include_usage":true,"x":1}}').wants_usage


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 10 + 256),
        ({"max_tokens": 7}, 10 + 7),
        ({"max_completion_tokens": 9, "max_tokens": 7}, 10 + 9),
        ({"max_output_tokens": 5}, 10 + 5),
        ({"n": 3, "max_tokens": 7}, 10 + 21),
        ({"n": 0}, 10 + 256),
        ({"n": -5}, 10 + 256),
    ],
)
def test_expected_tokens(fields: dict[str, int], tokens: int) -> None:
    assert estimate_tokens(parse(json.dumps({"model": "m"} | fields).encode()), 40) == tokens


USAGE = {"include_usage": True}
REWRITES: list[tuple[bytes, str | None, bool, bytes]] = [
    (b'{"model":"m"}', None, False, b'{"model":"m"}'),
    (b' {"model":"m"}', None, True, b' {"stream_options":{"include_usage":true},"model":"m"}'),
    (b'{"model":"m","stream_options":{"include_usage":true}}', None, True, b""),
    (
        b'{"model":"m","stream_options":null}',
        None,
        True,
        b'{"model":"m","stream_options":{"include_usage":true}}',
    ),
    (
        b'{"stream_options":{"include_usage":false,"x":[1.0]},"model":"m"}',
        None,
        True,
        b'{"stream_options":{"include_usage":true,"x":[1.0]},"model":"m"}',
    ),
    (b'{"model":"m","a":1.0}', "n\u00e9w", False, '{"model":"n\u00e9w","a":1.0}'.encode()),
    (
        b'{"model":"m","a":1.0}',
        "new",
        True,
        b'{"model":"new","a":1.0,"stream_options":{"include_usage":true}}',
    ),
    (
        b'{"model":"m","stream_options":{"include_usage":true}}',
        "new",
        True,
        b'{"model":"new","stream_options":{"include_usage":true}}',
    ),
]


@pytest.mark.parametrize(("body", "model", "include", "out"), REWRITES)
def test_rewriting(body: bytes, model: str | None, out: bytes, *, include: bool) -> None:
    assert rewrite(body, parse(body), model=model, include_usage=include) == (out or body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KNOWN = {"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "max_output_tokens", "n"}


@settings(deadline=None)
@given(
    st.dictionaries(st.text().filter(lambda name: name not in KNOWN), JSON, max_size=5),
    st.sampled_from([None, "other", 'quo"te']),
    st.booleans(),
    st.booleans(),
)
def test_unknown_fields_always_survive(fields: dict[str, Any], model: str | None, include: bool, ascii_: bool) -> None:
    whole = {"model": "m", "stream": True} | fields
    body = json.dumps(whole, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
    try:
        request = parse(body)
    except InvalidJson:  # half a surrogate pair, written as it is: no JSON
        assert not ascii_
        return
    got = json.loads(rewrite(body, request, model=model, include_usage=include))
    expected = whole | ({"model": model} if model else {}) | ({"stream_options": USAGE} if include else {})
    assert got == expected
