# SPDX-License-Identifier: MIT
"""What processes cost: CPU time and memory, read from /proc."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "children",
    "cpu_seconds",
    "descendants",
    "pin",
    "private_bytes",
    "processes_named",
    "pss_bytes",
]


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the seconds all threads of the processes were on a CPU, to the nanosecond."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def pss_bytes(pids: Iterable[int]) -> int:
    """Return the proportional set size of the processes, together."""
    return _rollup(pids, "Pss:")


def private_bytes(pids: Iterable[int]) -> int:
    """Return the memory that only these processes use."""
    return _rollup(pids, "Private_Dirty:") + _rollup(pids, "Private_Clean:")


def pin(pids: Iterable[int], cpus: Iterable[int]) -> None:
    """Keep all threads of the processes, and what they start from now on, on these CPUs."""
    cpus = list(cpus)
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(task.name), cpus)


def processes_named(name: str, home: str) -> list[int]:
    """Return the processes with this name (``comm``) and home in their environment."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                comm = Path(f"/proc/{entry}/comm").read_text().strip()
                environ = Path(f"/proc/{entry}/environ").read_bytes()
                if comm == name[:15] and f"LTTNG_HOME={home}".encode() in environ.split(b"\0"):
                    found.append(int(entry))
    return found


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descendants(pid: int) -> list[int]:
    """Return the children of a process, their children, and so on."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def _rollup(pids: Iterable[int], key: str) -> int:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(key):
                    total += int(line.split()[1]) * 1024
    return total
