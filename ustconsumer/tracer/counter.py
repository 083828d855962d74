# SPDX-License-Identifier: MIT
"""Numbers that go up and down."""

from __future__ import annotations

import os
from _thread import RLock

from ustconsumer.tracer.types import i64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ustconsumer._native.emit import Tracepoint

__all__ = ["FIELDS", "Counter"]

FIELDS = {"value": i64, "delta": i64}


class Counter:
    """A number, 0 at first; an event with its value and the difference each time it changes.

    Threads may change it: the events of one counter are in the order of its values. The
    number is right also when nobody records it. Each process has its own.
    """

    __slots__ = ("_emit", "_lock", "_value")

    def __init__(self, emit: Tracepoint) -> None:
        self._emit = emit
        self._value = 0
        # Reentrant: a signal handler may count too.
        self._lock = RLock()
        _locks.append(self._lock)

    @property
    def name(self) -> str:
        """``provider:event``."""
        return self._emit.name

    @property
    def enabled(self) -> bool:
        """False: nobody records it."""
        return self._emit.enabled

    @property
    def value(self) -> int:
        """What it is now."""
        return self._value

    def add(self, delta: int = 1, /) -> None:
        """Add to it; what does not fit i64 raises where it is recorded, and is not added."""
        with self._lock:
            value = self._value + delta
            if self._emit.enabled:
                self._emit(value, delta)
            self._value = value

    def set(self, value: int, /) -> None:
        """Make it ``value``."""
        with self._lock:
            if self._emit.enabled:
                self._emit(value, value - self._value)
            self._value = value

    def __repr__(self) -> str:
        return f"<counter {self.name}: {self._value}>"


#: Of all counters there are: another thread may hold one while the process forks.
_locks: list[RLock] = []


def _after_fork() -> None:
    for lock in _locks:
        lock._at_fork_reinit()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_after_fork)
