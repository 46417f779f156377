"""What a process and its children have used, from the kernel's own accounts."""

import platform
import time
from dataclasses import dataclass

import psutil

_ON_LINUX = platform.system() == "Linux"


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor seconds since start, resident bytes (shared pages count in each process), open files."""

    cpu_s: float
    rss_bytes: int
    descriptors: int

    def __add__(self, other: "Usage") -> "Usage":
        """Both together."""
        return Usage(
            self.cpu_s + other.cpu_s,
            self.rss_bytes + other.rss_bytes,
            self.descriptors + other.descriptors,
        )


NOTHING = Usage(0.0, 0, 0)


def tree_usage(pid: int) -> Usage:
    """Usage of a process and all its living descendants; of those that are gone, nothing."""
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return NOTHING
    return sum((_usage(process) for process in processes), NOTHING)


def _usage(process: psutil.Process) -> Usage:
    try:
        return Usage(_cpu_s(process), process.memory_info().rss, process.num_fds())
    except (psutil.Error, OSError):
        return NOTHING


def _cpu_s(process: psutil.Process) -> float:
    """All threads, ended ones too.

    Linux keeps a clock of each process in nanoseconds (clock_getcpuclockid(3): its id is made of the process
    id). The accounts of other systems are in ticks of 10 ms, coarse beside the 60 ms in which a fast gateway
    relays 4,000 requests.
    """
    if _ON_LINUX:
        return time.clock_gettime((~process.pid << 3) | 2)
    times = process.cpu_times()
    return times.user + times.system
