"""When an endpoint is ejected and when it comes back. Pure."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Health:
    """Failures in a row, and whether they were enough to take the endpoint out."""

    failures: int = 0
    ejected: bool = False


def failed(health: Health, threshold: int) -> Health:
    """Pure. After one more failure; `threshold` in a row eject."""
    failures = health.failures + 1
    return replace(health, failures=failures, ejected=health.ejected or failures >= threshold)


def succeeded() -> Health:
    """Pure. After a success, or a probe that was answered: back in, with a clean slate."""
    return HEALTHY


HEALTHY = Health()
