# SPDX-License-Identifier: MIT
"""Live viewers: each has its own place in the streams of the session that it follows."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from ustconsumer.errors import ConnectionClosedError, RemoteProtocolError
from ustconsumer.protocol import viewer
from ustconsumer.protocol.viewer import (
    AttachStatus,
    Command,
    Flag,
    IndexAnswer,
    IndexStatus,
    Seek,
    Status,
    StreamsStatus,
)
from ustconsumer.relay.views import Entry, SessionView, StreamView
from ustconsumer.relay.wire import Wire

__all__ = ["SessionList", "Viewer", "Viewers"]

_log = logging.getLogger("ust-relayd")

#: Bytes of a packet in one answer; Babeltrace asks for 256 KiB at most.
_MAX_PART = 1 << 20
#: Cycles by which the clocks of two traces may differ: each has sampled its own offset.
_CLOCKS = 1_000_000
#: Seconds that a viewer may take to read an answer.
_PATIENCE = 60.0


class SessionList(Protocol):
    """Where viewers find sessions."""

    def list(self) -> Sequence[SessionView]:
        """Return the sessions whose producers are there."""

    def get(self, number: int) -> SessionView | None:
        """Return a session, also one whose producer is gone."""


class _Place:
    """Where a viewer is in a stream: the next packet, or the next byte of metadata."""

    def __init__(self, stream: StreamView, at: int) -> None:
        self.stream = stream
        self.at = at
        #: the packet that was announced last, and its offset in the file
        self.number = -1
        self.offset = 0
        self.size = 0
        #: its bytes, if the relay may let go of it
        self.kept: bytes | None = None
        #: time that the viewer has been told of this stream
        self.told = 0

    def skip(self) -> int:
        """Go on where there still is something; return how many packets the viewer misses."""
        missed = max(0, self.stream.first - self.at)
        self.at += missed
        return missed

    def take(self) -> Entry:
        """Go on behind the next packet; return its entry."""
        stream, self.number = self.stream, self.at
        entry = stream.entry(self.number)
        self.offset, self.size = entry.offset, entry.packet_size // 8
        if stream.volatile:
            self.kept = stream.read(self.number, 0, self.size)
        self.at += 1
        self.told = max(self.told, entry.end)
        return entry

    def read(self, offset: int, size: int) -> bytes | None:
        """Return bytes of the packet that was announced; None: it is gone."""
        if self.kept is not None:
            return self.kept[offset : offset + size]
        if self.number < self.stream.first:
            return None
        return self.stream.read(self.number, offset, size)


class Viewer:
    """What one viewer asks, and is told.

    Parameters
    ----------
    number : int
        Of its viewer session.
    sessions : SessionList
    attached : callable
        Returns how many viewers follow a session.

    Attributes
    ----------
    session : SessionView or None
        Which it follows.
    missed : int
        Packets that were gone before it asked for them.
    closing : bool
        Nothing more is to be read.
    """

    def __init__(self, number: int, sessions: SessionList, attached: Callable[[int], int]) -> None:
        self.session: SessionView | None = None
        self.missed = 0
        self.closing = False
        self._number = number
        self._sessions = sessions
        self._attached = attached
        self._connected = False
        self._created = False
        self._places: dict[int, _Place] = {}
        self._handlers: dict[int, Callable[[bytes], bytes]] = {
            Command.LIST_SESSIONS: self._list,
            Command.ATTACH_SESSION: self._attach,
            Command.GET_NEXT_INDEX: self._next_index,
            Command.GET_PACKET: self._packet,
            Command.GET_METADATA: self._metadata,
            Command.GET_NEW_STREAMS: self._new_streams,
            Command.CREATE_SESSION: self._create,
            Command.DETACH_SESSION: self._detach,
        }

    def handle(self, command: int, payload: bytes) -> bytes:
        """Return the answer to a request.

        Raises
        ------
        RemoteProtocolError
            It makes no sense.
        OSError
            What it asks for cannot be read.
        """
        if command == Command.CONNECT:
            wanted = viewer.decode_connect(payload)
            if wanted.major != viewer.MAJOR:
                raise RemoteProtocolError(f"a viewer of version {wanted.major}.{wanted.minor}")
            self._connected = True
            return viewer.connected(self._number)
        if not self._connected:
            raise RemoteProtocolError("a viewer that does not say who it is")
        handler = self._handlers.get(command)
        if handler is None:
            self.closing = True
            return viewer.status(Status.NO_COMMAND)
        return handler(payload)

    # -- sessions ------------------------------------------------------------------------

    def _create(self, raw: bytes) -> bytes:
        self._created = True
        return viewer.status(Status.OK)

    def _list(self, raw: bytes) -> bytes:
        return viewer.sessions(
            viewer.SessionRow(
                session.id,
                session.live_us,
                self._attached(session.id),
                sum(stream.published for stream in session.streams),
                session.host,
                session.name,
            )
            for session in self._sessions.list()
        )

    def _attach(self, raw: bytes) -> bytes:
        number, seek = viewer.decode_attach(raw)
        session = self._sessions.get(number)
        if not self._created:
            return viewer.attached(AttachStatus.NO_SESSION)
        if session is None or session.closed:
            return viewer.attached(AttachStatus.UNKNOWN)
        if not session.live_us:
            return viewer.attached(AttachStatus.NOT_LIVE)
        if seek not in (Seek.BEGINNING, Seek.LAST):
            return viewer.attached(AttachStatus.SEEK)
        if self.session is not None:
            return viewer.attached(AttachStatus.ALREADY)
        self.session = session
        return viewer.attached(AttachStatus.OK, self._announce(last=seek == Seek.LAST))

    def _detach(self, raw: bytes) -> bytes:
        number = viewer.decode_number(raw)
        if self.session is None or self.session.id != number:
            return viewer.status(Status.UNKNOWN)
        self.session = None
        self._places.clear()
        return viewer.status(Status.OK)

    def _new_streams(self, raw: bytes) -> bytes:
        number = viewer.decode_number(raw)
        session = self.session
        if session is None or session.id != number:
            return viewer.streams(StreamsStatus.ERROR)
        rows = self._announce()
        if not rows and session.closed and not self._is_anything_left():
            return viewer.streams(StreamsStatus.HUP)
        return viewer.streams(StreamsStatus.OK, rows)

    def _announce(self, last: bool = False) -> list[viewer.StreamRow]:
        """Return the streams that this viewer does not know; from now on it does."""
        rows = []
        for stream in self._unknown():
            at = stream.count if last and not stream.is_metadata else stream.first
            self._places[stream.handle] = _Place(stream, at)
            rows.append(
                viewer.StreamRow(
                    stream.handle,
                    stream.trace_id,
                    stream.is_metadata,
                    stream.path,
                    stream.name,
                )
            )
        return rows

    def _unknown(self) -> list[StreamView]:
        """Return published streams that are news, of traces whose metadata is published."""
        if self.session is None:
            return []
        published = [stream for stream in self.session.streams if stream.published]
        declared = {stream.trace_id for stream in published if stream.is_metadata}
        return [
            stream
            for stream in published
            if stream.handle not in self._places and stream.trace_id in declared
        ]

    def _is_anything_left(self) -> bool:
        return any(place.at < place.stream.count for place in self._places.values())

    # -- streams -----------------------------------------------------------------------------

    def _next_index(self, raw: bytes) -> bytes:
        return viewer.index_answer(self._find_next(viewer.decode_number(raw)))

    def _find_next(self, number: int) -> IndexAnswer:
        place = self._places.get(number)
        if place is None:
            return IndexAnswer(IndexStatus.ERROR)
        stream = place.stream
        if stream.is_metadata:
            return IndexAnswer(IndexStatus.HUP)
        # What is gone is skipped: nobody keeps it for a viewer.
        missed = place.skip()
        if missed:
            self._missed(stream, missed)
        if place.at < stream.count:
            entry = place.take()
            return IndexAnswer(
                IndexStatus.OK,
                self._flags(stream),
                entry.offset,
                entry.packet_size,
                entry.content_size,
                entry.begin,
                entry.end,
                entry.discarded,
                entry.class_id,
            )
        if stream.closed:
            return IndexAnswer(IndexStatus.HUP)
        beacon = self._beacon(stream)
        if beacon is None or beacon < place.told or stream.busy or not stream.count:
            return IndexAnswer(IndexStatus.RETRY)
        place.told = beacon
        return IndexAnswer(IndexStatus.INACTIVE, end=beacon, class_id=stream.class_id)

    def _beacon(self, stream: StreamView) -> int | None:
        """Return until when nothing comes, as far as this viewer may know.

        Babeltrace hears of new streams with packets of others only, and gives up when these
        turn out to begin before what it was told.
        """
        times = [] if stream.beacon is None else [stream.beacon]
        for new in self._unknown() if times else ():
            if not new.is_metadata:
                begin = new.entry(new.first).begin if new.count > new.first else 0
                times.append(max(begin - _CLOCKS, 0))
        return min(times, default=None)

    def _missed(self, stream: StreamView, count: int) -> None:
        """Say that the viewer is too slow; the first time at once, then in powers of two."""
        before, self.missed = self.missed, self.missed + count
        if before.bit_length() < self.missed.bit_length() and self.session is not None:
            _log.warning(
                "session %s: a viewer is too slow, it missed %d packets so far, of %s/%s too",
                self.session.name,
                self.missed,
                stream.path,
                stream.name,
            )

    def _flags(self, stream: StreamView) -> int:
        flags = 0
        for place in self._places.values():
            other = place.stream
            if other.is_metadata and other.trace_id == stream.trace_id:
                flags |= Flag.NEW_METADATA if place.at < other.metadata_size else 0
        return flags | (Flag.NEW_STREAMS if self._unknown() else 0)

    def _packet(self, raw: bytes) -> bytes:
        number, offset, size = viewer.decode_get_packet(raw)
        place = self._places.get(number)
        if place is None or place.number < 0 or offset < place.offset:
            return viewer.packet(Status.ERROR)
        at = offset - place.offset
        if at > place.size:
            return viewer.packet(Status.ERROR)
        data = place.read(at, min(size, _MAX_PART))
        if data is None:
            return viewer.packet(Status.EOF)
        if len(data) < size:
            # More than there is: as with LTTng, all or nothing.
            return viewer.packet(Status.ERROR)
        return viewer.packet(Status.OK, data)

    def _metadata(self, raw: bytes) -> bytes:
        place = self._places.get(viewer.decode_number(raw))
        if place is None or not place.stream.is_metadata:
            return viewer.metadata(Status.ERROR)
        data = place.stream.read_metadata(place.at)
        if not data:
            return viewer.metadata(Status.UNKNOWN)
        place.at += len(data)
        return viewer.metadata(Status.OK, data)


class Viewers:
    """Serves live viewers, any number of them.

    Parameters
    ----------
    sessions : SessionList
    """

    def __init__(self, sessions: SessionList) -> None:
        self._sessions = sessions
        self._numbers = itertools.count(1)
        self._here: set[Viewer] = set()

    def following(self, number: int) -> int:
        """Return how many viewers follow a session."""
        return sum(each.session is not None and each.session.id == number for each in self._here)

    async def serve(self, wire: Wire) -> None:
        """Serve a viewer to its end."""
        one = Viewer(next(self._numbers), self._sessions, self.following)
        self._here.add(one)
        try:
            while not one.closing:
                size, command, _ = viewer.HEADER.unpack(await wire.readexactly(viewer.HEADER.size))
                if size > viewer.MAX_REQUEST:
                    raise RemoteProtocolError(f"a viewer's request of {size} bytes")
                wire.write(one.handle(command, await wire.readexactly(size)))
                await asyncio.wait_for(wire.drain(), _PATIENCE)
        except TimeoutError:
            _log.warning("a viewer took nothing for %.0f s", _PATIENCE)
        except (RemoteProtocolError, OSError) as error:
            _log.warning("viewer's connection closed: %s", error)
        except (ConnectionClosedError, EOFError):
            pass
        finally:
            self._here.discard(one)
            wire.close()
