# SPDX-License-Identifier: MIT
"""Files of limited size and number: which packets are in which, also after a kill."""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from helpers.rings import TestRing, make_ring

from ustconsumer._native.ring import DRAIN_EMPTY, DRAIN_FULL
from ustconsumer.consumer.mapping import MappedStream
from ustconsumer.consumer.sinks import disk, tracefiles, zstd
from ustconsumer.consumer.sinks.disk import DiskSink
from ustconsumer.consumer.sinks.zstd import ZstdSink
from ustconsumer.consumer.streams import take_packet
from ustconsumer.errors import UsageError

ENTRY = struct.Struct(">9Q")
DIRECTORY = Path("ust/uid/1/64-bit")
SIZE = 4096
SINKS: dict[str, Callable[[Path], DiskSink]] = {
    "plain": DiskSink,
    "packets": DiskSink,
    "zstd": lambda output: ZstdSink(output, 1),
}


@pytest.fixture(params=SINKS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["discard", "overwrite"])
def overwrite(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def ring_of(size: int, count: int, overwrite: bool = False) -> Iterator[TestRing]:
    with make_ring(SIZE, 64, overwrite) as made:
        made.stream = dataclasses.replace(made.stream, tracefile_size=size, tracefile_count=count)
        yield made


def consume(kind: str, output: Path, made: TestRing) -> None:
    """Be a consumer that comes, takes everything, and goes."""
    sink = SINKS[kind](output)
    writer = sink.open(made.stream)
    try:
        writer.attach(made.ring)
        if kind == "plain":
            assert writer.drain(made.ring, 1 << 30) == DRAIN_EMPTY
            writer.settle()
        else:
            mapped = MappedStream(made.stream, made.memory, made.ring)
            while (packet := take_packet(mapped)) is not None:
                try:
                    writer.write((packet,))
                except BaseException:
                    made.ring.put()
                    raise
                packet.release()
                made.ring.put_next()
    finally:
        writer.close()
        sink.close()


def content(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix != ".zst":
        return raw
    return zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True).read()


def found(output: Path, suffix: str) -> dict[int, list[int]]:
    """Return the sequence numbers in each numbered file, its index being consistent."""
    result = {}
    directory = output / DIRECTORY
    for path in directory.glob("channel0_1_*"):
        name = path.name.removesuffix(suffix)
        entries = list(ENTRY.iter_unpack(content(directory / "index" / f"{name}.idx{suffix}")[16:]))
        raw = content(path)
        sequences = [struct.unpack_from("<Q", raw, at + 64)[0] for at in range(0, len(raw), SIZE)]
        assert [entry[8] for entry in entries] == sequences
        assert [entry[0] for entry in entries] == list(range(0, len(raw), SIZE))
        result[int(name.rsplit("_", 1)[1])] = sequences
    indexes = list((directory / "index").iterdir())
    assert len(indexes) == len(result)
    return dict(sorted(result.items()))


def expected(packets: int, each: int, count: int) -> dict[int, list[int]]:
    """Return what is where: arithmetic."""
    files: dict[int, list[int]] = {0: []}
    number = 0
    for sequence in range(packets):
        if len(files[number]) == each:
            number = (number + 1) % count if count else number + 1
            files[number] = []
        files[number].append(sequence)
    return dict(sorted(files.items()))


def suffix_of(kind: str) -> str:
    return ".zst" if kind == "zstd" else ""


@pytest.mark.parametrize("count", [0, 1, 2, 3, 20])
@pytest.mark.parametrize("size", [SIZE, 3 * SIZE, 3 * SIZE + 4095])
def test_what_is_where(tmp_path: Path, kind: str, overwrite: bool, size: int, count: int) -> None:
    for made in ring_of(size, count, overwrite):
        for number in range(20):
            made.packet(2000 + number)
        consume(kind, tmp_path, made)
    assert found(tmp_path, suffix_of(kind)) == expected(20, size // SIZE, count)


def test_whoever_comes_next_goes_on_behind_the_newest_packet(
    tmp_path: Path, kind: str, overwrite: bool
) -> None:
    """After each packet another consumer, who knows what is on disk and nothing else."""
    for made in ring_of(2 * SIZE, 3, overwrite):
        for number in range(15):
            made.packet(2000 + number)
            consume(kind, tmp_path, made)
            assert found(tmp_path, suffix_of(kind)) == expected(number + 1, 2, 3)


class KilledError(Exception):
    """Instead of a signal."""


@pytest.mark.parametrize("count", [0, 1, 2, 3])
@pytest.mark.parametrize("step", range(12))
def test_killed_between_two_files(
    tmp_path: Path,
    kind: str,
    count: int,
    step: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever was removed or made by then: each packet is there once, and none is missing."""
    for made in ring_of(2 * SIZE, count):
        for number in range(6):
            made.packet(2000 + number)
        consume(kind, tmp_path, made)
        with monkeypatch.context() as patch:
            left = step

            def tick(name: str, real: Callable[..., object]) -> Callable[..., object]:
                def call(*arguments: object) -> object:
                    nonlocal left
                    if left == 0:
                        raise KilledError(name)
                    left -= 1
                    return real(*arguments)

                return call

            patch.setattr(Path, "unlink", tick("unlink", Path.unlink))
            for module in (disk, zstd):
                patch.setattr(module, "open_file", tick("open", module.open_file))
            for name in ("ftruncate", "pwrite"):
                patch.setattr(os, name, tick(name, getattr(os, name)))
            made.packet(3000)
            killed = False
            try:
                consume(kind, tmp_path, made)
            except KilledError:
                killed = True
        for number in range(3):
            made.packet(4000 + number)
        consume(kind, tmp_path, made)
    files = found(tmp_path, suffix_of(kind))
    if count != 1:
        assert files == expected(10, 2, count)
    # With one file only, what it had is gone when another takes its place.
    assert max(files[max(files, key=lambda number: files[number])]) == 9
    assert killed or step > 4


def test_a_packet_half_written_to_a_new_file_is_not_kept(tmp_path: Path) -> None:
    for made in ring_of(2 * SIZE, 3):
        for number in range(2):
            made.packet(2000 + number)
        consume("plain", tmp_path, made)
        (tmp_path / DIRECTORY / "channel0_1_1").write_bytes(b"\xc1\x1f\xfc")
        (tmp_path / DIRECTORY / "index" / "channel0_1_1.idx").write_bytes(b"")
        consume("plain", tmp_path, made)
        assert found(tmp_path, "") == {0: [0, 1]}
        made.packet(3000)
        consume("plain", tmp_path, made)
    assert found(tmp_path, "") == {0: [0, 1], 1: [2]}


def test_the_native_drain_stops_before_what_does_not_fit(overwrite: bool, tmp_path: Path) -> None:
    with open(tmp_path / "data", "w+b") as data, make_ring(SIZE, 8, overwrite) as made:
        for number in range(4):
            made.packet(2000 + number)
        ring = made.ring
        ring.file_limit = 3 * SIZE - 1
        # A total of the packet that did not fit is not that of the one that comes next.
        made.poke(2, "events_discarded", 7)
        assert ring.drain(data.fileno(), -1, 1 << 20) == DRAIN_FULL
        assert ring.packet_count == 2
        assert ring.data_offset == os.fstat(data.fileno()).st_size == 2 * SIZE
        assert ring.last_discarded == 0
        assert ring.readable()
        assert not ring.held()
        ring.data_offset = 0
        assert ring.drain(data.fileno(), -1, 1 << 20) == DRAIN_EMPTY
        assert (ring.packet_count, ring.last_discarded) == (4, 7)


def test_an_empty_file_takes_any_packet(tmp_path: Path) -> None:
    with open(tmp_path / "data", "w+b") as data, make_ring() as made:
        made.packet(2000)
        made.ring.file_limit = 1
        assert made.ring.drain(data.fileno(), -1, 1 << 20) == DRAIN_EMPTY
        assert made.ring.data_offset == SIZE


def test_files_of_another_stream_are_left_alone(tmp_path: Path) -> None:
    for made in ring_of(SIZE, 2):
        made.packet(2000)
        consume("plain", tmp_path, made)
        index = tmp_path / DIRECTORY / "index" / "channel0_1_0.idx"
        raw = bytearray(index.read_bytes())
        struct.pack_into(">Q", raw, 16 + 48, 99)
        index.write_bytes(raw)
        with pytest.raises(UsageError, match="another stream"):
            DiskSink(tmp_path).open(made.stream)
        assert index.read_bytes() == raw


def test_names_that_are_not_numbers_of_ours_are_left_alone(tmp_path: Path) -> None:
    names = ["channel0_1_01", "channel0_1_x", "channel0_1", "channel0_1_2", "channel0_1_-1"]
    for made in ring_of(SIZE, 2):
        (tmp_path / DIRECTORY).mkdir(parents=True)
        for name in names:
            (tmp_path / DIRECTORY / name).write_text("mine")
        for number in range(5):
            made.packet(2000 + number)
            consume("plain", tmp_path, made)
    for name in names:
        assert (tmp_path / DIRECTORY / name).read_text() == "mine"


def test_the_last_file_is_found_by_what_is_in_it(tmp_path: Path) -> None:
    """Not by times of files, which a copy changes."""
    for made in ring_of(SIZE, 3):
        for number in range(4):
            made.packet(2000 + number)
        consume("plain", tmp_path, made)
        for number in (1, 2, 0):
            os.utime(tmp_path / DIRECTORY / f"channel0_1_{number}", (number, number))
        files = tracefiles.Tracefiles(tmp_path / DIRECTORY, made.stream, disk._last_entry)
        assert files.last()[0].name == "channel0_1_0"
