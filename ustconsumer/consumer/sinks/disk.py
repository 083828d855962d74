# SPDX-License-Identifier: MIT
"""A trace on disk, in LTTng's layout: one file per stream, an index, packetised metadata."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ustconsumer._native.ring import DRAIN_ERRNO, DRAIN_FULL, DRAIN_MORE, Ring
from ustconsumer.abi.packet import INDEX_ENTRY, index_header
from ustconsumer.consumer.packet import Packet, Stream, Trace
from ustconsumer.consumer.sink import Writer
from ustconsumer.consumer.sinks.chunks import ChunkDirectories
from ustconsumer.consumer.sinks.layout import (
    MetadataFile,
    all_or_nothing,
    open_file,
    refuse_beside,
    trace_directory,
    write_all,
)
from ustconsumer.consumer.sinks.reservation import Reservation
from ustconsumer.consumer.sinks.tracefiles import Tracefiles
from ustconsumer.consumer.sinks.writeback import WriteBack
from ustconsumer.ctf.frames import SUFFIX
from ustconsumer.errors import UsageError

__all__ = ["INDEX_HEADER_BYTES", "DiskSink", "DiskWriter"]

#: Sub-buffers from this size on are worth a trip to the device each.
_DIRECT_SIZE = 1 << 20
#: What an index begins with.
INDEX_HEADER_BYTES = index_header()


class DiskSink:
    """Write a session below a directory.

    Parameters
    ----------
    output : path
        The session's directory; made with its parents when the first stream comes.
    direct : bool
        Write past the page cache where sub-buffers have 1 MiB or more: the device reads
        them where they are. Smaller ones would wait for the device one by one.
    report : callable
        Told, once, that a file system does not let us.
    chunk, following : str
        Directories of the trace chunk that is written and, while a rotation is under way, of
        the next one: see `ChunkDirectories`.
    """

    def __init__(
        self,
        output: str | os.PathLike[str],
        *,
        direct: bool = False,
        report: Callable[[str], None] = lambda line: None,
        chunk: str = "",
        following: str = "",
    ) -> None:
        self._chunks = ChunkDirectories(Path(output), chunk, following)
        #: A rotation that another consumer began: some streams are in the next chunk already.
        self._resuming = self._chunks.rotating
        self._direct = direct
        self._report = report
        self._metadata: dict[tuple[str, Path], MetadataFile] = {}
        #: Ids of streams, by the chunk that their files are in.
        self._behind: set[int] = set()
        self._ahead: set[int] = set()

    def open(self, stream: Stream) -> DiskWriter:
        """Create or continue the stream's files.

        Raises
        ------
        OSError
            A directory or file cannot be made.
        UsageError
            The directory holds another trace, or files that are not ours.
        """
        directory = self._directory(stream)
        direct = self._direct and stream.geometry.subbuf_size >= _DIRECT_SIZE
        refused = self._no_direct if direct else None
        return DiskWriter(self._tracefiles(directory, stream), refused)

    def metadata(self, trace: Trace, text: bytes) -> None:
        """Append metadata packets."""
        for chunk in self._chunks_of(trace):
            self._metadata_file(trace, chunk).append(text)

    def end(self, trace: Trace) -> None:
        """Close a trace's metadata files."""
        for key in [each for each in self._metadata if each[0] == trace.id]:
            self._metadata.pop(key).close()

    def close(self) -> None:
        """Close the metadata files."""
        for file in self._metadata.values():
            file.close()
        self._metadata.clear()

    # -- chunks ----------------------------------------------------------------------

    def begin_chunk(self, following: str) -> None:
        """Have streams opened in the next chunk from now on."""
        if not self._resuming:
            self._chunks.begin(following)
            self._behind, self._ahead = self._ahead, set()
        self._resuming = False

    def behind(self, stream: Stream) -> bool:
        """Return whether a stream's files are still in the old chunk."""
        return stream.id in self._behind

    def advance(self, stream: Stream) -> Writer:
        """Return the writer of a stream in the next chunk."""
        self._behind.discard(stream.id)
        return self.open(stream)

    def end_chunk(self, archive: str) -> None:
        """Move the old chunk to its archive."""
        old = self._chunks.current
        for key in [each for each in self._metadata if each[1] == old]:
            self._metadata.pop(key).close()
        self._behind.clear()
        self._chunks.end(archive)

    def clear(self, stream: Stream) -> None:
        """Remove a stream's files."""
        self._tracefiles(self._directory(stream), stream).remove()

    def clear_ended(self) -> None:
        """Remove what is there of traces that nobody writes any more."""
        open_traces = {file.path.parent for file in self._metadata.values()}
        self._chunks.remove(open_traces)

    def _directory(self, stream: Stream) -> Path:
        """Return the directory of a stream's files, in the chunk that they belong into."""
        chunk = self._chunks.newest
        if self._resuming and self._was_behind(stream):
            self._behind.add(stream.id)
        if stream.id in self._behind:
            chunk = self._chunks.current
        else:
            self._ahead.add(stream.id)
        directory = trace_directory(chunk, stream.trace.path)
        self._metadata_file(stream.trace, chunk)
        return directory

    def _was_behind(self, stream: Stream) -> bool:
        """Return whether the consumer before us left a stream in the old chunk."""
        path = stream.trace.path
        if not (self._chunks.current / path).is_dir():
            return False
        following = self._chunks.newest / path
        return not (following.is_dir() and self._tracefiles(following, stream).exist())

    def _chunks_of(self, trace: Trace) -> list[Path]:
        """Return the chunks whose metadata a trace's text belongs into."""
        current, newest = self._chunks.current, self._chunks.newest
        if current == newest:
            return [newest]
        known = (trace.id, current) in self._metadata
        if known or (self._resuming and (current / trace.path).is_dir()):
            return [current, newest]
        return [newest]

    def _tracefiles(self, directory: Path, stream: Stream) -> Tracefiles:
        return Tracefiles(directory, stream, _last_entry)

    def _no_direct(self, path: Path) -> None:
        if self._direct:
            # The other files are in the same place.
            self._direct = False
            self._report(
                f"{path}: its file system does not write past the page cache (--direct): "
                "written through it"
            )

    def _metadata_file(self, trace: Trace, chunk: Path) -> MetadataFile:
        key = trace.id, chunk
        file = self._metadata.get(key)
        if file is None:
            file = self._metadata[key] = self._open_metadata(trace, chunk)
        return file

    def _open_metadata(self, trace: Trace, chunk: Path) -> MetadataFile:
        directory = trace_directory(chunk, trace.path)
        refuse_beside(directory / f"metadata{SUFFIX}")
        return MetadataFile(directory / "metadata", trace.uuid)


