# SPDX-License-Identifier: MIT
"""The metadata log: an append-only text in shared memory, one per trace.

Layout: a 64-byte header, then the text. The header is four little-endian u64:
magic, version, committed length of the text in bytes, where behind the header it
starts. The registry is the only writer; it writes whole declarations, then the
committed length. A reader maps or reads the header through a read-only descriptor,
loads the length (acquire), and may use that many bytes. When the text starts over
it is written where the old one is not, then its place is named, with a new
``version``: whoever is killed meanwhile, there is a whole text.
"""

from __future__ import annotations

import mmap
import os
import struct

from ustconsumer.errors import LayoutError

__all__ = ["HEADER_SIZE", "MAGIC", "MetadataLogReader", "MetadataLogWriter"]

MAGIC = 0x474F4C4154454D31
HEADER_SIZE = 64
_HEADER = struct.Struct("<QQQQ")
#: version, length, start: what a text that starts over has anew.
_PLACE = struct.Struct("<QQQ")
#: Attempts to read a text that starts over meanwhile; then there is always a next time.
_ATTEMPTS = 8
#: A trace's metadata larger than this is a mistake or an attack.
MAX_TEXT = 256 << 20


class MetadataLogWriter:
    """The registry's side.

    Parameters
    ----------
    fd : int
        Writable descriptor of an empty memfd or file; owned by this object.
    """

    def __init__(self, fd: int):
        self._fd = fd
        self.length = 0
        self.version = 0
        self._start = 0
        os.pwrite(fd, _HEADER.pack(MAGIC, 0, 0, 0), 0)

    def append(self, text: str) -> None:
        """Append whole declarations, visible to readers when this returns."""
        raw = text.encode()
        self._write(raw, self._start + self.length)
        self.length += len(raw)
        # The text before its length: a reader that sees the length may use the text
        # (system calls on the same file do not reorder).
        os.pwrite(self._fd, struct.pack("<Q", self.length), 16)

    def text(self) -> str:
        """Return everything that was appended."""
        raw = b""
        while len(raw) < self.length:
            at = HEADER_SIZE + self._start + len(raw)
            raw += os.pread(self._fd, self.length - len(raw), at)
        return raw.decode()

    def restart(self, text: str) -> None:
        """Have the text start over with this one: readers get it from its beginning."""
        raw = text.encode()
        # A reader may be in the middle of the old one.
        start = 0 if len(raw) <= self._start else self._start + self.length
        self._write(raw, start)
        self.version, self.length, self._start = self.version + 1, len(raw), start
        os.pwrite(self._fd, _PLACE.pack(self.version, self.length, start), 8)

    def _write(self, raw: bytes, at: int) -> None:
        written = 0
        while written < len(raw):
            written += os.pwrite(self._fd, raw[written:], HEADER_SIZE + at + written)

    def reopen_read_only(self) -> int:
        """Return a new read-only descriptor of the log."""
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class MetadataLogReader:
    """A consumer's side.

    Parameters
    ----------
    fd : int
        Readable descriptor of the log; owned by this object.
    """

    #: Offsets in `header` of the words that change when there is something to read.
    words = (8, 16)

    def __init__(self, fd: int):
        self._fd = fd
        self.offset = 0
        self.version = 0
        self._seen = b""
        size = os.fstat(fd).st_size
        if size < _HEADER.size:
            os.close(fd)
            raise LayoutError("metadata log", f"{_HEADER.size} byte header", size)
        #: The header in memory, read-only.
        self.header = mmap.mmap(fd, _HEADER.size, prot=mmap.PROT_READ)
        #: how often it had started over before
        self.restarts = int.from_bytes(self.header[8:16], "little")

    def read(self) -> bytes:
        """Return the text committed since the last call, empty if there is none.

        A text that starts over (``version``) comes from its beginning.

        Raises
        ------
        LayoutError
            The header is not that of a metadata log, or its length shrank.
        """
        # Most logs have nothing new most of the time, and this costs no system call. The copy
        # may be torn; if it is, it differs, and the header is read properly.
        if self.header[8:] == self._seen:
            return b""
        for _ in range(_ATTEMPTS):
            raw, length, start = self._place()
            text = self._text(length, start)
            # What was read may be half of the next text, if there is one.
            if self.header[8:16] == raw[8:16]:
                self.offset = length
                self._seen = raw[8:]
                return text
        return b""

    def _place(self) -> tuple[bytes, int, int]:
        """Return the header, and the length and the start of the text."""
        raw = os.pread(self._fd, _HEADER.size, 0)
        for _ in range(_ATTEMPTS):
            again = os.pread(self._fd, _HEADER.size, 0)
            if again == raw:
                break
            # It was being written.
            raw = again
        if len(raw) != _HEADER.size:
            raise LayoutError("metadata log", f"{_HEADER.size} byte header", len(raw))
        magic, version, length, start = _HEADER.unpack(raw)
        if magic != MAGIC:
            raise LayoutError("metadata log magic", hex(MAGIC), hex(magic), 0)
        if version != self.version:
            self.version, self.offset = version, 0
        if not self.offset <= length <= MAX_TEXT:
            raise LayoutError("metadata log length", f">= {self.offset}", length, 16)
        if start > MAX_TEXT:
            raise LayoutError("metadata log start", f"<= {MAX_TEXT}", start, 24)
        return raw, length, start

    def _text(self, length: int, start: int) -> bytes:
        """Return what is new of a text."""
        parts: list[bytes] = []
        at = self.offset
        while at < length:
            part = os.pread(self._fd, length - at, HEADER_SIZE + start + at)
            if not part:
                raise LayoutError("metadata log text", f"{length} bytes", at, HEADER_SIZE)
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    def rewind(self) -> None:
        """Have the next `read` begin at the beginning."""
        self.offset = 0
        self._seen = b""

    def unread(self, text: bytes) -> None:
        """Have the next `read` begin with the text that the last one returned."""
        self.offset -= len(text)
        self._seen = b""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
