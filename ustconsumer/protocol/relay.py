# SPDX-License-Identifier: MIT
"""The relay protocol: control commands, their replies and the data header; no I/O.

What LTTng's daemons speak, versions 2.4 to 2.14, and one extension of ours: a peer that
both ends know can be resumed. Everything is big-endian and packed. Requests on a control
connection may follow each other without waiting; replies come in order and have no header.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

import msgspec

from ustconsumer.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "ANY_CHUNK",
    "CLEAR_ALLOWED",
    "CONTROL_PORT",
    "DATA_HEADER",
    "DATA_PORT",
    "HEADER",
    "LIVE_PORT",
    "MAJOR",
    "MAX_CONTROL",
    "METADATA",
    "MINOR",
    "NO_SEQUENCE",
    "RESUMABLE",
    "AddStream",
    "CloseChunk",
    "CloseCommand",
    "Command",
    "CreateChunk",
    "CreateSession",
    "DataHeader",
    "Index",
    "Rotate",
    "Status",
    "StreamAdded",
    "add_stream",
    "close_chunk",
    "create_chunk",
    "create_session",
    "decode_add_stream",
    "decode_close_chunk",
    "decode_create_chunk",
    "decode_create_session",
    "decode_data_header",
    "decode_index",
    "decode_rotate",
    "decode_stream_added",
    "index",
    "request",
    "rotate",
    "send_metadata",
    "stream_added",
]

MAJOR = 2
#: The newest that we announce.
MINOR = 13
CONTROL_PORT = 5342
DATA_PORT = 5343
LIVE_PORT = 5344
#: Largest control payload.
MAX_CONTROL = 128 << 20
#: A stream of this name carries a trace's metadata.
METADATA = "metadata"
#: "None yet" where a sequence number is expected.
NO_SEQUENCE = (1 << 64) - 1
#: A rotation to no chunk.
ANY_CHUNK = NO_SEQUENCE

#: Circuit id (0), payload size, command, command version (0).
HEADER = struct.Struct(">QQII")
#: Circuit id (0), stream handle, net sequence number, data size, padding size.
DATA_HEADER = struct.Struct(">QQQII")
#: Flags of the answer to `Command.GET_CONFIGURATION`.
CLEAR_ALLOWED = 1
#: Ours; LTTng's peers look at bit 0 only.
RESUMABLE = 1 << 32


class Command(IntEnum):
    """Numbers of the control commands."""

    ADD_STREAM = 1
    CREATE_SESSION = 2
    START_DATA = 3
    VERSION = 5
    SEND_METADATA = 6
    CLOSE_STREAM = 7
    DATA_PENDING = 8
    QUIESCENT_CONTROL = 9
    BEGIN_DATA_PENDING = 10
    END_DATA_PENDING = 11
    SEND_INDEX = 13
    STREAMS_SENT = 16
    RESET_METADATA = 17
    ROTATE_STREAMS = 18
    CREATE_TRACE_CHUNK = 19
    CLOSE_TRACE_CHUNK = 20
    TRACE_CHUNK_EXISTS = 21
    GET_CONFIGURATION = 22
    #: Ours, only to a relay that says `RESUMABLE`: no payload, answered with a status. From
    #: then on the session may be one that was there, and so may its streams (`AddStream.uuid`).
    RESUME = 0x55530001


class Status(IntEnum):
    """Codes in replies."""

    OK = 10
    UNKNOWN = 11
    FATAL = 25
    NO_MEMORY = 26
    INVALID = 97
    PROTOCOL = 152
    FILE = 153


class CloseCommand(IntEnum):
    """What becomes of a chunk that is closed."""

    MOVE_TO_COMPLETED = 0
    NOTHING = 1
    DELETE = 2


class CreateSession(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of ``CREATE_SESSION``; of old peers only the first four are known."""

    name: str
    host: str
    #: microseconds; 0: not a live session
    live_us: int = 0
    snapshot: bool = False
    base_path: str = ""
    #: the name has the creation time in it already
    name_has_time: bool = False
    #: of the producer's session daemon
    uuid: bytes = bytes(16)
    #: of the session there
    id: int = 0
    #: seconds since the epoch
    created: int = 0
    chunk: int | None = None


