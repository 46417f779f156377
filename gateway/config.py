"""What can be set about a gateway: the file `gateway.yaml`, or the same as flags.

Every limit and time-out is checked here once; the rest of the gateway takes it as right. Secrets do not
belong in the file: `api_key_env` names the environment variable to read one from.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)
from pydantic import model_validator as model_check

from gateway.config_fields import (
    Count,
    HeaderText,
    ModelName,
    Origin,
    Positive,
    Seconds,
    SecondsOrOff,
    header_text,
    model_name,
    not_empty,
)
from gateway.config_text import SettingsError, explain, one_line, read_yaml
from gateway.cors import CorsPolicy
from gateway.endpoint_url import engine_url, without_userinfo
from serving.routes import Endpoint, Revision, Route, RouteTable

__all__ = [
    "EndpointSettings",
    "GatewaySettings",
    "ModelSettings",
    "SettingsError",
    "load_settings",
    "parse_engine",
    "settings_of",
    "settings_of_engines",
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EndpointSettings(_Section):
    """One engine's address, and how to speak to it."""

    url: Annotated[str, AfterValidator(engine_url)]
    model: Annotated[str, StringConstraints(min_length=1)] | None = None
    api_key: SecretStr | None = None
    api_key_env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\z")] | None = None

    @model_check(mode="after")
    def _one_source_of_the_key(self) -> "EndpointSettings":
        if self.api_key is not None and self.api_key_env is not None:
            raise ValueError("api_key and api_key_env are both set; give one")
        return self

    def endpoint(self, environ: Mapping[str, str]) -> Endpoint:
        """The endpoint, with its key read from `environ` where `api_key_env` says so.

        Raises:
            SettingsError: the variable is not set, or a key could not be sent in a header.
        """
        key = self.api_key.get_secret_value() if self.api_key else None
        if self.api_key_env is not None:
            key = environ.get(self.api_key_env)
            if not key:
                raise SettingsError(f"endpoint {self.url}: environment variable {self.api_key_env} is not set")
        try:
            return Endpoint(self.url, self.model, None if key is None else header_text(key))
        except ValueError as error:
            raise SettingsError(f"endpoint {self.url}: the API key {error}") from None


class ModelSettings(_Section):
    """A model name that clients send, and the endpoints that serve it."""

    name: ModelName
    aliases: tuple[ModelName, ...] = ()
    endpoints: Annotated[tuple[EndpointSettings, ...], AfterValidator(not_empty)]
    timeout_s: Seconds | None = None

    @model_check(mode="after")
    def _endpoints_differ(self) -> "ModelSettings":
        seen: set[tuple[str, str | None]] = set()
        for endpoint in self.endpoints:
            if (endpoint.url, endpoint.model) in seen:
                raise ValueError(f"endpoint {endpoint.url} is listed twice; list each once")
            seen.add((endpoint.url, endpoint.model))
        return self

    def route(self, total_s: float, created_s: int, environ: Mapping[str, str]) -> Route:
        """The route of this model; `total_s` is its time-out where it sets none itself."""
        endpoints = tuple(e.endpoint(environ) for e in self.endpoints)
        return Route(
            service=self.name,
            models=(self.name, *self.aliases),
            revisions=(Revision("static", endpoints),),
            timeout_s=total_s if self.timeout_s is None else self.timeout_s,
            created_s=created_s,
        )


class Limits(_Section):
    """What one gateway process accepts at most."""

    body_bytes: Positive = 32 * 1024 * 1024
    header_bytes: Annotated[int, Field(strict=True, ge=1024)] = 64 * 1024
    connections_per_endpoint: Positive = 4096
    waiting_requests: Count = 1024
    """Requests that may wait for a connection to one endpoint; one more is answered 429."""


class Timeouts(_Section):
    """How long each part of a request may take, in seconds."""

    connect_s: Seconds = 5.0
    first_byte_s: Seconds = 300.0
    idle_s: Seconds = 60.0
    total_s: Seconds = 600.0
    body_s: Seconds = 30.0
    keep_alive_s: Seconds = 75.0
    drain_s: SecondsOrOff = 30.0


class Ejection(_Section):
    """When an endpoint is taken out, and how it is tried for its return."""

    failures: Positive = 3
    probe_interval_s: Seconds = 1.0
    probe_path: Annotated[str, StringConstraints(pattern=r"^/[!-~]*\z")] = "/health"


