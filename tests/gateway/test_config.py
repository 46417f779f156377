"""Settings: what is read, what is refused, and in which words."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from gateway.config import (
    EndpointSettings,
    GatewaySettings,
    ModelSettings,
    SettingsError,
    load_settings,
    parse_engine,
    settings_of,
    settings_of_engines,
)
from gateway.endpoint_url import engine_url
from gateway.keys import parse_keys
from serving.routes import Endpoint

DEMO = "models: [{name: demo, endpoints: [{url: 'http://127.0.0.1:8001'}]}]\n"


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def errors_in(tmp_path: Path, text: str | bytes) -> list[str]:
    """The lines of the error, without the file's name."""
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    lines = str(caught.value).split("\n")
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def test_defaults() -> None:
    settings = GatewaySettings()
    assert (settings.host, settings.port, settings.models, settings.keys_file) == (
        "127.0.0.1",
        8080,
        (),
        None,
    )
    assert settings.limits.body_bytes == 32 * 2**20
    assert settings.limits.header_bytes == 64 * 2**10
    assert settings.limits.connections_per_endpoint == 4096
    timeouts = settings.timeouts
    assert (timeouts.connect_s, timeouts.first_byte_s, timeouts.idle_s, timeouts.total_s) == (5, 300, 60, 600)
    assert (timeouts.body_s, timeouts.keep_alive_s, timeouts.drain_s) == (30, 75, 30)
    assert settings.retries == 2
    assert (settings.ejection.failures, settings.ejection.probe_interval_s) == (3, 1)
    assert settings.ejection.probe_path == "/health"
    assert settings.keepalive_comment_s == 15
    assert not settings.cors.policy().enabled
    assert settings.docs
    assert settings.log.access
    assert settings.log.level == "info"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        GatewaySettings().port = 1


def test_a_whole_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
host: 0.0.0.0
port: 0
keys_file: keys.txt
timeouts: {connect_s: 1, drain_s: 0}
keepalive_comment_s: 0
cors: {allow_origins: ['https://chat.example.com'], allow_credentials: true}
models:
  - name: meta-llama/Llama-3.1-8B-Instruct
    aliases: [llama, 'llama:8b']
    timeout_s: 120.5
    endpoints:
      - {url: 'http://10.0.0.1:8000/v1/', model: /mnt/models, api_key_env: LLAMA_KEY}
      - {url: 'http://10.0.0.2:8000', api_key: sk-in-file}
  - {name: other, endpoints: [{url: 'http://[::1]:9/prefix/'}]}
