# SPDX-License-Identifier: MIT
"""What a stopped session recorded: events counted in its files, losses in its buffers."""

from __future__ import annotations

import mmap
from pathlib import Path

import msgspec

from ustconsumer.abi.packet import DATA_PACKET
from ustconsumer.client.session import Session
from ustconsumer.protocol.control import TraceDescription

__all__ = ["Totals", "count"]

_STREAM_ID = slice(DATA_PACKET.offset("stream_id"), DATA_PACKET.offset("stream_id") + 4)


class Totals(msgspec.Struct, kw_only=True):
    """Sums over all traces and streams of a session."""

    recorded: int
    discarded: int
    processes: int
    packets: int
    bytes: int


def count(session: Session) -> Totals:
    """Return the totals of a session that is stopped and not yet destroyed."""
    info = session.info()
    traces = session.describe()
    stats = None if info.consumer is None else info.consumer.stats
    return Totals(
        recorded=sum(_count_trace(Path(info.output) / trace.path, trace) for trace in traces),
        discarded=sum(s.lost_full + s.lost_wrap + s.lost_big for s in info.streams),
        processes=len(info.processes),
        packets=stats.packets if stats else 0,
        bytes=stats.bytes if stats else 0,
    )


def _count_trace(directory: Path, trace: TraceDescription) -> int:
    from ustconsumer.ctf.count import count_events

    total = 0
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.name == "metadata" or not path.is_file() or path.stat().st_size == 0:
            continue
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as packets,
        ):
            stream_class = int.from_bytes(packets[_STREAM_ID.start : _STREAM_ID.stop], "little")
            contexts = trace.contexts.get(stream_class, [])
            total += count_events(packets, contexts, trace.events.get(stream_class, {}))
    return total
