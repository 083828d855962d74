# SPDX-License-Identifier: MIT
"""Keep a growing file from filling the page cache with dirty pages nobody will read."""

from __future__ import annotations

import os

from ustconsumer._native.writeback import start_writeback

__all__ = ["WriteBack"]


class WriteBack:
    """Write-back of one file that is written from its beginning to its end.

    Left to itself the kernel lets dirty pages pile up, then makes the writer wait;
    and each packet would cost a page that was never touched before. So write-back
    starts early, without waiting, and pages written long enough ago are dropped:
    the same few are used again.

    Parameters
    ----------
    fd : int
        Of the file; not owned.
    offset : int
        Where writing begins.
    step : int
        Bytes after which write-back of them is started. Larger steps keep the consumer
        in one system call for longer than a small buffer lasts.
    behind : int
        Bytes behind the end that stay in the page cache: time for the device.
    """

    def __init__(self, fd: int, offset: int, step: int = 1 << 20, behind: int = 32 << 20) -> None:
        self._fd = fd
        self._started = offset
        self._dropped = offset
        self._step = step
        self._behind = behind

    def advance(self, end: int) -> None:
        """Take notice that the file ends at ``end``; at most a few system calls a step."""
        if end - self._started < self._step:
            return
        try:
            start_writeback(self._fd, self._started, end - self._started)
            self._started = end
            if end - self._behind > self._dropped:
                os.posix_fadvise(
                    self._fd,
                    self._dropped,
                    end - self._behind - self._dropped,
                    os.POSIX_FADV_DONTNEED,
                )
                self._dropped = end - self._behind
        except OSError:
            # Advice: a file system that takes none gets none.
            self._step = 1 << 62
