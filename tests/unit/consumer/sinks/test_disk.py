# SPDX-License-Identifier: MIT
from __future__ import annotations

import dataclasses
import os
import stat
import struct
from pathlib import Path

import pytest
from helpers.rings import TestRing, make_ring

from ustconsumer._native.ring import DRAIN_EMPTY
from ustconsumer.consumer.mapping import MappedStream
from ustconsumer.consumer.sinks.disk import DiskSink
from ustconsumer.consumer.streams import take_packet
from ustconsumer.errors import UsageError

INDEX_HEADER = bytes.fromhex("c1f1dcc1 00000001 00000001 00000048")
ENTRY = struct.Struct(">9Q")
DIRECTORY = Path("ust/uid/1/64-bit")


def drain(sink: DiskSink, made: TestRing) -> None:
    writer = sink.open(made.stream)
    writer.attach(made.ring)
    assert writer.drain(made.ring, 1 << 20) == DRAIN_EMPTY
    writer.close()


def test_files_are_laid_out_as_lttng_does(tmp_path: Path) -> None:
    sink = DiskSink(tmp_path / "trace")
    with make_ring() as made:
        made.packet(2000)
        drain(sink, made)
        sink.metadata(made.stream.trace, b"/* CTF 1.8 */\n")
    sink.close()
    directory = tmp_path / "trace" / DIRECTORY
    assert sorted(path.name for path in directory.iterdir()) == ["channel0_1", "index", "metadata"]
    assert [path.name for path in (directory / "index").iterdir()] == ["channel0_1.idx"]
    raw = (directory / "index" / "channel0_1.idx").read_bytes()
    assert raw[:16] == INDEX_HEADER
    assert ENTRY.unpack(raw[16:])[:3] == (0, 4096 * 8, 84 * 8)
    assert (directory / "channel0_1").stat().st_size == 4096
    assert (directory / "metadata").read_bytes()[:4] == bytes.fromhex("571dd175")


def test_modes_are_lttngs(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with make_ring() as made:
            drain(DiskSink(tmp_path / "trace"), made)
    finally:
        os.umask(before)
    for path in [tmp_path / "trace", *(tmp_path / "trace").rglob("*")]:
        wanted = 0o770 if path.is_dir() else 0o660
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_a_successor_goes_on_exactly_where_the_files_end(tmp_path: Path) -> None:
    """Killed between writing the index and moving the position: nothing lost, nothing twice."""
    stream = tmp_path / DIRECTORY / "channel0_1"
    index = tmp_path / DIRECTORY / "index" / "channel0_1.idx"
    with make_ring(num_subbuf=8) as made:
        sink = DiskSink(tmp_path)
        made.packet(2000)
        made.packet(3000)
        drain(sink, made)
        # What a killed consumer leaves: a data packet without its entry, half an entry,
        # and (as if it had died before the store) the consumed position one packet back.
        with open(stream, "ab") as file:
            file.write(b"x" * 4096)
        with open(index, "ab") as file:
            file.write(b"y" * 30)
        places = made.stream.geometry.places()
        made.memory[places["consumed"] : places["consumed"] + 8] = struct.pack("<Q", 4096)
        made.packet(4000)
        drain(sink, made)
        sink.close()
    raw = index.read_bytes()
    found = list(ENTRY.iter_unpack(raw[16:]))
    assert [entry[8] for entry in found] == [0, 1, 2]
    assert [entry[0] for entry in found] == [0, 4096, 8192]
    data = stream.read_bytes()
    assert len(data) == 3 * 4096
    assert [struct.unpack_from("<Q", data, at + 64)[0] for at in (0, 4096, 8192)] == [0, 1, 2]


def test_python_packets_write_the_same_files_as_the_native_drain(tmp_path: Path) -> None:
    files = []
    for name in ("native", "python"):
        sink = DiskSink(tmp_path / name)
        with make_ring() as made:
            made.packet(2000)
            made.packet(3000)
            writer = sink.open(made.stream)
            if name == "native":
                writer.attach(made.ring)
                writer.drain(made.ring, 1 << 20)
            else:
                mapped = MappedStream(made.stream, made.memory, made.ring)
                while (packet := take_packet(mapped)) is not None:
                    writer.write([packet])
                    packet.release()
                    made.ring.put_next()
            writer.close()
        directory = tmp_path / name / DIRECTORY
        stream = (directory / "channel0_1").read_bytes()
        files.append((stream, (directory / "index" / "channel0_1.idx").read_bytes()))
    assert files[0] == files[1]
    assert len(files[0][0]) == 2 * 4096


def test_another_trace_is_not_overwritten(tmp_path: Path) -> None:
    with make_ring() as made:
        sink = DiskSink(tmp_path)
        drain(sink, made)
        sink.metadata(made.stream.trace, b"/* CTF 1.8 */\n")
        sink.close()
        before = (tmp_path / DIRECTORY / "metadata").read_bytes()
        other = dataclasses.replace(made.stream.trace, uuid=bytes(16))
        with pytest.raises(UsageError, match="another trace"):
            DiskSink(tmp_path).open(dataclasses.replace(made.stream, trace=other))
        assert (tmp_path / DIRECTORY / "metadata").read_bytes() == before


@pytest.mark.parametrize("path", ["../outside", "/outside", "a/../../b"])
def test_a_trace_cannot_leave_the_output(tmp_path: Path, path: str) -> None:
    with make_ring() as made:
        trace = dataclasses.replace(made.stream.trace, path=path)
        with pytest.raises(UsageError, match="leaves the output"):
            DiskSink(tmp_path / "in").open(dataclasses.replace(made.stream, trace=trace))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channel", ["a/b", ".hidden", "a\0b"])
def test_a_stream_name_that_is_no_file_name_is_refused(tmp_path: Path, channel: str) -> None:
    with make_ring() as made, pytest.raises(UsageError, match="file name"):
        DiskSink(tmp_path).open(dataclasses.replace(made.stream, channel=channel))


def test_a_foreign_file_in_the_index_s_place_is_refused(tmp_path: Path) -> None:
    index = tmp_path / DIRECTORY / "index" / "channel0_1.idx"
    index.parent.mkdir(parents=True)
    index.write_bytes(b"a letter to a friend, not an index")
    with make_ring() as made, pytest.raises(UsageError, match="not one of ours"):
        DiskSink(tmp_path).open(made.stream)
    assert index.read_bytes() == b"a letter to a friend, not an index"


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / DIRECTORY).mkdir(parents=True)
    (tmp_path / "victim").write_bytes(b"")
    (tmp_path / DIRECTORY / "channel0_1").symlink_to(tmp_path / "victim")
    with make_ring() as made, pytest.raises(OSError, match="symbolic"):
        DiskSink(tmp_path).open(made.stream)
