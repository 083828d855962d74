# SPDX-License-Identifier: MIT
"""What a live viewer is told, step by step."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Sequence

import pytest

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol.viewer import AttachStatus, Command, IndexStatus
from ustconsumer.relay.viewers import Viewer
from ustconsumer.relay.views import Entry, SessionView

_SIZE = 4096
OK, RETRY, HUP, ERROR, INACTIVE = IndexStatus


class Stream:
    """A stream of a session, as a test wants it."""

    def __init__(self, handle: int, name: str, trace_id: int = 1) -> None:
        self.handle = handle
        self.name = name
        self.trace_id = trace_id
        self.path = f"ust/pid/{trace_id}"
        self.is_metadata = name == "metadata"
        self.published = True
        self.closed = False
        self.busy = False
        self.volatile = False
        self.first = 0
        self.beacon: int | None = None
        self.class_id = 3
        self.packets: list[bytes] = []
        self.text = b""

    @property
    def count(self) -> int:
        return len(self.packets)

    def entry(self, number: int) -> Entry:
        assert self.first <= number < self.count
        begin = 1000 * (number + 1)
        return Entry(number * _SIZE, _SIZE * 8, 672, begin, begin + 500, number, 3, 0, number)

    def read(self, number: int, offset: int, size: int) -> bytes:
        assert self.first <= number < self.count
        return self.packets[number][offset : offset + size]

    @property
    def metadata_size(self) -> int:
        return len(self.text)

    def read_metadata(self, position: int) -> bytes:
        return self.text[position:]

    def put(self) -> None:
        self.packets.append(bytes([self.count + 1]) * _SIZE)


class Session:
    id = 5
    name = "s"
    host = "h"
    live_us = 1000
    closed = False

    def __init__(self, *streams: Stream) -> None:
        self.streams = list(streams)


class Known:
    """The sessions of a relay."""

    def __init__(self, *sessions: Session) -> None:
        self.sessions = sessions

    def list(self) -> Sequence[SessionView]:
        return [session for session in self.sessions if not session.closed]

    def get(self, number: int) -> SessionView | None:
        return next((each for each in self.sessions if each.id == number), None)


class Peer:
    """A viewer's side."""

    def __init__(self, known: Known, *, create: bool = True) -> None:
        self.viewer = Viewer(9, known, lambda number: 2)
        connect = struct.pack(">QIII", 2**64 - 1, 2, 4, 1)
        assert self.viewer.handle(Command.CONNECT, connect) == struct.pack(">QIII", 9, 2, 13, 0)
        if create:
            assert self.viewer.handle(Command.CREATE_SESSION, b"") == b"\0\0\0\x01"

    def attach(self, session: int = 5, seek: int = 1) -> tuple[int, list[int]]:
        return self._streams(Command.ATTACH_SESSION, struct.pack(">QQI", session, 0, seek))

    def new_streams(self, session: int = 5) -> tuple[int, list[int]]:
        return self._streams(Command.GET_NEW_STREAMS, struct.pack(">Q", session))

    def index(self, stream: int) -> tuple[int, ...]:
        """Return status, flags, then offset, sizes, times, discarded, class."""
        raw = self.viewer.handle(Command.GET_NEXT_INDEX, struct.pack(">Q", stream))
        values = struct.unpack(">7QII", raw)
        return values[7:] + values[:7]

    def packet(self, stream: int, offset: int, size: int) -> tuple[int, bytes]:
        raw = self.viewer.handle(Command.GET_PACKET, struct.pack(">QQI", stream, offset, size))
        status, size, flags = struct.unpack_from(">III", raw)
        assert (len(raw), flags) == (12 + size, 0)
        return status, raw[12:]

    def metadata(self, stream: int) -> tuple[int, bytes]:
        raw = self.viewer.handle(Command.GET_METADATA, struct.pack(">Q", stream))
        size, status = struct.unpack_from(">QI", raw)
        assert len(raw) == 12 + size
        return status, raw[12:]

    def _streams(self, command: int, payload: bytes) -> tuple[int, list[int]]:
        raw = self.viewer.handle(command, payload)
        status, count = struct.unpack_from(">II", raw)
        assert len(raw) == 8 + 4371 * count
        handles = [struct.unpack_from(">Q", raw, 8 + 4371 * each)[0] for each in range(count)]
        return status, handles


@pytest.fixture
def data() -> Stream:
    return Stream(1, "ch_0")


