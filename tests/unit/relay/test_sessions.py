# SPDX-License-Identifier: MIT
"""Sessions of a relay: directories, chunks, streams, and who may continue what."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.relaypeer import Packet, index_of, packet_of

from ustconsumer.abi.packet import CTF_MAGIC, DATA_PACKET, METADATA_MAGIC, METADATA_PACKET
from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol.relay import (
    NO_SEQUENCE,
    AddStream,
    CloseChunk,
    CloseCommand,
    CreateChunk,
    CreateSession,
    DataHeader,
    Index,
    Rotate,
    StreamAdded,
)
from ustconsumer.relay.metadata import MetadataStream
from ustconsumer.relay.sessions import RelaySession, Sessions
from ustconsumer.relay.streams import RelayStream

PATH = "ust/uid/7/64-bit"
ENTRY = struct.Struct(">9Q")
UUID = bytes(range(16))
CREATED = 86400 * 100


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    made = Sessions(tmp_path)
    yield made
    made.close()


def wanted(name: str = "s", uuid: bytes = UUID, **more: int) -> CreateSession:
    return CreateSession(name=name, host="h", uuid=uuid, created=CREATED, **more)  # type: ignore[arg-type]


def session_of(
    sessions: Sessions, name: str = "s", resume: bool = False, **more: int
) -> RelaySession:
    session = sessions.create(wanted(name, **more), 13, resume)
    session.create_chunk(CreateChunk(0, CREATED))
    return session


def add(session: RelaySession, name: str = "c_0", uuid: bytes = b"", **more: int) -> StreamAdded:
    return session.add_stream(AddStream(name=name, path=PATH, uuid=uuid, **more))


def stream_of(session: RelaySession, name: str = "c_0", **more: int) -> RelayStream:
    stream = session.stream(add(session, name, **more).handle)
    assert isinstance(stream, RelayStream)
    return stream


def send(stream: RelayStream, net: int, packet: Packet) -> None:
    head = packet.content[: DATA_PACKET.size]
    incoming = stream.begin(
        DataHeader(stream.handle, net, len(packet.content), packet.padding), head
    )
    incoming.write(packet.content)
    incoming.finish()


def put(stream: RelayStream, net: int, packet: Packet, sequence: int | None = None) -> None:
    send(stream, net, packet)
    stream.add_index(index_of(stream.handle, net, packet, sequence))


def data_packet(number: int, uuid: bytes = UUID) -> Packet:
    """Return a packet with the header that every packet of LTTng has."""
    fields = {field.name: 0 for field in DATA_PACKET}
    head = DATA_PACKET.pack(
        {**fields, "magic": CTF_MAGIC, "uuid": uuid, "packet_seq_num": number}  # type: ignore[dict-item]
    )
    return Packet(head + number.to_bytes(4, "big"), 4096 - len(head) - 4)


def metadata_packet(text: bytes, uuid: bytes = UUID) -> bytes:
    size = METADATA_PACKET.size + len(text)
    fields = {field.name: 0 for field in METADATA_PACKET}
    head = METADATA_PACKET.pack(
        {  # type: ignore[arg-type]
            **fields,
            "magic": METADATA_MAGIC,
            "uuid": uuid,
            "content_size": 8 * size,
            "packet_size": 8 * 4096,
            "major": 1,
            "minor": 8,
        }
    )
    return (head + text).ljust(4096, b"\0")


def say(session: RelaySession, handle: int, raw: bytes) -> None:
    stream = session.stream(handle)
    assert isinstance(stream, MetadataStream)
    incoming = stream.begin(len(raw), 0)
    incoming.write(raw)
    incoming.finish()


def files(directory: Path, name: str = "c_0") -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob(name))


def only(directory: Path) -> Path:
    (found,) = directory.iterdir()
    return found


# -- directories -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by_session", "base", "has_time", "pattern"),
    [
        (False, "", False, "h/s-DATE"),
        (False, "", True, "h/s"),
        (False, "a/b", False, "h/a/b"),
        (True, "", False, "s/h-DATE"),
        (True, "a/b", False, "s/h-DATE/a/b"),
    ],
)
def test_where_a_session_is(
    tmp_path: Path, by_session: bool, base: str, has_time: bool, pattern: str
) -> None:
    sessions = Sessions(tmp_path, by_session=by_session)
    session = sessions.create(
        CreateSession(
            name="s",
            host="h",
            uuid=UUID,
            created=CREATED,
            base_path=base,
            name_has_time=has_time,
        ),
        13,
        False,
    )
    date = time.strftime("%Y%m%d-%H%M%S", time.localtime(CREATED))
    assert session.path == pattern.replace("DATE", date)
    assert (tmp_path / session.path).is_dir()
    sessions.close()


def test_what_is_there_is_never_continued(sessions: Sessions) -> None:
    first = session_of(sessions)
    second = sessions.create(wanted(uuid=bytes(15) + b"\1"), 13, False)
    third = sessions.create(wanted(uuid=bytes(15) + b"\2"), 13, False)
    assert [second.path, third.path] == [f"{first.path}-2", f"{first.path}-3"]


@pytest.mark.parametrize("name", ["", ".s", "a/b", "a\nb"])
def test_sessions_with_impossible_names(sessions: Sessions, tmp_path: Path, name: str) -> None:
    with pytest.raises(RemoteProtocolError):
        sessions.create(wanted(name), 13, False)
    assert not list(tmp_path.iterdir())


def test_a_session_needs_its_daemons_uuid(sessions: Sessions) -> None:
    with pytest.raises(RemoteProtocolError, match="UUID"):
        sessions.create(wanted(uuid=bytes(16)), 13, False)


def test_a_chunk_that_a_session_says_must_be_there(sessions: Sessions) -> None:
    with pytest.raises(RemoteProtocolError, match="no chunk 0"):
        sessions.create(wanted(chunk=0), 13, False)
    first = session_of(sessions)
    second = sessions.create(wanted(chunk=0), 13, False)
    stream_of(second, "d_0")
    assert second.path == first.path


# -- data and indexes ------------------------------------------------------------------------


def test_data_and_index_come_in_any_order(sessions: Sessions, tmp_path: Path) -> None:
    session = session_of(sessions)
    stream = stream_of(session)
    packets = [packet_of(n) for n in range(3)]
    stream.add_index(index_of(stream.handle, 0, packets[0]))
    stream.add_index(index_of(stream.handle, 1, packets[1]))
    assert session.is_waiting
    assert stream.is_pending(0)
    for net, packet in enumerate(packets):
        send(stream, net, packet)
    assert not session.is_waiting
    assert not stream.is_pending(1)
    assert stream.is_pending(2)
    stream.add_index(index_of(stream.handle, 2, packets[2]))
    assert not stream.is_pending(2)
    trace = tmp_path / session.path / PATH
    assert (trace / "c_0").read_bytes() == b"".join(packet.stored for packet in packets)
    raw = (trace / "index" / "c_0.idx").read_bytes()
    assert raw[:16] == bytes.fromhex("c1f1dcc1000000010000000100000048")
    assert list(ENTRY.iter_unpack(raw[16:])) == [
        (4096 * n, 8 * 4096, 8 * 400, 1000 + 100 * n, 1050 + 100 * n, 0, 0, 0, n) for n in range(3)
    ]


@pytest.mark.parametrize("minor", [4, 7])
def test_old_producers_get_old_indexes(sessions: Sessions, tmp_path: Path, minor: int) -> None:
    session = sessions.create(CreateSession(name="s", host="h"), minor, False)
    added = session.add_stream(AddStream(name="c_0", path=f"/h/s-1//{PATH}"))
    stream = session.stream(added.handle)
    assert isinstance(stream, RelayStream)
    put(stream, 0, packet_of(0))
    raw = (tmp_path / "h" / "s-1" / PATH / "index" / "c_0.idx").read_bytes()
    assert raw[:16] == bytes.fromhex("c1f1dcc1000000010000000000000038")
    assert len(raw) == 16 + 56


@pytest.mark.parametrize("net", [1, 7, NO_SEQUENCE])
def test_packets_are_not_left_out(sessions: Sessions, net: int) -> None:
    stream = stream_of(session_of(sessions))
    put(stream, 0, packet_of(0))
    put(stream, 1, packet_of(1))
    with pytest.raises(RemoteProtocolError, match="instead of 2"):
        send(stream, net, packet_of(2))


def test_an_index_that_contradicts_its_packet(sessions: Sessions) -> None:
    stream = stream_of(session_of(sessions))
    send(stream, 0, packet_of(0))
    with pytest.raises(RemoteProtocolError, match="4096 bytes"):
        stream.add_index(index_of(stream.handle, 0, Packet(b"1234", 4)))


def test_indexes_and_packets_without_the_other_have_a_bound(sessions: Sessions) -> None:
    session = session_of(sessions)
    first, second = stream_of(session), stream_of(session, "c_1")
    packet = Packet(b"1234", 4)
    for net in range(4096):
        send(first, net, packet)
        second.add_index(index_of(second.handle, net, packet))
    with pytest.raises(RemoteProtocolError, match="4096 packets without an index"):
        send(first, 4096, packet)
    with pytest.raises(RemoteProtocolError, match="4096 indexes without a packet"):
        second.add_index(index_of(second.handle, 4096, packet))


def test_padding_has_a_bound(sessions: Sessions) -> None:
    stream = stream_of(session_of(sessions))
    with pytest.raises(RemoteProtocolError, match="padding"):
        stream.begin(DataHeader(stream.handle, 0, 4, (1 << 32) - 1), b"1234")


def test_two_connections_do_not_mix_packets(sessions: Sessions) -> None:
    stream = stream_of(session_of(sessions))
    stream.begin(DataHeader(stream.handle, 0, 8, 0), b"12345678")
    with pytest.raises(RemoteProtocolError, match="within"):
        stream.begin(DataHeader(stream.handle, 0, 8, 0), b"12345678")


def test_a_packet_in_part_leaves_nothing(sessions: Sessions, tmp_path: Path) -> None:
    session = session_of(sessions)
    stream = stream_of(session)
    put(stream, 0, packet_of(0))
    incoming = stream.begin(DataHeader(stream.handle, 1, 400, 0), b"1234")
    incoming.write(b"1234")
    incoming.abort()
    assert (tmp_path / session.path / PATH / "c_0").read_bytes() == packet_of(0).stored
    put(stream, 1, packet_of(1))
    assert stream.count == 2


def test_beacons(sessions: Sessions) -> None:
    """Ignored before the first packet and while something is missing (facts 6.9)."""
    stream = stream_of(session_of(sessions))

    def beacon(end: int) -> int | None:
        stream.add_index(Index(stream.handle, 0, 0, 0, 0, end, 0, 0, 0, 0))
        return stream.beacon

    assert beacon(500) is None
    put(stream, 0, packet_of(0))
    assert beacon(2000) == 2000
    send(stream, 1, packet_of(1))
    assert beacon(3000) == 2000
    stream.add_index(index_of(stream.handle, 1, packet_of(1)))
    assert stream.beacon is None


# -- tracefile rotation ----------------------------------------------------------------------


def test_tracefiles_wrap(sessions: Sessions, tmp_path: Path) -> None:
    """Facts 8; viewers read the files that are still open."""
    session = session_of(sessions, live_us=1)
    stream = stream_of(session, tracefile_size=8192, tracefile_count=3)
    packets = [packet_of(n, 4000) for n in range(11)]
    for net, packet in enumerate(packets):
        put(stream, net, packet)
        assert stream.read(net, 0, 4096) == packet.stored
    trace = tmp_path / session.path / PATH
    found = {path.name: path.read_bytes() for path in trace.glob("c_0_*")}
    # Two packets a file; file 5 is number 2, and 3 to 5 are the last three.
    stored = [packet.stored for packet in packets]
    assert found == {
        "c_0_0": stored[6] + stored[7],
        "c_0_1": stored[8] + stored[9],
        "c_0_2": stored[10],
    }
    sizes = {path.name: path.stat().st_size for path in trace.glob("index/*")}
    assert sizes == {"c_0_0.idx": 160, "c_0_1.idx": 160, "c_0_2.idx": 88}
    assert (stream.first, stream.count) == (2, 11)
    assert [stream.read(n, 0, 4096) for n in range(2, 11)] == stored[2:]


def test_an_index_may_come_behind_the_end_of_its_file(sessions: Sessions) -> None:
    stream = stream_of(session_of(sessions), tracefile_size=4096, tracefile_count=2)
    packets = [packet_of(n, 4000) for n in range(4)]
    for net, packet in enumerate(packets):
        send(stream, net, packet)
    for net, packet in enumerate(packets):
        stream.add_index(index_of(stream.handle, net, packet))
    assert (stream.first, stream.count) == (3, 4)
    assert stream.read(3, 0, 4096) == packets[3].stored


# -- chunks ------------------------------------------------------------------------------------


def rotate(session: RelaySession, number: int, at: dict[RelayStream, int]) -> None:
    session.create_chunk(CreateChunk(number, CREATED + number))
    session.rotate(Rotate(number, {stream.handle: net for stream, net in at.items()}))


def close(session: RelaySession, number: int, command: int | None) -> str:
    return session.close_chunk(CloseChunk(number, CREATED + 9, command))


def test_a_chunk_is_moved_when_its_last_packet_is_there(sessions: Sessions, tmp_path: Path) -> None:
    session = session_of(sessions)
    home = tmp_path / session.path
    stream = stream_of(session)
    put(stream, 0, packet_of(0))
    rotate(session, 1, {stream: 2})
    path = close(session, 0, CloseCommand.MOVE_TO_COMPLETED)
    # Its last packet is still on its way.
    assert session.has_chunk(0)
    assert stream.busy
    put(stream, 1, packet_of(1))
    assert not session.has_chunk(0)
    put(stream, 2, packet_of(2))
    stored = [packet_of(n).stored for n in range(3)]
    assert (tmp_path / path / PATH / "c_0").read_bytes() == stored[0] + stored[1]
    assert Path(path).parent == Path(session.path) / "archives"
    (current,) = (each for each in home.iterdir() if each.name != "archives")
    assert current.name.endswith("-1")
    assert (current / PATH / "c_0").read_bytes() == stored[2]


def test_clear_deletes_a_chunk(sessions: Sessions, tmp_path: Path) -> None:
    session = session_of(sessions)
    stream = stream_of(session)
    put(stream, 0, packet_of(0))
    rotate(session, 1, {stream: 1})
    close(session, 0, CloseCommand.DELETE)
    put(stream, 1, packet_of(1))
    home = tmp_path / session.path
    assert files(home) == [f"{PATH}/c_0"]
    assert (home / PATH / "c_0").read_bytes() == packet_of(1).stored


def test_two_connections_of_a_session_share_its_chunks(sessions: Sessions, tmp_path: Path) -> None:
    """As 64- and 32-bit consumers have it: what is moved is moved once, when both are done."""
    pair = [session_of(sessions) for _ in range(2)]
    streams = [stream_of(session, f"c_{n}") for n, session in enumerate(pair)]
    for stream in streams:
        put(stream, 0, packet_of(0))
    for session, stream in zip(pair, streams, strict=True):
        rotate(session, 1, {stream: 1})
    paths = [close(pair[0], 0, CloseCommand.MOVE_TO_COMPLETED)]
    assert files(tmp_path / paths[0]) == []
    paths.append(close(pair[1], 0, CloseCommand.MOVE_TO_COMPLETED))
    assert paths[0] == paths[1]
    assert files(tmp_path / paths[0], "c_?") == [f"{PATH}/c_0", f"{PATH}/c_1"]
    for stream in streams:
        put(stream, 1, packet_of(1))
    assert len(files(tmp_path, "c_?")) == 4
    home = tmp_path / pair[0].path
    assert len(list(home.iterdir())) == 2


def test_a_connection_that_goes_leaves_its_chunks(sessions: Sessions, tmp_path: Path) -> None:
    pair = [session_of(sessions) for _ in range(2)]
    streams = [stream_of(session, f"c_{n}") for n, session in enumerate(pair)]
    rotate(pair[0], 1, {streams[0]: 0})
    path = close(pair[0], 0, CloseCommand.MOVE_TO_COMPLETED)
    assert not (tmp_path / path).exists()
    sessions.forget(pair[1])
    assert files(tmp_path / path, "c_?") == [f"{PATH}/c_0", f"{PATH}/c_1"]


def test_chunks_that_make_no_sense(sessions: Sessions) -> None:
    session = session_of(sessions)
    with pytest.raises(RemoteProtocolError, match="is there already"):
        session.create_chunk(CreateChunk(0, CREATED))
    session.create_chunk(CreateChunk(1, CREATED))
    with pytest.raises(RemoteProtocolError, match="being closed"):
        session.create_chunk(CreateChunk(2, CREATED))
    with pytest.raises(RemoteProtocolError, match="no chunk 5"):
        close(session, 5, None)
    with pytest.raises(RemoteProtocolError, match="no chunk 5"):
        session.rotate(Rotate(5, {}))


def test_a_stream_needs_a_chunk(sessions: Sessions) -> None:
    session = sessions.create(wanted(), 13, False)
    with pytest.raises(RemoteProtocolError, match="without a chunk"):
        add(session)


# -- streams that end ------------------------------------------------------------------------


def test_closed_streams_are_let_go(sessions: Sessions) -> None:
    """Programs come and go: neither descriptors nor streams are used up."""
    session = session_of(sessions)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        added = session.add_stream(AddStream(name="c_0", path=f"ust/pid/p-{number}"))
        stream = session.stream(added.handle)
        assert isinstance(stream, RelayStream)
        put(stream, 0, packet_of(number))
        session.close_stream(added.handle, 0)
    assert not session.streams
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_stream_ends_behind_its_last_packet(sessions: Sessions) -> None:
    session = session_of(sessions, live_us=1)
    stream = stream_of(session)
    put(stream, 0, packet_of(0))
    session.close_stream(stream.handle, 1)
    assert not stream.closed
    assert session.is_waiting
    put(stream, 1, packet_of(1))
    assert stream.closed
    # Viewers may not have read it.
    assert stream.read(1, 0, 4096) == packet_of(1).stored
    with pytest.raises(RemoteProtocolError, match="behind its end"):
        send(stream, 2, packet_of(2))


# -- metadata --------------------------------------------------------------------------------


def test_metadata_comes_again_in_a_new_chunk(sessions: Sessions, tmp_path: Path) -> None:
    session = session_of(sessions)
    handle = add(session, "metadata").handle
    stream = session.stream(handle)
    say(session, handle, b"first ")
    session.create_chunk(CreateChunk(1, CREATED))
    session.rotate(Rotate(1, {handle: 0}))
    assert stream.metadata_size == 6
    say(session, handle, b"first ")
    say(session, handle, b"second")
    assert stream.read_metadata(6) == b"second"
    assert sorted(path.read_bytes() for path in tmp_path.rglob("metadata")) == [
        b"first ",
        b"first second",
    ]


def test_metadata_has_a_bound(sessions: Sessions) -> None:
    session = session_of(sessions)
    stream = session.stream(add(session, "metadata").handle)
    assert isinstance(stream, MetadataStream)
    with pytest.raises(RemoteProtocolError, match="too much"):
        stream.begin(1 << 29, 0)
    with pytest.raises(RemoteProtocolError, match="too much"):
        stream.begin(4, (1 << 32) - 1)


def test_metadata_in_part_leaves_nothing(sessions: Sessions, tmp_path: Path) -> None:
    session = session_of(sessions)
    handle = add(session, "metadata").handle
    say(session, handle, b"whole")
    stream = session.stream(handle)
    assert isinstance(stream, MetadataStream)
    incoming = stream.begin(100, 0)
    incoming.write(b"part")
    assert stream.read_metadata(0) == b"whole"
    incoming.abort()
    assert (tmp_path / session.path / PATH / "metadata").read_bytes() == b"whole"


# -- producers that come back --------------------------------------------------------------


def record(session: RelaySession, uuid: bytes = UUID) -> RelayStream:
    """Two packets whole, one without its index, and metadata the last packet of which is torn."""
    stream = session.stream(add(session, uuid=uuid).handle)
    assert isinstance(stream, RelayStream)
    handle = add(session, "metadata", uuid=uuid).handle
    say(session, handle, metadata_packet(b"text ", uuid) + metadata_packet(b"more", uuid))
    for number in range(2):
        packet = data_packet(number, uuid)
        send(stream, number, packet)
        entry = index_of(stream.handle, number, packet)
        stream.add_index(entry._replace(discarded=10 * number))
    send(stream, 2, data_packet(2, uuid))
    return stream


def test_it_goes_on_where_it_was(sessions: Sessions, tmp_path: Path) -> None:
    session = session_of(sessions, resume=True)
    stream = record(session)
    again = sessions.create(wanted(), 13, True)
    assert again is session
    again.create_chunk(CreateChunk(0, CREATED))
    assert add(again, uuid=UUID)[2:4] == (2, 10)
    assert add(again, "metadata", uuid=UUID).text_size == len(b"text more")
    data = tmp_path / session.path / PATH / "c_0"
    assert data.read_bytes() == data_packet(0).stored + data_packet(1).stored
    put(stream, 0, data_packet(2), 2)
    assert stream.count == 3
    with pytest.raises(RemoteProtocolError, match="instead of 1"):
        send(stream, 3, data_packet(3))


def test_a_relay_that_was_restarted_goes_on_too(tmp_path: Path) -> None:
    first = Sessions(tmp_path)
    session = session_of(first, resume=True)
    record(session)
    first.close()
    metadata = tmp_path / session.path / PATH / "metadata"
    with open(metadata, "ab") as file:
        file.write(metadata_packet(b"torn")[:1000])
    second = Sessions(tmp_path)
    again = session_of(second, resume=True)
    assert again.path == session.path
    assert add(again, uuid=UUID)[2:4] == (2, 10)
    assert add(again, "metadata", uuid=UUID).text_size == len(b"text more")
    assert metadata.stat().st_size == 2 * 4096
    second.close()


def test_the_trace_of_another_is_not_touched(tmp_path: Path) -> None:
    first = Sessions(tmp_path)
    session = session_of(first, resume=True)
    record(session)
    first.close()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    second = Sessions(tmp_path)
    other = session_of(second, resume=True)
    for name in ("c_0", "metadata"):
        with pytest.raises(RemoteProtocolError, match="another trace"):
            add(other, name, uuid=UUID[::-1])
    second.close()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_nobody_else_comes_back_as_a_session(sessions: Sessions) -> None:
    """Not one that never said that it may, and none of another name."""
    plain = session_of(sessions)
    assert sessions.create(wanted(), 13, True) is not plain
    resumable = session_of(sessions, "t", resume=True)
    assert sessions.create(wanted("u"), 13, True) is not resumable


def test_what_the_last_connection_still_says_is_of_no_stream(sessions: Sessions) -> None:
    session = session_of(sessions, resume=True)
    before = add(session, uuid=UUID)
    after = add(session, uuid=UUID)
    assert session.find(before.handle) is None
    assert sessions.find_stream(before.handle) is None
    stream = session.stream(after.handle)
    # Viewers go on with what they know.
    assert stream.handle == before.handle
    assert list(session.streams) == [stream]