""",
    )
    settings = load_settings(path)
    assert settings.keys_file == tmp_path / "keys.txt"
    table = settings.route_table(created_s=7, environ={"LLAMA_KEY": "sk-env"})
    llama, other = table.routes
    assert llama.service == "meta-llama/Llama-3.1-8B-Instruct"
    assert llama.models == ("meta-llama/Llama-3.1-8B-Instruct", "llama", "llama:8b")
    assert llama.endpoints == (
        Endpoint("http://10.0.0.1:8000", "/mnt/models", "sk-env"),
        Endpoint("http://10.0.0.2:8000", None, "sk-in-file"),
    )
    assert (llama.timeout_s, llama.created_s) == (120.5, 7)
    assert other.endpoints == (Endpoint("http://[::1]:9/prefix"),)
    assert other.timeout_s == 600
    assert table.by_model["llama:8b"] is llama
    assert settings.cors.policy().credentials


def test_an_absolute_keys_file_stays(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, DEMO + "keys_file: /etc/keys\n")).keys_file == Path("/etc/keys")
    assert load_settings(write(tmp_path, DEMO)).keys_file is None


def test_keys_of_endpoints_are_not_in_what_is_printed() -> None:
    endpoint = {"url": "http://h", "api_key": "sk-secret"}
    settings = settings_of({"models": [{"name": "m", "endpoints": [endpoint]}]})
    assert "sk-secret" not in repr(settings) + str(settings) + settings.model_dump_json()
    assert "sk-secret" not in repr(settings.route_table())


@pytest.mark.parametrize("value", ["", None])
def test_a_variable_that_is_not_set(value: str | None) -> None:
    endpoint = {"url": "http://h", "api_key_env": "K"}
    settings = settings_of({"models": [{"name": "m", "endpoints": [endpoint]}]})
    with pytest.raises(SettingsError, match="endpoint http://h: environment variable K is not set"):
        settings.route_table(environ={} if value is None else {"K": value})


@pytest.mark.parametrize("key", ["a b", "a\r\nHost: x", "ключ"])
def test_a_key_that_no_header_can_carry(key: str) -> None:
    endpoint = {"url": "http://h", "api_key_env": "K"}
    settings = settings_of({"models": [{"name": "m", "endpoints": [endpoint]}]})
    with pytest.raises(SettingsError, match="printable ASCII") as caught:
        settings.route_table(environ={"K": key})
    assert key not in str(caught.value)


def test_the_environment_is_the_process_own_by_default() -> None:
    endpoint = {"url": "http://h", "api_key_env": "PENSTOCK_NO_SUCH_VARIABLE"}
    settings = settings_of({"models": [{"name": "m", "endpoints": [endpoint]}]})
    with pytest.raises(SettingsError, match="PENSTOCK_NO_SUCH_VARIABLE is not set"):
        settings.route_table()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("port: 99999", "port: 99999: should be less than or equal to 65535"),
        ("port: true", "port: True: should be a valid integer"),
        ("port: '80'", "port: '80': should be a valid integer"),
        ("timeouts: {idle_s: -1}", "timeouts.idle_s: -1: should be greater than 0"),
        ("timeouts: {idle_s: .inf}", "timeouts.idle_s: inf: should be a finite number"),
        ("timeouts: {idle_s: .nan}", "timeouts.idle_s: nan: should be a finite number"),
        ("timeouts: 3", "timeouts: 3: should be a mapping"),
        ("log:", "log: None: should be a mapping"),
        ("log: {level: loud}", "log.level: 'loud': should be 'debug', 'info', 'warning' or 'error'"),
        ("log: {loud: 1}", "log.loud: no such field; allowed here: access, level"),
        ("retries: 17", "retries: 17: should be less than or equal to 16"),
        ("models: [{name: a}]", "models[0].endpoints: is required"),
        ("models: [{name: a, endpoints: []}]", "models[0].endpoints: needs at least one entry"),
        ("models: [{name: a, endpoints: ['x']}]", "models[0].endpoints[0]: 'x': should be a mapping"),
        (
            "models: [{name: a b, endpoints: [{url: 'http://h'}]}]",
            (
                "models[0].name: 'a b': a model name is up to 255 letters, digits and _ . / : @ + ~ -, "
                "a letter or digit first"
            ),
        ),
        (
            "models: [{name: a, endpoints: [{url: 'http://h', apikey: sk-1}]}]",
            "models[0].endpoints[0].apikey: no such field; allowed here: api_key, api_key_env, model, url",
        ),
        (
            "models: [{name: a, endpoints: [{url: 'http://h', api_key: sk-1, api_key_env: B}]}]",
            "models[0].endpoints[0]: api_key and api_key_env are both set; give one",
        ),
        (
            "models: [{name: a, endpoints: [{url: 'http://h', api_key: [sk-1]}]}]",
            "models[0].endpoints[0].api_key: should be a valid string",
        ),
        (
            "models: [{name: a, endpoints: [{url: 'http://h/'}, {url: 'http://h/v1'}]}]",
            "models[0]: endpoint http://h is listed twice; list each once",
        ),
        (
            DEMO[:-2] + ", {name: b, aliases: [demo], endpoints: [{url: 'http://h'}]}]",
            "model name 'demo' is used twice in models; names and aliases must differ",
        ),
        (
            "cors: {allow_origins: ['https://x.example/']}",
            (
                "cors.allow_origins[0]: 'https://x.example/': an origin is SCHEME://HOST[:PORT] in lower "
                "case and without a slash at its end, or *"
            ),
        ),
        (
            "cors: {allow_headers: ['a b']}",
            "cors.allow_headers[0]: 'a b': must be printable ASCII without spaces",
        ),
        ("[1, 2]", "must be a mapping of settings, not a list"),
        ("1: 2", "[1]: 1: Keys should be strings"),
        ("", "the file is empty; it needs at least `models:`"),
        ("a: [", "not valid YAML: expected the node content, but found '<stream end>' (line 1, column 5)"),
        ("port: 1\nport: 2", "not valid YAML: key 'port' is given twice (line 2, column 1)"),
        ("? [a]\n: 2", "not valid YAML: found unhashable key (line 1, column 3)"),
        ("port: 2001-99-99", "not valid YAML: month must be in 1..12"),
        ("host: " + "x" * 200 + "\nport: -1", "port: -1: should be greater than or equal to 0"),
        ("port: " + "x" * 200, f"port: '{'x' * 76}...: should be a valid integer"),
    ],
)
def test_one_line_says_what_is_wrong(tmp_path: Path, text: str, line: str) -> None:
    assert errors_in(tmp_path, text) == [line]


def test_every_mistake_has_its_line(tmp_path: Path) -> None:
    text = "port: -1\nretries: -1\nmodels: [{name: a, endpoints: [{url: 'https://h'}, {url: ftp://h}]}]"
    assert [line.split(":")[0] for line in errors_in(tmp_path, text)] == [
        "port",
        "models[0].endpoints[0].url",
        "models[0].endpoints[1].url",
        "retries",
    ]


@pytest.mark.parametrize("text", ["[" * 5000, b"\xff\xfe\xff", "a: !!python/object:os.system {}"])
def test_what_is_no_yaml(tmp_path: Path, text: str | bytes) -> None:
    (line,) = errors_in(tmp_path, text)
    assert line.startswith("not valid YAML: ")


def test_secrets_are_not_in_errors(tmp_path: Path) -> None:
    text = """
