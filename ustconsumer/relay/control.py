# SPDX-License-Identifier: MIT
"""A producer's control connection: requests in, answers out."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol import relay
from ustconsumer.protocol.relay import Command, Status
from ustconsumer.relay.metadata import IncomingMetadata, MetadataStream
from ustconsumer.relay.sessions import MAX_STREAMS, RelaySession, Sessions
from ustconsumer.relay.streams import RelayStream

__all__ = ["METADATA_HEAD", "Control", "check_size"]

_log = logging.getLogger("ust-relayd")

#: Bytes of a request: a rotation names every stream.
_MAX_REQUEST = 64 + 16 * MAX_STREAMS
_STATUS = struct.Struct(">I")
_VERSION = struct.Struct(">II")
_SETTINGS = struct.Struct(">IQ")
_CREATED = struct.Struct(">QI")
_CREATED_PATH = struct.Struct(">QII")
_EXISTS = struct.Struct(">IB")
_CLOSED = struct.Struct(">II")
_TWO = struct.Struct(">QQ")
_ONE = struct.Struct(">Q")
_METADATA = struct.Struct(">QI")
#: What metadata packets begin with: they are never in memory as a whole.
METADATA_HEAD = _METADATA.size

_OK = _STATUS.pack(Status.OK)


def check_size(command: int, size: int) -> None:
    """Check how many bytes follow the header of a request.

    Raises
    ------
    RemoteProtocolError
        More than any producer sends.
    """
    most = relay.MAX_CONTROL if command == Command.SEND_METADATA else _MAX_REQUEST
    if size > most:
        raise RemoteProtocolError(f"a request {command} of {size} bytes, at most {most}")


class Control:
    """What a control connection may say, and what it is told.

    Parameters
    ----------
    sessions : Sessions
    allow_clear : bool
        A producer may have a chunk deleted.

    Attributes
    ----------
    session : RelaySession or None
    closing : bool
        Nothing more is to be read: the last answer said what was wrong.
    """

    def __init__(self, sessions: Sessions, *, allow_clear: bool = True) -> None:
        self.session: RelaySession | None = None
        self.closing = False
        self._sessions = sessions
        self._allow_clear = allow_clear
        self._minor = 0
        self._resume = False
        self._handlers: dict[int, Callable[[bytes], bytes]] = {
            Command.VERSION: self._version,
            Command.GET_CONFIGURATION: self._configuration,
            Command.RESUME: self._resumed,
            Command.CREATE_SESSION: self._create_session,
            Command.CREATE_TRACE_CHUNK: self._create_chunk,
            Command.ADD_STREAM: self._add_stream,
            Command.STREAMS_SENT: self._streams_sent,
            Command.SEND_INDEX: self._index,
            Command.CLOSE_STREAM: self._close_stream,
            Command.RESET_METADATA: self._reset_metadata,
            Command.ROTATE_STREAMS: self._rotate,
            Command.CLOSE_TRACE_CHUNK: self._close_chunk,
            Command.TRACE_CHUNK_EXISTS: self._chunk_exists,
            Command.DATA_PENDING: self._data_pending,
            Command.BEGIN_DATA_PENDING: lambda raw: _OK,
            Command.QUIESCENT_CONTROL: lambda raw: _OK,
            Command.END_DATA_PENDING: lambda raw: _STATUS.pack(0),
            Command.START_DATA: lambda raw: _OK,
        }

    def handle(self, command: int, payload: bytes) -> bytes:
        """Carry out a request; return the answer, which may be empty.

        Raises
        ------
        RemoteProtocolError
            It makes no sense: the connection is of no use any more.
        OSError
            The session cannot be written.
        """
        handler = self._handlers.get(command)
        if handler is None:
            self.closing = True
            return _STATUS.pack(Status.UNKNOWN)
        return handler(payload)

    # -- the session ---------------------------------------------------------------------

    def _version(self, raw: bytes) -> bytes:
        major, minor = _take(_VERSION, raw, "version")
        self._minor = min(minor, relay.MINOR)
        self.closing = major != relay.MAJOR
        return _VERSION.pack(relay.MAJOR, relay.MINOR)

    def _configuration(self, raw: bytes) -> bytes:
        (query,) = _take(_ONE, raw, "configuration")
        if query:
            return _SETTINGS.pack(Status.PROTOCOL, 0)
        clear = relay.CLEAR_ALLOWED if self._allow_clear else 0
        return _SETTINGS.pack(Status.OK, clear | relay.RESUMABLE)

    def _resumed(self, raw: bytes) -> bytes:
        self._resume = self.session is None
        return _STATUS.pack(Status.OK if self._resume else Status.PROTOCOL)

    def _create_session(self, raw: bytes) -> bytes:
        if self.session is not None:
            raise RemoteProtocolError("a second session on one connection")
        try:
            wanted = relay.decode_create_session(self._minor, raw)
            self.session = self._sessions.create(wanted, self._minor, self._resume)
        except (RemoteProtocolError, OSError) as error:
            _log.warning("session refused: %s", error)
            if self._minor < 11:
                return _CREATED.pack(0, Status.FATAL)
            return _CREATED_PATH.pack(0, Status.FATAL, 0)
        session = self.session
        if self._minor < 11:
            return _CREATED.pack(session.id, Status.OK)
        path = session.path.encode() + b"\0"
        return _CREATED_PATH.pack(session.id, Status.OK, len(path)) + path

    def _known(self) -> RelaySession:
        if self.session is None:
            raise RemoteProtocolError("a request without a session")
        return self.session

    # -- chunks ------------------------------------------------------------------------------

    def _create_chunk(self, raw: bytes) -> bytes:
        session, wanted = self._known(), relay.decode_create_chunk(raw)
        try:
            session.create_chunk(wanted)
        except RemoteProtocolError as error:
            _log.warning("%s", error)
            self.closing = True
            return _STATUS.pack(Status.PROTOCOL)
        return _OK

    def _close_chunk(self, raw: bytes) -> bytes:
        try:
            path = self._known().close_chunk(relay.decode_close_chunk(raw))
        except RemoteProtocolError as error:
            _log.warning("%s", error)
            self.closing = True
            return _CLOSED.pack(Status.NO_MEMORY, 0)
        text = path.encode() + b"\0"
        return _CLOSED.pack(Status.OK, len(text)) + text

    def _chunk_exists(self, raw: bytes) -> bytes:
        (number,) = _take(_ONE, raw, "chunk")
        return _EXISTS.pack(Status.OK, self._known().has_chunk(number))

    def _rotate(self, raw: bytes) -> bytes:
        self._known().rotate(relay.decode_rotate(raw))
        return _OK

    # -- streams -----------------------------------------------------------------------------

    def _add_stream(self, raw: bytes) -> bytes:
        session = self._known()
        wanted = relay.decode_add_stream(self._minor, raw, self._resume)
        try:
            added = session.add_stream(wanted)
        except (RemoteProtocolError, OSError) as error:
            _log.warning("session %s: stream refused: %s", session.name, error)
            added = relay.StreamAdded(0, Status.INVALID if self._resume else Status.UNKNOWN)
        return relay.stream_added(added, self._resume)

    def _streams_sent(self, raw: bytes) -> bytes:
        self._known().publish()
        return _OK

    def begin_metadata(self, raw: bytes, size: int) -> IncomingMetadata:
        """Take the beginning of ``SEND_METADATA``, of which ``size`` bytes follow.

        Raises
        ------
        RemoteProtocolError
            It makes no sense.
        """
        handle, padding = _take(_METADATA, raw, "metadata")
        stream = self._known().stream(handle)
        if not isinstance(stream, MetadataStream):
            raise RemoteProtocolError(f"metadata for a stream of packets, {stream.name}")
        return stream.begin(size, padding)

    def _reset_metadata(self, raw: bytes) -> bytes:
        handle, _ = _take(_TWO, raw, "reset of metadata")
        stream = self._known().stream(handle)
        if not isinstance(stream, MetadataStream) or self._known().live_us:
            raise RemoteProtocolError("metadata of a live session, or none, cannot begin again")
        stream.restart()
        return _OK

    def _index(self, raw: bytes) -> bytes:
        index = relay.decode_index(self._minor, raw)
        stream = self._known().stream(index.handle)
        if not isinstance(stream, RelayStream):
            raise RemoteProtocolError("an index of metadata")
        stream.add_index(index)
        return _OK

    def _close_stream(self, raw: bytes) -> bytes:
        handle, last = _take(_TWO, raw, "end of a stream")
        self._known().close_stream(handle, last)
        return _OK

    def is_pending(self, raw: bytes) -> bool:
        """Return what ``DATA_PENDING`` asks: whether something up to a packet has not arrived.

        Raises
        ------
        RemoteProtocolError
            It makes no sense.
        """
        handle, last = _take(_TWO, raw, "question of pending data")
        stream = self._known().stream(handle)
        return isinstance(stream, RelayStream) and stream.is_pending(last)

    def _data_pending(self, raw: bytes) -> bytes:
        return _STATUS.pack(self.is_pending(raw))


def _take(layout: struct.Struct, raw: bytes, what: str) -> tuple[int, ...]:
    if len(raw) < layout.size:
        raise RemoteProtocolError(f"{what}: {len(raw)} bytes, at least {layout.size}")
    return layout.unpack_from(raw)