class CorsSettings(_Section):
    """Which web pages may call the gateway from a browser; none by default."""

    allow_origins: tuple[Origin, ...] = ()
    allow_methods: tuple[HeaderText, ...] = ("GET", "POST", "OPTIONS")
    # All: OpenAI's client for browsers adds a dozen of its own, and they change from version to version.
    allow_headers: tuple[HeaderText, ...] = ("*",)
    allow_credentials: bool = False
    max_age_s: Count = 600

    def policy(self) -> CorsPolicy:
        """The same, in the form that `gateway.cors` decides with."""
        return CorsPolicy.of(
            self.allow_origins,
            self.allow_methods,
            self.allow_headers,
            credentials=self.allow_credentials,
            max_age_s=self.max_age_s,
        )


class LogSettings(_Section):
    """What is written to the log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    access: bool = True


class GatewaySettings(_Section):
    """Everything that can be set about a gateway; `docs/gateway.md` describes each field."""

    host: Annotated[str, StringConstraints(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(strict=True, ge=0, le=65535)] = 8080
    models: tuple[ModelSettings, ...] = ()
    keys_file: Path | None = None
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    retries: Annotated[int, Field(strict=True, ge=0, le=16)] = 2
    ejection: Ejection = Ejection()
    keepalive_comment_s: SecondsOrOff = 15.0
    cors: CorsSettings = CorsSettings()
    log: LogSettings = LogSettings()
    docs: bool = True

    @model_check(mode="after")
    def _each_name_once(self) -> "GatewaySettings":
        seen: set[str] = set()
        for model in self.models:
            for name in (model.name, *model.aliases):
                if name in seen:
                    raise ValueError(f"model name {name!r} is used twice in models; names and aliases must differ")
                seen.add(name)
        return self

    def route_table(self, *, created_s: int = 0, environ: Mapping[str, str] | None = None) -> RouteTable:
        """The routes the file names. `created_s` is Unix time, shown by `/v1/models`.

        Raises:
            SettingsError: an `api_key_env` names a variable that is not set.
        """
        variables = os.environ if environ is None else environ
        return RouteTable.of(m.route(self.timeouts.total_s, created_s, variables) for m in self.models)


def settings_of(values: Mapping[str, Any], source: str = "") -> GatewaySettings:
    """Check `values`, as YAML or flags gave them. `source` (a file name) starts each line of an error.

    Raises:
        SettingsError: with one line per mistake: field path, value, what is allowed.
    """
    try:
        return GatewaySettings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(explain(error, GatewaySettings, source)) from None


def load_settings(path: Path) -> GatewaySettings:
    """Read a YAML file. A relative `keys_file` is relative to that file.

    Raises:
        SettingsError: the file cannot be read, is not YAML, or a field in it is wrong.
    """
    try:
        values = read_yaml(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not valid YAML: {one_line(error)}") from None
    if values is None:
        raise SettingsError(f"{path}: the file is empty; it needs at least `models:`")
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: must be a mapping of settings, not a {type(values).__name__}")
    settings = settings_of(values, str(path))
    if settings.keys_file is None:
        return settings
    return settings.model_copy(update={"keys_file": path.parent / settings.keys_file})


def parse_engine(text: str) -> tuple[str, str]:
    """Split `NAME=URL`, as `--engine` takes it, and check both.

    Raises:
        SettingsError: no `=`, or a name or URL that is not allowed.
    """
    name, equals, url = text.partition("=")
    if not equals or "://" in name:
        raise SettingsError("--engine takes NAME=URL, for instance demo=http://127.0.0.1:8001")
    try:
        return model_name(name), engine_url(url)
    except ValueError as error:
        raise SettingsError(f"--engine {without_userinfo(text)!r}: {error}") from None


def settings_of_engines(engines: Sequence[str], **overrides: Any) -> GatewaySettings:
    """Settings from `NAME=URL` texts; equal names become one model with several endpoints.

    `overrides` are other fields of `GatewaySettings`; one that is None keeps its default.

    Raises:
        SettingsError: as `parse_engine`, or an override that is not allowed.
    """
    urls: dict[str, list[str]] = {}
    for name, url in map(parse_engine, engines):
        urls.setdefault(name, []).append(url)
    models = [{"name": n, "endpoints": [{"url": u} for u in each]} for n, each in urls.items()]
    given = {key: value for key, value in overrides.items() if value is not None}
    return settings_of({"models": models, **given})
