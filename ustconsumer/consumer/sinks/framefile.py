# SPDX-License-Identifier: MIT
"""A file of zstd frames that grows, is cut back, and is read as if it were plain."""

from __future__ import annotations

import contextlib
import os
import threading
from array import array
from bisect import bisect_right

import zstandard

from ustconsumer.consumer.sinks.layout import all_or_nothing, write_all
from ustconsumer.ctf.frames import seek_table

__all__ = ["Compressor", "FrameFile"]


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


class FrameFile:
    """A file of frames from its beginning to its end, and where each of them is.

    Parameters
    ----------
    fd : int
        Open for reading and writing; owned from now on. What is in it is nobody's until
        `know` was told of it and `keep` was called.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        #: Where the frames end, and what they become.
        self._ends = array("Q")
        self._plain_ends = array("Q")
        self._decompressor = zstandard.ZstdDecompressor()
        self._cached = (-1, b"")

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._ends)

    @property
    def closed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._fd < 0

    @property
    def end(self) -> int:
        """Bytes of the frames."""
        return self._ends[-1] if self._ends else 0

    @property
    def plain_end(self) -> int:
        """Bytes that they become."""
        return self._plain_ends[-1] if self._plain_ends else 0

    def frame_end(self, number: int) -> int:
        """Return where a frame ends."""
        return self._ends[number]

    def file_size(self) -> int:
        """Return how large the file is, whatever is in it."""
        return os.fstat(self._fd).st_size

    def know(self, size: int, plain: int) -> None:
        """Take the next frame as given: so many bytes, which become so many."""
        self._ends.append(self.end + size)
        self._plain_ends.append(self.plain_end + plain)

    def add(self, frame: bytes, plain: int) -> None:
        """Append a frame, which becomes so many bytes; all or nothing.

        Raises
        ------
        OSError
            The file cannot take it.
        """
        with all_or_nothing((self._fd, self.end)):
            write_all(self._fd, frame, self.end)
        self.know(len(frame), plain)

    def keep(self, count: int) -> None:
        """Cut off all but so many frames, if the file is still open."""
        if self._fd < 0:
            return
        os.ftruncate(self._fd, self._ends[count - 1] if count else 0)
        del self._ends[count:], self._plain_ends[count:]
        self._cached = (-1, b"")

    def find(self, offset: int) -> tuple[int, int]:
        """Return the number of the frame with a byte of the plain file, and where that begins."""
        number = bisect_right(self._plain_ends, offset)
        return number, self._plain_ends[number - 1] if number else 0

    def content(self, number: int) -> bytes:
        """Return what a frame becomes.

        Raises
        ------
        OSError
            The file cannot be read, or is damaged.
        """
        if number != self._cached[0]:
            begin = self._ends[number - 1] if number else 0
            raw = os.pread(self._fd, self._ends[number] - begin, begin)
            plain = self._plain_ends[number] - (self._plain_ends[number - 1] if number else 0)
            try:
                # What the frame itself says is what would be allocated.
                if zstandard.frame_content_size(raw) != plain:
                    raise OSError(f"frame {number} of a compressed file is another one")
                self._cached = number, self._decompressor.decompress(raw)
            except zstandard.ZstdError as error:
                raise OSError(f"frame {number} of a compressed file: {error}") from None
        return self._cached[1]

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the plain file, less than asked for at its end; raises as `content`."""
        parts = []
        end = min(offset + size, self.plain_end)
        while offset < end:
            number, begin = self.find(offset)
            parts.append(self.content(number)[offset - begin : end - begin])
            offset += len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """Write the seek table; close the file."""
        if self._fd < 0:
            return
        # A full disk: the frames are all that a reader needs.
        with contextlib.suppress(OSError), all_or_nothing((self._fd, self.end)):
            write_all(self._fd, seek_table(self._sizes()), self.end)
        self.abandon()

    def abandon(self) -> None:
        """Close the file as it is."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _sizes(self) -> array[int]:
        sizes = array("I")
        before = plain_before = 0
        for end, plain in zip(self._ends, self._plain_ends, strict=True):
            sizes.extend((end - before, plain - plain_before))
            before, plain_before = end, plain
        return sizes
