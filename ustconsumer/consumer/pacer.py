# SPDX-License-Identifier: MIT
"""How long a consumer lets packets gather between two passes over its buffers."""

from __future__ import annotations

__all__ = ["Pacer"]

#: Above this fill the pause was too long, below the other it may grow.
_FULL = 0.5
_EMPTY = 0.25


class Pacer:
    """Chooses the pause between two passes.

    A pass costs the same system calls whether it moves one packet or several, and a
    writer that finds the reader awake does not stop to wake it. But what gathers must
    not fill the buffer. So the pause is at most the time in which the fastest writer
    half fills the smallest buffer; it halves whenever a buffer was found more than half
    full, and grows back slowly.

    Parameters
    ----------
    bytes_per_second : float
        What one writer may at most write into one buffer.
    shortest_s, longest_s : float
        Bounds of a pause. Below the shortest one sleeping costs more than it saves.
    """

    def __init__(
        self,
        bytes_per_second: float = 500e6,
        shortest_s: float = 20e-6,
        longest_s: float = 5e-3,
    ) -> None:
        self._bytes_per_second = bytes_per_second
        self._shortest_s = shortest_s
        self._longest_s = longest_s
        self._ceiling_s = longest_s
        self.pause_s = longest_s

    def add_buffer(self, buf_size: int) -> None:
        """Take a ring of ``buf_size`` bytes into account."""
        half_full = buf_size / 2 / self._bytes_per_second
        self._ceiling_s = max(self._shortest_s, min(self._ceiling_s, half_full))
        self.pause_s = min(self.pause_s, self._ceiling_s)

    def found(self, fill: float) -> None:
        """Learn the largest part of a buffer that was found used since the last call."""
        if fill > _FULL:
            self.pause_s = max(self.pause_s / 2, self._shortest_s)
        elif fill < _EMPTY:
            self.pause_s = min(self.pause_s * 1.25, self._ceiling_s)
