# SPDX-License-Identifier: MIT
"""A stream's file of a snapshot, made into files of limited size and number."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ustconsumer.consumer.packet import Stream
from ustconsumer.consumer.sinks.layout import open_file

__all__ = ["Split", "split"]

_COPIED_AT_ONCE = 1 << 30


class Split:
    """What became of a file.

    Attributes
    ----------
    paths : list of Path
    packets, bytes : int
        That were dropped: of files in whose place others are.
    """

    def __init__(self, paths: list[Path], packets: int = 0, size: int = 0) -> None:
        self.paths = paths
        self.packets = packets
        self.bytes = size


def split(path: Path, stream: Stream) -> Split:
    """Make numbered files of a file, as if its packets had been written to them one by one.

    Parameters
    ----------
    path : Path
        Of a file with whole packets of ours.
    stream : Stream
        Without a tracefile size the file stays as it is.

    Raises
    ------
    OSError
        They cannot be written.
    """
    if not stream.tracefile_size:
        return Split([path])
    with path.open("rb") as file:
        parts = list(_parts(file.fileno(), stream)) or [(0, 0, 0)]
        kept = parts[-stream.tracefile_count :]
        result = Split([])
        for packets, begin, end in parts[: len(parts) - len(kept)]:
            result.packets += packets
            result.bytes += end - begin
        for number, (_, begin, end) in enumerate(parts):
            if number < len(parts) - len(kept):
                continue
            number %= stream.tracefile_count or len(parts)
            result.paths.append(path.with_name(f"{path.name}_{number}"))
            _copy(file.fileno(), begin, end, result.paths[-1])
    path.unlink()
    return result


def _parts(fd: int, stream: Stream) -> Iterator[tuple[int, int, int]]:
    """Yield the packets of each file, and where they begin and end here."""
    layout = stream.geometry.layout.packet
    end = os.fstat(fd).st_size
    packets = begin = at = 0
    while at < end:
        size = layout.get(os.pread(fd, layout.size, at), 0, "packet_size") // 8
        # Whoever wrote it checked it; not to go on for ever, or backwards, whatever it is.
        size = min(max(size, 1), end - at)
        if at > begin and at + size - begin > stream.tracefile_size:
            yield packets, begin, at
            packets, begin = 0, at
        at += size
        packets += 1
    if at > begin:
        yield packets, begin, at


def _copy(fd: int, begin: int, end: int, path: Path) -> None:
    target = open_file(path)
    try:
        while begin < end:
            # On some file systems nothing is copied at all.
            done = os.copy_file_range(fd, target, min(end - begin, _COPIED_AT_ONCE), begin)
            if not done:
                raise OSError(5, f"{path}: the file it is made of became shorter")
            begin += done
    finally:
        os.close(target)
