# SPDX-License-Identifier: MIT
"""Data packets in files: their headers, checked, and their content, one at a time.

Files are not trusted: sizes are compared with the file's before anything is read, and
what is read is a copy, so that a file that shrinks meanwhile is an error and no more.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ustconsumer.abi.packet import CTF_MAGIC, DATA_PACKET
from ustconsumer.abi.rows import struct_code
from ustconsumer.ctf.compressed import CompressedFile, Frames, frames
from ustconsumer.ctf.frames import SUFFIX
from ustconsumer.errors import DecodeError

__all__ = ["HEADER_SIZE", "MAX_PACKET", "Files", "PacketHeader", "headers"]

HEADER_SIZE = DATA_PACKET.size
#: Bytes. A packet is read as a whole, and there is one per stream at a time.
MAX_PACKET = 4 << 30

#: All rows at once: they leave no holes.
_HEADER = struct.Struct(
    "<" + "".join(struct_code(row.format).format.lstrip("<") for row in DATA_PACKET)
)
assert _HEADER.size == HEADER_SIZE


class PacketHeader(NamedTuple):
    """Where a packet is, and what its header and context say. Sizes in bytes."""

    path: str
    #: in its file, from 0
    number: int
    offset: int
    stream_id: int
    stream_instance_id: int
    #: Clock cycles.
    timestamp_begin: int
    #: Clock cycles, 0 if the tracer had no time to say.
    timestamp_end: int
    content_size: int
    packet_size: int
    sequence: int
    #: Events of its stream that were not recorded, since the beginning.
    events_discarded: int
    cpu_id: int

    def __str__(self) -> str:
        return f"{self.path}: packet {self.number} at byte {self.offset}"


class Files:
    """Reads from many files, plain or compressed, with few descriptors open at a time.

    Offsets and sizes are those of plain files.
    """

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        #: Oldest use first.
        self._open: dict[str, int] = {}
        self._compressed: dict[str, CompressedFile] = {}
        self._frames: dict[str, Frames] = {}

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return bytes of a file, less than asked for at its end.

        Raises
        ------
        DecodeError
            The file cannot be read.
        """
        try:
            fd = self._descriptor(path)
            if path.endswith(SUFFIX):
                return self._decompressing(fd, path).read(offset, size)
            data = os.pread(fd, size, offset)
            if len(data) < size:
                # The kernel returns less than 2 GiB at a time.
                parts = [data]
                while data and (size := size - len(data)):
                    data = os.pread(fd, size, offset := offset + len(data))
                    parts.append(data)
                return b"".join(parts)
            return data
        except OSError as error:
            raise DecodeError(f"{path}: {error.strerror}") from None

    def size(self, path: str) -> int:
        """Return how much there is of a file now, in whole frames if it is compressed.

        Raises
        ------
        DecodeError
            It cannot be read.
        """
        try:
            fd = self._descriptor(path)
            if path.endswith(SUFFIX):
                return self._decompressing(fd, path).size
            return os.fstat(fd).st_size
        except OSError as error:
            raise DecodeError(f"{path}: {error.strerror}") from None

    def content(self, packet: PacketHeader) -> bytes:
        """Return a packet's content from its first byte, header and context included.

        Raises
        ------
        DecodeError
            The file is shorter than it was.
        """
        data = self.read(packet.path, packet.offset, packet.content_size)
        if len(data) < packet.content_size:
            raise DecodeError(f"{packet}: the file was cut off while it was read")
        return data

    def close(self) -> None:
        self._compressed.clear()
        while self._open:
            os.close(self._open.popitem()[1])

    def _descriptor(self, path: str) -> int:
        """Return the descriptor of a file, which is now the last to be closed."""
        fd = self._open.pop(path, -1)
        if fd < 0:
            if len(self._open) >= self._limit:
                oldest = next(iter(self._open))
                self._compressed.pop(oldest, None)
                os.close(self._open.pop(oldest))
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._open[path] = fd
        return fd

    def _decompressing(self, fd: int, path: str) -> CompressedFile:
        file = self._compressed.get(path)
        if file is None:
            # Found once: there may be many.
            if path not in self._frames:
                self._frames[path] = frames(fd, path)
            file = self._compressed[path] = CompressedFile(fd, path, self._frames[path])
        return file


def headers(files: Files, path: str, size: int) -> Iterator[PacketHeader]:
    """Yield the headers of a file's packets.

    Parameters
    ----------
    size : int
        Of the file, or what of it is to be read.

    Raises
    ------
    DecodeError
        What is in a packet's header cannot be: names the packet and why.
    """
    offset = number = 0
    stream: tuple[int, int] | None = None
    while offset < size:
        packet = _header(files.read(path, offset, HEADER_SIZE), path, number, offset, size)
        of = (packet.stream_id, packet.stream_instance_id)
        if stream not in (None, of):
            raise DecodeError(f"{packet}: of stream {of}, the packets before it are of {stream}")
        stream = of
        yield packet
        offset += packet.packet_size
        number += 1


def _header(raw: bytes, path: str, number: int, offset: int, size: int) -> PacketHeader:
    where = f"{path}: packet {number} at byte {offset}"
    if len(raw) < HEADER_SIZE or size - offset < HEADER_SIZE:
        raise DecodeError(f"{where}: header cut off at the end of the file")
    (
        magic,
        _,  # uuid: babeltrace2 does not mind another one than the metadata's either
        stream_id,
        instance_id,
        begin,
        end,
        content_bits,
        packet_bits,
        sequence,
        discarded,
        cpu_id,
    ) = _HEADER.unpack(raw)
    if magic != CTF_MAGIC:
        raise DecodeError(f"{where}: magic is {magic:#x}, not {CTF_MAGIC:#x}")
    if content_bits % 8 or packet_bits % 8:
        raise DecodeError(f"{where}: {content_bits} bits of {packet_bits}: no whole bytes")
    content, whole = content_bits // 8, packet_bits // 8
    if not HEADER_SIZE <= content <= whole:
        raise DecodeError(f"{where}: content of {content} bytes in a packet of {whole}")
    if whole > size - offset:
        raise DecodeError(f"{where}: {whole} bytes, of which the file has {size - offset}")
    if content > MAX_PACKET:
        raise DecodeError(f"{where}: {content} bytes are more than the {MAX_PACKET} that are read")
    if end < begin and end:
        raise DecodeError(f"{where}: ends at {end}, before it begins at {begin}")
    return PacketHeader(
        path,
        number,
        offset,
        stream_id,
        instance_id,
        begin,
        end,
        content,
        whole,
        sequence,
        discarded,
        cpu_id,
    )
