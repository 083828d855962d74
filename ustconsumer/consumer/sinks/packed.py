# SPDX-License-Identifier: MIT
"""Data and index file of one stream, each packet a zstd frame: for whoever stores packets.

The data file is the frames, one behind the other. The index decompresses to LTTng's; its
entries are frames that hold them as they are, each behind a frame to be skipped that says where
the packet's frame ends: records of one size, so that a torn one is seen, and who goes on knows
the frames without reading them. The seek table is there after a clean close only.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from array import array

import zstandard

from ustconsumer.abi.packet import INDEX_ENTRY
from ustconsumer.consumer.sinks.layout import all_or_nothing, write_all
from ustconsumer.ctf.frames import raw_frame, seek_table, skippable_frame
from ustconsumer.errors import UsageError

__all__ = ["Compressor", "PackedFiles"]

#: Records of the index that are read at once.
_TOGETHER = 4096


class Compressor(threading.local):
    """Makes frames, with a context of its own for each thread that does.

    Parameters
    ----------
    level : int
        1 to 22.
    """

    def __init__(self, level: int) -> None:
        # The size lets readers know what they get, the checksum that they got it.
        self._context = zstandard.ZstdCompressor(
            level=level, write_checksum=True, write_content_size=True
        )
        self._scratch = bytearray()

    def frame(self, content: bytes | bytearray | memoryview) -> bytes:
        """Return the frame of a packet that nobody changes meanwhile. Releases the GIL."""
        return self._context.compress(content)

    def copy(self, content: memoryview) -> memoryview:
        """Return a copy of bytes that others may change; valid until the thread's next one."""
        size = len(content)
        if len(self._scratch) < size:
            self._scratch = bytearray(size)
        copied = memoryview(self._scratch)[:size]
        copied[:] = content
        return copied


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
    data_end : int
        Bytes of the data file.
    plain_end : int
        Bytes that they become.
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
        self._data_fd = data_fd
        self._index_fd = index_fd
        self._where = where
        self._header = raw_frame(header)
        self._entry_size = entry_size
        example = self._record(0, bytes(entry_size))
        #: What all records have before and behind their first number.
        self._skip, self._frame = example[:8], example[16:-entry_size]
        self._fields = struct.Struct(f"<8sQ{len(self._frame)}s{entry_size}s")
        #: Of each frame: compressed, plain.
        self._sizes = array("I")
        assert self._sizes.itemsize == 4
        self.data_end = self.plain_end = self.count = 0
        #: Of the packets in the index.
        self._indexed_end = self._indexed_plain = 0
        try:
            if index_fd >= 0:
                self._resume()
        except BaseException:
            self._close_files()
            raise

    def add(self, frame: bytes, size: int) -> None:
        """Append a packet's frame, which becomes so many bytes; all or nothing.

        Raises
        ------
        OSError
            The file cannot take it.
        """
        with all_or_nothing((self._data_fd, self.data_end)):
            write_all(self._data_fd, frame, self.data_end)
        self._sizes.extend((len(frame), size))
        self.data_end += len(frame)
        self.plain_end += size

    def index(self, entry: bytes) -> None:
        """Append the entry of the oldest packet that has none; all or nothing.

        Raises
        ------
        OSError
            The file cannot take it.
        """
        compressed, plain = self._sizes[2 * self.count : 2 * self.count + 2]
        end = self._indexed_end + compressed
        record = self._record(end, entry)
        with all_or_nothing((self._index_fd, self._index_end)):
            write_all(self._index_fd, record, self._index_end)
        self._indexed_end = end
        self._indexed_plain += plain
        self.count += 1

    def cut(self) -> None:
        """Take packets without an entry out of the data file."""
        os.ftruncate(self._data_fd, self._indexed_end)
        del self._sizes[2 * self.count :]
        self.data_end, self.plain_end = self._indexed_end, self._indexed_plain

    def entry(self, number: int) -> bytes:
        """Return an entry of the index."""
        return self._read_records(number, 1)[-self._entry_size :]

    def close(self) -> None:
        """Write the seek table; close the files."""
        if self._data_fd >= 0:
            # A full disk: the frames are all that a reader needs.
            with contextlib.suppress(OSError), all_or_nothing((self._data_fd, self.data_end)):
                write_all(self._data_fd, seek_table(self._sizes), self.data_end)
        self._close_files()

    @property
    def _index_end(self) -> int:
        return len(self._header) + self.count * self._fields.size

    @staticmethod
    def _record(end: int, entry: bytes) -> bytes:
        return skippable_frame(end.to_bytes(8, "little")) + raw_frame(entry)

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
        if os.fstat(self._data_fd).st_size < self._indexed_end:
            raise UsageError(f"{self._where} is shorter than its index says")
        os.ftruncate(self._index_fd, self._index_end)
        self.cut()

    def _count(self, shape: bytes, end: int, entry: bytes) -> None:
        """Take a record of the index that is there."""
        # Offset and size come first in all versions.
        offset = INDEX_ENTRY.get(entry, 0, "offset")
        size = INDEX_ENTRY.get(entry, 0, "packet_size") // 8
        compressed = end - self._indexed_end
        if (
            shape != self._skip + self._frame
            or offset != self._indexed_plain
            or not 0 < compressed < 1 << 32
            or not 0 < size < 1 << 32
        ):
            raise UsageError(f"entry {self.count} in the index of {self._where} is not one of ours")
        self._sizes.extend((compressed, size))
        self._indexed_end = end
        self._indexed_plain += size
        self.count += 1

    def _close_files(self) -> None:
        for fd in (self._data_fd, self._index_fd):
            if fd >= 0:
                os.close(fd)
        self._data_fd = self._index_fd = -1
