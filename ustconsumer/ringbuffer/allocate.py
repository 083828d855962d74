# SPDX-License-Identifier: MIT
"""Make the memory of a stream and its initial contents.

The result is byte for byte what ``liblttng-ust-ctl`` makes, so that an unmodified
application cannot tell who made its buffers.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Any

from ustconsumer.abi.packet import CTF_MAGIC, UNKNOWN_SIZE
from ustconsumer.abi.ring import CRASH_MAGIC, MODE_DISCARD, MODE_OVERWRITE
from ustconsumer.errors import RingBufferError, UsageError
from ustconsumer.ringbuffer.geometry import Geometry

__all__ = ["crash_record", "create_memory", "initialise"]

_MFD_NOEXEC_SEAL = 0x0008  # Linux 6.3; not yet in the os module


def _create_file(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # an older kernel does not know the flag
            raise
        return os.memfd_create(name, flags)


def _available() -> int:
    """Return the bytes the kernel thinks it can give away without killing someone."""
    with open("/proc/meminfo", "rb") as meminfo:
        fields = dict(line.split(b":") for line in meminfo)
    names = (b"MemAvailable", b"SwapFree")
    return sum(int(fields[name].split()[0]) for name in names) * 1024


def create_memory(geometry: Geometry, name: str) -> int:
    """Return a descriptor of new zeroed memory for one stream.

    Parameters
    ----------
    geometry : Geometry
        Gives the length.
    name : str
        Shown in ``/proc/PID/maps``.

    Returns
    -------
    int
        Close-on-exec descriptor, owned by the caller: mode 0600, fully allocated,
        sealed against shrinking, growing and further seals.

    Raises
    ------
    RingBufferError
        There is not enough memory, or no descriptor left.
    """
    # A memfd is on a file system without a limit: allocating more than there is would
    # not fail but have the kernel kill something.
    available = _available()
    if geometry.file_size > available:
        raise RingBufferError(
            f"cannot allocate {geometry.file_size} bytes for {name}: {available} are available"
        )
    fd = -1
    try:
        fd = _create_file(name)
        # Born 0777: another uid could reopen a read-only descriptor of it for writing.
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, geometry.file_size)
        # Every page now, or an error here. A page missing later is a SIGBUS in the
        # application that writes its event there.
        os.posix_fallocate(fd, 0, geometry.file_size)
        fcntl.fcntl(
            fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        )
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise RingBufferError(
            f"cannot allocate {geometry.file_size} bytes for {name}: {error.strerror}"
        ) from error
    return fd


def initialise(
    buf: Any,
    geometry: Geometry,
    *,
    stream_nr: int,
    cpu: int,
    channel_id: int,
    uuid: bytes,
    now: int,
    active_readers: int,
) -> None:
    """Write the initial contents of a stream.

    Parameters
    ----------
    buf : writable buffer
        Memory of ``geometry.file_size`` bytes, all zero, that no one else uses yet.
    stream_nr, cpu : int
        Number of the stream in its channel, and its CPU.
    channel_id, uuid : int, bytes
        Written in every packet header: stream id and the trace's UUID.
    now : int
        Begin of the first packet, in clock cycles (CLOCK_MONOTONIC nanoseconds).
    active_readers : int
        1 if writers shall wake the reader up from the beginning, else 0.
    """
    if len(buf) != geometry.file_size:
        raise UsageError(f"stream memory of {len(buf)} bytes, {geometry.file_size} are needed")
    layout, n = geometry.layout, geometry.num_subbuf
    # Objects are numbered in each process's table: the channel is 0, stream k is k + 1.
    this = stream_nr + 1
    header = layout.packet.size
    noref = layout.id_noref if geometry.overwrite else 0

    for page in range(geometry.nr_pages):
        descriptor = geometry.page_at(page)
        layout.page.put(buf, descriptor, "mmap_offset", page * geometry.subbuf_size)
        layout.page.put(buf, descriptor, "p", (this, geometry.data_at(page)))
        _put_words(buf, geometry.array + page * layout.ref, this, descriptor)
    # No writer in any sub-buffer but the first, which is open.
    _put_words(buf, geometry.wsb, 0, *(noref | index for index in range(1, n)))

    first = layout.packet.pack(
        {
            "magic": CTF_MAGIC,
            "uuid": uuid,
            "stream_id": channel_id,
            "stream_instance_id": cpu,
            "cpu_id": cpu,
            "timestamp_begin": now,
            "content_size": UNKNOWN_SIZE,
            "packet_size": UNKNOWN_SIZE,
        }
    )
    buf[geometry.data : geometry.data + header] = first
    layout.hot.put_all(buf, geometry.hot, {"cc": header, "seq": header})

    layout.control.put_all(
        buf,
        0,
        {
            **{f"crash_{name}": value for name, value in crash_record(geometry).items()},
            "offset": header,
            "commit_hot": (this, geometry.hot),
            "buf_wsb": (this, geometry.wsb),
            "rsb_id": noref | n if geometry.overwrite else 0,
            "buf_cnt": (this, geometry.cnt),
            "array": (this, geometry.array),
            "memory_map": (this, geometry.data),
            "cpu": cpu,
            "allocated": 1,
            "commit_cold": (this, geometry.cold),
            "ts_end": (this, geometry.ts_end),
            "active_readers": active_readers,
            "self": (this, 0),
        },
    )


def _put_words(buf: Any, base: int, *words: int) -> None:
    raw = b"".join(word.to_bytes(8, "little") for word in words)
    buf[base : base + len(raw)] = raw


def crash_record(geometry: Geometry) -> dict[str, Any]:
    """Return the record by which a stranger finds the events of a dead process."""
    layout = geometry.layout
    packet = layout.packet
    lengths = dict.fromkeys(_crash_lengths(geometry), layout.word)
    return {
        "magic": CRASH_MAGIC,
        "mmap_length": geometry.file_size,
        "endian": 0x1234,
        "word_size": layout.word,
        "offset_prod_offset": layout.control.offset("offset"),
        "offset_consumed_offset": layout.control.offset("consumed"),
        "offset_commit_hot_array": geometry.hot,
        "offset_commit_hot_seq": layout.hot.offset("seq"),
        # As in C: 32 bits have no room for the places in a buffer of more than 4 GiB.
        "offset_buf_wsb_array": geometry.wsb & 0xFFFFFFFF,
        "offset_buf_wsb_id": 0,
        "offset_sb_array": geometry.array,
        "offset_sb_array_shmp_offset": layout.word,
        "offset_sb_backend_p_offset": layout.page.offset("p") + layout.word,
        "offset_content_size": packet.offset("content_size"),
        "offset_packet_size": packet.offset("packet_size"),
        **lengths,
        "stride_commit_hot_array": layout.hot.size,
        "stride_buf_wsb_array": layout.word,
        "stride_sb_array": layout.ref,
        "buf_size": geometry.buf_size,
        "subbuf_size": geometry.subbuf_size,
        "num_subbuf": geometry.num_subbuf,
        "mode": MODE_OVERWRITE if geometry.overwrite else MODE_DISCARD,
    }


def _crash_lengths(geometry: Geometry) -> list[str]:
    rows = geometry.layout.crash.rows
    return [row.name for row in rows if row.name.startswith("length_")]
