# SPDX-License-Identifier: MIT
"""Data and index file of one stream, each packet a zstd frame: for whoever stores packets.

The data file is the frames, one behind the other. The index decompresses to LTTng's; its
entries are frames that hold them as they are, each behind a frame to be skipped that says where
the packet's frame ends: records of one size, so that a torn one is seen, and who goes on knows
the frames without reading them. The seek table is there after a clean close only.
"""

from __future__ import annotations

import os
import struct

from ustconsumer.abi.packet import INDEX_ENTRY
from ustconsumer.consumer.sinks.framefile import FrameFile
from ustconsumer.consumer.sinks.layout import all_or_nothing, write_all
from ustconsumer.ctf.frames import raw_frame, skippable_frame
from ustconsumer.errors import UsageError

__all__ = ["PackedFiles", "last_entry"]

#: Records of the index that are read at once.
_TOGETHER = 4096


class PackedFiles:
    """Data and index file of a stream.

    Parameters
    ----------
    data_fd, index_fd : int
        Files open for reading and writing, owned from now on; ``index_fd`` is -1 if there is
        no index. They go on behind the last packet in the index.
    header : bytes
        What the index begins with.
    entry_size : int
        Bytes of an entry of the index.
    where : str
        Names them in errors.

    Attributes
    ----------
    frames : FrameFile
        The data.
    count : int
        Packets in the index.

    Raises
    ------
    OSError
        They cannot be read or cut.
    UsageError
        They are not such files.
    """

    def __init__(
        self,
        data_fd: int,
        index_fd: int,
        header: bytes,
        entry_size: int = INDEX_ENTRY.size,
        where: str = "",
    ) -> None:
        self.frames = FrameFile(data_fd)
        self._index_fd = index_fd
        self._where = where
        self._header = raw_frame(header)
        self._entry_size = entry_size
        example = _record(0, bytes(entry_size))
        #: What all records have before and behind their first number.
        self._skip, self._frame = example[:8], example[16:-entry_size]
        self._fields = struct.Struct(f"<8sQ{len(self._frame)}s{entry_size}s")
        self.count = 0
        try:
            if index_fd >= 0:
                self._resume()
        except BaseException:
            self.frames.abandon()
            self._close_index()
            raise

    def index(self, entry: bytes) -> None:
        """Append the entry of the oldest packet that has none; all or nothing.

        Raises
        ------
        OSError
            The file cannot take it.
        """
        record = _record(self.frames.frame_end(self.count), entry)
        with all_or_nothing((self._index_fd, self._index_end)):
            write_all(self._index_fd, record, self._index_end)
        self.count += 1

    def cut(self) -> None:
        """Take packets without an entry out of the data file."""
        self.frames.keep(self.count)

    def entry(self, number: int) -> bytes:
        """Return an entry of the index."""
        return self._read_records(number, 1)[-self._entry_size :]

    def close(self) -> None:
        """Write the seek table; close the files."""
        self.frames.close()
        self._close_index()

    @property
    def _index_end(self) -> int:
        return len(self._header) + self.count * self._fields.size

    def _read_records(self, first: int, count: int) -> bytes:
        at = len(self._header) + first * self._fields.size
        return os.pread(self._index_fd, count * self._fields.size, at)

    def _resume(self) -> None:
        """Find the end of what is complete: a packet is when its index entry is."""
        size = os.fstat(self._index_fd).st_size
        head = os.pread(self._index_fd, len(self._header), 0)
        if size <= len(head) and self._header.startswith(head):
            write_all(self._index_fd, self._header, 0)
        elif head != self._header:
            raise UsageError(f"index of {self._where} is not one of ours")
        entries = max(0, size - len(self._header)) // self._fields.size
        while self.count < entries:
            raw = self._read_records(self.count, min(_TOGETHER, entries - self.count))
            for skip, end, frame, entry in self._fields.iter_unpack(raw):
                self._count(skip + frame, end, entry)
        if self.frames.file_size() < self.frames.end:
            raise UsageError(f"{self._where} is shorter than its index says")
        os.ftruncate(self._index_fd, self._index_end)
        self.cut()

    def _count(self, shape: bytes, end: int, entry: bytes) -> None:
        """Take a record of the index that is there."""
        # Offset and size come first in all versions.
        offset = INDEX_ENTRY.get(entry, 0, "offset")
        size = INDEX_ENTRY.get(entry, 0, "packet_size") // 8
        compressed = end - self.frames.end
        if (
            shape != self._skip + self._frame
            or offset != self.frames.plain_end
            or not 0 < compressed < 1 << 32
            or not 0 < size < 1 << 32
        ):
            raise UsageError(f"entry {self.count} in the index of {self._where} is not one of ours")
        self.frames.know(compressed, size)
        self.count += 1

    def _close_index(self) -> None:
        if self._index_fd >= 0:
            os.close(self._index_fd)
        self._index_fd = -1


def last_entry(index_fd: int, header: bytes, entry_size: int = INDEX_ENTRY.size) -> bytes | None:
    """Return the last whole entry of an index; None: there is none."""
    begin, size = len(raw_frame(header)), len(_record(0, bytes(entry_size)))
    count = (os.fstat(index_fd).st_size - begin) // size
    if count < 1:
        return None
    return os.pread(index_fd, size, begin + (count - 1) * size)[-entry_size:]


def _record(end: int, entry: bytes) -> bytes:
    return skippable_frame(end.to_bytes(8, "little")) + raw_frame(entry)
