# SPDX-License-Identifier: MIT
"""Packets on disk until a relay takes them: first in, first out, for each stream."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import struct
import zlib
from collections import deque
from pathlib import Path
from typing import NamedTuple

from ustconsumer.consumer.sinks.layout import write_all

__all__ = ["Spool"]

#: What each packet is preceded by: magic, bytes of content, its checksum, five facts.
_HEADER = struct.Struct("<4sII5Q")
_MAGIC = b"USP1"
#: The magic of a packet that was sent: whoever comes after a consumer that was killed knows.
_SENT = b"USP0"
#: Bytes after which another file is begun: one whose packets were all sent is removed.
_SEGMENT = 16 << 20
#: With a limit, a file has this part of it at most: room comes back file by file.
_PARTS = 16
#: Bytes of one packet: more is a damaged file.
_MAX_PACKET = 1 << 30
_NAME = re.compile(r"([0-9]+)-([0-9]{8})")


class _Record(NamedTuple):
    segment: int
    offset: int
    size: int


class _Stream:
    """The files of one stream, numbered, and the packets in them."""

    def __init__(self, directory: Path, key: str, segment_size: int) -> None:
        self._directory = directory
        self._key = key
        self._segment_size = segment_size
        self.records: deque[_Record] = deque()
        #: bytes of its files, by number
        self.stored: dict[int, int] = {}
        self._fds: dict[int, int] = {}
        self._last = -1
        self._end = 0

    def recover(self, segment: int) -> int:
        """Take in what an earlier consumer left in a file; return the bytes that wait."""
        fd = os.open(self._path(segment), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._fds[segment] = fd
        self._last, self._end = segment, 0
        waiting = 0
        while True:
            found = _check(fd, self._end)
            if found is None:
                break
            content, sent = found
            if not sent:
                self.records.append(_Record(segment, self._end, len(content)))
                waiting += _HEADER.size + len(content)
            self._end += _HEADER.size + len(content)
        # A packet that was being written is in its buffer still.
        os.ftruncate(fd, self._end)
        self.stored[segment] = self._end
        return waiting

    def append(self, raw: bytes, size: int) -> None:
        """Write a packet with its header, all of it or nothing."""
        if self._last not in self._fds or self._end >= self._segment_size:
            self._begin()
        fd = self._fds[self._last]
        try:
            write_all(fd, raw, self._end)
        except OSError:
            os.ftruncate(fd, self._end)
            raise
        self.records.append(_Record(self._last, self._end, size))
        self._end += len(raw)
        self.stored[self._last] = self._end

    def read(self, number: int) -> tuple[bytes, tuple[int, ...]]:
        """Return a packet and its facts; `OSError` if that is not what was written."""
        record = self.records[number]
        fd = self._fds[record.segment]
        found = _check(fd, record.offset)
        if found is None or len(found[0]) != record.size:
            path = self._path(record.segment)
            raise OSError(errno.EIO, f"{path}: what is at {record.offset} is not what was kept")
        return found[0], _HEADER.unpack(os.pread(fd, _HEADER.size, record.offset))[3:]

    def pop(self) -> int:
        """Let go of the oldest packet; return the bytes that it had."""
        record = self.records.popleft()
        if not self.records or self.records[0].segment != record.segment:
            self._remove(record.segment)
        else:
            # Without that it is sent once more by who comes after us, no worse.
            with contextlib.suppress(OSError):
                write_all(self._fds[record.segment], _SENT, record.offset)
        return _HEADER.size + record.size

    def close(self) -> None:
        """Close the files, remove those without packets."""
        for segment in tuple(self._fds):
            if not any(record.segment == segment for record in self.records):
                self._remove(segment)
            else:
                os.close(self._fds.pop(segment))

    def _begin(self) -> None:
        segment = self._last + 1
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fds[segment] = os.open(self._path(segment), flags, 0o600)
        self._last, self._end = segment, 0
        self.stored[segment] = 0

    def _remove(self, segment: int) -> None:
        os.close(self._fds.pop(segment))
        del self.stored[segment]
        with contextlib.suppress(FileNotFoundError):
            self._path(segment).unlink()

    def _path(self, segment: int) -> Path:
        return self._directory / f"{self._key}-{segment:08}"


class Spool:
    """The packets of a session that wait on disk; a `ustconsumer.consumer.flow.Keeper`.

    Parameters
    ----------
    directory : path
        Of this session alone; made if it is not there. What an earlier consumer of the
        session left in it comes first.
    limit : int
        Bytes that its files may have; 0: no limit. A file is there until all of its packets
        were sent.

    Raises
    ------
    OSError
        The directory cannot be used; or others could have made it: `PermissionError`.
    """

    def __init__(self, directory: str | os.PathLike[str], limit: int = 0) -> None:
        self._directory = Path(directory)
        self._limit = limit
        self._streams: dict[str, _Stream] = {}
        self._used = 0
        self._directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            self._directory.mkdir(mode=0o700)
        found = os.lstat(self._directory)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o22:
            reason = "it is not a directory of ours alone"
            raise PermissionError(errno.EPERM, reason, str(self._directory))
        for name in sorted(os.listdir(self._directory)):
            match = _NAME.fullmatch(name)
            if match is not None:
                stream = self._stream(match[1])
                self._used += stream.recover(int(match[2]))

    @property
    def directory(self) -> Path:
        """Where they are."""
        return self._directory

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._used

    def keys(self) -> list[str]:
        """Return the streams of which there are packets."""
        return [key for key, stream in self._streams.items() if stream.records]

    def append(self, key: str, content: bytes, facts: tuple[int, ...]) -> None:
        """Keep a packet with five numbers.

        Raises
        ------
        OSError
            There is no room; nothing of it is kept.
        """
        size = _HEADER.size + len(content)
        if self._limit and self._stored() + size > self._limit:
            raise OSError(errno.ENOSPC, f"the spool in {self._directory} is full")
        head = _HEADER.pack(_MAGIC, len(content), _checksum(content, facts), *facts)
        self._stream(key).append(head + content, len(content))
        self._used += size

    def count(self, key: str) -> int:
        """Return how many packets of a stream there are."""
        stream = self._streams.get(key)
        return 0 if stream is None else len(stream.records)

    def read(self, key: str, number: int) -> tuple[bytes, tuple[int, ...]]:
        """Return a packet, 0 being the oldest."""
        return self._streams[key].read(number)

    def pop(self, key: str) -> None:
        """Let go of the oldest packet of a stream."""
        self._used -= self._streams[key].pop()

    def close(self) -> None:
        """Leave what is there for who comes next; nothing, if there is nothing."""
        for stream in self._streams.values():
            stream.close()
        with contextlib.suppress(OSError):
            self._directory.rmdir()

    def _stored(self) -> int:
        return sum(sum(stream.stored.values()) for stream in self._streams.values())

    def _stream(self, key: str) -> _Stream:
        if key not in self._streams:
            segment = min(_SEGMENT, self._limit // _PARTS) if self._limit else _SEGMENT
            self._streams[key] = _Stream(self._directory, key, segment)
        return self._streams[key]


def _checksum(content: bytes, facts: tuple[int, ...]) -> int:
    return zlib.crc32(content, zlib.crc32(struct.pack("<5Q", *facts)))


def _check(fd: int, offset: int) -> tuple[bytes, bool] | None:
    """Return the packet at an offset, and whether it was sent; None if there is no whole one."""
    head = os.pread(fd, _HEADER.size, offset)
    if len(head) < _HEADER.size:
        return None
    magic, size, checksum, *facts = _HEADER.unpack(head)
    if magic not in (_MAGIC, _SENT) or size > _MAX_PACKET:
        return None
    content = os.pread(fd, size, offset + _HEADER.size)
    if len(content) < size or _checksum(content, tuple(facts)) != checksum:
        return None
    return content, magic == _SENT
