# SPDX-License-Identifier: MIT
"""Make the channel object: the part of a ring buffer each process has its own copy of.

Byte for byte what ``liblttng-ust-ctl`` sends, but for pointers, which mean nothing to
the receiver.
"""

from __future__ import annotations

from typing import Any

from ustconsumer.abi.ring import OUTPUT_MMAP, TRANSPORTS
from ustconsumer.errors import UsageError
from ustconsumer.ringbuffer.geometry import Geometry

__all__ = ["SPARE_STREAMS", "channel_blob"]

#: References to nowhere that follow the last stream.
SPARE_STREAMS = 6


def channel_blob(
    geometry: Geometry,
    *,
    nr_streams: int,
    channel_id: int,
    uuid: bytes,
    now: int,
    switch_timer_us: int = 0,
    read_timer_us: int = 0,
    blocking_timeout_us: int = 0,
    spare: int = SPARE_STREAMS,
) -> bytes:
    """Return the channel object an application gets a copy of.

    Parameters
    ----------
    geometry : Geometry
        Of each stream. ``by_writer`` must be False exactly if there is a read timer.
    nr_streams : int
        One per possible CPU.
    channel_id, uuid : int, bytes
        As in `initialise`; all channels of a trace have the same UUID.
    now : int
        Clock at creation.
    switch_timer_us, read_timer_us, blocking_timeout_us : int
        Microseconds; 0 none, a blocking timeout of -1 for ever. Timers are run by us:
        the application only stores them.
    spare : int
        References to nowhere after the last stream. An application that sees more
        CPUs than ``nr_streams`` indexes past the array; what it finds there must not
        resolve. Six fit without lengthening the object.

    Returns
    -------
    bytes
        768 + 16 * nr_streams + 120 bytes with up to six spare references.

    Notes
    -----
    Pointers of the C structure (handle, timers, callbacks) are zero here; the
    application overwrites them in its copy.
    """
    if (read_timer_us == 0) != geometry.by_writer:
        raise UsageError("a read timer replaces the writer's wake-ups: exactly one of them")
    layout = geometry.layout
    channel, client = layout.channel, layout.client_config
    entries = [(stream + 1, 0) for stream in range(nr_streams)] + [(-1, -1)] * spare
    end = max(
        channel.size + nr_streams * layout.ref, layout.channel_buf + len(entries) * layout.ref
    )
    private = -(-end // client.align) * client.align
    blob = bytearray(private + client.size)
    fields = _geometry_fields(geometry) | {
        "switch_timer_us": switch_timer_us,
        "read_timer_us": read_timer_us,
        "priv_data_offset": private,
        "nr_streams": nr_streams,
        "blocking_timeout_ms": _milliseconds(blocking_timeout_us),
        "start_tsc": now,
    }
    channel.put_all(blob, 0, fields)
    for number, entry in enumerate(entries):
        raw = b"".join(word.to_bytes(8, "little", signed=True) for word in entry)
        at = layout.channel_buf + number * layout.ref
        blob[at : at + layout.ref] = raw
    client.put_all(blob, private, {"id": channel_id, "uuid": uuid})
    return bytes(blob)


def _geometry_fields(geometry: Geometry) -> dict[str, Any]:
    transport = TRANSPORTS[geometry.overwrite, geometry.by_writer]
    return {
        "commit_count_mask": geometry.commit_count_mask,
        "buf_size": geometry.buf_size,
        "subbuf_size": geometry.subbuf_size,
        "subbuf_size_order": geometry.subbuf_size.bit_length() - 1,
        "num_subbuf_order": geometry.num_subbuf.bit_length() - 1,
        "buf_size_order": geometry.buf_size.bit_length() - 1,
        "extra_reader_sb": int(geometry.overwrite),
        "num_subbuf": geometry.num_subbuf,
        "name": transport.name.encode(),
        # Global synchronisation: any thread may write to any CPU's buffer.
        "config_sync": 1,
        "config_mode": transport.mode,
        "config_output": OUTPUT_MMAP,
        "config_oops": 1,
        "config_ipi": 1,
        "config_wakeup": transport.wakeup,
        "config_tsc_bits": 27,
        "config_client_type": transport.client_type,
    }


def _milliseconds(timeout_us: int) -> int:
    return -1 if timeout_us < 0 else min(timeout_us // 1000, (1 << 31) - 1)
