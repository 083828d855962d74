# SPDX-License-Identifier: MIT
"""Sessions of producers: where they are, their chunks and their streams."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol.relay import (
    METADATA,
    NO_SEQUENCE,
    AddStream,
    CloseChunk,
    CloseCommand,
    CreateChunk,
    CreateSession,
    Rotate,
    StreamAdded,
)
from ustconsumer.relay.names import Directory, check_name, split_path
from ustconsumer.relay.store import PacketStore, open_packets
from ustconsumer.relay.streams import MetadataStream, RelayStream
from ustconsumer.relay.views import SessionView

__all__ = ["Chunk", "RelaySession", "Sessions"]

_MAX_STREAMS = 16384
_MAX_SESSIONS = 1024
_ARCHIVES = "archives"

_Stream = RelayStream | MetadataStream


@dataclass
class Chunk:
    """A part of a session, in a directory of its own; the first one in the session's.

    ``steps``: below the session's directory.
    """

    id: int
    created: int
    steps: tuple[str, ...]
    directory: Directory
    named: bool = False


class RelaySession:
    """What one connection of a producer sends.

    Parameters
    ----------
    number : int
        Its id.
    wanted : CreateSession
    minor : int
        Version of the protocol spoken.
    steps : tuple of str
        Of its directory below the relay's; empty for old producers, which say whole paths.
    directory : Directory
        Open; owned from now on.
    resumable : bool
        Its streams may be there.
    """

    def __init__(
        self,
        number: int,
        wanted: CreateSession,
        minor: int,
        steps: tuple[str, ...],
        directory: Directory,
        handles: itertools.count[int],
        resumable: bool,
    ) -> None:
        self.id = number
        self.name = wanted.name
        self.host = wanted.host
        self.live_us = wanted.live_us
        self.wanted = wanted
        self.minor = minor
        self.steps = steps
        self.resumable = resumable
        self.closed = False
        self._directory = directory
        self._handles = handles
        self._chunks: dict[int, Chunk] = {}
        self._chunk: Chunk | None = None
        self._rotated = False
        self._traces: dict[str, int] = {}
        self._streams: dict[int, _Stream] = {}
        self._by_name: dict[tuple[str, str], _Stream] = {}

    @property
    def path(self) -> str:
        """Its directory below the relay's."""
        return "/".join(self.steps)

    @property
    def streams(self) -> Sequence[_Stream]:
        """Every stream so far."""
        return list(self._streams.values())

    def find(self, handle: int) -> _Stream | None:
        """Return a stream of this session, if it has it."""
        return self._streams.get(handle)

    def stream(self, handle: int) -> _Stream:
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
        if len(self._streams) >= _MAX_STREAMS:
            raise RemoteProtocolError(f"session {self.name}: more than {_MAX_STREAMS} streams")
        steps = split_path(wanted.path, "stream path")
        path = "/".join(steps)
        name = check_name(wanted.name, "stream name")
        known = self._by_name.get((path, name))
        if known is not None and self.resumable:
            known.reopen()
            return self._answer(known)
        chunk = self._place()
        handle = next(self._handles)
        trace = self._traces.setdefault(path, len(self._traces) + 1)
        stream: _Stream
        if name == METADATA:
            stream = MetadataStream(handle, trace, path, steps, chunk, resume=wanted.uuid)
        else:
            stream = RelayStream(
                handle,
                trace,
                name,
                path,
                self._opener(steps, wanted),
                chunk,
                indexed=not self.wanted.snapshot and self.minor >= 4,
                tracefile_size=wanted.tracefile_size,
                tracefile_count=wanted.tracefile_count,
            )
        self._streams[handle] = stream
        self._by_name[path, name] = stream
        return self._answer(stream)

    def publish(self) -> None:
        """Let viewers see the streams so far."""
        for stream in self._streams.values():
            stream.published = True

    def create_chunk(self, wanted: CreateChunk) -> None:
        """Begin a chunk: streams come to be in it, or go to it when they rotate."""
        if wanted.id in self._chunks:
            raise RemoteProtocolError(f"session {self.name}: chunk {wanted.id} is there already")
        if len(self._chunks) > 1:
            raise RemoteProtocolError(f"session {self.name}: a third chunk at a time")
        steps: tuple[str, ...] = ()
        if wanted.name:
            steps = (self._free(check_name(wanted.name, "chunk name")),)
        elif self._chunk is not None or self._rotated:
            steps = (self._free(f"{_stamp(wanted.created)}-{wanted.id}"),)
        directory = self._directory.open(steps)
        self._chunk = Chunk(wanted.id, wanted.created, steps, directory, bool(wanted.name))
        self._chunks[wanted.id] = self._chunk

    def close_chunk(self, wanted: CloseChunk) -> str:
        """End a chunk; return the path of where it is below the relay's directory."""
        chunk = self._chunks.pop(wanted.id, None)
        if chunk is None:
            raise RemoteProtocolError(f"session {self.name}: no chunk {wanted.id}")
        if self._chunk is chunk:
            self._chunk = None
        steps = (*self.steps, *chunk.steps)
        if wanted.command == CloseCommand.MOVE_TO_COMPLETED:
            steps = (*self.steps, *self._archive(chunk, wanted.closed))
        elif wanted.command == CloseCommand.DELETE:
            self._delete(chunk)
        chunk.directory.close()
        return "/".join(steps)

    def has_chunk(self, number: int) -> bool:
        """Return whether a chunk is not closed yet."""
        return number in self._chunks

    def rotate(self, wanted: Rotate) -> None:
        """Have streams go to another chunk."""
        directory = None
        if wanted.chunk is not None:
            chunk = self._chunks.get(wanted.chunk)
            if chunk is None:
                raise RemoteProtocolError(f"session {self.name}: no chunk {wanted.chunk}")
            directory = chunk.directory
        streams = [(self.stream(handle), at) for handle, at in wanted.streams.items()]
        for stream, at in streams:
            if isinstance(stream, RelayStream):
                stream.rotate(at, directory)
            elif directory is not None:
                stream.restart(directory)

    def end(self) -> None:
        """The producer is gone for good."""
        self.closed = True
        for stream in self._streams.values():
            stream.end()

    def release(self) -> None:
        """Close every file."""
        for stream in self._streams.values():
            stream.release()
        for chunk in self._chunks.values():
            chunk.directory.close()
        self._chunks.clear()
        self._directory.close()

    def _place(self) -> Directory:
        if self.minor < 11:
            return self._directory
        if self._chunk is None:
            raise RemoteProtocolError(f"session {self.name}: a stream without a chunk")
        return self._chunk.directory

    def _opener(
        self, steps: Sequence[str], wanted: AddStream
    ) -> Callable[[Directory, int], PacketStore]:
        def open_store(chunk: Directory, number: int) -> PacketStore:
            name = f"{wanted.name}_{number}" if wanted.tracefile_size else wanted.name
            return open_packets(
                chunk,
                steps,
                name,
                indexed=not self.wanted.snapshot and self.minor >= 4,
                minor=self.minor,
                resume=bool(wanted.uuid),
            )

        return open_store

    def _answer(self, stream: _Stream) -> StreamAdded:
        if isinstance(stream, MetadataStream):
            size = stream.text_size if self.resumable else 0
            return StreamAdded(stream.handle, 10, NO_SEQUENCE, 0, size)
        last = stream.last
        if last is None:
            return StreamAdded(stream.handle, 10)
        return StreamAdded(stream.handle, 10, last.sequence + 1, last.discarded)

    def _free(self, name: str) -> str:
        """Return a name below the session's directory that nobody has."""
        first, number = name, 1
        while self._directory.exists(name):
            number += 1
            name = f"{first}-{number}"
        return name

    def _archive(self, chunk: Chunk, closed: int) -> tuple[str, ...]:
        self._rotated = True
        with self._directory.open((_ARCHIVES,)) as archives:
            name = f"{_stamp(chunk.created)}-{_stamp(closed)}-{chunk.id}"
            if chunk.steps:
                with self._directory.open(chunk.steps[:-1]) as parent:
                    parent.rename(chunk.steps[-1], archives, name)
            else:
                with archives.open((name,)) as target:
                    for each in self._of_first_chunk():
                        self._directory.rename(each, target, each)
        return _ARCHIVES, name

    def _delete(self, chunk: Chunk) -> None:
        if chunk.steps:
            self._directory.remove_tree(chunk.steps[-1])
            return
        for each in self._of_first_chunk():
            self._directory.remove_tree(each)
        # As with LTTng: what follows one that was never archived takes its place.
        if self._chunk is not None and self._chunk.steps and not self._chunk.named:
            for each in self._chunk.directory.names():
                self._chunk.directory.rename(each, self._directory, each)
            self._directory.remove_tree(self._chunk.steps[-1])
            self._chunk.steps = ()
            self._chunk.directory.become(self._directory)

    def _of_first_chunk(self) -> list[str]:
        others = {chunk.steps[0] for chunk in self._chunks.values() if chunk.steps}
        tops = {path.split("/")[0] for path in self._traces}
        return [each for each in self._directory.names() if each in tops - others]


