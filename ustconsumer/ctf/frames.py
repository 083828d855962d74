# SPDX-License-Identifier: MIT
"""zstd frames as files of packets are made of: walked without decompression, and the seek table.

Source: RFC 8878 for frames; ``contrib/seekable_format/zstd_seekable_compression_format.md`` of
zstd for the table.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from typing import NamedTuple

import zstandard

__all__ = [
    "MAX_FRAME",
    "SUFFIX",
    "Span",
    "find_frames",
    "parse_seek_table",
    "raw_frame",
    "seek_table",
    "skippable_frame",
]

#: Of the names of files.
SUFFIX = ".zst"
#: Bytes that one frame may become.
MAX_FRAME = 1 << 30

_MAGIC = 0xFD2FB528
_SKIPPABLE = 0x184D2A50
_SEEK_TABLE = 0x184D2A5E
_SEEK_MAGIC = 0x8F92EAB1
_SKIP_HEADER = struct.Struct("<II")
#: Number of frames, descriptor, magic.
_FOOTER = struct.Struct("<IBI")
#: Magic, descriptor (single segment, content size of one byte), content size, block header.
_RAW_HEADER = struct.Struct("<IBB3s")
#: The longest header of a frame.
_MAX_HEADER = 18
_RLE, _RESERVED = 1, 3
_MAX_BLOCK = 128 << 10


class Span(NamedTuple):
    """A frame in its file: where, so many bytes, and what it becomes (None: it does not say)."""

    offset: int
    size: int
    content_size: int | None


def raw_frame(content: bytes) -> bytes:
    """Return a frame that holds up to 255 bytes as they are: of one size for contents of one."""
    block = (len(content) << 3 | 1).to_bytes(3, "little")
    return _RAW_HEADER.pack(_MAGIC, 0x20, len(content), block) + content


def skippable_frame(content: bytes) -> bytes:
    """Return a frame that decompressors pass over."""
    return _SKIP_HEADER.pack(_SKIPPABLE, len(content)) + content


def seek_table(sizes: array[int]) -> bytes:
    """Return the seek table of a file.

    Parameters
    ----------
    sizes : array of uint32
        Of each frame in the file from its beginning on: compressed, then decompressed.
    """
    footer = _FOOTER.pack(len(sizes) // 2, 0, _SEEK_MAGIC)
    header = _SKIP_HEADER.pack(_SEEK_TABLE, sizes.itemsize * len(sizes) + len(footer))
    return b"".join((header, sizes.tobytes(), footer))


def parse_seek_table(read: Callable[[int, int], bytes], size: int) -> list[Span] | None:
    """Return the frames that the seek table at a file's end names; None if there is none.

    Parameters
    ----------
    read : callable
        Returns so many bytes (second) from an offset (first) on, less at the end.
    size : int
        Of the file. What the table says adds up to it; whether it is true is seen when a
        frame is read.
    """
    raw = read(size - _FOOTER.size, _FOOTER.size) if size >= _FOOTER.size else b""
    if len(raw) < _FOOTER.size:
        return None
    count, descriptor, magic = _FOOTER.unpack(raw)
    if magic != _SEEK_MAGIC or descriptor & 0x7C:
        return None
    entry = struct.Struct("<II4x" if descriptor & 0x80 else "<II")
    table_size = count * entry.size + _FOOTER.size
    begin = size - table_size - _SKIP_HEADER.size
    if begin < 0 or read(begin, 8) != _SKIP_HEADER.pack(_SEEK_TABLE, table_size):
        return None
    raw = read(begin + _SKIP_HEADER.size, count * entry.size)
    if len(raw) < count * entry.size:
        return None
    found = []
    offset = 0
    for compressed, content in entry.iter_unpack(raw):
        found.append(Span(offset, compressed, content))
        offset += compressed
    return found if offset == begin else None


def find_frames(read: Callable[[int, int], bytes], size: int) -> tuple[list[Span], int]:
    """Return the frames of a file up to one that is not whole, and where that would begin.

    Those to be skipped are not among them.

    Parameters
    ----------
    read, size
        See `parse_seek_table`.

    Raises
    ------
    ValueError
        What is at an offset is no frame.
    """
    found: list[Span] = []
    offset = 0
    while (span := _frame(read, offset)) is not None and span.size <= size - offset:
        if span.content_size != _SKIPPED:
            found.append(span)
        offset += span.size
    return found, offset


#: In place of a content size: the frame has no content.
_SKIPPED = -1


def _frame(read: Callable[[int, int], bytes], offset: int) -> Span | None:
    """Return the frame that begins at an offset; None if what is there is cut off."""
    head = read(offset, _MAX_HEADER)
    if len(head) < _SKIP_HEADER.size:
        return None
    magic, skipped = _SKIP_HEADER.unpack_from(head)
    if magic & ~0xF == _SKIPPABLE:
        return Span(offset, _SKIP_HEADER.size + skipped, _SKIPPED)
    if magic != _MAGIC:
        raise ValueError(f"no zstd frame at byte {offset}")
    try:
        parameters = zstandard.get_frame_parameters(head)
        end = offset + zstandard.frame_header_size(head)
    except zstandard.ZstdError:
        if len(head) < _MAX_HEADER:
            return None
        raise ValueError(f"no zstd frame at byte {offset}") from None
    last = False
    while not last:
        raw = read(end, 3)
        if len(raw) < 3:
            return None
        block = int.from_bytes(raw, "little")
        last, kind, length = bool(block & 1), block >> 1 & 3, block >> 3
        if kind == _RESERVED or (kind != _RLE and length > _MAX_BLOCK):
            raise ValueError(f"no block of a zstd frame at byte {end}")
        end += 3 + (1 if kind == _RLE else length)
    end += 4 if parameters.has_checksum else 0
    known = parameters.content_size != zstandard.CONTENTSIZE_UNKNOWN
    return Span(offset, end - offset, parameters.content_size if known else None)
