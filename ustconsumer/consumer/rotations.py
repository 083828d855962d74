# SPDX-License-Identifier: MIT
"""Rotations: each stream goes on in files of the next chunk, when it has written the old ones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ustconsumer._native.ring import Ring
from ustconsumer.consumer.chunkchange import ChunkChange
from ustconsumer.consumer.mapping import MappedStream
from ustconsumer.consumer.sink import ChunkedLink, RotatingSink, Sink
from ustconsumer.consumer.streams import Streams
from ustconsumer.consumer.subscription import Subscription
from ustconsumer.errors import UstConsumerError
from ustconsumer.protocol.control import Clear, Rotate

__all__ = ["Rotations"]

#: Seconds that packets are waited for which a process holds open, or the output does not
#: take: then they are the next chunk's.
_WAIT_LIMIT = 5.0
#: Between two looks at what is waited for.
_LOOK = 0.01
_WORD = 1 << 64
_HALF = 1 << 63


class Rotations:
    """Carries out what the registry says about chunks, while packets go on being moved.

    Parameters
    ----------
    subscription : Subscription
    streams : Streams
    sink : Sink
    answer : callable
        Told the token of what was done, the problem with it, and where a relay has the chunk.
    """

    def __init__(
        self,
        subscription: Subscription,
        streams: Streams,
        sink: Sink,
        answer: Callable[[int, str, str], None],
    ) -> None:
        self._subscription = subscription
        self._streams = streams
        self._sink = sink if isinstance(sink, RotatingSink) else None
        self._answer = answer
        self._link = sink if isinstance(sink, ChunkedLink) else None
        #: at the other end of the link, once all was read
        self._change: ChunkChange | None = None
        self._rotation: Rotate | None = None
        #: write position, at the beginning, of each stream in the old chunk
        self._pending: dict[Ring, int] = {}
        self._deadline = 0.0

    @property
    def wait_s(self) -> float:
        """How long the consumer may sleep."""
        return _LOOK if self._rotation is not None else math.inf

    def take(self, message: Rotate | Clear) -> None:
        """Begin what a message says."""
        if self._link is not None and isinstance(message, Rotate):
            if message.following or message.delete:
                self._begin_link(message)
            else:
                self._link.archive_last()
                self._answer(message.token, "", "")
        elif self._sink is None:
            self._answer(message.token, "this consumer has no chunks", "")
        elif isinstance(message, Clear):
            self._clear(self._sink, message)
        elif message.following:
            self._begin(self._sink, message)
        else:
            self._end(self._sink, message)

    def look(self) -> None:
        """Go on with a rotation: for between two passes, when no stream is being moved."""
        if self._rotation is None:
            return
        if self._sink is None:
            self._look_link(self._rotation)
            return
        late = time.monotonic() >= self._deadline
        for ring, produced in tuple(self._pending.items()):
            if ring not in self._subscription.streams:
                del self._pending[ring]
            elif late or (ring.positions()[0] - produced) % _WORD < _HALF:
                # At least up to there: what follows may be in either.
                self._streams.advance(ring, self._sink)
                del self._pending[ring]
        if not self._pending:
            rotation, self._rotation = self._rotation, None
            self._end(self._sink, rotation)

    def finish(self) -> None:
        """Complete a rotation at the end of the session."""
        self._deadline = 0.0
        self.look()

    def _begin(self, sink: RotatingSink, message: Rotate) -> None:
        self._rotation = message
        self._deadline = time.monotonic() + _WAIT_LIMIT
        try:
            sink.begin_chunk(message.following)
        except UstConsumerError as error:
            self._rotation = None
            self._answer(message.token, str(error), "")
            return
        # What was declared so far belongs into the new chunk too.
        self._subscription.repeat_metadata()
        self._streams.sync_metadata()
        self._close_packets(lambda mapped: sink.behind(mapped.stream))
        self.look()

    def _close_packets(self, wanted: Callable[[MappedStream], bool] = lambda mapped: True) -> None:
        """Note how far streams were written by now."""
        self._pending.clear()
        for mapped in self._streams.live():
            ring, geometry = mapped.ring, mapped.stream.geometry
            if wanted(mapped):
                # Until an event is there its class may be undeclared: no packet for readers.
                if ring.positions()[1] != geometry.header_size:
                    ring.switch(False)
                self._pending[ring] = geometry.subbuf_trunc(ring.positions()[1])

    def _begin_link(self, message: Rotate) -> None:
        self._rotation = message
        self._deadline = time.monotonic() + _WAIT_LIMIT
        self._change = None
        self._close_packets()
        self.look()

    def _look_link(self, rotation: Rotate) -> None:
        """Go on with a rotation at the other end of a link."""
        link, change = self._link, self._change
        assert link is not None
        late = time.monotonic() >= self._deadline
        if change is None:
            for ring, produced in tuple(self._pending.items()):
                gone = ring not in self._subscription.streams
                if gone or late or (ring.positions()[0] - produced) % _WORD < _HALF:
                    del self._pending[ring]
            if self._pending:
                return
            change = self._change = link.change_chunk(rotation)
            self._deadline = time.monotonic() + _WAIT_LIMIT
            late = False
        if change.arrived and not change.settled:
            self._streams.settle()
            link.go_on(change)
        if change.result is None and not late:
            return
        problem, place = change.result or (link.give_up(change), "")
        self._rotation = self._change = None
        self._answer(rotation.token, problem, place)

    def _end(self, sink: RotatingSink, message: Rotate) -> None:
        problem = ""
        try:
            sink.end_chunk(message.archive)
        except OSError as error:
            problem = f"{message.archive}: {error.strerror}: the chunk stays where it was"
        self._answer(message.token, problem, "")

    def _clear(self, sink: RotatingSink, message: Clear) -> None:
        problem = ""
        try:
            self._streams.clear(sink)
        except OSError as error:
            problem = f"cannot clear {error.filename or 'the trace'}: {error.strerror}"
        self._answer(message.token, problem, "")
