# SPDX-License-Identifier: MIT
"""How fast a channel's buffers are written and how full they get: arithmetic on samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ustconsumer.protocol.control import ChannelLoad, StreamInfo
from ustconsumer.protocol.messages import MAX_COUNT

__all__ = ["Load"]

_WORD = 1 << 64


@dataclass
class Load:
    """What was seen of one channel.

    Attributes
    ----------
    sampled : float
        When, in seconds; 0: never.
    """

    overwrite: bool
    sampled: float = 0.0
    _seen: dict[int, StreamInfo] = field(default_factory=dict)
    _rate: float = 0.0
    _highest_rate: float = 0.0
    _lost_rate: float = 0.0
    _fill: int = 0
    _highest_fill: int = 0
    _capacity: int = 0
    _history: float = 0.0

    def add(self, now: float, streams: Iterable[StreamInfo], capacity: int) -> None:
        """Take samples of its streams.

        Parameters
        ----------
        now : float
            In seconds, later than the last one.
        streams : iterable of StreamInfo
            Their counters are what programs say: each number is taken for possible only.
        capacity : int
            Bytes of the buffer of a stream.
        """
        before, self._seen = self._seen, {}
        written = busiest = lost = fill = 0
        full = False
        for stream in streams:
            self._seen[stream.id] = stream
            last = before.get(stream.id)
            if last is not None:
                produced = (stream.produced - last.produced) % _WORD
                written += produced
                busiest = max(busiest, produced)
                lost += (stream.lost - last.lost) % _WORD
                full = full or stream.lost_full != last.lost_full
            fill = max(fill, min((stream.produced - stream.consumed) % _WORD, capacity))
        self._capacity, self._fill = capacity, fill
        # Discarded for want of room: it was full, though it may have been read since.
        self._highest_fill = max(self._highest_fill, capacity if full else fill)
        seconds = now - self.sampled
        if self.sampled and seconds > 0:
            self._rate, self._lost_rate = written / seconds, lost / seconds
            self._highest_rate = max(self._highest_rate, self._rate)
            self._history = capacity * seconds / busiest if busiest else 0.0
        self.sampled = now

    def info(self) -> ChannelLoad:
        """Return what clients see of it."""
        return ChannelLoad(
            rate=_whole(self._rate),
            highest_rate=_whole(self._highest_rate),
            discarded_rate=_whole(self._lost_rate),
            capacity=self._capacity,
            fill=0 if self.overwrite else self._fill,
            highest_fill=0 if self.overwrite else self._highest_fill,
            history_us=_whole(self._history * 1e6) if self.overwrite else 0,
        )


def _whole(number: float) -> int:
    return min(round(number), MAX_COUNT)
