# SPDX-License-Identifier: MIT
"""What one uid may take of a registry: memory, applications, sessions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ustconsumer.errors import UstConsumerError

__all__ = ["Limits", "QuotaError", "Quotas"]

_UNITS = {"memory": "bytes of buffers", "applications": "applications", "sessions": "sessions"}


class QuotaError(UstConsumerError):
    """A uid has as much as it may have; the message says of what."""


def _half_of_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


@dataclass(frozen=True)
class Limits:
    """Most that one uid may have at a time.

    Attributes
    ----------
    memory : int
        Bytes of ring buffers.
    applications, sessions : int
    kept : int
        Bytes of ring buffers of processes that ended, in each session in snapshot mode.
    """

    memory: int = field(default_factory=_half_of_memory)
    applications: int = 4096
    sessions: int = 1024
    kept: int = 256 << 20


class Quotas:
    """Counts what each uid has. Pure state.

    Parameters
    ----------
    limits : Limits, optional
    freed : callable
        Called when something was given back.
    """

    def __init__(
        self, limits: Limits | None = None, freed: Callable[[], None] = lambda: None
    ) -> None:
        self.limits = limits or Limits()
        self._freed = freed
        self._taken: Counter[tuple[str, int]] = Counter()

    def take(self, what: str, uid: int, amount: int = 1) -> None:
        """Give an amount to a uid.

        Parameters
        ----------
        what : str
            "memory", "applications" or "sessions".

        Raises
        ------
        QuotaError
            It would have more than it may; nothing was taken.
        """
        limit: int = getattr(self.limits, what)
        have = self._taken[what, uid]
        if have + amount > limit:
            raise QuotaError(
                f"uid {uid} has {have} {_UNITS[what]} and may have {limit}: "
                f"{amount} more are refused (--max-{what} of ltt-sessiond)"
            )
        self._taken[what, uid] = have + amount

    def give_back(self, what: str, uid: int, amount: int = 1) -> None:
        """Take back what `take` gave."""
        left = self._taken[what, uid] - amount
        if left > 0:
            self._taken[what, uid] = left
        else:
            del self._taken[what, uid]
        self._freed()

    def lacking(self, what: str, uid: int, amount: int) -> int:
        """Return how much a uid would have to give back before it gets so much."""
        limit: int = getattr(self.limits, what)
        return max(self._taken[what, uid] + amount - limit, 0)

    def taken(self, what: str, uid: int) -> int:
        """Return what a uid has."""
        return self._taken[what, uid]