class _Files:
    """An open pair of data and index file.

    Parameters
    ----------
    data, index : Path

    Attributes
    ----------
    data_fd, index_fd : int
    data_end, index_end : int
        Where what is complete ended when they were opened; what was behind it is gone.
    next_sequence : int or None
        Sequence number that follows, None if they were empty.
    discarded : int
        Events discarded until then.
    """

    def __init__(self, data: Path, index: Path) -> None:
        self.path = data
        self.data_end = 0
        self.discarded = 0
        self.next_sequence: int | None = None
        self.index_fd = -1
        self.data_fd = open_file(data)
        try:
            self.index_fd = open_file(index)
            self._resume()
        except BaseException:
            self.close()
            raise
        self._writeback = WriteBack(self.data_fd, self.data_end)
        self._reservation = Reservation(self.data_fd, self.data_end)

    def settle(self, end: int) -> None:
        """Start write-back of what has gathered up to the end of the data."""
        self._writeback.advance(end)
        self._reservation.advance(end)

    def cut(self, data_end: int, index_end: int) -> None:
        """Take away what a failed write left behind these ends."""
        os.ftruncate(self.data_fd, data_end)
        os.ftruncate(self.index_fd, index_end)
        self._reservation = Reservation(self.data_fd, data_end, 0)

    def finish(self, end: int) -> None:
        """Give back what was reserved behind the end of the data."""
        with contextlib.suppress(OSError):
            self._reservation.finish(end)

    def close(self) -> None:
        """Close both."""
        for fd in (self.data_fd, self.index_fd):
            if fd >= 0:
                os.close(fd)

    def _resume(self) -> None:
        """Find the end of what is complete: a packet is when its index entry is."""
        size = os.fstat(self.index_fd).st_size
        head = os.pread(self.index_fd, len(INDEX_HEADER_BYTES), 0)
        if size <= len(INDEX_HEADER_BYTES):
            if not INDEX_HEADER_BYTES.startswith(head):
                raise UsageError(f"index of {self.path} is not one of ours")
            write_all(self.index_fd, INDEX_HEADER_BYTES, 0)
            entries = 0
        else:
            if head != INDEX_HEADER_BYTES:
                raise UsageError(f"index of {self.path} is not one of ours")
            entries = (size - len(head)) // INDEX_ENTRY.size
        self.index_end = len(INDEX_HEADER_BYTES) + entries * INDEX_ENTRY.size
        if entries:
            at = self.index_end - INDEX_ENTRY.size
            last = INDEX_ENTRY.get_all(os.pread(self.index_fd, INDEX_ENTRY.size, at))
            self.data_end = last["offset"] + last["packet_size"] // 8
            self.discarded = last["events_discarded"]
            self.next_sequence = last["packet_seq_num"] + 1
        if os.fstat(self.data_fd).st_size < self.data_end:
            raise UsageError(f"{self.path} is shorter than its index says")
        os.ftruncate(self.index_fd, self.index_end)
        os.ftruncate(self.data_fd, self.data_end)


