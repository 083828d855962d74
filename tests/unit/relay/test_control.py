# SPDX-License-Identifier: MIT
"""A control connection: bytes in, answers out. Numbers from the protocol's tables."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.relaypeer import index_of, packet_of

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol import relay
from ustconsumer.protocol.relay import (
    AddStream,
    CloseChunk,
    Command,
    CreateChunk,
    CreateSession,
)
from ustconsumer.relay.control import Control, check_size
from ustconsumer.relay.sessions import Sessions

UUID = bytes(range(16))
CREATED = 86400 * 100


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    made = Sessions(tmp_path)
    yield made
    made.close()


class Peer:
    """Says requests to a `Control`."""

    def __init__(
        self,
        sessions: Sessions,
        minor: int = 13,
        *,
        created: bool = True,
        resume: bool = False,
        **more: int,
    ) -> None:
        self.control = Control(sessions)
        self.minor = minor
        self.version = self.ask(Command.VERSION, struct.pack(">II", 2, minor))
        if resume:
            assert self.number(Command.RESUME) == 10
        if created:
            self.created = self.say(relay.create_session(minor, self.wanted(**more)))
            if minor >= 11:
                assert self.say(relay.create_chunk(CreateChunk(0, CREATED))) == b"\0\0\0\x0a"

    @staticmethod
    def wanted(name: str = "s", **more: int) -> CreateSession:
        return CreateSession(name=name, host="h", uuid=UUID, created=CREATED, **more)  # type: ignore[arg-type]

    def ask(self, command: int, payload: bytes = b"") -> bytes:
        return self.control.handle(command, payload)

    def say(self, request: bytes) -> bytes:
        _, size, command, _ = relay.HEADER.unpack_from(request)
        payload = request[relay.HEADER.size :]
        assert len(payload) == size
        return self.ask(command, payload)

    def number(self, command: int, *numbers: int) -> int:
        return int.from_bytes(self.ask(command, struct.pack(f">{len(numbers)}Q", *numbers)), "big")

    def add(self, name: str = "c_0", path: str = "ust/p", uuid: bytes = b"") -> tuple[int, ...]:
        raw = self.say(relay.add_stream(self.minor, AddStream(name=name, path=path, uuid=uuid)))
        return struct.unpack(">QI" if len(raw) == 12 else ">QIQQQ", raw)


@pytest.mark.parametrize("major", [1, 2, 3])
def test_version(sessions: Sessions, major: int) -> None:
    peer = Peer(sessions, created=False)
    assert peer.version == struct.pack(">II", 2, 13)
    assert peer.ask(Command.VERSION, struct.pack(">II", major, 99)) == struct.pack(">II", 2, 13)
    assert peer.control.closing == (major != 2)


@pytest.mark.parametrize(("allowed", "flags"), [(True, 1 | 1 << 32), (False, 1 << 32)])
def test_configuration(sessions: Sessions, allowed: bool, flags: int) -> None:
    control = Control(sessions, allow_clear=allowed)
    answer = control.handle(Command.GET_CONFIGURATION, bytes(8))
    assert answer == struct.pack(">IQ", 10, flags)
    refused = control.handle(Command.GET_CONFIGURATION, bytes(7) + b"\1")
    assert refused == struct.pack(">IQ", 152, 0)
    assert not control.closing


def test_a_session_and_its_path(sessions: Sessions, tmp_path: Path) -> None:
    number, status, size = struct.unpack_from(">QII", created := Peer(sessions).created)
    assert (number, status) == (1, 10)
    path = created[16:]
    assert (len(path), path[-1:]) == (size, b"\0")
    assert (tmp_path / path[:-1].decode()).is_dir()
    assert Peer(sessions, minor=10).created == struct.pack(">QI", 2, 10)


@pytest.mark.parametrize("minor", [0, 3])
def test_producers_that_are_too_old(sessions: Sessions, minor: int) -> None:
    assert Peer(sessions, minor).created == struct.pack(">QI", 0, 25)


def test_a_refused_session_leaves_the_connection(sessions: Sessions) -> None:
    peer = Peer(sessions, created=False)
    bad = relay.create_session(13, CreateSession(name=".s", host="h", uuid=UUID))
    assert peer.say(bad) == struct.pack(">QII", 0, 25, 0)
    assert not peer.control.closing
    assert peer.say(relay.create_session(13, peer.wanted()))[8:12] == b"\0\0\0\x0a"


def test_one_session_a_connection(sessions: Sessions) -> None:
    peer = Peer(sessions)
    with pytest.raises(RemoteProtocolError, match="second session"):
        peer.say(relay.create_session(13, peer.wanted("t")))
    assert len(sessions.list()) == 1


@pytest.mark.parametrize("command", [0, 4, 12, 14, 15, 23, 1 << 31, (1 << 32) - 1])
def test_unknown_commands(sessions: Sessions, command: int) -> None:
    peer = Peer(sessions)
    assert peer.ask(command) == b"\0\0\0\x0b"
    assert peer.control.closing


@pytest.mark.parametrize(
    ("path", "name"),
    [("../x", "c_0"), ("a/../../x", "c_0"), ("ust", ".."), ("ust", "a/b"), ("d/" * 90, "c_0")],
)
def test_streams_that_would_leave(sessions: Sessions, tmp_path: Path, path: str, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    peer = Peer(sessions)
    made = set(tmp_path.rglob("*")) - set(before)
    assert peer.add(name, path) == (0, 11)
    assert not peer.control.closing
    assert set(tmp_path.rglob("*")) - set(before) == made
    assert peer.add()[1] == 10


def test_a_stream_that_is_there_is_refused(sessions: Sessions) -> None:
    peer = Peer(sessions)
    handle, status = peer.add()
    assert status == 10
    assert peer.add() == (0, 11)
    assert peer.number(Command.CLOSE_STREAM, handle, relay.NO_SEQUENCE) == 10


def test_what_ours_is_told_and_refused(sessions: Sessions, tmp_path: Path) -> None:
    peer = Peer(sessions, resume=True)
    assert peer.add(uuid=UUID)[1:] == (10, relay.NO_SEQUENCE, 0, 0)
    (session,) = tmp_path.glob("h/*")
    (session / "other").mkdir()
    (session / "other" / "metadata").write_bytes(bytes(4096))
    assert peer.add("metadata", "other", UUID)[:2] == (0, 97)
    assert (session / "other" / "metadata").read_bytes() == bytes(4096)


def test_resume_comes_before_the_session(sessions: Sessions) -> None:
    assert Peer(sessions).number(Command.RESUME) == 152


def test_chunks(sessions: Sessions) -> None:
    peer = Peer(sessions)
    assert peer.ask(Command.TRACE_CHUNK_EXISTS, bytes(8)) == b"\0\0\0\x0a\1"
    closed = peer.say(relay.close_chunk(CloseChunk(0, CREATED)))
    assert closed[:4] == b"\0\0\0\x0a"
    assert peer.ask(Command.TRACE_CHUNK_EXISTS, bytes(8)) == b"\0\0\0\x0a\0"
    assert not peer.control.closing
    assert peer.say(relay.close_chunk(CloseChunk(0, CREATED))) == struct.pack(">II", 26, 0)
    assert peer.control.closing


def test_a_chunk_twice(sessions: Sessions) -> None:
    peer = Peer(sessions)
    assert peer.say(relay.create_chunk(CreateChunk(0, CREATED))) == b"\0\0\0\x98"
    assert peer.control.closing


def test_pending_data(sessions: Sessions) -> None:
    peer = Peer(sessions)
    handle, _ = peer.add()
    metadata, _ = peer.add("metadata")
    none = relay.NO_SEQUENCE
    assert peer.number(Command.BEGIN_DATA_PENDING, 1) == 10
    assert peer.number(Command.DATA_PENDING, handle, none) == 0
    assert peer.number(Command.DATA_PENDING, handle, 0) == 1
    assert peer.say(relay.index(13, index_of(handle, 0, packet_of(0)))) == b"\0\0\0\x0a"
    assert peer.number(Command.DATA_PENDING, handle, 0) == 1
    assert peer.number(Command.DATA_PENDING, metadata, none) == 0
    assert peer.number(Command.QUIESCENT_CONTROL, metadata) == 10
    assert peer.number(Command.END_DATA_PENDING, 1) == 0


@pytest.mark.parametrize("command", sorted(set(Command) - {Command.SEND_METADATA, Command.RESUME}))
@pytest.mark.parametrize("payload", [b"", b"\xff", b"\xff" * 200])
def test_payloads_that_make_no_sense(sessions: Sessions, command: int, payload: bytes) -> None:
    """Refused or answered, and nothing else."""
    peer = Peer(sessions)
    peer.add()
    try:
        answer = peer.ask(command, payload)
    except RemoteProtocolError:
        return
    assert len(answer) <= 16


def test_metadata_is_for_metadata(sessions: Sessions) -> None:
    peer = Peer(sessions)
    handle, _ = peer.add()
    with pytest.raises(RemoteProtocolError, match="packets"):
        peer.control.begin_metadata(struct.pack(">QI", handle, 0), 4)
    with pytest.raises(RemoteProtocolError, match="metadata: 5 bytes"):
        peer.control.begin_metadata(b"\0" * 5, 0)
    with pytest.raises(RemoteProtocolError, match="no stream 99"):
        peer.control.begin_metadata(struct.pack(">QI", 99, 0), 4)


def test_live_metadata_does_not_begin_again(sessions: Sessions) -> None:
    peer = Peer(sessions, live_us=1)
    handle, _ = peer.add("metadata")
    with pytest.raises(RemoteProtocolError, match="live"):
        peer.number(Command.RESET_METADATA, handle, 1)


def test_requests_have_a_bound() -> None:
    check_size(Command.SEND_METADATA, 128 << 20)
    check_size(Command.ROTATE_STREAMS, 20 + 16 * 16384)
    for command in (*Command, 99):
        with pytest.raises(RemoteProtocolError, match="at most"):
            check_size(command, (128 << 20) + 1)
    with pytest.raises(RemoteProtocolError, match="at most"):
        check_size(Command.ADD_STREAM, 1 << 20)


def test_a_stream_closed_again(sessions: Sessions) -> None:
    """Live streams stay for their viewers; the oldest go when there are many."""
    peer = Peer(sessions, live_us=1)
    first, _ = peer.add(path="p-first")
    for number in range(300):
        handle, status = peer.add(path=f"p-{number}")
        assert status == 10
        for _ in range(2):
            assert peer.number(Command.CLOSE_STREAM, handle, relay.NO_SEQUENCE) == 10
    session = peer.control.session
    assert session is not None
    assert len(session.streams) <= 257
    assert session.find(first) is not None
