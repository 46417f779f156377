"""Which endpoint takes a request: filter, score, pick. Pure."""

from collections.abc import Sequence

from msgspec import Struct


class RoutingRequest(Struct, frozen=True, gc=False):
    """What routing knows of a request. `tokens` is its expected cost, prompt and output."""

    model: str
    tokens: int
    tried: frozenset[int] = frozenset()


class Candidate(Struct, frozen=True, gc=False):
    """One endpoint as it stands now.

    Attributes:
        id: what `Pick` names it by.
        revision, weight: the revision it belongs to, and that revision's share of the traffic.
        requests, tokens: in flight there from this gateway.
        healthy: not ejected.
        draining: finishes what it has, takes nothing new.
    """

    id: int
    revision: str
    weight: int
    requests: int
    tokens: int
    healthy: bool = True
    draining: bool = False


class Profile(Struct, frozen=True):
    """How much each score counts."""

    tokens_weight: float = 1.0
    requests_weight: float = 0.25


class Pick(Struct, frozen=True):
    """The endpoint chosen, and why in one sentence."""

    id: int
    reason: str


class NoEndpoint(Struct, frozen=True):
    """No endpoint can take the request, and why in one sentence."""

    reason: str


DEFAULT_PROFILE = Profile()
ALMOST_ONE = 1 - 2**-53


def pick(
    request: RoutingRequest, candidates: Sequence[Candidate], profile: Profile, now: float, draw: float
) -> Pick | NoEndpoint:
    """Pure. The endpoint for `request`.

    Draining endpoints and those tried already are left out; ejected ones too, unless nothing else is left, because a
    try that may fail is better than a refusal that surely does. The revision is drawn by weight, then the least
    loaded endpoint of it is taken. `draw` in [0, 1) settles both the revision and ties; `now` is for scorers that age
    what they know.
    """
    del now  # load in flight is counted by the gateway itself and cannot be stale
    usable = [c for c in candidates if not c.draining and c.id not in request.tried]
    if not usable:
        return NoEndpoint(_why_none(request, candidates))
    healthy = [c for c in usable if c.healthy]
    pool, draw = _draw_revision(healthy or usable, draw)
    if len(pool) == 1:
        return Pick(pool[0].id, "the only endpoint" if healthy else "the only endpoint left, though ejected")
    scores = [_score(c, pool, profile) for c in pool]
    best = max(scores)
    ties = [c for c, score in zip(pool, scores, strict=True) if score == best]
    chosen = ties[int(draw * len(ties))]
    ejected = "" if healthy else ", though ejected: no healthy one is left"
    return Pick(
        chosen.id,
        f"least load of {len(pool)} ({chosen.tokens} tokens, {chosen.requests} requests in flight){ejected}",
    )


def _draw_revision(pool: list[Candidate], draw: float) -> tuple[list[Candidate], float]:
    """The candidates of one revision, drawn by weight, and what is left of the draw."""
    weights = {c.revision: c.weight for c in pool}
    total = sum(weights.values())
    if len(weights) == 1 or total == 0:
        return pool, draw
    mark = draw * total
    shares = [(name, weight) for name, weight in weights.items() if weight]
    chosen, share = shares.pop()  # where rounding carries the mark past the end
    for name, weight in shares:
        if mark < weight:
            chosen, share = name, weight
            break
        mark -= weight
    return [c for c in pool if c.revision == chosen], min(mark / share, ALMOST_ONE)


def _score(candidate: Candidate, pool: list[Candidate], profile: Profile) -> float:
    """Free capacity relative to the busiest of the pool, each part in [0, 1]."""
    tokens = max(c.tokens for c in pool) or 1
    requests = max(c.requests for c in pool) or 1
    return profile.tokens_weight * (1 - candidate.tokens / tokens) + profile.requests_weight * (
        1 - candidate.requests / requests
    )


def _why_none(request: RoutingRequest, candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return f"no replica of {request.model!r} is ready"
    if all(c.draining for c in candidates):
        return f"every replica of {request.model!r} is draining"
    return f"all {len(candidates)} replicas of {request.model!r} have been tried or are draining"
