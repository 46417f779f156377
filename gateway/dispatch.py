"""Carrying out the attempts for one request: pick an endpoint, get a connection, relay. Adapter."""

import asyncio
from collections.abc import Callable
from time import perf_counter

from gateway.call import Call
from gateway.metering import Outcome
from gateway.relay.headers import request_head
from gateway.relay.relay import Relay
from gateway.request import InferenceRequest, estimate_tokens, rewrite
from gateway.routing.attempts import Attempt, Failed, attempts
from gateway.routing.pick import DEFAULT_PROFILE, NoEndpoint, Pick, RoutingRequest, pick
from gateway.upstream.endpoint import EndpointState, InFlight
from gateway.upstream.fleet import Fleet, Service
from serving import errors

# What speaks against the endpoint, and not only against this request or this moment.
_ENDPOINT_FAULTS = (errors.EngineUnreachable, errors.EngineBroken, errors.EngineTimeout)


class Dispatcher:
    """Args: `retries`, other endpoints to try; `threshold`, failures in a row that eject one; `draw`, chance."""

    def __init__(self, fleet: Fleet, *, retries: int, threshold: int, draw: Callable[[], float]) -> None:
        self._fleet = fleet
        self._retries = retries
        self._threshold = threshold
        self._draw = draw
        self.active: set[Relay] = set()

    async def run(self, call: Call, request: InferenceRequest, body: bytes, service: Service, relay: Relay) -> None:
        """Returns when the relay is over.

        Raises:
            NoEndpoint: there is no endpoint to try.
        """
        tokens = estimate_tokens(request, len(body))
        known = self._fleet.by_id

        def choose(tried: frozenset[int]) -> Pick | NoEndpoint:
            nonlocal known
            if not tried and service.only is not None:
                return service.only
            known = self._fleet.by_id  # the routes may have changed since the last attempt
            now_serving = self._fleet.services.get(request.model, service)
            wanted = RoutingRequest(request.model, tokens, tried)
            return pick(wanted, now_serving.candidates(), DEFAULT_PROFILE, perf_counter(), self._draw())

        steps = attempts(choose, self._retries)
        failure: Failed | None = None
        self.active.add(relay)
        try:
            attempt = next(steps)
            while True:
                endpoint = known[attempt.endpoint]
                with InFlight(endpoint, tokens):
                    failure = await self._try(call, request, body, service, endpoint, attempt, relay)
                if failure is None:
                    return
                attempt = steps.send(failure)
        except StopIteration as stop:
            if stop.value is not None:
                raise errors.NoEndpoint(f"There is no engine to ask: {stop.value.reason}.") from None
        except asyncio.CancelledError:
            relay.abandon(errors.ShuttingDown("The gateway stopped while this request was under way."))
            raise
        except Exception:
            relay.abandon(errors.Internal("Penstock failed to handle this request; its log says why."))
            raise
        finally:
            self.active.discard(relay)
        assert failure is not None  # the attempts end with one, or return above
        if failure.answered:
            relay.pass_on()
        else:
            relay.fail(failure.error, outcome_of_error(failure.error))

    async def _try(
        self,
        call: Call,
        request: InferenceRequest,
        body: bytes,
        service: Service,
        endpoint: EndpointState,
        attempt: Attempt,
        relay: Relay,
    ) -> Failed | None:
        record = call.record
        record.endpoint = endpoint.name
        record.attempts += 1
        connection = None if attempt.fresh else endpoint.pool.take_idle()
        if connection is None:
            try:
                connection = await relay.unless_gone(endpoint.pool.connect(new=attempt.fresh))
            except errors.ApiError as error:
                self._judge(endpoint, error)
                return None if relay.over else Failed(error)
            if connection is None:
                return None
        if relay.over:  # the client left meanwhile
            endpoint.pool.release(connection)
            return None
        name = endpoint.address.model or service.route.models[0]
        payload = rewrite(
            body,
            request,
            model=None if name == request.model else name,
            include_usage=call.has_usage_chunk and request.stream is True,
        )
        head = request_head(
            endpoint.request_start(call.target), call.headers, call.named, record.request_id.encode(), len(payload)
        )
        failure = await relay.attempt(connection, head, payload)
        if failure is not None:
            if not failure.stale:
                self._judge(endpoint, failure.error)
        elif record.outcome is Outcome.OK or record.outcome is Outcome.CLIENT_ERROR:
            endpoint.succeeded()
        elif record.outcome is Outcome.ENGINE_ERROR or record.outcome is Outcome.TIMEOUT:
            endpoint.failed(self._threshold)
        return failure

    def _judge(self, endpoint: EndpointState, error: errors.ApiError) -> None:
        if isinstance(error, _ENDPOINT_FAULTS):
            endpoint.failed(self._threshold)


def outcome_of_error(error: errors.ApiError) -> Outcome:
    """Pure. The outcome word for a request that ended with this error."""
    if isinstance(error, errors.EngineTimeout):
        return Outcome.TIMEOUT
    if isinstance(error, errors.Overloaded):
        return Outcome.OVERLOADED
    return Outcome.ENGINE_ERROR
