"""Generate requests of the Open Inference Protocol on their way through the same pipeline."""

from msgspec import Struct

from gateway.call import Call
from gateway.oip import StreamTranslator, engine_error, error_body, from_completion, to_completion
from gateway.relay.headers import Headers, is_event_stream
from gateway.relay.sink import Sink, Watcher
from gateway.relay.sse import Payloads
from serving.errors import ApiError, EngineBroken, UnknownPath

_PREFIX = "/v2/models/"
COMPLETIONS = b"/v1/completions"


class OipTarget(Struct, frozen=True):
    """What a generate path names."""

    model: str
    version: str | None
    stream: bool


def oip_target(path: str) -> OipTarget:
    """Pure. `/v2/models/{model}[/versions/{version}]/generate[_stream]`; a model's name may hold slashes.

    Raises:
        UnknownPath: it is another path.
    """
    rest, _, verb = path.removeprefix(_PREFIX).rpartition("/")
    if not path.startswith(_PREFIX) or verb not in ("generate", "generate_stream") or not rest:
        raise UnknownPath(f"There is no path {path}.")
    model, mark, version = rest.rpartition("/versions/")
    if not mark:
        return OipTarget(rest, None, verb == "generate_stream")
    return OipTarget(model, version, verb == "generate_stream")


class OipCall(Call):
    """A generate request: an engine's completion, in other words."""

    __slots__ = ("_target",)

    def aim(self, target: OipTarget) -> "OipCall":
        """Say what the path named."""
        self._target = target
        return self

    def translate(self, body: bytes) -> bytes:
        """See Call."""
        return to_completion(body, self._target.model, stream=self._target.stream)

    def render(self, error: ApiError) -> tuple[int, bytes]:
        """See Call."""
        return error_body(error)

    def sink(self, sink: Sink) -> Sink:
        """See Call."""
        return OipSink(sink, self._target)


class OipSink:
    """Writes completions to another sink as answers to a generate request. Implements `Sink`."""

    def __init__(self, sink: Sink, target: OipTarget) -> None:
        self._sink = sink
        self._target = target
        self._payloads = Payloads()
        self._translator = StreamTranslator(target.model, target.version)
        self._status = 0
        self._headers: Headers = []
        self._held: list[bytes] | None = None  # a long answer that comes in pieces, and can only be translated whole

    @property
    def started(self) -> bool:
        """See Sink."""
        return self._sink.started or self._held is not None

    def watch(self, watcher: Watcher) -> None:
        """See Sink."""
        self._sink.watch(watcher)

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """See Sink."""
        try:
            if status >= 400:
                status, body = engine_error(status, body)
            else:
                body = from_completion(body, self._target.model, self._target.version)
        except ApiError as error:
            status, body = error_body(error)
        self._sink.respond(status, headers, body)

    def refuse(self, status: int, headers: Headers, body: bytes) -> None:
        """An answer that is in the protocol's shape already."""
        self._sink.respond(status, headers, body)

    def start(self, status: int, headers: Headers) -> None:
        """See Sink."""
        if is_event_stream(dict(headers)):
            self._sink.start(status, headers)
        else:
            self._status, self._headers, self._held = status, headers, []

    def data(self, data: bytes) -> None:
        """See Sink."""
        if self._held is not None:
            self._held.append(data)
            return
        out = b"".join(self._translator.event(p) if p else b": keep-alive\n\n" for p in self._payloads.feed(data))
        if out:
            self._sink.data(out)

    def frame_writer(self) -> None:
        """See Sink: every event is changed."""

    def end(self) -> None:
        """See Sink."""
        if self._held is not None:
            self.respond(self._status, self._headers, b"".join(self._held))
        else:
            self._sink.end()

    def abort(self) -> None:
        """See Sink."""
        if self._held is not None:
            broken = EngineBroken("The engine broke off in the middle of its answer.")
            status, body = error_body(broken)
            self._sink.respond(status, self._headers, body)
        else:
            self._sink.abort()
