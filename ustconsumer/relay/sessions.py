# SPDX-License-Identifier: MIT
"""Sessions of producers: where they are, their chunks and their streams."""

from __future__ import annotations

import functools
import itertools
import re
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol.relay import (
    METADATA,
    NO_SEQUENCE,
    AddStream,
    CloseChunk,
    CreateChunk,
    CreateSession,
    Rotate,
    Status,
    StreamAdded,
)
from ustconsumer.relay.chunks import Chunk, Recording
from ustconsumer.relay.metadata import MetadataStream
from ustconsumer.relay.names import Directory, check_name, split_path, split_stream_path
from ustconsumer.relay.store import FileStores, MetadataStore, PacketStore, Stores
from ustconsumer.relay.streams import RelayStream
from ustconsumer.relay.views import SessionView

__all__ = ["MAX_STREAMS", "RelaySession", "Sessions", "Stream"]

#: Of one session at a time.
MAX_STREAMS = 16384
_MAX_SESSIONS = 1024
#: Closed streams of a live session that viewers may still read.
_MAX_CLOSED = 256
#: Files of a tracefile rotation before the newest, for viewers of a live session.
_KEPT_FILES = 4

Stream = RelayStream | MetadataStream


class RelaySession:
    """What one connection of a producer sends.

    Parameters
    ----------
    number : int
        Its id.
    wanted : CreateSession
    minor : int
        Version of the protocol spoken.
    recording : Recording
        Where it writes.
    stores : Stores
    handles : itertools.count
        Of streams, in the whole relay.
    resumable : bool
        Its streams may be there.
    """

    def __init__(
        self,
        number: int,
        wanted: CreateSession,
        minor: int,
        recording: Recording,
        stores: Stores,
        handles: itertools.count[int],
        resumable: bool,
    ) -> None:
        self.id = number
        self.name = wanted.name
        self.host = wanted.host
        self.live_us = wanted.live_us
        self.wanted = wanted
        self.minor = minor
        self.recording = recording
        self.resumable = resumable
        self.closed = False
        self._stores = stores
        self._handles = handles
        self._indexed = not wanted.snapshot and minor >= 4
        self._chunk: Chunk | None = None
        if minor < 11:
            # What they know as a chunk is the session's directory, which streams name.
            self._chunk = recording.create(CreateChunk(0, wanted.created), self)
        elif wanted.chunk is not None:
            self._chunk = recording.find(wanted.chunk)
            if self._chunk is None:
                raise RemoteProtocolError(f"session {wanted.name}: no chunk {wanted.chunk}")
            self._chunk.join(self)
        self._trace_ids = itertools.count(1)
        self._traces: dict[str, int] = {}
        #: by the handle that the producer knows; viewers know that of the beginning
        self._streams: dict[int, Stream] = {}
        self._keys: dict[Stream, int] = {}
        self._by_name: dict[tuple[str, str], Stream] = {}
        #: those that the producer has closed, and of them those that have all their packets
        self._closing: set[Stream] = set()
        self._read_out: deque[Stream] = deque()

    @property
    def path(self) -> str:
        """Its directory below the relay's."""
        return "/".join(self.recording.steps)

    @property
    def is_waiting(self) -> bool:
        """Whether packets are missing that its producer has spoken of."""
        return any(not stream.closed for stream in self._closing) or any(
            isinstance(stream, RelayStream) and stream.is_waiting
            for stream in self._streams.values()
        )

    @property
    def streams(self) -> Sequence[Stream]:
        """Every stream so far."""
        return list(self._streams.values())

    def find(self, handle: int) -> Stream | None:
        """Return a stream of this session, if it has it."""
        return self._streams.get(handle)

    def stream(self, handle: int) -> Stream:
        """Return a stream of this session.

        Raises
        ------
        RemoteProtocolError
            There is none of this handle.
        """
        stream = self._streams.get(handle)
        if stream is None:
            raise RemoteProtocolError(f"session {self.name}: no stream {handle}")
        return stream

    def add_stream(self, wanted: AddStream) -> StreamAdded:
        """Make a stream's file, or continue it.

        Raises
        ------
        OSError, RemoteProtocolError
            That cannot be.
        """
        self.sweep()
        if len(self._streams) >= MAX_STREAMS:
            raise RemoteProtocolError(f"more than {MAX_STREAMS} streams")
        steps = split_stream_path(wanted.path, "stream path")
        path = "/".join(steps)
        name = check_name(wanted.name, "stream name")
        known = self._by_name.get((path, name))
        if known is not None and self.resumable:
            self._closing.discard(known)
            known.reopen()
            # What its last connection still had to say is of the old handle: of nothing.
            handle = next(self._handles)
            del self._streams[self._keys[known]]
            self._streams[handle] = known
            self._keys[known] = handle
            return self._answer(known)._replace(handle=handle)
        if self._chunk is None:
            raise RemoteProtocolError("a stream without a chunk")
        handle = next(self._handles)
        trace = self._traces.get(path) or next(self._trace_ids)
        stream: Stream
        if name == METADATA:
            opener = functools.partial(self._open_metadata, steps, resume=bool(wanted.uuid))
            stream = MetadataStream(handle, trace, path, opener, self._chunk, wanted.uuid)
        else:
            stream = RelayStream(
                handle,
                trace,
                name,
                path,
                functools.partial(self._open_packets, steps, wanted),
                self._chunk,
                indexed=self._indexed,
                tracefile_size=wanted.tracefile_size,
                tracefile_count=wanted.tracefile_count,
                tracefile=self._newest_file(steps, wanted, self._chunk),
                resumed=bool(wanted.uuid),
                keep=_KEPT_FILES if self.live_us else 0,
            )
        self._traces[path] = trace
        self._streams[handle] = stream
        self._keys[stream] = handle
        self._by_name[path, name] = stream
        return self._answer(stream)

    def close_stream(self, handle: int, last: int) -> None:
        """The producer sends nothing more of a stream behind a packet."""
        stream = self.stream(handle)
        stream.close(last)
        self._closing.add(stream)
        self.sweep()

    def sweep(self) -> None:
        """Let go of closed streams: programs come and go, the session stays."""
        done = [stream for stream in self._closing if stream.closed]
        self._closing.difference_update(done)
        self._read_out.extend(sorted(done, key=lambda stream: stream.handle))
        while len(self._read_out) > (_MAX_CLOSED if self.live_us else 0):
            stream = self._read_out.popleft()
            if not stream.closed:  # it was resumed
                continue
            stream.release()
            # Closed twice, it is here twice.
            self._streams.pop(self._keys.pop(stream, 0), None)
            self._by_name.pop((stream.path, stream.name), None)
            if stream.is_metadata:
                self._traces.pop(stream.path, None)

    def publish(self) -> None:
        """Let viewers see the streams so far."""
        for stream in self._streams.values():
            stream.published = True

    def create_chunk(self, wanted: CreateChunk) -> None:
        """Begin a chunk: streams come to be in it, or go to it when they rotate."""
        chunk = self.recording.find(wanted.id)
        if chunk is None or not self.resumable or self not in chunk.users:
            chunk = self.recording.create(wanted, self, again=self.resumable)
        self._chunk = chunk

    def close_chunk(self, wanted: CloseChunk) -> str:
        """End a chunk; return the path of where it will be below the relay's directory."""
        chunk = self.recording.find(wanted.id)
        if chunk is not None and self._chunk is chunk:
            self._chunk = None
            # Without a rotation its streams go on in it: what is there is all there will be.
            for stream in self._streams.values():
                stream.leave(chunk)
        return self.recording.close(wanted, self)

    def has_chunk(self, number: int) -> bool:
        """Return whether a chunk is not closed yet."""
        if self.recording.find(number) is not None:
            return True
        return self.resumable and self.recording.left(number)

    def rotate(self, wanted: Rotate) -> None:
        """Have streams go to another chunk."""
        chunk = None
        if wanted.chunk is not None:
            chunk = self.recording.find(wanted.chunk)
            if chunk is None:
                raise RemoteProtocolError(f"session {self.name}: no chunk {wanted.chunk}")
        streams = [(self.stream(handle), at) for handle, at in wanted.streams.items()]
        for stream, at in streams:
            if isinstance(stream, RelayStream):
                stream.rotate(at, chunk)
            elif chunk is not None:
                stream.restart(chunk)
            else:
                stream.leave()

    def end(self) -> None:
        """The producer is gone for good."""
        self.closed = True
        for stream in self._streams.values():
            stream.end()

    def release(self) -> None:
        """Close every file."""
        for stream in self._streams.values():
            stream.release()
        self._streams.clear()
        self._keys.clear()
        self.recording.leave(self)

    def _open_packets(
        self, steps: Sequence[str], wanted: AddStream, chunk: Chunk, number: int, again: bool
    ) -> PacketStore:
        chunk.tops.add(steps[0] if steps else wanted.name)
        name = f"{wanted.name}_{number}" if wanted.tracefile_size else wanted.name
        return self._stores.packets(
            chunk.directory,
            steps,
            name,
            indexed=self._indexed,
            minor=self.minor,
            uuid=wanted.uuid,
            again=again,
        )

    def _newest_file(self, steps: Sequence[str], wanted: AddStream, chunk: Chunk) -> int:
        """Return which file of a tracefile rotation has the newest packet, of an earlier relay."""
        if not wanted.uuid or not wanted.tracefile_size:
            return 0
        with chunk.directory.open(steps) as directory:
            names = directory.names()
        pattern = re.compile(re.escape(wanted.name) + r"_(0|[1-9][0-9]{0,18})(?:\.zst)?", re.ASCII)
        numbers = {int(match[1]) for name in names if (match := pattern.fullmatch(name))}
        newest, found = -1, 0
        for number in sorted(numbers):
            if wanted.tracefile_count and number >= wanted.tracefile_count:
                continue
            packets = self._open_packets(steps, wanted, chunk, number, False)
            last = packets.last()
            packets.close()
            if last is not None and last.sequence > newest:
                newest, found = last.sequence, number
        return found

    def _open_metadata(self, steps: Sequence[str], chunk: Chunk, *, resume: bool) -> MetadataStore:
        chunk.tops.add(steps[0] if steps else METADATA)
        return self._stores.metadata(chunk.directory, steps, resume=resume)

    def _answer(self, stream: Stream) -> StreamAdded:
        if isinstance(stream, MetadataStream):
            size = stream.text_size if self.resumable else 0
            return StreamAdded(stream.handle, Status.OK, NO_SEQUENCE, 0, size)
        last = stream.last
        if last is None:
            return StreamAdded(stream.handle, Status.OK)
        return StreamAdded(stream.handle, Status.OK, last.sequence + 1, last.discarded)


