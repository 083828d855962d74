# SPDX-License-Identifier: MIT
"""The live viewer protocol: what Babeltrace asks a relay, and the answers; no I/O.

Big-endian, packed. One request, one answer, which has no header.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum, IntFlag
from typing import NamedTuple

from ustconsumer.errors import RemoteProtocolError

__all__ = [
    "HEADER",
    "MAJOR",
    "MAX_REQUEST",
    "MINOR",
    "AttachStatus",
    "Command",
    "Connect",
    "Flag",
    "IndexAnswer",
    "IndexStatus",
    "Seek",
    "SessionRow",
    "Status",
    "StreamRow",
    "StreamsStatus",
    "attached",
    "connected",
    "decode_attach",
    "decode_connect",
    "decode_get_packet",
    "decode_number",
    "index_answer",
    "metadata",
    "packet",
    "request",
    "sessions",
    "status",
    "streams",
]

MAJOR = 2
MINOR = 13
#: Payload size, command, version (0).
HEADER = struct.Struct(">QII")
#: Largest payload of a request that makes sense.
MAX_REQUEST = 64

_CONNECT = struct.Struct(">QIII")
_SESSION = struct.Struct(">QIII64s255s")
_STREAM = struct.Struct(">QQI4096s255s")
_ATTACH = struct.Struct(">QQI")
_GET_PACKET = struct.Struct(">QQI")
_NUMBER = struct.Struct(">Q")
_STATUS = struct.Struct(">I")
_TWO = struct.Struct(">II")
_INDEX = struct.Struct(">7QII")
_PACKET = struct.Struct(">III")
_METADATA = struct.Struct(">QI")


class Command(IntEnum):
    """Numbers of the requests."""

    CONNECT = 1
    LIST_SESSIONS = 2
    ATTACH_SESSION = 3
    GET_NEXT_INDEX = 4
    GET_PACKET = 5
    GET_METADATA = 6
    GET_NEW_STREAMS = 7
    CREATE_SESSION = 8
    DETACH_SESSION = 9


class Status(IntEnum):
    """Of an answer that is nothing else."""

    OK = 1
    #: unknown session on ``DETACH_SESSION``, none to be had on ``CREATE_SESSION``
    UNKNOWN = 2
    ERROR = 3
    #: of ``GET_PACKET``
    EOF = 4
    #: no such command
    NO_COMMAND = 11


class AttachStatus(IntEnum):
    """Of ``ATTACH_SESSION``."""

    OK = 1
    ALREADY = 2
    UNKNOWN = 3
    NOT_LIVE = 4
    SEEK = 5
    NO_SESSION = 6


class StreamsStatus(IntEnum):
    """Of ``GET_NEW_STREAMS``."""

    OK = 1
    NONE = 2
    ERROR = 3
    HUP = 4


class IndexStatus(IntEnum):
    """Of ``GET_NEXT_INDEX``."""

    OK = 1
    RETRY = 2
    HUP = 3
    ERROR = 4
    INACTIVE = 5


class Flag(IntFlag):
    """What else there is."""

    NEW_METADATA = 1
    NEW_STREAMS = 2


class Seek(IntEnum):
    """Where a viewer begins."""

    BEGINNING = 1
    LAST = 2


class Connect(NamedTuple):
    """Of ``CONNECT``, request and answer."""

    session: int
    major: int
    minor: int
    type: int


class SessionRow(NamedTuple):
    """A session, as a list shows it."""

    id: int
    live_us: int
    clients: int
    streams: int
    host: str
    name: str


class StreamRow(NamedTuple):
    """A stream, as viewers are told of it."""

    id: int
    trace: int
    is_metadata: bool
    path: str
    name: str


class IndexAnswer(NamedTuple):
    """Answer to ``GET_NEXT_INDEX``; offset in bytes, sizes in bits."""

    status: int
    flags: int = 0
    offset: int = 0
    packet_size: int = 0
    content_size: int = 0
    begin: int = 0
    end: int = 0
    discarded: int = 0
    class_id: int = 0


def request(command: int, payload: bytes = b"") -> bytes:
    """Return a viewer's request with its header."""
    return HEADER.pack(len(payload), command, 0) + payload


# -- requests, as a relay reads them -----------------------------------------------------


def decode_connect(raw: bytes) -> Connect:
    """Return what a viewer says of itself."""
    return Connect(*_unpack(_CONNECT, raw, "connect"))


def decode_attach(raw: bytes) -> tuple[int, int]:
    """Return the session that a viewer wants, and where it begins."""
    session, _, seek = _unpack(_ATTACH, raw, "attach")
    return session, seek


def decode_get_packet(raw: bytes) -> tuple[int, int, int]:
    """Return the stream, the offset in it and how many bytes."""
    stream, offset, size = _unpack(_GET_PACKET, raw, "get packet")
    return stream, offset, size


def decode_number(raw: bytes) -> int:
    """Return the one number that other requests have."""
    return _unpack(_NUMBER, raw, "request")[0]


# -- answers ---------------------------------------------------------------------------------


def connected(session: int) -> bytes:
    """Return the answer to ``CONNECT``."""
    return _CONNECT.pack(session, MAJOR, MINOR, 0)


def status(value: int) -> bytes:
    """Return an answer that is a status."""
    return _STATUS.pack(value)


def sessions(rows: Iterable[SessionRow]) -> bytes:
    """Return the answer to ``LIST_SESSIONS``."""
    packed = [_SESSION.pack(*row[:4], _array(row.host, 64), _array(row.name, 255)) for row in rows]
    return _STATUS.pack(len(packed)) + b"".join(packed)


def streams(value: int, rows: Iterable[StreamRow] = ()) -> bytes:
    """Return the answer to ``GET_NEW_STREAMS``."""
    packed = [_STREAM.pack(*row[:3], _array(row.path, 4096), _array(row.name, 255)) for row in rows]
    return _TWO.pack(value, len(packed)) + b"".join(packed)


#: The answer to ``ATTACH_SESSION`` looks the same.
attached = streams


def index_answer(answer: IndexAnswer) -> bytes:
    """Return the answer to ``GET_NEXT_INDEX``."""
    return _INDEX.pack(*answer[2:], answer.status, answer.flags)


def packet(value: int, data: bytes = b"", flags: int = 0) -> bytes:
    """Return the answer to ``GET_PACKET``."""
    return _PACKET.pack(value, len(data), flags) + data


def metadata(value: int, data: bytes = b"") -> bytes:
    """Return the answer to ``GET_METADATA``."""
    return _METADATA.pack(len(data), value) + data


def _unpack(layout: struct.Struct, raw: bytes, what: str) -> tuple[int, ...]:
    if len(raw) != layout.size:
        raise RemoteProtocolError(f"{what}: {len(raw)} bytes instead of {layout.size}")
    return layout.unpack(raw)


def _array(text: str, size: int) -> bytes:
    """Return the text with a NUL behind it, cut to what has room."""
    return text.encode()[: size - 1]
