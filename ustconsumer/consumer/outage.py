# SPDX-License-Identifier: MIT
"""What waits while the output takes nothing: a full disk, mostly."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable

from ustconsumer._native.ring import Ring
from ustconsumer.consumer.pool import Pool

__all__ = ["PASSING", "Outage"]

#: Errors of opening a file that pass by themselves; others are told to who waits for it.
PASSING = frozenset(
    {
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
    }
)
#: Seconds between two attempts.
_RETRY = 0.2


class Outage:
    """Rings and metadata that wait until the output can take them; said once, not per attempt.

    A ring that waits is not scanned: its buffer fills, then its writers discard events
    and count them.

    Parameters
    ----------
    rings : Pool
        Of the consumer.
    problem : callable
        Told when an outage begins.
    report : callable
        Told when it is over.

    Attributes
    ----------
    undeclared : set of str
        Traces with metadata that is not written: their packets wait.
    """

    def __init__(
        self, rings: Pool, problem: Callable[[str], None], report: Callable[[str], None]
    ) -> None:
        self._rings = rings
        self._problem = problem
        self._report = report
        self._waiting: dict[Ring, None] = {}
        self._said = False
        self._next = 0.0
        self.undeclared: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting or self.undeclared)

    def __contains__(self, ring: Ring) -> bool:
        return ring in self._waiting

    @property
    def retry_s(self) -> float:
        """How long the consumer may sleep; infinite while there is no outage."""
        return _RETRY if self else math.inf

    @property
    def due(self) -> bool:
        """Whether it is time for another attempt."""
        return bool(self) and time.monotonic() >= self._next

    def failed(self, error: OSError) -> None:
        """Note a failure; the next attempt comes a moment later."""
        self._next = time.monotonic() + _RETRY
        # A link that is slow, or not there yet, is no failure.
        if not self._said and not isinstance(error, BlockingIOError):
            self._said = True
            self._problem(f"output: {error.strerror or error}; events are discarded meanwhile")

    def hurry(self) -> None:
        """Make it time for another attempt: there may be room."""
        self._next = 0.0

    def wait(self, ring: Ring) -> None:
        """Stop taking from a ring."""
        if ring not in self._waiting:
            self._rings.remove(ring)
            self._waiting[ring] = None

    def resume(self) -> list[Ring]:
        """Let every ring be scanned again and return those that had to wait."""
        rings = list(self._waiting)
        self._waiting.clear()
        for ring in rings:
            self._rings.add(ring)
        return rings

    def forget(self, ring: Ring) -> None:
        """Drop a ring for good, whether it waits or not."""
        if ring in self._waiting:
            del self._waiting[ring]
        else:
            self._rings.remove(ring)

    def check_over(self) -> None:
        """Say so if nothing waits any more."""
        if self._said and not self:
            self._said = False
            self._report("the output takes packets again")
