"""Cross-origin requests, as the Fetch standard has them."""

import pytest

from gateway.cors import CorsPolicy, Header, cors_headers, is_preflight, preflight

PAGE = b"https://chat.example.com"
OTHER = b"https://other.example.com"
EXPOSE = (b"access-control-expose-headers", b"X-Request-Id, Retry-After")
CREDENTIALS = (b"access-control-allow-credentials", b"true")
VARY = (b"vary", b"Origin")
OFF = CorsPolicy()
ONE = CorsPolicy.of([PAGE.decode()], ["get", "POST"], ["Authorization", "Content-Type"], max_age_s=60)
ONE_WITH = CorsPolicy.of([PAGE.decode()], ["POST"], ["*"], credentials=True)
ANY = CorsPolicy.of(["*"], ["*"], ["*"])
ANY_WITH = CorsPolicy.of(["*"], ["*"], ["*"], credentials=True)


def asked(origin: bytes | None, method: bytes = b"POST", headers: bytes | None = None) -> list[Header]:
    given = [(b"host", b"h"), (b"access-control-request-method", method)]
    if origin is not None:
        given.append((b"origin", origin))
    if headers is not None:
        given.append((b"access-control-request-headers", headers))
    return given


@pytest.mark.parametrize(
    ("policy", "origin", "headers"),
    [
        (OFF, None, ()),
        (OFF, PAGE, ()),
        (ONE, PAGE, ((b"access-control-allow-origin", PAGE), EXPOSE, VARY)),
        (ONE, OTHER, (VARY,)),
        (ONE, PAGE + b"/", (VARY,)),
        (ONE, b"null", (VARY,)),
        (ONE, None, (VARY,)),
        (ONE_WITH, PAGE, ((b"access-control-allow-origin", PAGE), CREDENTIALS, EXPOSE, VARY)),
        (ANY, OTHER, ((b"access-control-allow-origin", b"*"), EXPOSE)),
        (ANY, None, ()),
        (ANY_WITH, OTHER, ((b"access-control-allow-origin", OTHER), CREDENTIALS, EXPOSE, VARY)),
        (ANY_WITH, None, (VARY,)),
    ],
)
def test_what_is_added_to_an_answer(policy: CorsPolicy, origin: bytes | None, headers: tuple[Header, ...]) -> None:
    assert cors_headers(policy, origin) == headers


def test_off_by_default() -> None:
    assert not OFF.enabled
    assert ONE.enabled


def test_which_requests_are_preflights() -> None:
    assert is_preflight("OPTIONS", asked(PAGE))
    assert not is_preflight("OPTIONS", asked(None))
    assert not is_preflight("OPTIONS", [(b"origin", PAGE)])
    assert not is_preflight("POST", asked(PAGE))


def test_leave_is_given() -> None:
    status, headers, body = preflight(ONE, asked(PAGE, headers=b"authorization, CONTENT-TYPE ,"))
    assert (status, body) == (204, b"")
    assert dict(headers) == {
        b"access-control-allow-origin": PAGE,
        b"access-control-allow-methods": b"GET, POST",
        b"access-control-allow-headers": b"Authorization, Content-Type",
        b"access-control-max-age": b"60",
        b"vary": b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }


def test_wildcards_name_what_was_asked_for() -> None:
    """`*` does not cover Authorization, nor anything where credentials are sent."""
    status, headers, _ = preflight(ANY, asked(OTHER, b"DELETE", b"authorization, x-stainless-os"))
    found = dict(headers)
    assert status == 204
    assert found[b"access-control-allow-origin"] == b"*"
    assert found[b"access-control-allow-methods"] == b"DELETE"
    assert found[b"access-control-allow-headers"] == b"authorization, x-stainless-os"
    assert b"access-control-allow-credentials" not in found


@pytest.mark.parametrize(("policy", "origin"), [(ONE_WITH, PAGE), (ANY_WITH, OTHER)])
def test_with_credentials_no_answer_has_a_wildcard(policy: CorsPolicy, origin: bytes) -> None:
    status, headers, _ = preflight(policy, asked(origin, headers=b"a"))
    found = dict(headers)
    assert status == 204
    assert found[b"access-control-allow-origin"] == origin
    assert found[b"access-control-allow-credentials"] == b"true"
    assert b"*" not in found.values()


def test_no_headers_were_asked_for() -> None:
    _, headers, _ = preflight(ANY, asked(OTHER))
    assert b"access-control-allow-headers" not in dict(headers)


@pytest.mark.parametrize(
    ("policy", "request_headers", "reason"),
    [
        (OFF, asked(PAGE), b"are off"),
        (ONE, asked(OTHER), b"origin"),
        (ONE, asked(None), b"origin"),
        (ONE, asked(PAGE, b"DELETE"), b"method"),
        (ONE, asked(PAGE, headers=b"authorization, x-other"), b"headers"),
        (ONE, [(b"origin", PAGE)], b"method"),
    ],
)
def test_leave_is_refused(policy: CorsPolicy, request_headers: list[Header], reason: bytes) -> None:
    status, headers, body = preflight(policy, request_headers)
    assert status == 403
    assert reason in body
    assert not [name for name, _ in headers if name.startswith(b"access-control-allow")]
    assert b"vary" in dict(headers)
