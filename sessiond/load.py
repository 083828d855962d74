# SPDX-License-Identifier: MIT
"""How fast a channel's buffers are written and how full they get: arithmetic on samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ustconsumer.protocol.control import ChannelLoad, StreamInfo
from ustconsumer.protocol.messages import MAX_COUNT

__all__ = ["Load", "advised"]

_WORD = 1 << 64
#: Sub-buffers beyond which larger ones are better, and bytes of each CPU that nobody has.
_MANY, _MOST = 64, 1 << 30


@dataclass
class Load:
    """What was seen of one channel.

    Attributes
    ----------
    sampled : float
        When, in seconds; 0: never.
    event_size : float
        Mean bytes of an event, of those in a packet; 0: not known.
    measured : int
        The burst of which that was measured.
    """

    overwrite: bool
    sampled: float = 0.0
    event_size: float = 0.0
    measured: int = 0
    _seen: dict[int, StreamInfo] = field(default_factory=dict)
    _rate: float = 0.0
    _highest_rate: float = 0.0
    _lost_rate: float = 0.0
    _fill: int = 0
    _highest_fill: int = 0
    _was_full: bool = False
    _capacity: int = 0
    _history: float = 0.0
    #: events lost in a row, by stream: without a sample at which none were
    _burst: dict[int, int] = field(default_factory=dict)
    _highest_burst: int = 0
    _hardest: int = -1
    #: streams that have lost some since the last sample
    _losing: set[int] = field(default_factory=set)
    #: of each stream when it was last looked at
    _refused: dict[int, int] = field(default_factory=dict)

    @property
    def highest_burst(self) -> int:
        """Most events that one buffer discarded in a row for want of room."""
        return self._highest_burst

    @property
    def hardest(self) -> int:
        """The stream that was; -1: none."""
        return self._hardest

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
        streams = list(streams)
        self.note_losses(streams)
        for stream in streams:
            # It has had room: what it loses next is another burst.
            if stream.id not in self._losing:
                self._burst[stream.id] = 0
        self._losing.clear()
        before, self._seen = self._seen, {}
        written = busiest = lost = fill = 0
        for stream in streams:
            self._seen[stream.id] = stream
            last = before.get(stream.id)
            if last is not None:
                produced = (stream.produced - last.produced) % _WORD
                written += produced
                busiest = max(busiest, produced)
                lost += (stream.lost - last.lost) % _WORD
            fill = max(fill, min((stream.produced - stream.consumed) % _WORD, capacity))
        self._capacity, self._fill = capacity, fill
        self._highest_fill = max(self._highest_fill, fill)
        seconds = now - self.sampled
        if self.sampled and seconds > 0:
            self._rate, self._lost_rate = written / seconds, lost / seconds
            self._highest_rate = max(self._highest_rate, self._rate)
            self._history = capacity * seconds / busiest if busiest else 0.0
        self.sampled = now

    def note_losses(self, streams: Iterable[StreamInfo]) -> None:
        """Take what was discarded of samples, also shortly after the last ones."""
        for stream in streams:
            # A buffer that is new was empty.
            refused = (stream.lost_full - self._refused.get(stream.id, 0)) % _WORD
            self._refused[stream.id] = stream.lost_full
            if refused:
                # For want of room: it was full, though it may have been read since.
                self._was_full = True
                self._losing.add(stream.id)
                self._burst[stream.id] = self._burst.get(stream.id, 0) + refused
                if self._burst[stream.id] > self._highest_burst:
                    self._highest_burst, self._hardest = self._burst[stream.id], stream.id

    def info(self, subbuf_size: int = 0) -> ChannelLoad:
        """Return what clients see of it.

        Parameters
        ----------
        subbuf_size : int
            Of the channel; 0: without advice.
        """
        needed = 0
        if self._highest_burst and self.event_size and not self.overwrite:
            needed = self._capacity + round(self._highest_burst * self.event_size)
        size, count = advised(needed, subbuf_size) if needed and subbuf_size else (0, 0)
        highest = self._capacity if self._was_full else self._highest_fill
        return ChannelLoad(
            rate=_whole(self._rate),
            highest_rate=_whole(self._highest_rate),
            discarded_rate=_whole(self._lost_rate),
            capacity=self._capacity,
            fill=0 if self.overwrite else self._fill,
            highest_fill=0 if self.overwrite else highest,
            history_us=_whole(self._history * 1e6) if self.overwrite else 0,
            needed=min(needed, MAX_COUNT),
            advised_subbuf_size=size,
            advised_num_subbuf=count,
        )


def advised(needed: int, subbuf_size: int) -> tuple[int, int]:
    """Return the size and number of sub-buffers that hold so many bytes; none for too many.

    The end of a sub-buffer is not filled, and one is being read: there is a quarter more room,
    and a sub-buffer. They get larger where there would be very many.
    """
    wanted = needed * 5 // 4
    size = subbuf_size
    while True:
        count = 1 << (-(-wanted // size)).bit_length()
        if size * count > _MOST:
            return 0, 0
        if count <= _MANY:
            return size, count
        size *= 2


def _whole(number: float) -> int:
    return min(round(number), MAX_COUNT)