class DiskWriter:
    """Data and index files of one stream; the native drain writes them.

    Parameters
    ----------
    tracefiles : Tracefiles
        Where they are.
    refused : callable, optional
        Write the data past the page cache (O_DIRECT), or tell this that we cannot. Packets
        and their places in memory and file are whole pages already.
    """

    def __init__(
        self, tracefiles: Tracefiles, refused: Callable[[Path], None] | None = None
    ) -> None:
        self._tracefiles = tracefiles
        self._refused = refused
        self._direct = False
        self._ring: Ring | None = None
        self._files = _Files(*tracefiles.last())

    @property
    def ends(self) -> tuple[int | None, int]:
        """Where the files ended when they were opened.

        The sequence number that follows, None if they were empty, and the events discarded
        until then.
        """
        return self._files.next_sequence, self._files.discarded

    def attach(self, ring: Ring) -> None:
        """Go on where the files end: exactly once on disk, whoever was killed when."""
        self._ring = ring
        files = self._files
        self._assign(ring, direct=self._refused is not None)
        ring.file_limit = self._tracefiles.size
        ring.last_discarded = files.discarded
        if files.next_sequence is not None:
            # Only forward; a position is a word that wraps.
            ring.move_consumer(files.next_sequence * ring.subbuf_size % (1 << 64))

    def drain(self, ring: Ring, max_bytes: int) -> int:
        """Move readable packets to the files; see `Ring.drain`.

        Raises
        ------
        OSError
            There cannot be another file now.
        """
        goal = ring.byte_count + max_bytes
        status = self._drain_file(ring, max_bytes)
        while status == DRAIN_FULL:
            self._next_file()
            self._assign(ring, direct=self._direct)
            left = goal - ring.byte_count
            status = self._drain_file(ring, left) if left > 0 else DRAIN_MORE
        return status

    def settle(self) -> None:
        """Start write-back of what has gathered."""
        if self._ring is not None and not self._direct:
            self._files.settle(self._ring.data_offset)

    def write(self, packets: Sequence[Packet]) -> None:
        """Append packets without a ring: data, then index."""
        for packet in packets:
            if not self._tracefiles.fits(self._files.data_end, packet.packet_size):
                self._next_file()
            files = self._files
            # A copy: its writers may change the header, and the entry must say the same.
            raw = bytes(packet.data.data)
            header = packet.stream.geometry.layout.packet.get_all(raw)
            header["offset"] = files.data_end
            names = [row.name for row in INDEX_ENTRY]
            entry = INDEX_ENTRY.pack({name: header[name] for name in names})
            with all_or_nothing((files.data_fd, files.data_end), (files.index_fd, files.index_end)):
                write_all(files.data_fd, raw, files.data_end)
                write_all(files.index_fd, entry, files.index_end)
            files.data_end += packet.packet_size
            files.index_end += len(entry)

    def close(self) -> None:
        """Close both files."""
        if self._ring is not None:
            self._ring.assign(-1)
            self._files.finish(self._ring.data_offset)
        self._files.close()

    def _drain_file(self, ring: Ring, max_bytes: int) -> int:
        files = self._files
        status = ring.drain(files.data_fd, files.index_fd, max_bytes)
        if status == DRAIN_ERRNO and ring.error == errno.EINVAL and self._set_direct(False):
            # The file took the flag, its device did not take the write.
            ring.assign(files.data_fd, files.index_fd)
            status = ring.drain(files.data_fd, files.index_fd, max_bytes)
        if status == DRAIN_ERRNO:
            # Part of a packet would make the file unreadable, should it end here.
            files.cut(ring.data_offset, ring.index_offset)
        return status

    def _next_file(self) -> None:
        """Go on with the next file; the one before is complete."""
        files = _Files(*self._tracefiles.following())
        self._tracefiles.step()
        if self._ring is not None:
            self._files.finish(self._ring.data_offset)
        self._files.close()
        self._files = files

    def _assign(self, ring: Ring, direct: bool) -> None:
        """Have the ring write to the files from their ends on."""
        files = self._files
        self._direct = False
        if direct and self._set_direct(True):
            # Two at a time: both are on their way to the device before we wait.
            ring.assign(files.data_fd, files.index_fd, 2 * ring.subbuf_size)
        else:
            ring.assign(files.data_fd, files.index_fd)
        ring.data_offset = files.data_end
        ring.index_offset = files.index_end

    def _set_direct(self, wanted: bool) -> bool:
        """Turn O_DIRECT on or off; return whether that changed anything."""
        if wanted == self._direct:
            return False
        flags = fcntl.fcntl(self._files.data_fd, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._files.data_fd, fcntl.F_SETFL, flags ^ os.O_DIRECT)
        except OSError:
            wanted = False
        if not wanted and self._refused is not None:
            self._refused(self._files.path)
        changed = wanted != self._direct
        self._direct = wanted
        return changed


def _last_entry(fd: int) -> bytes | None:
    """Return the last whole entry of an index; None: there is none."""
    entries = (os.fstat(fd).st_size - len(INDEX_HEADER_BYTES)) // INDEX_ENTRY.size
    if entries < 1:
        return None
    at = len(INDEX_HEADER_BYTES) + (entries - 1) * INDEX_ENTRY.size
    return os.pread(fd, INDEX_ENTRY.size, at)
