# SPDX-License-Identifier: MIT
"""Where received packets go: data and index files of a stream, in LTTng's layout."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Protocol

from ustconsumer.abi.packet import (
    CTF_MAGIC,
    DATA_PACKET,
    INDEX_ENTRY,
    index_entry_size,
    index_header,
)
from ustconsumer.consumer.sinks.layout import write_all
from ustconsumer.errors import RemoteProtocolError
from ustconsumer.relay.names import Directory
from ustconsumer.relay.views import Entry

__all__ = [
    "FileStores",
    "MetadataFile",
    "MetadataStore",
    "PacketFile",
    "PacketStore",
    "Stores",
    "index_minor",
    "places",
]

_NAMES = [row.name for row in INDEX_ENTRY]
_ZEROS = bytes(1 << 16)


class PacketStore(Protocol):
    """The packets of one stream in one chunk, in order."""

    @property
    def count(self) -> int:
        """Packets in its index."""

    @property
    def size(self) -> int:
        """Bytes of whole packets."""

    @property
    def first(self) -> int:
        """Number of the oldest packet that is still there, at most `count`."""

    @property
    def volatile(self) -> bool:
        """Whether packets may go at any time."""

    def begin(self, size: int) -> int:
        """Make room for a packet of so many bytes; return its offset."""

    def write(self, data: bytes) -> None:
        """Take a part of the packet."""

    def finish(self, padding: int) -> None:
        """Add the padding: the packet is whole."""

    def abort(self) -> None:
        """Forget the packet that was begun."""

    def cut(self) -> None:
        """Forget packets without an entry in the index."""

    def index(self, entry: Entry) -> None:
        """Take what the index says of the next packet."""

    def entry(self, number: int) -> Entry:
        """Return an entry of the index."""

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the data."""

    def last(self) -> Entry | None:
        """Return the newest entry."""

    def close(self) -> None:
        """Nothing more comes."""


class MetadataStore(Protocol):
    """The metadata of one trace in one chunk."""

    def size(self) -> int:
        """Return how many bytes there are."""

    def write(self, data: bytes, at: int) -> None:
        """Put bytes at a place."""

    def read(self, at: int, size: int) -> bytes:
        """Return bytes from a place on, fewer at the end."""

    def cut(self, size: int) -> None:
        """Keep so many bytes."""

    def close(self) -> None:
        """Nothing more comes."""


class Stores(Protocol):
    """Where the streams of a trace go."""

    def packets(
        self,
        chunk: Directory,
        path: Sequence[str],
        name: str,
        *,
        indexed: bool,
        minor: int,
        uuid: bytes = b"",
        again: bool = False,
    ) -> PacketStore:
        """Open a stream in a chunk; see `FileStores.packets`."""

    def metadata(self, chunk: Directory, path: Sequence[str], *, resume: bool) -> MetadataStore:
        """Open a trace's metadata in a chunk; ``resume``: it may be there."""


