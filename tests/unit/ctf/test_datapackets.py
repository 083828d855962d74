# SPDX-License-Identifier: MIT
"""Headers of data packets: those of the real tracer, and what cannot be."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from helpers import captured
from helpers.handmade import Packet, tick

from ustconsumer.ctf import datapackets
from ustconsumer.ctf.datapackets import Files, PacketHeader, headers
from ustconsumer.errors import DecodeError


def read(path: Path, size: int | None = None) -> list[PacketHeader]:
    files = Files()
    try:
        return list(headers(files, str(path), path.stat().st_size if size is None else size))
    finally:
        files.close()


def test_the_real_tracers(tmp_path: Path) -> None:
    path = tmp_path / "channel0_1"
    raw = captured.data("channel0_1")
    path.write_bytes(raw)
    packets = read(path)
    assert [packet.number for packet in packets] == list(range(len(packets)))
    assert {(packet.stream_instance_id, packet.cpu_id) for packet in packets} == {(1, 1)}
    assert {packet.path for packet in packets} == {str(path)}
    # They tile the file; the fields are where the facts say (section 3).
    assert sum(packet.packet_size for packet in packets) == len(raw)
    for packet in packets:
        values = struct.unpack_from("<IQQQQQQQI", raw, packet.offset + 20)
        assert values == (
            packet.stream_id,
            packet.stream_instance_id,
            packet.timestamp_begin,
            packet.timestamp_end,
            packet.content_size * 8,
            packet.packet_size * 8,
            packet.sequence,
            packet.events_discarded,
            packet.cpu_id,
        )


def changed(offset: int, value: int, form: str = "<Q") -> bytes:
    """Return a packet and a second one whose header differs in one value."""
    packet = Packet(10, 20, tick(15, 1), sequence=3).raw()
    other = bytearray(packet)
    struct.pack_into(form, other, offset, value)
    return packet + other


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (changed(0, 0xC1FC1FC2, "<I"), "magic is 0xc1fc1fc2, not 0xc1fc1fc1"),
        (changed(20, 1, "<I"), r"of stream \(1, 0\), the packets before it are of \(0, 0\)"),
        (changed(24, 7), r"of stream \(0, 7\), the packets before it are of \(0, 0\)"),
        (changed(40, 9), "ends at 9, before it begins at 10"),
        (changed(48, 8 * 83), "content of 83 bytes in a packet of 4096"),
        (changed(48, 8 * 4097), "content of 4097 bytes in a packet of 4096"),
        (changed(48, 8 * 102 + 1), "no whole bytes"),
        (changed(56, 8 * 4096 - 1), "no whole bytes"),
        (changed(56, 0), "content of 102 bytes in a packet of 0"),
        (changed(56, 8 * 4097), "4097 bytes, of which the file has 4096"),
        (changed(56, (1 << 64) - 8), "bytes, of which the file has 4096"),
        (changed(0, 0xC1FC1FC1, "<I")[:-1], "4096 bytes, of which the file has 4095"),
        (changed(0, 0xC1FC1FC1, "<I")[: 4096 + 83], "header cut off at the end of the file"),
    ],
)
def test_headers_that_cannot_be(raw: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "c_0"
    path.write_bytes(raw)
    files = Files()
    packets = headers(files, str(path), len(raw))
    assert next(packets).sequence == 3
    with pytest.raises(DecodeError, match=rf"^{path}: packet 1 at byte 4096: .*{reason}"):
        next(packets)
    files.close()


def test_an_end_that_a_crash_left_open(tmp_path: Path) -> None:
    path = tmp_path / "c_0"
    path.write_bytes(Packet(10, 0).raw())
    assert [packet.timestamp_end for packet in read(path)] == [0]


def test_larger_than_any_buffer(tmp_path: Path) -> None:
    path = tmp_path / "c_0"
    raw = bytearray(Packet(0, 0).raw())
    struct.pack_into("<QQ", raw, 48, (4 << 33) * 8, (4 << 33) * 8)
    path.write_bytes(raw)
    os.truncate(path, 4 << 33)
    with pytest.raises(DecodeError, match="are more than the 4294967296 that are read"):
        read(path)


def test_a_file_that_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "c_0"
    path.write_bytes(Packet(0, 9, tick(0, 1) * 300).raw() * 2)
    files = Files()
    first, second = headers(files, str(path), path.stat().st_size)
    assert files.content(first) == path.read_bytes()[: first.content_size]
    os.truncate(path, second.offset + 100)
    with pytest.raises(DecodeError, match=r"c_0: packet 1 at byte 8192: the file was cut off"):
        files.content(second)
    os.truncate(path, second.offset + 10)
    with pytest.raises(DecodeError, match="packet 1 at byte 8192: header cut off"):
        list(headers(files, str(path), 2 * 8192))
    files.close()
    with pytest.raises(DecodeError, match=r"gone: No such file or directory"):
        files.read(str(tmp_path / "gone"), 0, 1)


def test_reading_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel returns what is larger than 2 GiB."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    original = os.pread
    monkeypatch.setattr(
        datapackets.os, "pread", lambda fd, size, offset: original(fd, min(size, 7), offset)
    )
    files = Files()
    assert files.read(str(path), 5, 50) == bytes(range(5, 55))
    assert files.read(str(path), 90, 50) == bytes(range(90, 100))
    files.close()


def test_few_descriptors(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}" for number in range(20)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]))
    before = set(os.listdir("/proc/self/fd"))
    files = Files(limit=4)
    for number, path in [*enumerate(paths), *enumerate(paths)]:
        assert files.read(str(path), 0, 1) == bytes([number])
        # The one that is used all the time stays open.
        assert files.read(str(paths[0]), 0, 1) == b"\0"
        if path != paths[0]:
            assert list(files._open)[-2:] == [str(path), str(paths[0])]
        assert len(set(os.listdir("/proc/self/fd")) - before) <= 4 + 1  # and that of the listing
    files.close()
    assert set(os.listdir("/proc/self/fd")) == before
