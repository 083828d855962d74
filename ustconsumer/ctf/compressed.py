# SPDX-License-Identifier: MIT
"""Reads compressed files at any place, as if they were plain: see `ustconsumer.ctf.frames`.

Files are not trusted: a frame is decompressed only if it says how much it becomes, or the
seek table does, and that is what is taken from it.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import zstandard

from ustconsumer.ctf.frames import MAX_FRAME, Span, find_frames, parse_seek_table
from ustconsumer.errors import DecodeError

__all__ = ["CompressedFile", "Frames", "frames"]


class Frames(NamedTuple):
    """The frames of a file, found once.

    Attributes
    ----------
    spans : list of Span
    starts : list of int
        Where in the plain file each begins.
    size : int
        Bytes of the plain file.
    torn : int
        Bytes at the end of the file that are no whole frame.
    """

    spans: list[Span]
    starts: list[int]
    size: int
    torn: int


def frames(fd: int, path: str) -> Frames:
    """Find the frames of a file: in its seek table or, if it was cut off or grows, one by one.

    Raises
    ------
    OSError
        It cannot be read.
    DecodeError
        It is no such file.
    """
    size = os.fstat(fd).st_size

    def read(offset: int, count: int) -> bytes:
        return os.pread(fd, count, offset)

    found = parse_seek_table(read, size)
    end = size
    if found is None:
        try:
            found, end = find_frames(read, size)
        except ValueError as error:
            raise DecodeError(f"{path}: {error}") from None
    starts = []
    at = 0
    for span in found:
        if span.content_size is None:
            raise DecodeError(
                f"{path}: frame at byte {span.offset} does not say how large it is: use zstd -d"
            )
        if span.content_size > MAX_FRAME:
            raise DecodeError(
                f"{path}: frame at byte {span.offset} becomes {span.content_size} bytes, more "
                f"than the {MAX_FRAME} that are read at once: use zstd -d"
            )
        starts.append(at)
        at += span.content_size
    return Frames(found, starts, at, size - end)


class CompressedFile:
    """A file that is open; one frame of it is in memory.

    Parameters
    ----------
    fd : int
        Not owned.
    path : str
        For errors.
    known : Frames
    """

    def __init__(self, fd: int, path: str, known: Frames) -> None:
        self._fd = fd
        self._path = path
        self._known = known
        self._decompressor = zstandard.ZstdDecompressor()
        self._number = -1
        self._content = b""

    @property
    def size(self) -> int:
        """Bytes of the plain file."""
        return self._known.size

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the plain file, less than asked for at its end.

        Raises
        ------
        DecodeError
            A frame is damaged.
        """
        known = self._known
        size = min(size, known.size - offset)
        if size <= 0:
            return b""
        number = bisect_right(known.starts, offset) - 1
        begin = offset - known.starts[number]
        content = self.content(number)
        if begin + size <= len(content):
            return content[begin : begin + size]
        parts = []
        while size > 0:
            parts.append(self.content(number)[begin : begin + size])
            size -= len(parts[-1])
            begin = 0
            number += 1
        return b"".join(parts)

    def __iter__(self) -> Iterator[bytes]:
        """Yield what each frame becomes; raises as `read`."""
        for number in range(len(self._known.spans)):
            yield self.content(number)

    def content(self, number: int) -> bytes:
        """Return what a frame becomes; raises as `read`."""
        if number != self._number:
            self._number = -1
            self._content = self._decompressed(self._known.spans[number])
            self._number = number
        return self._content

    def _decompressed(self, span: Span) -> bytes:
        where = f"{self._path}: frame at byte {span.offset}"
        expected = span.content_size
        if not expected:
            return b""
        try:
            raw = os.pread(self._fd, span.size, span.offset)
            # What the frame itself says is what would be allocated.
            if zstandard.frame_content_size(raw) not in (-1, expected):
                raise DecodeError(f"{where}: the seek table says {expected} bytes, the frame not")
            content = self._decompressor.decompress(raw, max_output_size=expected)
        except zstandard.ZstdError as error:
            raise DecodeError(f"{where}: {error}") from None
        except OSError as error:
            raise DecodeError(f"{self._path}: {error.strerror}") from None
        if len(content) != expected:
            raise DecodeError(f"{where}: becomes {len(content)} bytes, not {expected}")
        return content
