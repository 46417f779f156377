"""After known requests, the metrics and the access log have exactly those: a tenant of its own is counted."""

import openai
import pytest
from openai import OpenAI

from tests.autoscaler.local.processes import soon
from tests.flow.asking import ENDLESS, GREEDY, QUESTION, user
from tests.flow.programs import Stack, metric, samples

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

OWNER = {"service": "demo", "tenant": "counted"}


@pytest.fixture(scope="module")
def counted(flow: Stack) -> list[int]:
    """Two whole answers, three streams, two refusals and a hang-up. Tokens (in, out) of those that ended well."""
    tokens = [0, 0]
    with OpenAI(base_url=flow.api, api_key=flow.keys["counted"], max_retries=0) as client:
        create = client.chat.completions.create
        for number in range(2):
            whole = create(**GREEDY, messages=user(QUESTION), extra_headers={"X-Request-Id": f"whole-{number}"})
            assert whole.usage is not None
            tokens[0] += whole.usage.prompt_tokens
            tokens[1] += whole.usage.completion_tokens
        for number in range(3):  # without asking for usage: the gateway does, and keeps it
            list(
                create(
                    **GREEDY, messages=user(QUESTION), stream=True, extra_headers={"X-Request-Id": f"stream-{number}"}
                )
            )
            tokens[0] += whole.usage.prompt_tokens
            tokens[1] += whole.usage.completion_tokens
        with pytest.raises(openai.BadRequestError):
            create(**GREEDY, messages=[], extra_headers={"X-Request-Id": "refused-by-engine"})
        with pytest.raises(openai.NotFoundError):
            create(model="other", messages=user("Hi"), extra_headers={"X-Request-Id": "refused-by-gateway"})
        with create(**ENDLESS, messages=user("Hi"), stream=True, extra_headers={"X-Request-Id": "left"}) as stream:
            next(iter(stream))
    soon(lambda: len(flow.log("counted")) == 8)
    return tokens


def test_requests_are_counted_by_outcome(flow: Stack, counted: list[int]) -> None:
    def requests(outcome: str, service: str = "demo") -> float:
        return metric(flow.url, "penstock_requests_total", outcome=outcome, service=service, tenant="counted")

    assert requests("ok") == 5
    assert requests("client_error") == 1
    assert requests("client_error", service="") == 1  # no service of that name
    assert requests("client_closed") == 1
    assert metric(flow.url, "penstock_requests_in_flight", **OWNER) == 0
    assert metric(flow.url, "penstock_retries_total", **OWNER) == 0


def test_tokens_are_counted_as_the_engine_counts_them(flow: Stack, counted: list[int]) -> None:
    (left,) = [line for line in flow.log("counted") if line["request_id"] == "left"]
    extra = {"input": left.get("tokens_in", 0), "output": left.get("tokens_out", 0)}
    for kind, expected in zip(("input", "output"), counted, strict=True):
        labels = {**OWNER, "gen_ai_token_type": kind}
        assert metric(flow.url, "gen_ai_client_token_usage_sum", **labels) == expected + extra[kind]
        assert metric(flow.url, "gen_ai_client_token_usage_count", **labels) == 5 + bool(extra[kind])


def test_times_are_there_for_each_request(flow: Stack, counted: list[int]) -> None:
    assert metric(flow.url, "gen_ai_server_request_duration_seconds_count", **OWNER) == 7
    assert (
        metric(flow.url, "gen_ai_server_time_to_first_token_seconds_count", **OWNER) == 4
    )  # streams, and the one left
    assert metric(flow.url, "gen_ai_server_time_per_output_token_seconds_count", **OWNER) in (3, 4)
    first = metric(flow.url, "gen_ai_server_time_to_first_token_seconds_sum", **OWNER)
    assert 0 < first < metric(flow.url, "gen_ai_server_request_duration_seconds_sum", **OWNER)


def test_the_engine_and_the_process_are_seen(flow: Stack, counted: list[int]) -> None:
    names = {name for name, _ in samples(flow.url)}
    assert names >= {
        "penstock_endpoint_requests_in_flight",
        "penstock_endpoint_tokens_in_flight",
        "penstock_endpoint_connections",
        "penstock_endpoint_healthy",
        "penstock_log_lines_dropped_total",
        "process_resident_memory_bytes",
    }
    assert metric(flow.url, "penstock_endpoint_healthy", endpoint=flow.engine.removeprefix("http://")) == 1
    assert metric(flow.url, "penstock_log_lines_dropped_total") == 0


def test_the_access_log_has_one_line_for_each_request(flow: Stack, counted: list[int]) -> None:
    lines = {line["request_id"]: line for line in flow.log("counted")}
    streams, wholes = [f"stream-{n}" for n in range(3)], [f"whole-{n}" for n in range(2)]
    assert len(flow.log("counted")) == len(lines) == 8
    assert lines.keys() == {*streams, *wholes, "refused-by-engine", "refused-by-gateway", "left"}
    for name in (*streams, *wholes):
        line = lines[name]
        assert (line["status"], line["outcome"], line["attempts"]) == (200, "ok", 1)
        assert (line["model"], line["service"], line["path"]) == ("demo", "demo", "/v1/chat/completions")
        assert line["endpoint"] == flow.engine.removeprefix("http://")
        assert line.get("stream", False) is name.startswith("stream")
        assert 0 < line.get("ttft_s", 0.0) < line["duration_s"] or name.startswith("whole")
        assert line["time"] > 1_700_000_000
        assert line["bytes_in"] > 0
    assert sum(lines[name]["tokens_in"] for name in (*streams, *wholes)) == counted[0]
    assert sum(lines[name]["tokens_out"] for name in (*streams, *wholes)) == counted[1]


def test_the_access_log_says_how_the_others_ended(flow: Stack, counted: list[int]) -> None:
    lines = {line["request_id"]: line for line in flow.log("counted")}
    assert (lines["refused-by-engine"]["status"], lines["refused-by-engine"]["outcome"]) == (400, "client_error")
    assert lines["refused-by-engine"]["error_code"] == "engine_400"
    assert (lines["refused-by-gateway"]["status"], lines["refused-by-gateway"]["error_code"]) == (
        404,
        "model_not_found",
    )
    assert (lines["left"]["status"], lines["left"]["outcome"]) == (200, "client_closed")


def test_no_key_is_written_anywhere(flow: Stack, counted: list[int]) -> None:
    written = [path.read_text() for path in flow.state.rglob("*") if path.is_file()]
    written += [flow.program.out, flow.program.err, (flow.state.parent / "keys.txt").read_text()]
    for key in flow.keys.values():
        assert not any(key in text for text in written)
