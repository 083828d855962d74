# SPDX-License-Identifier: MIT
"""Performance counters by the names that LTTng has for them.

Source: Linux ``include/uapi/linux/perf_event.h`` (numbers), ``lttng add-context --list`` (names).
"""

from __future__ import annotations

__all__ = ["PERF_COUNTERS", "PERF_RAW"]

_HARDWARE, _SOFTWARE, _CACHE = 0, 1, 3
#: ``perf_event_attr.type`` of counters that the processor's manual numbers.
PERF_RAW = 4

_READ, _WRITE, _PREFETCH = 0, 1, 2
_ACCESS, _MISS = 0, 1
_CACHES = {"L1-dcache": 0, "L1-icache": 1, "LLC": 2, "dTLB": 3, "iTLB": 4, "branch": 5}
_OPERATIONS = {"load": _READ, "store": _WRITE, "prefetch": _PREFETCH}
#: Which operations of a cache LTTng has names for.
_NAMED = {
    "L1-dcache": ("load", "store", "prefetch"),
    "L1-icache": ("load", "store", "prefetch"),
    "LLC": ("load", "store", "prefetch"),
    "dTLB": ("load", "store", "prefetch"),
    "iTLB": ("load",),
    "branch": ("load",),
}
_PLURALS = {"load": "loads", "store": "stores", "prefetch": "prefetches"}


def _cached() -> dict[str, tuple[int, int]]:
    found = {}
    for cache, operations in _NAMED.items():
        for operation in operations:
            config = _CACHES[cache] | _OPERATIONS[operation] << 8
            found[f"{cache}-{_PLURALS[operation]}"] = _CACHE, config | _ACCESS << 16
            found[f"{cache}-{operation}-misses"] = _CACHE, config | _MISS << 16
    return found


#: name -> ``perf_event_attr.type``, ``.config``
PERF_COUNTERS: dict[str, tuple[int, int]] = {
    "cpu-cycles": (_HARDWARE, 0),
    "cycles": (_HARDWARE, 0),
    "stalled-cycles-frontend": (_HARDWARE, 7),
    "idle-cycles-frontend": (_HARDWARE, 7),
    "stalled-cycles-backend": (_HARDWARE, 8),
    "idle-cycles-backend": (_HARDWARE, 8),
    "instructions": (_HARDWARE, 1),
    "cache-references": (_HARDWARE, 2),
    "cache-misses": (_HARDWARE, 3),
    "branch-instructions": (_HARDWARE, 4),
    "branches": (_HARDWARE, 4),
    "branch-misses": (_HARDWARE, 5),
    "bus-cycles": (_HARDWARE, 6),
    **_cached(),
    "cpu-clock": (_SOFTWARE, 0),
    "task-clock": (_SOFTWARE, 1),
    "page-fault": (_SOFTWARE, 2),
    "faults": (_SOFTWARE, 2),
    "major-faults": (_SOFTWARE, 6),
    "minor-faults": (_SOFTWARE, 5),
    "context-switches": (_SOFTWARE, 3),
    "cs": (_SOFTWARE, 3),
    "cpu-migrations": (_SOFTWARE, 4),
    "migrations": (_SOFTWARE, 4),
    "alignment-faults": (_SOFTWARE, 7),
    "emulation-faults": (_SOFTWARE, 8),
}