class Sessions:
    """Every session that a relay receives.

    Parameters
    ----------
    output : Path
        Below which everything is.
    by_session : bool
        The session's directory has the host's in it, instead of the other way round.
    stores : Stores
    root : Directory
        In the place of `output`.
    """

    def __init__(
        self,
        output: Path,
        *,
        by_session: bool = False,
        stores: Stores | None = None,
        root: Directory | None = None,
    ) -> None:
        self._root = root or Directory.at(output)
        self._by_session = by_session
        self._stores = stores or FileStores()
        self._sessions: dict[int, RelaySession] = {}
        self._ids = itertools.count(1)
        self._handles = itertools.count(1)

    def list(self) -> Sequence[SessionView]:
        """Return the sessions whose producers are there."""
        return [session for session in self._sessions.values() if not session.closed]

    def get(self, number: int) -> RelaySession | None:
        """Return a session, also one whose producer is gone, as long as somebody reads it."""
        return self._sessions.get(number)

    def find_stream(self, handle: int) -> tuple[RelaySession, Stream] | None:
        """Return a stream by its handle, which is unique."""
        for session in self._sessions.values():
            stream = session.find(handle)
            if stream is not None:
                return session, stream
        return None

    def create(self, wanted: CreateSession, minor: int, resume: bool) -> RelaySession:
        """Make a session and its directory, or find the one that a producer comes back to.

        Raises
        ------
        OSError, RemoteProtocolError
            That cannot be.
        """
        check_name(wanted.name, "session name")
        check_name(wanted.host, "host name")
        if minor >= 11 and not any(wanted.uuid):
            raise RemoteProtocolError(f"session {wanted.name}: without the UUID of its daemon")
        same = [each for each in self._sessions.values() if _identity(each) == _identity_of(wanted)]
        if resume:
            for session in same:
                if session.resumable and (session.name, session.host) == (wanted.name, wanted.host):
                    session.closed = False
                    return session
        if len(self._sessions) >= _MAX_SESSIONS:
            self._make_room()
        recording = self._recording(wanted, minor, same, resume)
        try:
            session = RelaySession(
                next(self._ids), wanted, minor, recording, self._stores, self._handles, resume
            )
            recording.join(session)
        except BaseException:
            recording.leave(self)
            raise
        recording.leave(self)
        self._sessions[session.id] = session
        return session

    def _make_room(self) -> None:
        """Forget the oldest session that has ended; viewers had some time to read it."""
        for session in self._sessions.values():
            if session.closed:
                self.forget(session)
                return
        raise RemoteProtocolError(f"more than {_MAX_SESSIONS} sessions")

    def forget(self, session: RelaySession) -> None:
        """Let go of a session whose producer is gone and which nobody reads."""
        if self._sessions.pop(session.id, None) is not None:
            session.end()
            session.release()

    def close(self) -> None:
        """Let go of everything."""
        for session in tuple(self._sessions.values()):
            self.forget(session)
        self._root.close()

    def _steps(self, wanted: CreateSession) -> tuple[str, ...]:
        stamp = time.strftime("-%Y%m%d-%H%M%S", time.localtime(wanted.created % (1 << 40)))
        base = split_path(wanted.base_path, "base path")
        if self._by_session:
            return (wanted.name, wanted.host + stamp, *base)
        if base:
            return (wanted.host, *base)
        return (wanted.host, wanted.name + ("" if wanted.name_has_time else stamp))

    def _recording(
        self, wanted: CreateSession, minor: int, same: Sequence[RelaySession], resume: bool
    ) -> Recording:
        """Return where a session writes, with us as a user for now."""
        steps: tuple[str, ...] = ()
        if minor >= 11:
            steps = self._steps(wanted)
            for session in same:
                if session.minor >= 11 and session.wanted.created == wanted.created:
                    session.recording.join(self)
                    return session.recording
            if not resume and not wanted.snapshot:
                steps = self._free(steps)
        recording = Recording(steps, self._root.open(steps))
        recording.join(self)
        return recording

    def _free(self, steps: tuple[str, ...]) -> tuple[str, ...]:
        with self._root.open(steps[:-1]) as parent:
            name, number = steps[-1], 1
            while not parent.make(name):
                number += 1
                name = f"{steps[-1]}-{number}"
        return (*steps[:-1], name)


def _identity(session: RelaySession) -> tuple[bytes, int]:
    return _identity_of(session.wanted)


def _identity_of(wanted: CreateSession) -> tuple[bytes, int]:
    """Return what is the same for all connections of a session of a producer's daemon."""
    return wanted.uuid, wanted.id