@pytest.fixture
def text() -> Stream:
    return Stream(2, "metadata")


@pytest.fixture
def session(data: Stream, text: Stream) -> Session:
    return Session(data, text)


@pytest.fixture
def known(session: Session) -> Known:
    return Known(session)


@pytest.fixture
def peer(known: Known) -> Peer:
    return Peer(known)


def test_a_viewer_says_first_who_it_is(known: Known) -> None:
    viewer = Viewer(1, known, lambda number: 0)
    with pytest.raises(RemoteProtocolError):
        viewer.handle(Command.LIST_SESSIONS, b"")
    with pytest.raises(RemoteProtocolError):
        viewer.handle(Command.CONNECT, struct.pack(">QIII", 0, 3, 0, 1))


def test_what_is_no_command_is_answered_and_is_the_end(peer: Peer) -> None:
    assert peer.viewer.handle(10, b"") == b"\0\0\0\x0b"
    assert peer.viewer.closing


def test_a_list_has_sessions_whose_producers_are_there(peer: Peer, session: Session) -> None:
    row = struct.pack(">QIII64s255s", 5, 1000, 2, 2, b"h", b"s")
    assert peer.viewer.handle(Command.LIST_SESSIONS, b"") == b"\0\0\0\x01" + row
    session.closed = True
    assert peer.viewer.handle(Command.LIST_SESSIONS, b"") == bytes(4)


def test_who_cannot_attach(known: Known, session: Session) -> None:
    assert Peer(known, create=False).attach() == (AttachStatus.NO_SESSION, [])
    peer = Peer(known)
    assert peer.attach(6) == (AttachStatus.UNKNOWN, [])
    assert peer.attach(seek=3) == (AttachStatus.SEEK, [])
    assert peer.attach()[0] == AttachStatus.OK
    assert peer.attach() == (AttachStatus.ALREADY, [])
    session.live_us = 0
    assert Peer(known).attach() == (AttachStatus.NOT_LIVE, [])
    session.closed = True
    assert Peer(known).attach() == (AttachStatus.UNKNOWN, [])


def test_any_number_of_viewers_each_at_its_place(known: Known, data: Stream) -> None:
    data.put()
    one, two = Peer(known), Peer(known)
    assert one.attach() == two.attach() == (1, [1, 2])
    assert [one.index(1)[0], one.index(1)[0], two.index(1)[0]] == [OK, RETRY, OK]


def test_where_viewers_begin(known: Known, session: Session, data: Stream) -> None:
    data.put()
    first, last = Peer(known), Peer(known)
    first.attach(seek=1)
    last.attach(seek=2)
    later = Stream(3, "ch_1")
    session.streams.append(later)
    later.put()
    data.put()
    assert [first.index(1)[2], last.index(1)[2]] == [0, _SIZE]
    # Of streams that come later everything is to be had.
    assert last.new_streams() == (1, [3])
    assert last.index(3)[:3] == (OK, 0, 0)


def test_an_index_says_all_of_a_packet_and_what_else_is_new(
    peer: Peer, session: Session, data: Stream, text: Stream
) -> None:
    peer.attach()
    data.put()
    assert peer.index(1) == (OK, 0, 0, _SIZE * 8, 672, 1000, 1500, 0, 3)
    text.text = b"metadata"
    session.streams.append(Stream(3, "ch_1"))
    data.put()
    assert peer.index(1) == (OK, 3, _SIZE, _SIZE * 8, 672, 2000, 2500, 1, 3)
    assert (peer.metadata(2), peer.metadata(2)) == ((1, b"metadata"), (2, b""))
    assert peer.new_streams() == (1, [3])
    data.put()
    assert peer.index(1)[1] == 0


def test_streams_are_shown_with_their_metadata_and_when_published(
    peer: Peer, session: Session
) -> None:
    peer.attach()
    alone, hidden = Stream(3, "ch_0", 2), Stream(4, "metadata", 2)
    hidden.published = False
    session.streams += [alone, hidden]
    assert peer.new_streams() == (1, [])
    hidden.published = True
    assert peer.new_streams() == (1, [3, 4])


