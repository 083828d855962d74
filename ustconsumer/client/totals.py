# SPDX-License-Identifier: MIT
"""What a stopped session recorded: events counted in its files, losses in its buffers."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ustconsumer.client.session import Session
from ustconsumer.protocol.control import TraceDescription

__all__ = ["Totals", "add_files", "count"]


class Totals(msgspec.Struct, kw_only=True):
    """Sums over all traces and streams of a session."""

    #: events; None if nobody counted them: their packets went to a relay
    recorded: int | None = 0
    discarded: int = 0
    processes: int = 0
    packets: int = 0
    #: size of the stream files, or of the packets that arrived at a relay
    bytes: int = 0
    #: what the packets are on disk: less if they are compressed
    stored: int = 0


def count(session: Session) -> Totals:
    """Return the totals of a session that is stopped and not yet destroyed.

    Counted in the files, so that they hold whoever wrote them: a consumer that
    died knows nothing any more. Of a session without a directory this is what its consumer
    brought to the relay.

    Raises
    ------
    DecodeError
        A stream file contradicts itself.
    """
    info = session.info()
    totals = Totals(
        discarded=sum(channel.discarded for channel in info.channels),
        processes=len(info.processes),
    )
    if info.consumer is not None and not (info.output and info.destination.url):
        # What a full disk kept in the buffers is lost with them. What a relay did not take is in
        # the files where there are both.
        totals.discarded += info.consumer.stats.unwritten_events
    if info.output:
        add_files(totals, info.output, session.describe())
    elif info.consumer is not None:
        totals.recorded = None
        totals.packets, totals.bytes = info.consumer.stats.packets, info.consumer.stats.bytes
    return totals


def add_files(totals: Totals, output: str, traces: Iterable[TraceDescription]) -> None:
    """Add what the stream files below a directory hold.

    Raises
    ------
    DecodeError
        A stream file contradicts itself.
    """
    for trace in traces:
        for path in (trace.path, *trace.also):
            _add_trace(totals, Path(output) / path, trace)


def _add_trace(totals: Totals, directory: Path, trace: TraceDescription) -> None:
    from ustconsumer.ctf.count import EventCounter

    counter = EventCounter(trace.contexts, trace.events)
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.stem == "metadata" or not path.is_file() or path.stat().st_size == 0:
            continue
        with path.open("rb") as file:
            for content, stored in _contents(file.fileno(), os.fspath(path)):
                totals.stored += stored
                events, packets, _ = counter.count(content)
                totals.recorded = (totals.recorded or 0) + events
                totals.packets += packets
                totals.bytes += len(content)


def _contents(fd: int, path: str) -> Iterator[tuple[bytes | mmap.mmap, int]]:
    """Yield what is in a file, and how many bytes that is there: all of it, or frame by frame."""
    if path.endswith(".zst"):
        from ustconsumer.ctf.compressed import CompressedFile, frames

        known = frames(fd, path)
        sizes = (span.size for span in known.spans)
        yield from zip(CompressedFile(fd, path, known), sizes, strict=True)
    else:
        with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as content:
            yield content, len(content)
