"""How an engine is started and asked after, on whatever machine: one value, `Launch`. No I/O."""

from dataclasses import dataclass, replace

PORT = "{{port}}"
"""Where the port goes in `argv` and in the values of `env`."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A GET that must answer 2xx or 3xx: how often, how long it may take, how many misses in a row count."""

    path: str
    period_s: float = 1.0
    timeout_s: float = 5.0
    failures: int = 1


READY = Probe("/health/ready", failures=3)
LIVE = Probe("/health", period_s=5.0, failures=6)
STARTUP_S = 1800.0  # weights may have to be downloaded first


@dataclass(frozen=True, slots=True)
class Launch:
    """One engine process.

    `argv` and `env` (laid over the starter's own environment) may hold `PORT`. `startup_s` is how long it may
    take to become ready; `drain_s` how long it may finish requests after SIGTERM, before SIGKILL.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    image: str | None = None
    ready: Probe = READY
    live: Probe = LIVE
    startup_s: float = STARTUP_S
    drain_s: float = 35.0

    def at(self, port: int) -> "Launch":
        """Pure. This launch with the port filled in."""
        argv = tuple(part.replace(PORT, str(port)) for part in self.argv)
        env = tuple((name, value.replace(PORT, str(port))) for name, value in self.env)
        return replace(self, argv=argv, env=env)
