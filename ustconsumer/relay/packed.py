# SPDX-License-Identifier: MIT
"""Received traces stored compressed: see `ustconsumer.consumer.sinks.zstd` for the files.

Viewers read what becomes of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ustconsumer.abi.packet import (
    CTF_MAGIC,
    DATA_PACKET,
    INDEX_ENTRY,
    index_entry_size,
    index_header,
)
from ustconsumer.consumer.sinks.framefile import Compressor, FrameFile
from ustconsumer.consumer.sinks.packed import PackedFiles
from ustconsumer.ctf.frames import MAX_FRAME, SUFFIX, find_frames
from ustconsumer.errors import RemoteProtocolError, UsageError
from ustconsumer.relay.names import Directory
from ustconsumer.relay.store import index_minor, places
from ustconsumer.relay.views import Entry

__all__ = ["PackedMetadata", "PackedPackets", "ZstdStores"]

_NAMES = [row.name for row in INDEX_ENTRY]


class PackedPackets:
    """A stream's packets, a frame each: a `ustconsumer.relay.store.PacketStore`.

    Parameters
    ----------
    directory : Directory
        Of the trace.
    name : str
        Of the data file, without ``.zst``.
    index : Directory or None
        Of the index file; None: there is none.
    compressor : Compressor
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
        compressor: Compressor,
        *,
        minor: int = 1,
        uuid: bytes = b"",
    ) -> None:
        self._compressor = compressor
        self._incoming: bytearray | None = None
        self._entry_size = index_entry_size(minor)
        header = index_header(minor)
        data_fd, index_fd = directory.open_file(f"{name}{SUFFIX}", new=not uuid), -1
        try:
            if index is not None:
                index_fd = index.open_file(f"{name}.idx{SUFFIX}", new=not uuid)
            elif os.fstat(data_fd).st_size:
                raise RemoteProtocolError(f"{name} is there, without an index")
        except BaseException:
            os.close(data_fd)
            raise
        try:
            self._files = PackedFiles(data_fd, index_fd, header, self._entry_size, name)
        except UsageError as error:
            raise RemoteProtocolError(str(error)) from None
        try:
            if self.count:
                self._check(uuid)
        except BaseException:
            self._files.close()
            raise

    @property
    def count(self) -> int:
        """Packets in the index."""
        return self._files.count

    @property
    def size(self) -> int:
        """Bytes of whole packets, as they came."""
        return self._files.frames.plain_end

    def begin(self, size: int) -> int:
        """Return where the packet begins: behind the last one.

        Raises
        ------
        RemoteProtocolError
            It is too large to be in memory.
        """
        if size > MAX_FRAME:
            raise RemoteProtocolError(f"a packet of {size} bytes is not compressed")
        self._incoming = bytearray()
        return self.size

    def write(self, data: bytes) -> None:
        """Take a part of the packet."""
        assert self._incoming is not None
        self._incoming += data

    def finish(self, padding: int) -> None:
        """Write the packet with zeros behind it, compressed; all or nothing."""
        assert self._incoming is not None
        self._incoming += bytes(padding)
        self._files.frames.add(self._compressor.frame(self._incoming), len(self._incoming))
        self._incoming = None

    def abort(self) -> None:
        """Forget the packet that was begun."""
        self._incoming = None

    def cut(self) -> None:
        """Cut off what is behind the last packet in the index."""
        self._incoming = None
        self._files.cut()

    def index(self, entry: Entry) -> None:
        """Append an entry."""
        raw = INDEX_ENTRY.pack(dict(zip(_NAMES, entry, strict=True)))
        self._files.index(raw[: self._entry_size])

    def entry(self, number: int) -> Entry:
        """Read an entry."""
        values = INDEX_ENTRY.get_all(self._files.entry(number).ljust(INDEX_ENTRY.size, b"\0"))
        return Entry(*(values[name] for name in _NAMES))

    def read(self, offset: int, size: int) -> bytes:
        """Read data as it came."""
        return self._files.frames.read(offset, size)

    def last(self) -> Entry | None:
        """Return the newest entry."""
        return self.entry(self.count - 1) if self.count else None

    def close(self) -> None:
        """Write the seek table; close both files."""
        self._files.close()

    def _check(self, uuid: bytes) -> None:
        known = DATA_PACKET.get_all(self.read(0, DATA_PACKET.size).ljust(DATA_PACKET.size, b"\0"))
        if known["magic"] != CTF_MAGIC or known["uuid"] != uuid:
            raise RemoteProtocolError("the data that is there is of another trace")


class PackedMetadata:
    """A file ``metadata.zst``, a frame for each part that came: a `MetadataStore` of a relay.

    Parameters
    ----------
    directory : Directory
        Of the trace.
    compressor : Compressor
    resume : bool
        It may be there.

    Raises
    ------
    OSError
        It cannot be made, or read.
    RemoteProtocolError
        What is there is something else.
    """

    def __init__(
        self, directory: Directory, compressor: Compressor, *, resume: bool = False
    ) -> None:
        self._compressor = compressor
        fd = directory.open_file(f"metadata{SUFFIX}", new=not resume)
        self._frames = FrameFile(fd)
        try:
            if resume:
                self._continue(fd)
        except BaseException:
            self._frames.abandon()
            raise

    def size(self) -> int:
        """Return how many bytes there are, plain."""
        return self._frames.plain_end

    def write(self, data: bytes, at: int) -> None:
        """Put bytes at a place; what was behind it goes."""
        self.cut(at)
        self._append(data)

    def read(self, at: int, size: int) -> bytes:
        """Return bytes from a place on, fewer at the end."""
        return self._frames.read(at, size)

    def cut(self, size: int) -> None:
        """Keep so many bytes, if the file is still open."""
        if size >= self.size() or self._frames.closed:
            return
        number, begin = self._frames.find(size)
        rest = self._frames.content(number)[: size - begin]
        self._frames.keep(number)
        self._append(rest)

    def close(self) -> None:
        """Write the seek table; close the file."""
        self._frames.close()

    def _append(self, data: bytes) -> None:
        if data:
            self._frames.add(self._compressor.frame(data), len(data))

    def _continue(self, fd: int) -> None:
        """Go on behind the frames that are whole; their checksums say that they are ours."""

        def read(offset: int, count: int) -> bytes:
            return os.pread(fd, count, offset)

        try:
            found, _ = find_frames(read, os.fstat(fd).st_size)
        except ValueError as error:
            raise RemoteProtocolError(f"metadata{SUFFIX}: {error}") from None
        for span in found:
            if span.offset != self._frames.end or not span.content_size:
                raise RemoteProtocolError(f"metadata{SUFFIX}: there is something else")
            self._frames.know(span.size, span.content_size)
        self._frames.keep(len(found))


class ZstdStores:
    """Files in LTTng's layout, compressed: `Stores` of a relay.

    Parameters
    ----------
    level : int
        1 to 22.
    """

    def __init__(self, level: int) -> None:
        self._compressor = Compressor(level)

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
    ) -> PackedPackets:
        """Open the files of a stream in a chunk: see `ustconsumer.relay.store.FileStores`."""
        with places(chunk, path, name, indexed=indexed, again=again, suffix=SUFFIX) as (
            directory,
            index,
        ):
            return PackedPackets(
                directory, name, index, self._compressor, minor=index_minor(minor), uuid=uuid
            )

    def metadata(self, chunk: Directory, path: Sequence[str], *, resume: bool) -> PackedMetadata:
        """Open the file in a chunk."""
        with chunk.open(path) as directory:
            return PackedMetadata(directory, self._compressor, resume=resume)