def test_an_idle_stream_says_so_once_it_had_a_packet(peer: Peer, data: Stream) -> None:
    peer.attach()
    data.beacon = 400
    assert peer.index(1)[0] == RETRY
    data.put()
    assert peer.index(1)[0] == OK
    # Before the end of the packet: time does not go back.
    assert peer.index(1)[0] == RETRY
    data.beacon = 1700
    assert peer.index(1) == (INACTIVE, 0, 0, 0, 0, 0, 1700, 0, 3)
    data.busy = True
    assert peer.index(1)[0] == RETRY
    data.busy, data.beacon = False, None
    assert peer.index(1)[0] == RETRY


def test_no_time_is_told_behind_the_beginning_of_an_unknown_stream(
    peer: Peer, session: Session, data: Stream
) -> None:
    peer.attach()
    data.put()
    assert peer.index(1)[0] == OK
    session.streams.append(Stream(3, "ch_1"))
    data.beacon = 10_000
    assert peer.index(1)[0] == RETRY
    peer.new_streams()
    assert peer.index(1)[0] == INACTIVE


def test_all_that_is_left_comes_before_the_end(
    peer: Peer, session: Session, data: Stream, text: Stream
) -> None:
    """Of streams that closed, and of sessions whose producer is gone."""
    peer.attach()
    for _ in range(3):
        data.put()
    data.closed = text.closed = session.closed = True
    assert peer.new_streams() == (1, [])
    assert [peer.index(1)[0] for _ in range(4)] == [OK, OK, OK, HUP]
    assert peer.new_streams() == (4, [])
    assert peer.viewer.handle(Command.DETACH_SESSION, struct.pack(">Q", 5)) == b"\0\0\0\x01"
    assert peer.viewer.handle(Command.DETACH_SESSION, struct.pack(">Q", 5)) == b"\0\0\0\x02"


def test_what_is_not_there_is_an_error_and_not_the_end(peer: Peer, data: Stream) -> None:
    assert peer.new_streams() == (3, [])
    peer.attach()
    assert peer.new_streams(6) == (3, [])
    assert peer.index(7)[0] == ERROR
    assert peer.index(2)[0] == HUP
    assert peer.metadata(1) == peer.metadata(7) == (3, b"")
    assert peer.packet(1, 0, 10) == peer.packet(7, 0, 10) == (3, b"")
    assert not peer.viewer.closing


def test_packets_in_parts(peer: Peer, data: Stream) -> None:
    peer.attach()
    data.put()
    data.put()
    assert peer.index(1)[0] == peer.index(1)[0] == OK
    assert peer.packet(1, _SIZE, 1000) == (1, b"\x02" * 1000)
    assert peer.packet(1, _SIZE + 1000, _SIZE - 1000) == (1, b"\x02" * (_SIZE - 1000))
    for offset, size in ((_SIZE, _SIZE + 1), (0, 1), (2 * _SIZE + 1, 0), (2**64 - 1, 2**32 - 1)):
        assert peer.packet(1, offset, size) == (3, b"")


@pytest.mark.parametrize("volatile", [False, True])
def test_packets_that_go(
    peer: Peer, data: Stream, caplog: pytest.LogCaptureFixture, volatile: bool
) -> None:
    """What a viewer was told of is kept for it where packets may go at any time."""
    data.volatile = volatile
    peer.attach()
    for _ in range(5):
        data.put()
    assert peer.index(1)[2] == 0
    data.first = 3
    expected = (1, b"\x01" * _SIZE) if volatile else (4, b"")
    assert peer.packet(1, 0, _SIZE) == expected
    with caplog.at_level(logging.WARNING):
        assert [peer.index(1)[0::2][:2] for _ in range(2)] == [(OK, 3 * _SIZE), (OK, 4 * _SIZE)]
    assert [record.getMessage() for record in caplog.records] == [
        "session s: a viewer is too slow, it missed 2 packets so far, of ust/pid/1/ch_0 too"
    ]


def test_what_was_gone_before_a_viewer_came_is_not_missed(
    peer: Peer, data: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        data.put()
    data.first = 3
    peer.attach()
    with caplog.at_level(logging.WARNING):
        assert peer.index(1)[2] == 3 * _SIZE
    assert not caplog.records


@pytest.mark.parametrize("command", [each for each in Command if each not in (2, 8)])
def test_requests_of_another_size_end_the_connection(peer: Peer, command: int) -> None:
    handle: Callable[[int, bytes], bytes] = peer.viewer.handle
    for payload in (b"", bytes(9), bytes(21)):
        with pytest.raises(RemoteProtocolError):
            handle(command, payload)
