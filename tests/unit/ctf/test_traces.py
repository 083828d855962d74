# SPDX-License-Identifier: MIT
"""Traces found below a directory, with the files of their streams."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers.handmade import UUID, Packet, tick, write_ticks

from ustconsumer.ctf.datapackets import Files
from ustconsumer.ctf.traces import SingleTrace, find
from ustconsumer.errors import DecodeError, UsageError

OTHER = "f" + UUID[1:]


def files(trace: SingleTrace) -> dict[tuple[int, int], list[str]]:
    return {
        (stream.class_id, stream.instance_id): [
            os.path.relpath(file.path, trace.directory) for file in stream.files
        ]
        for stream in trace.streams
    }


def test_everything_below(tmp_path: Path) -> None:
    """Users, processes, archives, snapshots: whatever has metadata."""
    packet = Packet(0, 9, tick(5, 1))
    places = {
        "ust/uid/0/64-bit": "1" + UUID[1:],
        "ust/pid/prog-12-20261122-200338": "2" + UUID[1:],
        "archives/20261122T200338+0000-20261122T200438+0000-0/ust/uid/0/64-bit": "3" + UUID[1:],
        "snapshot-1-20261122-200338-0/ust/uid/0/64-bit": "4" + UUID[1:],
    }
    for place, uuid in places.items():
        write_ticks(tmp_path / place, uuid, c_0=[packet])
        (tmp_path / place / "index").mkdir()
        (tmp_path / place / "index" / "c_0.idx").write_bytes(b"x")
    (tmp_path / "ust" / "uid" / "7").mkdir()
    (tmp_path / "notes").write_text("nothing")
    found = find(tmp_path)
    assert [(trace.directory, str(trace.uuid)) for trace in found] == [
        (str(tmp_path / place), uuid) for place, uuid in places.items()
    ]
    assert [files(trace) for trace in found] == [{(0, 0): ["c_0"]}] * 4
    # The trace's own directory, and several at a time; each once.
    first, second, *_ = (tmp_path / place for place in places)
    assert [trace.directories for trace in find(second, first, second)] == [
        (str(first),),
        (str(second),),
    ]


def test_nothing_below_a_trace(tmp_path: Path) -> None:
    write_ticks(tmp_path / "t", c_0=[Packet(0, 9)])
    write_ticks(tmp_path / "t" / "index", OTHER, c_0=[Packet(0, 9)])
    assert [trace.directory for trace in find(tmp_path)] == [str(tmp_path / "t")]


def test_streams_and_their_files(tmp_path: Path) -> None:
    """By class, instance, time: names do not matter, but for hidden ones."""
    write_ticks(
        tmp_path / "trace",
        c_0_0=[Packet(50, 60, b"", 1, 0)],
        c_0_1=[Packet(10, 20, b"", 1, 0), Packet(20, 30, b"", 1, 0)],
        other=[Packet(30, 40, b"", 1, 0)],
        d_1=[Packet(0, 5, b"", 0, 1)],
        d_0=[Packet(7, 8, b"", 0, 0)],
        nothing=[],
    )
    (tmp_path / "trace" / ".hidden").write_bytes(b"x")
    (trace,) = find(tmp_path)
    assert files(trace) == {
        (0, 0): ["d_0"],
        (0, 1): ["d_1"],
        (1, 0): ["c_0_1", "other", "c_0_0"],
    }
    stream = trace.streams[2]
    assert stream.name == "c_0_1"
    assert stream.stream_class.id == 1
    assert [packet.timestamp_begin for packet in stream.packets()] == [10, 20, 30, 50]
    assert stream.files[0].size == 2 * 4096


def test_chunks_are_one_trace(tmp_path: Path) -> None:
    """Which has the metadata that says most; packets that are in two chunks count once."""
    packets = [Packet(10 * at, 10 * at + 9, b"", 0, 0, at) for at in range(4)]
    write_ticks(tmp_path / "a", c_0=packets[1:3])
    write_ticks(tmp_path / "b", c_0=packets[2:], d_0=[Packet(0, 9, b"", 1, 0)])
    write_ticks(tmp_path / "c", c_0=packets[:2])
    (trace,) = find(tmp_path)
    assert trace.directories == tuple(str(tmp_path / name) for name in "abc")
    assert sorted(trace.declared.streams) == [0, 1]
    assert files(trace) == {(0, 0): ["../c/c_0", "c_0", "../b/c_0"], (1, 0): ["../b/d_0"]}
    assert [packet.sequence for packet in trace.streams[0].packets()] == [0, 1, 2, 3]


def test_packets_in_many_files(tmp_path: Path) -> None:
    """Files wait for their time, and overlap as snapshots of a buffer do."""
    packets = [Packet(10 * at, 10 * at + 9, b"", 0, 0, at) for at in range(40)]
    for at in range(38):
        write_ticks(tmp_path / f"{at:02}", c_0=packets[at : at + 3])
    (trace,) = find(tmp_path)
    files = Files()
    for number, packet in enumerate(trace.streams[0].packets(files)):
        assert packet.sequence == number
        # No file that begins later has been looked at.
        assert max(files._open) <= str(tmp_path / f"{number:02}" / "c_0")
    assert number == 39
    files.close()


def test_packets_that_overlap(tmp_path: Path) -> None:
    write_ticks(tmp_path / "t", c_0=[Packet(0, 9), Packet(8, 20)])
    (trace,) = find(tmp_path)
    packets = trace.streams[0].packets()
    next(packets)
    with pytest.raises(DecodeError, match=r"c_0: packet 1 at byte 4096: begins at 8, before the"):
        next(packets)


def test_links(tmp_path: Path) -> None:
    """Are followed, but not in circles."""
    write_ticks(tmp_path / "elsewhere", c_0=[Packet(0, 9)])
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "top" / "circle").symlink_to(tmp_path / "top")
    assert [trace.directory for trace in find(tmp_path / "top")] == [str(tmp_path / "top" / "link")]


def test_no_trace(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no trace there"):
        find(tmp_path)
    with pytest.raises(UsageError, match="No such file or directory"):
        find(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file: Not a directory"):
        find(tmp_path / "file")


def test_errors_say_where(tmp_path: Path) -> None:
    trace = tmp_path / "t"
    write_ticks(trace, c_0=[Packet(0, 9)])
    (trace / "README").write_text("not a stream")
    with pytest.raises(DecodeError, match=r"t/README: packet 0 at byte 0: header cut off"):
        find(tmp_path)
    (trace / "README").write_bytes(Packet(0, 9, b"", 5).raw())
    with pytest.raises(DecodeError, match=r"README: .* stream class 5 is not declared"):
        find(tmp_path)
    (trace / "README").unlink()
    os.truncate(trace / "metadata", 500)
    with pytest.raises(DecodeError, match=r"t/metadata: metadata, line \d+, column \d+: .*cut off"):
        find(tmp_path)


def test_a_trace_that_is_being_written(tmp_path: Path) -> None:
    """What was there when it was opened is read, what comes later is not."""
    write_ticks(tmp_path / "t", c_0=[Packet(0, 9, tick(5, 1))])
    (trace,) = find(tmp_path)
    with open(tmp_path / "t" / "c_0", "ab") as file:
        file.write(b"half a packet")
    assert len(list(trace.streams[0].packets())) == 1


def test_copies_are_one_trace(tmp_path: Path) -> None:
    write_ticks(tmp_path / "a", c_0=[Packet(0, 9)])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    write_ticks(tmp_path / "c", OTHER, c_0=[Packet(0, 9)])
    both, other = find(tmp_path)
    assert len(both.directories) == 2
    assert both.declared is not other.declared