class PacketFile:
    """Data and index file.

    Parameters
    ----------
    directory : Directory
        Of the trace.
    name : str
        Of the data file.
    index : Directory or None
        Of the index file; None: there is none.
    minor : int
        Version of the index, 0 or 1.
    uuid : bytes
        The files may be there, if they are of this trace: go on behind the last packet in the
        index. Empty: they must not be there.

    Raises
    ------
    OSError, RemoteProtocolError
        They cannot be made, or continued.
    """

    first = 0
    volatile = False

    def __init__(
        self,
        directory: Directory,
        name: str,
        index: Directory | None,
        *,
        minor: int = 1,
        uuid: bytes = b"",
    ) -> None:
        self.count = 0
        self.size = 0
        self._at = 0
        self._entry_size = index_entry_size(minor)
        self._header = index_header(minor)
        self._index_fd = -1
        self._data_fd = directory.open_file(name, new=not uuid)
        try:
            if index is not None:
                self._index_fd = index.open_file(f"{name}.idx", new=not uuid)
                self._resume(uuid)
            elif os.fstat(self._data_fd).st_size:
                raise RemoteProtocolError(f"{name} is there, without an index")
        except BaseException:
            self.close()
            raise

    def begin(self, size: int) -> int:
        """Return where the packet begins: behind the last one."""
        self._at = self.size
        return self.size

    def write(self, data: bytes) -> None:
        """Write a part of the packet."""
        write_all(self._data_fd, data, self._at)
        self._at += len(data)

    def finish(self, padding: int) -> None:
        """Write zeros behind the packet."""
        while padding > 0:
            self.write(_ZEROS[: min(padding, len(_ZEROS))])
            padding -= len(_ZEROS)
        self.size = self._at

    def abort(self) -> None:
        """Cut off what was written of the packet, if the file is still open."""
        if self._data_fd >= 0:
            os.ftruncate(self._data_fd, self.size)

    def cut(self) -> None:
        """Cut off what is behind the last packet in the index."""
        last = self.last()
        self.size = 0 if last is None else last.offset + last.packet_size // 8
        self.abort()

    def index(self, entry: Entry) -> None:
        """Append an entry."""
        raw = INDEX_ENTRY.pack(dict(zip(_NAMES, entry, strict=True)))[: self._entry_size]
        write_all(self._index_fd, raw, len(self._header) + self.count * self._entry_size)
        self.count += 1

    def entry(self, number: int) -> Entry:
        """Read an entry."""
        at = len(self._header) + number * self._entry_size
        raw = os.pread(self._index_fd, self._entry_size, at)
        values = INDEX_ENTRY.get_all(raw.ljust(INDEX_ENTRY.size, b"\0"))
        return Entry(*(values[name] for name in _NAMES))

    def read(self, offset: int, size: int) -> bytes:
        """Read data."""
        return os.pread(self._data_fd, size, offset)

    def last(self) -> Entry | None:
        """Return the newest entry."""
        return self.entry(self.count - 1) if self.count else None

    def close(self) -> None:
        """Close both files."""
        for fd in (self._data_fd, self._index_fd):
            if fd >= 0:
                os.close(fd)
        self._data_fd = self._index_fd = -1

    def _resume(self, uuid: bytes) -> None:
        """Find the end of what is complete: a packet is when its index entry is."""
        size = os.fstat(self._index_fd).st_size
        head = os.pread(self._index_fd, len(self._header), 0)
        if size <= len(self._header) and self._header.startswith(head):
            write_all(self._index_fd, self._header, 0)
        elif head != self._header:
            raise RemoteProtocolError("the index that is there is another one")
        else:
            self.count = (size - len(head)) // self._entry_size
        last = self.last()
        end = 0 if last is None else last.offset + last.packet_size // 8
        if os.fstat(self._data_fd).st_size < end:
            raise RemoteProtocolError("the data that is there is shorter than its index says")
        if self.count:
            first = self.read(0, DATA_PACKET.size).ljust(DATA_PACKET.size, b"\0")
            known = DATA_PACKET.get_all(first)
            if known["magic"] != CTF_MAGIC or known["uuid"] != uuid:
                raise RemoteProtocolError("the data that is there is of another trace")
        # Nothing is cut off before all of it is known to be the producer's.
        os.ftruncate(self._index_fd, len(self._header) + self.count * self._entry_size)
        os.ftruncate(self._data_fd, end)
        self.size = end


class MetadataFile:
    """A file ``metadata``.

    Parameters
    ----------
    directory : Directory
        Of the trace.
    resume : bool
        It may be there.
    """

    def __init__(self, directory: Directory, *, resume: bool = False) -> None:
        self._fd = directory.open_file("metadata", new=not resume)

    def size(self) -> int:
        """Return the file's size."""
        return os.fstat(self._fd).st_size

    def write(self, data: bytes, at: int) -> None:
        """Write to a place in it."""
        write_all(self._fd, data, at)

    def read(self, at: int, size: int) -> bytes:
        """Read from a place in it."""
        return os.pread(self._fd, size, at)

    def cut(self, size: int) -> None:
        """Cut it off, if it is still open."""
        if self._fd >= 0:
            os.ftruncate(self._fd, size)

    def close(self) -> None:
        """Close it."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


@contextlib.contextmanager
def places(
    chunk: Directory,
    path: Sequence[str],
    name: str,
    *,
    indexed: bool,
    again: bool,
    suffix: str = "",
) -> Iterator[tuple[Directory, Directory | None]]:
    """Open the directories of a stream's data and of its index, if it has one.

    Parameters
    ----------
    again : bool
        What is there goes first: files of this name, with the suffix.
    """
    with chunk.open(path) as directory, contextlib.ExitStack() as stack:
        index = stack.enter_context(directory.open(("index",))) if indexed else None
        if again:
            directory.unlink(name + suffix)
            if index is not None:
                index.unlink(f"{name}.idx{suffix}")
        yield directory, index


def index_minor(minor: int) -> int:
    """Return which version of the index a producer of this version has."""
    return int(minor >= 8)


class FileStores:
    """Files in LTTng's layout."""

    def packets(
        self,
        chunk: Directory,
        path: Sequence[str],
        name: str,
        *,
        indexed: bool,
        minor: int,
        uuid: bytes = b"",
        again: bool = False,
    ) -> PacketFile:
        """Open the files of a stream in a chunk.

        Parameters
        ----------
        path : sequence of str
            Of the trace below the chunk.
        indexed : bool
            There is an index.
        minor : int
            Version of the producer's protocol.
        uuid : bytes
            See `PacketFile`.
        again : bool
            What is there goes first.

        Raises
        ------
        OSError, RemoteProtocolError
            They cannot be made, or continued.
        """
        with places(chunk, path, name, indexed=indexed, again=again) as (directory, index):
            return PacketFile(directory, name, index, minor=index_minor(minor), uuid=uuid)

    def metadata(self, chunk: Directory, path: Sequence[str], *, resume: bool) -> MetadataFile:
        """Open the file in a chunk.

        Raises
        ------
        OSError
            It cannot be made, or is there and should not be.
        """
        with chunk.open(path) as directory:
            return MetadataFile(directory, resume=resume)
