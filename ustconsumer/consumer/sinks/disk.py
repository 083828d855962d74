# SPDX-License-Identifier: MIT
"""A trace on disk, in LTTng's layout: one file per stream, an index, packetised metadata."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ustconsumer._native.ring import DRAIN_ERRNO, Ring
from ustconsumer.abi.packet import INDEX_ENTRY, index_header
from ustconsumer.consumer.packet import Packet, Stream, Trace
from ustconsumer.consumer.sinks.layout import (
    MetadataFile,
    all_or_nothing,
    make_directory,
    open_file,
    plain_name,
    refuse_beside,
    trace_directory,
    write_all,
)
from ustconsumer.consumer.sinks.reservation import Reservation
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
    """

    def __init__(
        self,
        output: str | os.PathLike[str],
        *,
        direct: bool = False,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._output = Path(output)
        self._direct = direct
        self._report = report
        self._metadata: dict[str, MetadataFile] = {}

    def open(self, stream: Stream) -> DiskWriter:
        """Create or continue the stream's files.

        Raises
        ------
        OSError
            A directory or file cannot be made.
        UsageError
            The directory holds another trace, or files that are not ours.
        """
        directory = trace_directory(self._output, stream.trace.path)
        self._metadata_file(stream.trace)
        name = plain_name(stream.name)
        index = directory / "index"
        make_directory(index)
        direct = self._direct and stream.geometry.subbuf_size >= _DIRECT_SIZE
        refused = self._no_direct if direct else None
        return DiskWriter(directory / name, index / f"{name}.idx", refused)

    def metadata(self, trace: Trace, text: bytes) -> None:
        """Append metadata packets."""
        self._metadata_file(trace).append(text)

    def end(self, trace: Trace) -> None:
        """Close a trace's metadata file."""
        file = self._metadata.pop(trace.id, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        """Close the metadata files."""
        for file in self._metadata.values():
            file.close()
        self._metadata.clear()

    def _no_direct(self, path: Path) -> None:
        if self._direct:
            # The other files are in the same place.
            self._direct = False
            self._report(
                f"{path}: its file system does not write past the page cache (--direct): "
                "written through it"
            )

    def _metadata_file(self, trace: Trace) -> MetadataFile:
        file = self._metadata.get(trace.id)
        if file is None:
            file = self._metadata[trace.id] = self._open_metadata(trace)
        return file

    def _open_metadata(self, trace: Trace) -> MetadataFile:
        directory = trace_directory(self._output, trace.path)
        refuse_beside(directory / f"metadata{SUFFIX}")
        return MetadataFile(directory / "metadata", trace.uuid)


class DiskWriter:
    """Data and index file of one stream; the native drain writes them.

    Parameters
    ----------
    data, index : Path
    refused : callable, optional
        Write the data past the page cache (O_DIRECT), or tell this that we cannot. Packets
        and their places in memory and file are whole pages already.
    """

    def __init__(
        self, data: Path, index: Path, refused: Callable[[Path], None] | None = None
    ) -> None:
        self._data_path = data
        self._refused = refused
        self._direct = False
        self._ring: Ring | None = None
        self._next_sequence: int | None = None
        self._index_fd = -1
        self._data_fd = open_file(data)
        try:
            self._index_fd = open_file(index)
            self._resume()
        except BaseException:
            self.close()
            raise

    @property
    def ends(self) -> tuple[int | None, int]:
        """Where the files ended when they were opened.

        The sequence number that follows, None if they were empty, and the events discarded
        until then.
        """
        return self._next_sequence, self._discarded

    def attach(self, ring: Ring) -> None:
        """Go on where the files end: exactly once on disk, whoever was killed when."""
        self._ring = ring
        if self._refused is not None and self._set_direct(True):
            # Two at a time: both are on their way to the device before we wait.
            ring.assign(self._data_fd, self._index_fd, 2 * ring.subbuf_size)
        else:
            ring.assign(self._data_fd, self._index_fd)
        ring.data_offset = self._data_end
        ring.index_offset = self._index_end
        ring.last_discarded = self._discarded
        if self._next_sequence is not None:
            # Only forward; a position is a word that wraps.
            ring.move_consumer(self._next_sequence * ring.subbuf_size % (1 << 64))

    def drain(self, ring: Ring, max_bytes: int) -> int:
        """Move readable packets to the files; see `Ring.drain`."""
        status = ring.drain(self._data_fd, self._index_fd, max_bytes)
        if status == DRAIN_ERRNO and ring.error == errno.EINVAL and self._set_direct(False):
            # The file took the flag, its device did not take the write.
            ring.assign(self._data_fd, self._index_fd)
            status = ring.drain(self._data_fd, self._index_fd, max_bytes)
        if status == DRAIN_ERRNO:
            # Part of a packet would make the file unreadable, should it end here.
            os.ftruncate(self._data_fd, ring.data_offset)
            os.ftruncate(self._index_fd, ring.index_offset)
            self._reservation = Reservation(self._data_fd, ring.data_offset, 0)
        return status

    def settle(self) -> None:
        """Start write-back of what has gathered."""
        if self._ring is not None and not self._direct:
            self._writeback.advance(self._ring.data_offset)
            self._reservation.advance(self._ring.data_offset)

    def write(self, packets: Sequence[Packet]) -> None:
        """Append packets without a ring: data, then index."""
        for packet in packets:
            # A copy: its writers may change the header, and the entry must say the same.
            raw = bytes(packet.data.data)
            header = packet.stream.geometry.layout.packet.get_all(raw)
            header["offset"] = self._data_end
            names = [row.name for row in INDEX_ENTRY]
            entry = INDEX_ENTRY.pack({name: header[name] for name in names})
            files = (self._data_fd, self._data_end), (self._index_fd, self._index_end)
            with all_or_nothing(*files):
                write_all(self._data_fd, raw, self._data_end)
                write_all(self._index_fd, entry, self._index_end)
            self._data_end += packet.packet_size
            self._index_end += len(entry)

    def close(self) -> None:
        """Close both files."""
        if self._ring is not None:
            self._ring.assign(-1)
            with contextlib.suppress(OSError):
                self._reservation.finish(self._ring.data_offset)
        for fd in (self._data_fd, self._index_fd):
            if fd >= 0:
                os.close(fd)

    def _set_direct(self, wanted: bool) -> bool:
        """Turn O_DIRECT on or off; return whether that changed anything."""
        if wanted == self._direct:
            return False
        flags = fcntl.fcntl(self._data_fd, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._data_fd, fcntl.F_SETFL, flags ^ os.O_DIRECT)
        except OSError:
            wanted = False
        if not wanted and self._refused is not None:
            self._refused(self._data_path)
        changed = wanted != self._direct
        self._direct = wanted
        return changed

    def _resume(self) -> None:
        """Find the end of what is complete: a packet is when its index entry is."""
        size = os.fstat(self._index_fd).st_size
        head = os.pread(self._index_fd, len(INDEX_HEADER_BYTES), 0)
        self._data_end = 0
        self._discarded = 0
        self._next_sequence = None
        if size <= len(INDEX_HEADER_BYTES):
            if not INDEX_HEADER_BYTES.startswith(head):
                raise UsageError(f"index of {self._data_path} is not one of ours")
            write_all(self._index_fd, INDEX_HEADER_BYTES, 0)
            entries = 0
        else:
            if head != INDEX_HEADER_BYTES:
                raise UsageError(f"index of {self._data_path} is not one of ours")
            entries = (size - len(head)) // INDEX_ENTRY.size
        self._index_end = len(INDEX_HEADER_BYTES) + entries * INDEX_ENTRY.size
        if entries:
            at = self._index_end - INDEX_ENTRY.size
            last = INDEX_ENTRY.get_all(os.pread(self._index_fd, INDEX_ENTRY.size, at))
            self._data_end = last["offset"] + last["packet_size"] // 8
            self._discarded = last["events_discarded"]
            self._next_sequence = last["packet_seq_num"] + 1
        if os.fstat(self._data_fd).st_size < self._data_end:
            raise UsageError(f"{self._data_path} is shorter than its index says")
        os.ftruncate(self._index_fd, self._index_end)
        os.ftruncate(self._data_fd, self._data_end)
        self._writeback = WriteBack(self._data_fd, self._data_end)
        self._reservation = Reservation(self._data_fd, self._data_end)
