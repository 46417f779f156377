"""How often, and where, one request is tried. Pure: a generator that yields the next endpoint and is sent what
happened there.
"""

from collections.abc import Callable, Generator

from msgspec import Struct

from gateway.routing.pick import NoEndpoint, Pick
from serving.errors import ApiError


class Failed(Struct, frozen=True):
    """An attempt came to nothing, and nothing of an answer has gone to the client.

    Attributes:
        error: what to tell the client if this was the last attempt.
        stale: an idle connection turned out to be closed; says nothing about the endpoint.
        elsewhere: another endpoint may do better.
        answered: the engine itself answered, and its answer is kept to be passed on if no other does better.
    """

    error: ApiError
    stale: bool = False
    elsewhere: bool = True
    answered: bool = False


class Attempt(Struct, frozen=True):
    """Try this endpoint; with a new connection if `fresh`."""

    endpoint: int
    fresh: bool = False


def attempts(
    choose: Callable[[frozenset[int]], Pick | NoEndpoint], retries: int
) -> Generator[Attempt, Failed, NoEndpoint | None]:
    """Pure, given `choose` (which gets the endpoints tried already).

    Yields attempts; `send` each one's failure; stop sending once one has succeeded. Returns the reason if there was no
    endpoint at all, and None when it gives up: the last failure is then the answer. An endpoint is tried once, save
    that a stale connection is replaced by a new one; at most `retries` further endpoints are tried.
    """
    tried: frozenset[int] = frozenset()
    for _ in range(retries + 1):
        chosen = choose(tried)
        if isinstance(chosen, NoEndpoint):
            return None if tried else chosen
        failure = yield Attempt(chosen.id)
        if failure.stale:
            failure = yield Attempt(chosen.id, fresh=True)
        if not failure.elsewhere:
            return None
        tried |= {chosen.id}
    return None