class AddStream(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of ``ADD_STREAM``."""

    name: str
    #: of old peers from the relay's directory on, else from the chunk's
    path: str
    tracefile_size: int = 0
    tracefile_count: int = 0
    chunk: int = 0
    #: of the trace: with ours behind the names, for a stream that may be there already
    uuid: bytes = b""


class StreamAdded(NamedTuple):
    """Answer to ``ADD_STREAM``; the last three only after ``RESUME``."""

    handle: int
    status: int
    #: the packet sequence number that follows the last one stored
    next_sequence: int = NO_SEQUENCE
    #: ``events_discarded`` of the last packet stored
    discarded: int = 0
    #: bytes of metadata text (without packet headers) stored
    text_size: int = 0


class Index(NamedTuple):
    """Payload of ``SEND_INDEX``; sizes in bits. ``packet_size`` 0: a live beacon."""

    handle: int
    #: net sequence number
    net: int
    packet_size: int
    content_size: int
    begin: int
    end: int
    discarded: int
    #: CTF stream class
    class_id: int
    instance: int = NO_SEQUENCE
    #: packet sequence number
    sequence: int = NO_SEQUENCE

    @property
    def is_beacon(self) -> bool:
        return self.packet_size == 0


class CreateChunk(NamedTuple):
    """Payload of ``CREATE_TRACE_CHUNK``; ``name`` overrides the chunk's own."""

    id: int
    created: int
    name: str = ""


class CloseChunk(NamedTuple):
    """Payload of ``CLOSE_TRACE_CHUNK``."""

    id: int
    closed: int
    command: int | None = None


class Rotate(msgspec.Struct, frozen=True):
    """Payload of ``ROTATE_STREAMS``: where each stream goes to another chunk, or to none."""

    chunk: int | None
    #: stream handle -> packet sequence number of the first packet behind the rotation
    streams: dict[int, int]


class DataHeader(NamedTuple):
    """What precedes each packet on the data connection."""

    handle: int
    net: int
    size: int
    #: zero bytes that the receiver appends
    padding: int


_SESSION_11 = struct.Struct(">IIIIBB16sQQBQ")
_SESSION_15 = struct.Struct(">I")
_SESSION_4 = struct.Struct(">255s64sII")
_STREAM_11 = struct.Struct(">IIQQQ")
_STREAM_2 = struct.Struct(">264s4096sQQ")
_INDEX_8 = struct.Struct(">10Q")
_INDEX_4 = struct.Struct(">8Q")
_CHUNK = struct.Struct(">QQI")
_CLOSE_CHUNK = struct.Struct(">QQBI")
_ADDED = struct.Struct(">QI")
_RESUMED = struct.Struct(">QIQQQ")
_METADATA = struct.Struct(">QI")
_ROTATE = struct.Struct(">IB7xQ")
_PAIR = struct.Struct(">QQ")

_MAX_NAME = 255
_MAX_HOST = 256
_MAX_PATH = 4096
_MAX_CHANNEL = 264
_MAX_STREAM_PATH = 255


def request(command: int, payload: bytes = b"") -> bytes:
    """Return a request with its header."""
    return HEADER.pack(0, len(payload), command, 0) + payload


# -- requests of a producer -------------------------------------------------------------


def create_session(minor: int, session: CreateSession) -> bytes:
    """Return the request for a peer of this minor version.

    Raises
    ------
    LocalProtocolError
        A name is too long for it. To old ones names are cut: only viewers see them there.
    """
    if minor < 4:
        return request(Command.CREATE_SESSION)
    if minor < 11:
        name, host = _shortened(session.name, 254), _shortened(session.host, 63)
        return request(
            Command.CREATE_SESSION, _SESSION_4.pack(name, host, session.live_us, session.snapshot)
        )
    name = _terminated(session.name, _MAX_NAME)
    host = _terminated(session.host, _MAX_HOST)
    base = _terminated(session.base_path, _MAX_PATH)
    fixed = _SESSION_11.pack(
        len(name),
        len(host),
        len(base),
        session.live_us,
        session.snapshot,
        session.name_has_time,
        session.uuid,
        session.id,
        session.created,
        session.chunk is not None,
        session.chunk or 0,
    )
    if minor >= 15:
        fixed += _SESSION_15.pack(1)
    return request(Command.CREATE_SESSION, fixed + name + host + base)


def add_stream(minor: int, stream: AddStream) -> bytes:
    """Return the request for a peer of this minor version.

    Raises
    ------
    LocalProtocolError
        Name or path are too long for it.
    """
    name = _terminated(stream.name, _MAX_CHANNEL)
    path = _terminated(stream.path, _MAX_PATH if minor < 11 else _MAX_STREAM_PATH)
    if minor < 11:
        payload = _STREAM_2.pack(name, path, stream.tracefile_size, stream.tracefile_count)
    else:
        payload = _STREAM_11.pack(
            len(name), len(path), stream.tracefile_size, stream.tracefile_count, stream.chunk
        )
        payload += name + path + stream.uuid
    return request(Command.ADD_STREAM, payload)


def index(minor: int, entry: Index) -> bytes:
    """Return the request for a peer of this minor version."""
    payload = _INDEX_8.pack(*entry) if minor >= 8 else _INDEX_4.pack(*entry[:8])
    return request(Command.SEND_INDEX, payload)


def send_metadata(handle: int, packets: bytes, padding: int = 0) -> bytes:
    """Return the request, which has no answer."""
    return request(Command.SEND_METADATA, _METADATA.pack(handle, padding) + packets)


def create_chunk(chunk: CreateChunk) -> bytes:
    """Return the request."""
    name = _terminated(chunk.name, _MAX_NAME) if chunk.name else b""
    return request(
        Command.CREATE_TRACE_CHUNK, _CHUNK.pack(chunk.id, chunk.created, len(name)) + name
    )


def close_chunk(chunk: CloseChunk) -> bytes:
    """Return the request."""
    present = chunk.command is not None
    payload = _CLOSE_CHUNK.pack(chunk.id, chunk.closed, present, chunk.command or 0)
    return request(Command.CLOSE_TRACE_CHUNK, payload)


def rotate(rotation: Rotate) -> bytes:
    """Return the request, in the form that every peer takes."""
    chunk = rotation.chunk
    payload = _ROTATE.pack(len(rotation.streams), chunk is not None, chunk or 0)
    payload += b"".join(_PAIR.pack(*pair) for pair in rotation.streams.items())
    return request(Command.ROTATE_STREAMS, payload)


def decode_stream_added(raw: bytes, resumed: bool = False) -> StreamAdded:
    """Return the answer to ``ADD_STREAM``: 12 bytes, 36 after ``RESUME``."""
    return StreamAdded(*_unpack(_RESUMED if resumed else _ADDED, raw, "answer to add stream"))


# -- requests, as a relay reads them -----------------------------------------------------


def decode_create_session(minor: int, raw: bytes) -> CreateSession:
    """Return what a producer of this minor version sent.

    Raises
    ------
    RemoteProtocolError
        Too short, a name without its end, or lengths that contradict each other.
    """
    if minor < 4:
        return CreateSession(name="", host="")
    if minor < 11:
        name, host, live, snapshot = _unpack(_SESSION_4, raw, "create session")
        return CreateSession(
            name=_cut(name, "session name"),
            host=_cut(host, "host name"),
            live_us=live,
            snapshot=bool(snapshot),
        )
    fields = _SESSION_11.unpack(_head(_SESSION_11, raw, "create session"))
    start = _SESSION_11.size + (_SESSION_15.size if minor >= 15 else 0)
    names = _names(raw[start:], fields[:3], (_MAX_NAME, _MAX_HOST, _MAX_PATH), "create session")
    return CreateSession(
        name=names[0],
        host=names[1],
        base_path=names[2],
        live_us=fields[3],
        snapshot=bool(fields[4]),
        name_has_time=bool(fields[5]),
        uuid=fields[6],
        id=fields[7],
        created=fields[8],
        chunk=fields[10] if fields[9] else None,
    )


def decode_add_stream(minor: int, raw: bytes, resumed: bool = False) -> AddStream:
    """Return what a producer of this minor version sent; ``resumed``: after ``RESUME``.

    Raises
    ------
    RemoteProtocolError
        See `decode_create_session`.
    """
    if minor < 11:
        name, path, size, count = _unpack(_STREAM_2, raw, "add stream")
        return AddStream(
            name=_cut(name, "stream name"),
            path=_cut(path, "stream path"),
            tracefile_size=size,
            tracefile_count=count,
        )
    fields = _STREAM_11.unpack(_head(_STREAM_11, raw, "add stream"))
    rest = raw[_STREAM_11.size :]
    uuid = b""
    if resumed:
        rest, uuid = rest[:-16], rest[-16:]
        if len(uuid) != 16:
            raise RemoteProtocolError("add stream: no trace UUID behind the names")
    names = _names(rest, fields[:2], (_MAX_CHANNEL, _MAX_STREAM_PATH), "add stream")
    return AddStream(
        name=names[0],
        path=names[1],
        tracefile_size=fields[2],
        tracefile_count=fields[3],
        chunk=fields[4],
        uuid=uuid,
    )


def decode_index(minor: int, raw: bytes) -> Index:
    """Return what a producer of this minor version sent."""
    return Index(*_unpack(_INDEX_8 if minor >= 8 else _INDEX_4, raw, "index"))


def decode_create_chunk(raw: bytes) -> CreateChunk:
    """Return what a producer sent."""
    number, created, length = _CHUNK.unpack(_head(_CHUNK, raw, "create chunk"))
    (name,) = _names(raw[_CHUNK.size :], (length,), (_MAX_NAME,), "create chunk")
    return CreateChunk(number, created, name)


def decode_close_chunk(raw: bytes) -> CloseChunk:
    """Return what a producer sent."""
    number, closed, present, command = _unpack(_CLOSE_CHUNK, raw, "close chunk")
    return CloseChunk(number, closed, command if present else None)


def decode_rotate(raw: bytes) -> Rotate:
    """Return what a producer sent, whatever padding its compiler put into it."""
    if len(raw) < 13:
        raise RemoteProtocolError(f"rotate streams: {len(raw)} bytes")
    (count,) = struct.unpack_from(">I", raw)
    size = len(raw) - _PAIR.size * count
    if size not in (13, 16, 20):
        raise RemoteProtocolError(f"rotate streams: {len(raw)} bytes for {count} streams")
    (chunk,) = struct.unpack_from(">Q", raw, size - 8)
    return Rotate(chunk if raw[4] else None, dict(_PAIR.iter_unpack(raw[size:])))


def decode_data_header(raw: bytes) -> DataHeader:
    """Return the header of a packet, 32 bytes."""
    return DataHeader(*_unpack(DATA_HEADER, raw, "data header")[1:])


def stream_added(answer: StreamAdded, resumed: bool = False) -> bytes:
    """Return the answer to ``ADD_STREAM``."""
    return _RESUMED.pack(*answer) if resumed else _ADDED.pack(*answer[:2])


def _head(layout: struct.Struct, raw: bytes, what: str) -> bytes:
    if len(raw) < layout.size:
        raise RemoteProtocolError(f"{what}: {len(raw)} bytes, at least {layout.size}")
    return raw[: layout.size]


def _unpack(layout: struct.Struct, raw: bytes, what: str) -> tuple[int, ...]:
    return layout.unpack(_head(layout, raw, what))


def _cut(raw: bytes | int, what: str) -> str:
    """Return the text before the first NUL; what follows it is not zeroed by its sender."""
    assert isinstance(raw, bytes)
    end = raw.find(b"\0")
    if end < 0:
        raise RemoteProtocolError(f"{what}: no end within {len(raw)} bytes")
    return _text(raw[:end], what)


def _names(raw: bytes, lengths: tuple[int, ...], limits: tuple[int, ...], what: str) -> list[str]:
    """Return texts that follow each other, each with its NUL counted; length 0 is empty too."""
    if sum(lengths) > len(raw):
        raise RemoteProtocolError(f"{what}: names of {sum(lengths)} bytes, {len(raw)} are there")
    names = []
    at = 0
    for length, limit in zip(lengths, limits, strict=True):
        if length > limit:
            raise RemoteProtocolError(f"{what}: a name of {length} bytes, at most {limit}")
        part = raw[at : at + length]
        at += length
        if part and (part[-1] or 0 in part[:-1]):
            raise RemoteProtocolError(f"{what}: a name does not end where it should")
        names.append(_text(part[:-1], what))
    return names


def _terminated(text: str, limit: int) -> bytes:
    raw = text.encode() + b"\0"
    if len(raw) > limit or raw.index(0) != len(raw) - 1:
        raise LocalProtocolError(
            f"{text[:64]!r} ({len(raw)} bytes) is no name for a relay: at most {limit - 1}, no NUL"
        )
    return raw


def _shortened(text: str, size: int) -> bytes:
    return text.encode()[:size].decode(errors="ignore").encode()


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError(f"{what}: {raw[:64]!r} is no UTF-8 text") from None
