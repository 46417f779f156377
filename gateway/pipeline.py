"""One request, from arrival to end: identify, admit, pick, relay, meter."""

from collections.abc import Callable

from gateway.api.models import unknown_model
from gateway.call import Call
from gateway.config import GatewaySettings
from gateway.dispatch import Dispatcher
from gateway.keys import KeyRing
from gateway.metering import Meter, Outcome
from gateway.relay.patience import Patience
from gateway.relay.relay import Relay
from gateway.relay.sink import ClientGone, Sink
from gateway.request import parse
from gateway.upstream.fleet import Fleet
from serving.errors import ApiError, Internal


class Pipeline:
    """Serves calls. Holds nothing of a call once it is served."""

    def __init__(
        self,
        settings: GatewaySettings,
        ring: Callable[[], KeyRing],
        fleet: Fleet,
        dispatcher: Dispatcher,
        meter: Meter,
    ) -> None:
        self._body_bytes = settings.limits.body_bytes
        self._settings = settings
        self._ring = ring
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._meter = meter
        self._patience: dict[float, Patience] = {}

    async def serve(self, call: Call, sink: Sink) -> None:
        """The client has its answer, or has gone, when this returns. Whatever happens is metered once."""
        record = call.record
        try:
            record.tenant = self._ring().tenant_of(call.authorization)
            body = call.translate(await call.body(self._body_bytes))
            request = parse(body)
            service = self._fleet.services.get(request.model)
            if service is None:
                raise unknown_model(request.model, self._fleet.table)
            record.model, record.service = request.model, service.route.service
            record.stream, record.bytes_in = bool(request.stream), len(body)
            with self._meter.of(record.service, record.tenant).admitted():
                relay = Relay(
                    sink,
                    record,
                    self._patience_of(service.route.timeout_s),
                    call.traits(request),
                    call.extra_headers,
                )
                await self._dispatcher.run(call, request, body, service, relay)
        except ClientGone:
            record.outcome = Outcome.CLIENT_CLOSED
        except ApiError as error:
            call.refuse(sink, error)
        except Exception:
            call.refuse(sink, Internal("Penstock failed to handle this request; its log says why."))
            raise
        finally:
            self._meter.settle(record, call.clock())

    def _patience_of(self, total_s: float) -> Patience:
        patience = self._patience.get(total_s)
        if patience is None:
            timeouts = self._settings.timeouts
            patience = self._patience[total_s] = Patience(
                first_byte_s=timeouts.first_byte_s,
                idle_s=timeouts.idle_s,
                total_s=total_s,
                comment_s=self._settings.keepalive_comment_s,
            )
        return patience
