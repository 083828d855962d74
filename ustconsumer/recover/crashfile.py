# SPDX-License-Identifier: MIT
"""One file that is the memory of a stream: what it says of itself, checked, and a copy of it.

Read with ``pread`` and never mapped: whoever cuts the file off meanwhile costs us an error,
not a SIGBUS.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from typing import Any, NamedTuple

from ustconsumer.abi.packet import CTF_MAGIC
from ustconsumer.abi.ring import CRASH_MAGIC, MODE_DISCARD, MODE_OVERWRITE, RING_LAYOUTS
from ustconsumer.errors import LayoutError, UsageError
from ustconsumer.ringbuffer.allocate import crash_record
from ustconsumer.ringbuffer.geometry import Geometry

__all__ = ["CrashFile", "StreamIdentity", "is_crash_file"]

#: The crash block does not tell ABI 8, 9 and 10 apart, which differ in nothing we read.
_LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
_CRASH = _LAYOUT.crash
_ENDIAN, _SWAPPED = 0x1234, 0x3412
_UST = 0
#: Bytes of one read; the kernel's limit is just below 2 GiB.
_TOGETHER = 1 << 30


def is_crash_file(fd: int) -> bool:
    """Return whether a file begins as the memory of a stream does."""
    return os.pread(fd, len(CRASH_MAGIC), 0) == CRASH_MAGIC


class StreamIdentity(NamedTuple):
    """Which stream of which trace packets are of, as their headers have it."""

    uuid: bytes
    stream_id: int
    stream_instance_id: int
    cpu_id: int


_NAMES = StreamIdentity._fields[1:]


class CrashFile:
    """The memory of a stream in a file.

    Parameters
    ----------
    fd : int
        Of a regular file, readable; not owned.

    Attributes
    ----------
    geometry : Geometry
        As the crash block says, and as the size of the file confirms.

    Raises
    ------
    LayoutError
        It is not such memory, or of another machine or tracer than we know.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        raw = os.pread(fd, _CRASH.size, 0)
        if len(raw) < _CRASH.size:
            raise LayoutError("crash block", f"{_CRASH.size} bytes", len(raw))
        block = _CRASH.get_all(raw)
        _check_kind(block)
        self.geometry = _geometry(block)
        _check_places(block, crash_record(self.geometry))
        size = os.fstat(fd).st_size
        if size != self.geometry.file_size:
            raise LayoutError("file", f"{self.geometry.file_size} bytes", size)
        # A sparse file can be of any size.
        memory_size = os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE
        if size > memory_size:
            raise LayoutError("file", f"at most {memory_size} bytes, all memory there is", size)

    def copy(self) -> tuple[mmap.mmap, int]:
        """Return the memory as it is now, for an observer.

        Returns
        -------
        memory : mmap
            Anonymous. Writers may have gone on while it was copied: the counters in it are
            those from before, the write position is that from afterwards, as the observer's
            rule needs it.
        produced : int
            The write position before.

        Raises
        ------
        LayoutError
            The file was cut off meanwhile.
        OSError
            It cannot be read, or there is not enough memory.
        """
        geometry = self.geometry
        size = geometry.file_size
        memory = mmap.mmap(-1, size)
        try:
            with memoryview(memory) as view:
                # The commit counters and ids before the data, the write position after it.
                self._read(view, 0, geometry.data)
                self._read(view, geometry.pages, size)
                self._read(view, geometry.data, geometry.pages)
                at = geometry.layout.control.offset("offset")
                produced = int.from_bytes(view[at : at + 8], "little")
                self._read(view, at, at + 8)
        except BaseException:
            memory.close()
            raise
        return memory, produced

    def identity(self, memory: mmap.mmap, uuid: bytes) -> StreamIdentity | None:
        """Return which stream of a trace most packets in the memory name, None if none does."""
        packet = self.geometry.layout.packet
        votes: Counter[StreamIdentity] = Counter()
        for page in range(self.geometry.nr_pages):
            at = self.geometry.data_at(page)
            head = memory[at : at + packet.size]
            if packet.get(head, 0, "magic") == CTF_MAGIC and packet.get(head, 0, "uuid") == uuid:
                votes[StreamIdentity(uuid, *(packet.get(head, 0, name) for name in _NAMES))] += 1
        return max(votes, key=lambda identity: votes[identity], default=None)

    def _read(self, view: memoryview, start: int, end: int) -> None:
        while start < end:
            count = os.preadv(self._fd, [view[start : min(end, start + _TOGETHER)]], start)
            if not count:
                raise LayoutError("file", f"{self.geometry.file_size} bytes", start)
            start += count


def _check_kind(block: dict[str, Any]) -> None:
    """Refuse other machines and tracers by name."""
    if block["magic"] != CRASH_MAGIC:
        raise LayoutError("crash block", "its magic", block["magic"].hex())
    if block["endian"] == _SWAPPED:
        raise LayoutError("crash block", "this byte order", "a machine of the other byte order")
    if block["endian"] != _ENDIAN:
        raise LayoutError("crash block, byte order", hex(_ENDIAN), hex(block["endian"]))
    if block["major"] or block["minor"]:
        raise LayoutError(
            "crash block",
            "version 0.0 (LTTng-UST 2.12 to 2.14)",
            f"{block['major']}.{block['minor']}",
        )
    if block["word_size"] != _LAYOUT.word:
        raise LayoutError("crash block", "a 64-bit program", f"{block['word_size'] * 8} bits")
    if block["layout_type"] != _UST:
        raise LayoutError("crash block", "buffers of user space", f"type {block['layout_type']}")
    if block["mode"] not in (MODE_DISCARD, MODE_OVERWRITE):
        raise LayoutError("crash block, mode", "0 or 1", block["mode"])


def _geometry(block: dict[str, Any]) -> Geometry:
    try:
        return Geometry(
            _LAYOUT,
            block["subbuf_size"],
            block["num_subbuf"],
            overwrite=block["mode"] == MODE_OVERWRITE,
        )
    except UsageError as error:
        raise LayoutError("crash block", "possible sizes", error) from None


def _check_places(block: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuse a block that says something else of places and sizes than its layout has."""
    for name, value in expected.items():
        if block[name] != value:
            raise LayoutError(f"crash block, {name.replace('_', ' ')}", value, block[name])
