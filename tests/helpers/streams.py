# SPDX-License-Identifier: MIT
"""The packets in the files of a trace, read by nothing but the format's definition."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["FilePacket", "Record", "floods", "packets", "snapshot_streams", "streams"]

#: facts, ring buffer 4.1: magic, uuid, stream, instance, begin, end, content, packet,
#: sequence, events discarded, CPU
_HEADER = struct.Struct("<I16sIQ6QI")
#: Index: magic, major, minor, entry size; and an entry, times and sizes as in the packet.
_INDEX = struct.Struct(">4I")
_ENTRY = struct.Struct(">9Q")
_EXTENDED = 0xFFFF


class FilePacket(NamedTuple):
    """One packet; sizes in bytes."""

    sequence: int
    #: of all the stream, since its beginning
    discarded: int
    begin: int
    end: int
    content_size: int
    packet_size: int
    #: its records, without header and padding
    records: bytes


class Record(NamedTuple):
    """One flood:tick without contexts."""

    seq: int
    thread: int


def streams(directory: Path) -> dict[str, list[FilePacket]]:
    """Return the packets of each stream below a directory, by the path of its file."""
    found = {}
    for index in sorted(directory.rglob("index/*.idx")):
        file = index.parent.parent / index.stem
        found[str(file.relative_to(directory))] = packets(file)
    assert found, f"no stream in {directory}"
    return found


def snapshot_streams(directory: Path) -> dict[str, list[FilePacket]]:
    """Return the packets of each stream of a snapshot, which has no indexes."""
    found = {}
    for metadata in sorted(directory.rglob("metadata")):
        for file in sorted(metadata.parent.iterdir()):
            if file.is_file() and file != metadata:
                found[str(file.relative_to(directory))] = [p for p, _ in _walk(file.read_bytes())]
    assert found, f"no stream in {directory}"
    return found


def packets(file: Path) -> list[FilePacket]:
    """Return the packets of a stream file; file and index must say the same."""
    index = (file.parent / "index" / f"{file.name}.idx").read_bytes()
    assert _INDEX.unpack_from(index)[3] == _ENTRY.size
    walked = list(_walk(file.read_bytes()))
    assert [entry for _, entry in walked] == list(_ENTRY.iter_unpack(index[_INDEX.size :]))
    return [packet for packet, _ in walked]


def _walk(data: bytes) -> Iterator[tuple[FilePacket, tuple[int, ...]]]:
    """Yield each packet of a file, and its entry in the index."""
    at = 0
    while at < len(data):
        magic, _, stream, instance, begin, end, content, size, sequence, discarded, _ = (
            _HEADER.unpack_from(data, at)
        )
        assert magic == 0xC1FC1FC1
        assert begin <= end
        assert not content % 8
        assert _HEADER.size <= content // 8 <= size // 8
        records = data[at + _HEADER.size : at + content // 8]
        assert not any(data[at + content // 8 : at + size // 8]), "old events behind the content"
        yield (
            FilePacket(sequence, discarded, begin, end, content // 8, size // 8, records),
            (at, size, content, begin, end, discarded, stream, instance, sequence),
        )
        at += size // 8
    assert at == len(data), "the file goes on after its last packet"


def floods(packet: FilePacket) -> Iterator[Record]:
    """Walk the records of a packet, all of them flood:tick."""
    raw, at = packet.records, 0
    while at < len(raw):
        at += 14 if int.from_bytes(raw[at : at + 2], "little") == _EXTENDED else 6
        yield Record(*struct.unpack_from("<ii", raw, at))
        at = raw.index(0, at + 8) + 1
    assert at == len(raw)
