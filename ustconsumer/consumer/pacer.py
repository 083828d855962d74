# SPDX-License-Identifier: MIT
"""How long a consumer lets packets gather between two passes over its buffers."""

from __future__ import annotations

__all__ = ["Pacer"]

#: Above this fill the pause was too long, below the other one it may grow.
_FULL = 0.75
_ROOM = 0.5
#: The same for buffers up to this size: they overflow whenever the consumer is kept off its
#: CPU for a moment, and shorter pauses cost much and save little.
_SMALL = 64 << 10
_SMALL_FULL = 0.9
_SMALL_ROOM = 0.75
_GROWTH = 1.25
_PATIENCE = 2


class Pacer:
    """Chooses the pause between two passes.

    A pass costs the same whether it moves one packet or several, going to sleep and
    waking up costs more than the pass, and a writer that finds the reader awake does
    not stop to wake it. But what gathers must not fill the buffer. So at first, and
    after each quiet time, the pause is that in which the fastest writer half fills the
    smallest buffer. It grows while buffers are found less than half full, and halves
    as soon as one was found three quarters full.

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
        longest_s: float = 10e-3,
    ) -> None:
        self._bytes_per_second = bytes_per_second
        self._shortest_s = shortest_s
        self._longest_s = longest_s
        self._cautious_s = longest_s
        self._full, self._room = _FULL, _ROOM
        self.pause_s = longest_s
        #: Passes in a row that may find nothing before the consumer goes to sleep.
        self.patience = 0

    def add_buffer(self, buf_size: int) -> None:
        """Take a ring of ``buf_size`` bytes into account."""
        if buf_size <= _SMALL:
            self._full, self._room = _SMALL_FULL, _SMALL_ROOM
        half_full = buf_size / 2 / self._bytes_per_second
        self._cautious_s = max(self._shortest_s, min(self._cautious_s, half_full))
        self.pause_s = min(self.pause_s, self._cautious_s)

    def found(self, fill: float) -> None:
        """Learn the largest part of a buffer that was found used since the last call.

        While packets come, waiting a few pauses for the next one is cheaper than to
        sleep and be woken by its writer; when none came, it is not.
        """
        if fill == 0.0:
            self.pause_s = self._cautious_s
            self.patience = 0
            return
        self.patience = _PATIENCE
        if fill > self._full:
            self.pause_s = max(self.pause_s / 2, self._shortest_s)
        elif fill < self._room:
            self.pause_s = min(self.pause_s * _GROWTH, self._longest_s)