class Sessions:
    """Every session that a relay receives.

    Parameters
    ----------
    output : Path
        Below which everything is.
    """

    def __init__(self, output: Path, *, by_session: bool = False) -> None:
        self._root = Directory.at(output)
        self._by_session = by_session
        self._sessions: dict[int, RelaySession] = {}
        self._ids = itertools.count(1)
        self._handles = itertools.count(1)

    def list(self) -> Sequence[SessionView]:
        """Return the sessions whose producers are there."""
        return [session for session in self._sessions.values() if not session.closed]

    def get(self, number: int) -> RelaySession | None:
        """Return a session, also one whose producer is gone, as long as somebody reads it."""
        return self._sessions.get(number)

    def find_stream(self, handle: int) -> tuple[RelaySession, _Stream] | None:
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
        if resume:
            for session in self._sessions.values():
                if (session.wanted.uuid, session.wanted.id) == (wanted.uuid, wanted.id):
                    session.closed = False
                    return session
        if len(self._sessions) >= _MAX_SESSIONS:
            raise RemoteProtocolError(f"more than {_MAX_SESSIONS} sessions")
        steps: tuple[str, ...] = ()
        if minor >= 11:
            steps = self._steps(wanted)
            shared = resume or wanted.snapshot or self._is_shared(wanted, steps)
            if not shared:
                steps = self._free(steps)
        session = RelaySession(
            next(self._ids), wanted, minor, steps, self._root.open(steps), self._handles, resume
        )
        self._sessions[session.id] = session
        return session

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

    def _is_shared(self, wanted: CreateSession, steps: tuple[str, ...]) -> bool:
        """Return whether another connection of the same session writes there now."""
        return any(
            session.steps == steps
            and (session.wanted.uuid, session.wanted.id) == (wanted.uuid, wanted.id)
            and not session.closed
            for session in self._sessions.values()
        )

    def _free(self, steps: tuple[str, ...]) -> tuple[str, ...]:
        with self._root.open(steps[:-1]) as parent:
            name, number = steps[-1], 1
            while not parent.make(name):
                number += 1
                name = f"{steps[-1]}-{number}"
        return (*steps[:-1], name)


def _stamp(seconds: int) -> str:
    return time.strftime("%Y%m%dT%H%M%S%z", time.localtime(seconds % (1 << 40)))