models:
  - name: a
    endpoints:
      - {url: 'http://user:hunter2@h', api_key: [hunter2]}
      - 'http://user:hunter2@h'
      - {url: 'http://h', api_key: hunter2, api_key_env: '1'}
      - {url: 'http://h', apikey: hunter2}
"""
    assert "hunter2" not in "\n".join(errors_in(tmp_path, text))
    assert "hunter2" not in "\n".join(errors_in(tmp_path, text + "  - api_key: hunter2: x"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: cannot be read: No such file"):
        load_settings(tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://h", "http://h"),
        ("http://h/", "http://h"),
        ("http://h:80", "http://h:80"),
        ("http://h:", "http://h"),
        ("http://h/v1", "http://h"),
        ("http://h/v1///", "http://h"),
        ("http://h/openai/v1", "http://h/openai"),
        ("http://h/apiv1", "http://h/apiv1"),
        ("HTTP://h", "http://h"),
        ("http://[fe80::1%25eth0]:8000", "http://[fe80::1%25eth0]:8000"),
        ("http://my_engine.ns.svc.cluster.local:8000", "http://my_engine.ns.svc.cluster.local:8000"),
    ],
)
def test_urls_have_one_form(url: str, kept: str) -> None:
    assert engine_url(url) == kept
    assert engine_url(kept) == kept


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "an engine's URL is http://HOST"),
        ("127.0.0.1:8000", "an engine's URL is http://HOST"),
        ("localhost:8000", "an engine's URL is http://HOST"),
        ("http://", "an engine's URL is http://HOST"),
        ("https://h", "TLS to engines is not supported yet"),
        ("http://:80", "names no host"),
        ("http://h:0", "between 1 and 65535"),
        ("http://h:65536", "out of range"),
        ("http://h:x", "Port could not be cast"),
        ("http://h?x=1", "query"),
        ("http://h/?", "query"),
        ("http://h#x", "fragment"),
        ("http://u@h", "user name"),
        ("http://h/a b", "printable ASCII"),
        ("http://h/\r\nX: y", "printable ASCII"),
        ("http://hö", "printable ASCII"),
        ("http://h,i", "neither a name nor an IP address"),
        ("http://[::1", "Invalid IPv6"),
    ],
)
def test_urls_that_are_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        engine_url(url)


def test_engines_from_flags() -> None:
    assert parse_engine("org/m=http://h/v1") == ("org/m", "http://h")
    settings = settings_of_engines(["a=http://h:1", "b=http://h:2", "a=http://h:3"], port=0, host=None)
    assert settings.port == 0
    assert settings.host == "127.0.0.1"
    assert [(m.name, [e.url for e in m.endpoints]) for m in settings.models] == [
        ("a", ["http://h:1", "http://h:3"]),
        ("b", ["http://h:2"]),
    ]


@pytest.mark.parametrize("text", ["", "demo", "http://h", "http://h/?a=b", "=http://h", "demo=", "demo=h:1"])
def test_flags_that_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^--engine"):
        parse_engine(text)


def test_flags_do_not_show_passwords() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_engine("demo=http://u:hunter2@h")
    assert "hunter2" not in str(caught.value)


def test_overrides_are_checked_too() -> None:
    with pytest.raises(SettingsError, match=r"^port: -1: should be greater"):
        settings_of_engines([], port=-1)
    with pytest.raises(SettingsError, match="no such field"):
        settings_of_engines([], prot=1)


# docs/gateway.md

DOCS = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()


def described(after: str) -> dict[str, str]:
    """Field and default of the first table below the line `after`."""
    _, _, rest = DOCS.partition(f"\n{after}\n")
    table = rest.strip().split("\n\n")[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|", 2)] for row in table.splitlines()[2:]]
    return {field.strip("`"): default.strip("`") for field, default, _ in rows}


def defaults_of(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, field in section.model_fields.items():
        if field.is_required():
            yield prefix + name, "required"
        elif isinstance(field.default, BaseModel):
            yield from defaults_of(type(field.default), f"{prefix}{name}.")
        else:
            yield prefix + name, json.dumps(field.default)


@pytest.mark.parametrize(
    ("after", "section"),
    [
        ("Fields of the file:", GatewaySettings),
        ("Fields of an entry of `models`:", ModelSettings),
        ("Fields of an entry of `endpoints`:", EndpointSettings),
    ],
)
def test_the_documentation_names_every_field_and_default(after: str, section: type[BaseModel]) -> None:
    assert described(after) == dict(defaults_of(section))


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL))
def test_examples_of_the_documentation_load(tmp_path: Path, example: str) -> None:
    settings = load_settings(write(tmp_path, example))
    assert settings.route_table(environ={"EMBEDDER_KEY": "sk-x"}).routes


def test_the_errors_of_the_documentation_are_real(tmp_path: Path) -> None:
    text = "timeouts: {idle_s: -1}\nlog: {levle: info}\nmodels: [{name: a, endpoints: [{url: 'https://h'}]}]"
    shown = re.findall(r"^gateway\.yaml: (.*)$", DOCS, re.MULTILINE)
    assert sorted(errors_in(tmp_path, text)) == sorted(shown)


def test_the_keys_file_of_the_documentation_is_read() -> None:
    (example,) = re.findall(r"```text\n(.*?)```", DOCS, re.DOTALL)
    parsed = parse_keys(example)
    assert list(parsed.tenants.values()) == ["search", "search"]
    assert not parsed.plain_lines
