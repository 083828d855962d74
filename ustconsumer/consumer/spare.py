# SPDX-License-Identifier: MIT
"""Descriptors held back for what must not fail when all are used up."""

from __future__ import annotations

import os

__all__ = ["Spare"]

#: A message brings one; where it becomes memory Python duplicates it.
_AT_A_TIME = 2


class Spare:
    """A few descriptors for nothing, given up while a message with descriptors is received.

    Without a free one the kernel drops what came with a message, and nobody sends it again.
    There are as many as streams that may have to wait for the memory they came with.
    """

    def __init__(self, count: int = 64) -> None:
        self._count = count
        self._fds: list[int] = []
        self.refill()

    def __bool__(self) -> bool:
        return bool(self._fds)

    def release(self) -> None:
        """Make room for what one message brings."""
        for _ in range(min(_AT_A_TIME, len(self._fds))):
            os.close(self._fds.pop())

    def close(self) -> None:
        """Give all of them up."""
        while self._fds:
            os.close(self._fds.pop())

    def refill(self) -> None:
        """Take as many as there are again."""
        try:
            while len(self._fds) < self._count:
                self._fds.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            # Fewer, then: who needs one asks whether there is one.
            return
