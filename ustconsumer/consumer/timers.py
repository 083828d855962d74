# SPDX-License-Identifier: MIT
"""When the rings of a session have to be switched or looked at because time passed."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ["Timers"]

_Key = TypeVar("_Key", bound=Hashable)


class Timers(Generic[_Key]):
    """Periods, and what is due in each; no clock of its own.

    Everything with one period is due at the same time: a pass over many rings costs less
    than many wake-ups. A period that was missed is not made up for.

    A key may be there twice: once to be switched, and once only to be looked at, for which
    it is enough that `wait_s` ends.
    """

    def __init__(self) -> None:
        self._switched: dict[float, dict[_Key, None]] = {}
        self._looked_at: dict[float, dict[_Key, None]] = {}
        self._next: dict[float, float] = {}

    def add(self, key: _Key, switch_us: int, read_us: int, now: float) -> None:
        """Have a key switched and looked at this often; 0: not at all."""
        for period_us, keys in ((switch_us, self._switched), (read_us, self._looked_at)):
            if period_us > 0:
                period = period_us / 1e6
                keys.setdefault(period, {})[key] = None
                self._next.setdefault(period, now + period)

    def remove(self, key: _Key) -> None:
        """Forget a key."""
        for table in (self._switched, self._looked_at):
            for period in [period for period, keys in table.items() if key in keys]:
                del table[period][key]
                if not table[period]:
                    del table[period]
        for period in self._next.keys() - self._switched.keys() - self._looked_at.keys():
            del self._next[period]

    def due(self, now: float) -> Iterator[_Key]:
        """Yield what has to be switched now; the next time is a period later."""
        for period, at in self._next.items():
            if now >= at:
                # Without what was missed: a burst of switches would be as many empty packets.
                self._next[period] = max(at + period, now)
                yield from tuple(self._switched.get(period, ()))

    def wait_s(self, now: float) -> float:
        """Return the seconds until something is due, infinite if nothing ever is."""
        return max(0.0, min(self._next.values(), default=math.inf) - now)
