# SPDX-License-Identifier: MIT
"""Control protocol between the registry and its clients: messages and framing, no I/O.

A frame is an 8-byte header (``<IHxx``: length of the body, number of descriptors),
then a msgpack body. Descriptors ride on the first byte of their frame (SCM_RIGHTS),
so they arrive no later than the header that counts them and in frame order.

A client sends `Hello` first and gets `Welcome` or `Failed`. Then it sends requests;
each carries a ``seq`` that its one reply repeats. The registry pushes messages
(``Push``) only to connections that sent `Attach`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import Any

import msgspec

from ustconsumer.errors import RemoteProtocolError, UsageError
from ustconsumer.protocol import (
    liveverbs,
    rotationverbs,
    sessionverbs,
    snapshotverbs,
    subscribing,
    triggerverbs,
)
from ustconsumer.protocol.liveverbs import RegenerateMetadata, RegenerateStatedump, SetOptions
from ustconsumer.protocol.messages import (
    MAX_COUNT,
    Message,
)
from ustconsumer.protocol.model import (
    AppInfo,
    ChannelInfo,
    ChannelLoad,
    ChannelOptions,
    ConsumerInfo,
    ConsumerStats,
    Destination,
    EventInfo,
    RotationSchedule,
    SessionInfo,
    StreamInfo,
)
from ustconsumer.protocol.rotationverbs import (
    Clear,
    ClearSession,
    DisableRotation,
    EnableRotation,
    Rotate,
    Rotated,
    RotateSession,
)
from ustconsumer.protocol.sessionverbs import (
    AddContext,
    Applications,
    CreateSession,
    DestroySession,
    DisableChannel,
    DisableEvent,
    EnableChannel,
    EnableEvent,
    ListApplications,
    ListLoggers,
    ListSessions,
    Loggers,
    LoggingProgram,
    PauseSession,
    Sessions,
    SpawnConsumer,
    StartSession,
    StopSession,
    Track,
)
from ustconsumer.protocol.snapshotverbs import (
    AddSnapshotOutput,
    DelSnapshotOutput,
    ListSnapshotOutputs,
    PrepareSnapshot,
    SnapshotOutput,
    SnapshotOutputs,
    SnapshotPlace,
)
from ustconsumer.protocol.subscribing import (
    Attach,
    Attached,
    Describe,
    Description,
    Drain,
    Drained,
    HoleFound,
    HoleVerdict,
    Release,
    SessionEnded,
    StreamAdded,
    StreamReady,
    TimersChanged,
    TraceAdded,
    TraceClosed,
    TraceDescription,
    TraceEnded,
)
from ustconsumer.protocol.triggerverbs import (
    AddTrigger,
    Listen,
    ListTriggers,
    Notification,
    RemoveTrigger,
    TriggerAction,
    TriggerInfo,
    Triggers,
)

__all__ = [
    "ERROR_KINDS",
    "HEADER",
    "MAX_BODY",
    "MAX_COUNT",
    "MAX_FDS",
    "VERSION",
    "AddContext",
    "AddSnapshotOutput",
    "AddTrigger",
    "AppInfo",
    "Applications",
    "Attach",
    "Attached",
    "ChannelInfo",
    "ChannelLoad",
    "ChannelOptions",
    "Clear",
    "ClearSession",
    "ConsumerInfo",
    "ConsumerStats",
    "CreateSession",
    "DelSnapshotOutput",
    "Describe",
    "Description",
    "Destination",
    "DestroySession",
    "DisableChannel",
    "DisableEvent",
    "DisableRotation",
    "Done",
    "Drain",
    "Drained",
    "EnableChannel",
    "EnableEvent",
    "EnableRotation",
    "EventInfo",
    "Failed",
    "FrameDecoder",
    "Hello",
    "HoleFound",
    "HoleVerdict",
    "ListApplications",
    "ListLoggers",
    "ListSessions",
    "ListSnapshotOutputs",
    "ListTriggers",
    "Listen",
    "Loggers",
    "LoggingProgram",
    "Message",
    "Notification",
    "PauseSession",
    "PrepareSnapshot",
    "RegenerateMetadata",
    "RegenerateStatedump",
    "Release",
    "RemoveTrigger",
    "Rotate",
    "RotateSession",
    "Rotated",
    "RotationSchedule",
    "SessionEnded",
    "SessionInfo",
    "Sessions",
    "SetOptions",
    "Shutdown",
    "SnapshotOutput",
    "SnapshotOutputs",
    "SnapshotPlace",
    "SpawnConsumer",
    "StartSession",
    "StopSession",
    "StreamAdded",
    "StreamInfo",
    "StreamReady",
    "TimersChanged",
    "TraceAdded",
    "TraceClosed",
    "TraceDescription",
    "TraceEnded",
    "Track",
    "TriggerAction",
    "TriggerInfo",
    "Triggers",
    "Welcome",
    "decode",
    "encode",
]

VERSION = 1
HEADER = struct.Struct("<IHxx")
MAX_BODY = 16 << 20
MAX_FDS = 16
#: ``Failed.kind``: what a program may branch on.
ERROR_KINDS = (
    "refused",
    "no-such-session",
    "session-exists",
    "no-such-channel",
    "no-such-event",
    "channel-exists",
    "no-such-trigger",
    "trigger-exists",
    "invalid",
    "permission",
    "busy",
    "already",
    "timeout",
    "version",
)


class Hello(Message, tag="hello", kw_only=True):
    version: int
    #: "client", "consumer" or "observer": shown by ``drtrace status``.
    role: str = "client"
    release: str = ""


class Welcome(Message, tag="welcome", kw_only=True):
    version: int
    release: str
    pid: int
    uid: int
    rundir: str


class Shutdown(Message, tag="shutdown", kw_only=True):
    """End the registry: drain, close, exit 0."""


class Done(Message, tag="done", kw_only=True):
    """The request succeeded; ``warnings`` are one line each."""

    warnings: list[str] = msgspec.field(default_factory=list)


class Failed(Message, tag="failed", kw_only=True):
    message: str
    kind: str = "refused"


#: By area; a module of messages joins with its `MESSAGES`.
_AREAS = (sessionverbs, liveverbs, rotationverbs, snapshotverbs, triggerverbs, subscribing)
_OWN: tuple[type[Message], ...] = (Hello, Welcome, Shutdown, Done, Failed)
_MESSAGES = (*_OWN, *(message for area in _AREAS for message in area.MESSAGES))
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(reduce(or_, _MESSAGES))


def encode(message: Message, fds: int = 0) -> bytes:
    """Return the frame of a message that travels with ``fds`` descriptors.

    Raises
    ------
    UsageError
        A text in it is not Unicode (a file name or argument in another encoding), or a
        number has more than 64 bits.
    """
    try:
        body = _encoder.encode(message)
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!r} is not UTF-8 text: use another name") from None
    except OverflowError:
        raise UsageError(f"a number is too large: at most {MAX_COUNT}") from None
    return HEADER.pack(len(body), fds) + body


def decode(body: bytes | memoryview) -> Message:
    """Return the message of a frame's body.

    Raises
    ------
    RemoteProtocolError
        Not msgpack, no known type, or fields of the wrong type.
    """
    try:
        message: Message = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"control message: {error}") from None
    return message


class FrameDecoder:
    """Turn received bytes and descriptors into messages.

    Owns the descriptors it was fed until it hands them out with their message;
    `close` returns those left, for the caller to close.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: list[int] = []

    def feed(self, chunk: bytes, fds: list[int]) -> Iterator[tuple[Message, list[int]]]:
        """Add what one ``recvmsg`` gave; yield each complete message with its descriptors.

        Raises
        ------
        RemoteProtocolError
            A frame too large, fewer descriptors than announced, or an invalid body.
        """
        self._buffer += chunk
        self._fds += fds
        if len(self._fds) > 4 * MAX_FDS:
            raise RemoteProtocolError("control connection: more descriptors than announced")
        while len(self._buffer) >= HEADER.size:
            length, count = HEADER.unpack_from(self._buffer)
            if length > MAX_BODY or count > MAX_FDS:
                raise RemoteProtocolError(
                    f"control frame of {length} bytes and {count} descriptors: too large"
                )
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            if len(self._fds) < count:
                raise RemoteProtocolError(
                    f"control frame announces {count} descriptors, {len(self._fds)} came"
                )
            message = decode(bytes(self._buffer[HEADER.size : end]))
            del self._buffer[:end]
            mine, self._fds = self._fds[:count], self._fds[count:]
            yield message, mine

    def close(self) -> list[int]:
        """Return the descriptors never handed out."""
        left, self._fds = self._fds, []
        return left
