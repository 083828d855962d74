# SPDX-License-Identifier: MIT
"""Trace chunks: the parts of a recording, each in a directory of its own."""

from __future__ import annotations

import re
import time

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol.relay import CloseChunk, CloseCommand, CreateChunk
from ustconsumer.relay.names import Directory, check_name

__all__ = ["Chunk", "Recording"]

_ARCHIVES = "archives"
#: Name of a chunk's directory, of one that is not archived.
_CHUNK = re.compile(r"\d{8}T\d{6}[+-]\d{4}-\d+", re.ASCII)
#: Of one connection: what is being closed, and what follows it.
_MAX_OPEN = 2


class Chunk:
    """A part of a recording; somebody uses it until the last one leaves.

    Attributes
    ----------
    directory : Directory
        Of its files.
    tops : set of str
        First steps of the paths of its streams: what is its own there.
    """

    def __init__(
        self,
        recording: Recording,
        wanted: CreateChunk,
        steps: tuple[str, ...],
        directory: Directory,
    ) -> None:
        self.id = wanted.id
        self.created = wanted.created
        self.named = bool(wanted.name)
        #: below the recording's directory
        self.steps = steps
        self.directory = directory
        self.tops: set[str] = set()
        self.users: set[object] = set()
        self.gone = False
        #: what becomes of it, and where it goes
        self.command: int | None = None
        self.final: tuple[str, ...] = steps
        self._recording = recording

    def join(self, user: object) -> None:
        """Somebody's files are in it."""
        if not self.gone:
            self.users.add(user)

    def leave(self, user: object) -> None:
        """Somebody needs it no more; the last one carries out what closing it said."""
        if user in self.users:
            self.users.remove(user)
            if not self.users:
                self._recording.dissolve(self)


class Recording:
    """What the connections of one session of a producer's daemon write to.

    There is one connection for each of its consumers, and one for each snapshot.

    Parameters
    ----------
    steps : tuple of str
        Of its directory below the relay's; empty for old producers, which say whole paths.
    directory : Directory
        Open; owned from now on.
    """

    def __init__(self, steps: tuple[str, ...], directory: Directory) -> None:
        self.steps = steps
        self.directory = directory
        self._chunks: dict[int, Chunk] = {}
        self._rotated = False
        self._users: set[object] = set()

    def join(self, user: object) -> None:
        """Somebody writes there."""
        self._users.add(user)

    def leave(self, user: object) -> None:
        """Somebody writes there no more; with the last one the directory is closed."""
        for chunk in tuple(self._chunks.values()):
            chunk.leave(user)
        self._users.discard(user)
        if not self._users:
            self.directory.close()

    def find(self, number: int) -> Chunk | None:
        """Return a chunk that is not closed yet."""
        return self._chunks.get(number)

    def left(self, number: int) -> bool:
        """Return whether a producer of ours that went away left a chunk that is not archived."""
        names = self.directory.names()
        if any(_CHUNK.fullmatch(name) and _number(name) == number for name in names):
            return True
        if _ARCHIVES in names:
            with self.directory.open((_ARCHIVES,)) as archives:
                if any(_number(name) == number for name in archives.names()):
                    return False
        return any(name != _ARCHIVES and not _CHUNK.fullmatch(name) for name in names)

    def create(self, wanted: CreateChunk, user: object, *, again: bool = False) -> Chunk:
        """Begin a chunk, or join the one that another connection began.

        Parameters
        ----------
        again : bool
            It may be there, from a connection that was lost: go on in it.

        Raises
        ------
        OSError, RemoteProtocolError
            That cannot be.
        """
        chunk = self._chunks.get(wanted.id)
        if chunk is not None and user in chunk.users:
            raise RemoteProtocolError(f"chunk {wanted.id} is there already")
        if sum(user in each.users for each in self._chunks.values()) >= _MAX_OPEN:
            raise RemoteProtocolError(f"chunk {wanted.id} while another one is being closed")
        if chunk is None:
            chunk = self._new(wanted, again)
            self._chunks[wanted.id] = chunk
        chunk.join(user)
        return chunk

    def close(self, wanted: CloseChunk, user: object) -> str:
        """Have somebody leave a chunk; return where it will be, below the relay's directory.

        Raises
        ------
        OSError, RemoteProtocolError
            There is none of this number, or it cannot be moved or deleted.
        """
        chunk = self._chunks.get(wanted.id)
        if chunk is None or user not in chunk.users:
            raise RemoteProtocolError(f"no chunk {wanted.id}")
        if wanted.command is not None and chunk.command is None:
            chunk.command = wanted.command
            if wanted.command == CloseCommand.MOVE_TO_COMPLETED:
                # Of what comes next even if this one is still in use.
                self._rotated = True
                name = f"{_stamp(chunk.created)}-{_stamp(wanted.closed)}-{chunk.id}"
                chunk.final = (_ARCHIVES, name)
        final = chunk.final
        chunk.leave(user)
        return "/".join((*self.steps, *final))

    def dissolve(self, chunk: Chunk) -> None:
        """Move or delete a chunk that nobody uses any more; see `Chunk.leave`."""
        chunk.gone = True
        if self._chunks.get(chunk.id) is chunk:
            del self._chunks[chunk.id]
        try:
            if chunk.command == CloseCommand.MOVE_TO_COMPLETED:
                self._archive(chunk)
            elif chunk.command == CloseCommand.DELETE:
                self._delete(chunk)
        finally:
            chunk.directory.close()

    def _new(self, wanted: CreateChunk, again: bool) -> Chunk:
        steps: tuple[str, ...] = ()
        own = f"{_stamp(wanted.created)}-{wanted.id}"
        if again and self.directory.exists(_ARCHIVES):
            self._rotated = True
        if again and self.directory.exists(own):
            steps = (own,)
        elif wanted.name:
            steps = (self._free(check_name(wanted.name, "chunk name")),)
        elif self._chunks or self._rotated:
            steps = (self._free(own),)
        return Chunk(self, wanted, steps, self.directory.open(steps))

    def _free(self, name: str) -> str:
        """Return a name below the recording's directory that nobody has."""
        first, number = name, 1
        while self.directory.exists(name):
            number += 1
            name = f"{first}-{number}"
        return name

    def _archive(self, chunk: Chunk) -> None:
        name = chunk.final[-1]
        with self.directory.open((_ARCHIVES,)) as archives:
            if chunk.steps:
                self.directory.rename(chunk.steps[-1], archives, name)
                return
            with archives.open((name,)) as target:
                for each in self._own(chunk):
                    self.directory.rename(each, target, each)

    def _delete(self, chunk: Chunk) -> None:
        if chunk.steps:
            self.directory.remove_tree(chunk.steps[-1])
            return
        for each in self._own(chunk):
            self.directory.remove_tree(each)
        # As with LTTng: what follows one that was never archived takes its place.
        for after in self._chunks.values():
            if after.steps and not after.named:
                for each in after.directory.names():
                    after.directory.rename(each, self.directory, each)
                self.directory.remove_tree(after.steps[-1])
                after.steps = after.final = ()
                after.directory.become(self.directory)
                break

    def _own(self, chunk: Chunk) -> list[str]:
        """Return what is a chunk's own in the recording's directory."""
        others = {each.steps[0] for each in self._chunks.values() if each.steps} | {_ARCHIVES}
        return [each for each in self.directory.names() if each in chunk.tops - others]


def _number(name: str) -> int:
    number = name.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdecimal() else -1


def _stamp(seconds: int) -> str:
    return time.strftime("%Y%m%dT%H%M%S%z", time.localtime(seconds % (1 << 40)))
