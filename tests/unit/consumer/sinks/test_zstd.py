# SPDX-License-Identifier: MIT
from __future__ import annotations

import dataclasses
import errno
import functools
import itertools
import os
import random
import signal
import stat
import struct
import subprocess
from pathlib import Path

import pytest

# Reads zstd's seekable format, and is not ours.
import pyzstd
import zstandard
from helpers.rings import TestRing, make_ring

from ustconsumer.consumer.mapping import MappedStream
from ustconsumer.consumer.sinks.disk import DiskSink
from ustconsumer.consumer.sinks.framefile import Compressor
from ustconsumer.consumer.sinks.zstd import ZstdSink
from ustconsumer.consumer.streams import Outlet
from ustconsumer.errors import UsageError

pytestmark = pytest.mark.peers("zstd")

DIRECTORY = Path("ust/uid/1/64-bit")
FILES = ("channel0_1", "index/channel0_1.idx", "metadata")
TEXT = b"/* CTF 1.8 */\n"


def move(sink: DiskSink, made: TestRing) -> Outlet:
    """Move what is there to a writer of the sink, as a consumer does; return it open."""
    outlet = Outlet(MappedStream(made.stream, made.memory, made.ring))
    outlet.use(sink.open(made.stream))
    outlet.move(1 << 30)
    return outlet


def write(sink: DiskSink, made: TestRing) -> None:
    move(sink, made).close()


def restored(path: Path) -> bytes:
    """Return what zstd's own program makes of a file."""
    return subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout


def both(tmp_path: Path, packets: int, **geometry: int) -> tuple[Path, Path]:
    """Write the same packets with both sinks; return the traces' directories."""
    for name in ("plain", "packed"):
        sink = DiskSink(tmp_path / name) if name == "plain" else ZstdSink(tmp_path / name, 3)
        with make_ring(**geometry) as made:
            for number in range(packets):
                made.packet(2000 + number)
                write(sink, made)
                sink.metadata(made.stream.trace, TEXT + b"text %d;\n" % number * 500)
        sink.close()
    return tmp_path / "plain" / DIRECTORY, tmp_path / "packed" / DIRECTORY


def test_zstd_restores_what_the_plain_sink_writes(tmp_path: Path) -> None:
    plain, packed = both(tmp_path, 5)
    for name in FILES:
        assert restored(packed / f"{name}.zst") == (plain / name).read_bytes(), name
        subprocess.run(["zstd", "-tq", packed / f"{name}.zst"], check=True)
    assert (plain / FILES[0]).stat().st_size == 5 * 4096
    names = sorted(str(p.relative_to(packed)) for p in packed.rglob("*") if p.is_file())
    assert names == sorted(f"{name}.zst" for name in FILES)


def test_another_reader_of_the_seekable_format_seeks_to_each_packet(tmp_path: Path) -> None:
    plain, packed = both(tmp_path, 6)
    raw = (plain / FILES[0]).read_bytes()
    with pyzstd.SeekableZstdFile(str(packed / f"{FILES[0]}.zst"), "r") as file:
        for number in (4, 1, 5, 0):
            file.seek(number * 4096)
            assert file.read(4096) == raw[number * 4096 :][:4096]
    # A frame each.
    table = (packed / f"{FILES[0]}.zst").read_bytes()[-9:]
    assert struct.unpack("<IBI", table) == (6, 0, 0x8F92EAB1)
    with pyzstd.SeekableZstdFile(str(packed / "metadata.zst"), "r") as file:
        assert file.read() == (plain / "metadata").read_bytes()


def test_metadata_is_readable_while_it_grows(tmp_path: Path) -> None:
    with make_ring() as made:
        sink = ZstdSink(tmp_path, 1)
        file = tmp_path / DIRECTORY / "metadata.zst"
        for number in range(1, 4):
            sink.metadata(made.stream.trace, b"event {};\n" if number > 1 else TEXT)
            assert restored(file).count(b"event") == number - 1
        # All of it anew.
        sink.metadata(made.stream.trace, TEXT)
        sink.metadata(made.stream.trace, b"event {};\n")
        assert restored(file).count(TEXT) == restored(file).count(b"event") == 1
        sink.close()
        with pyzstd.SeekableZstdFile(str(file), "r") as seekable:
            assert seekable.read() == restored(file)


@pytest.mark.parametrize("level", [1, 19])
def test_the_level_counts(tmp_path: Path, level: int) -> None:
    plain = random.Random(3).choices([b"one", b"three", b"five"], k=40_000)  # noqa: S311
    frame = Compressor(level).frame(b" ".join(plain))
    sizes = {n: len(zstandard.ZstdCompressor(level=n).compress(b" ".join(plain))) for n in (1, 19)}
    assert sizes[1] > sizes[19] + 100
    assert abs(len(frame) - sizes[level]) < 10


def test_modes_are_lttngs(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        both(tmp_path, 1)
    finally:
        os.umask(before)
    for path in (tmp_path / "packed").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o770 if path.is_dir() else 0o660), path


def test_the_two_forms_are_not_mixed(tmp_path: Path) -> None:
    with make_ring() as made:
        packed = functools.partial(ZstdSink, level=3)
        for name, first, second in (("a", DiskSink, packed), ("b", packed, DiskSink)):
            output = tmp_path / name
            write(first(output), made)
            with pytest.raises(UsageError, match="another trace"):
                second(output).open(made.stream)
            with pytest.raises(UsageError, match="another trace"):
                second(output).metadata(made.stream.trace, TEXT)


def test_another_trace_is_not_overwritten(tmp_path: Path) -> None:
    with make_ring() as made:
        sink = ZstdSink(tmp_path, 3)
        sink.metadata(made.stream.trace, TEXT)
        sink.close()
        path = tmp_path / DIRECTORY / "metadata.zst"
        for content in (path.read_bytes(), b"no zstd at all, and longer than a header of a packet"):
            path.write_bytes(content)
            other = dataclasses.replace(made.stream.trace, uuid=bytes(16))
            with pytest.raises(UsageError, match="another trace"):
                ZstdSink(tmp_path, 3).open(dataclasses.replace(made.stream, trace=other))
            assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("channel0_1", b"short"),
        ("index/channel0_1.idx", b"a letter to a friend, not an index, long enough"),
    ],
)
def test_files_that_are_not_ours_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    with make_ring() as made:
        made.packet(2000)
        write(ZstdSink(tmp_path, 3), made)
        path = tmp_path / DIRECTORY / f"{name}.zst"
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"not one of ours|shorter than its index"):
            ZstdSink(tmp_path, 3).open(made.stream)
        assert path.read_bytes() == content


def test_entries_of_an_index_that_contradict_are_refused(tmp_path: Path) -> None:
    with make_ring() as made:
        for now in (2000, 3000):
            made.packet(now)
        write(ZstdSink(tmp_path, 3), made)
    path = tmp_path / DIRECTORY / "index" / "channel0_1.idx.zst"
    raw = bytearray(path.read_bytes())
    size = (len(raw) - 25) // 2
    for at in (0, 8, 16, 25, 33):
        broken = raw.copy()
        broken[25 + size + at] ^= 0x40
        path.write_bytes(broken)
        with (
            make_ring() as made,
            pytest.raises(UsageError, match=r"entry 1 in the index|shorter than"),
        ):
            ZstdSink(tmp_path, 3).open(made.stream)


# -- full disk, kills -----------------------------------------------------------------------


class Full:
    """A disk on which a write fails half-way, or its process dies there.

    The so-many-th write counts, of those to a file (not to a pipe), at so many of its bytes.
    """

    def __init__(self, patch: pytest.MonkeyPatch, deadly: bool = False) -> None:
        self.left = -1
        self.part = 0
        self._deadly = deadly
        self._write = os.pwrite
        patch.setattr(os, "pwrite", self)

    def __call__(self, fd: int, raw: memoryview, offset: int) -> int:
        self.left -= 1
        if self.left == -1:
            self._write(fd, raw[: self.part * len(raw) // 4], offset)
            if self._deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(fd, raw, offset)


def test_a_full_disk_leaves_nothing_of_what_it_did_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Full(monkeypatch)
    paths = [tmp_path / DIRECTORY / f"{name}.zst" for name in FILES]
    with make_ring(num_subbuf=8) as made:
        sink = ZstdSink(tmp_path, 3)
        made.packet(2000)
        outlet = move(sink, made)
        for write_number, part in itertools.product((0, 1), (0, 1, 3, 4)):
            made.packet(3000 + 10 * write_number + part)
            before = [path.read_bytes() for path in paths]
            disk.left, disk.part = write_number, part
            with pytest.raises(OSError, match="No space left"):
                outlet.move(1 << 30)
            assert [path.read_bytes() for path in paths] == before
            outlet.move(1 << 30)
        disk.left = 0
        with pytest.raises(OSError, match="No space left"):
            sink.metadata(made.stream.trace, TEXT)
        sink.metadata(made.stream.trace, TEXT)
        # No room for the seek table: the frames are there.
        disk.left, disk.part = 0, 3
        outlet.close()
        sink.close()
    raw = restored(paths[0])
    sequences = [struct.unpack_from("<Q", raw, at + 64)[0] for at in range(0, len(raw), 4096)]
    assert sequences == list(range(9))
    assert len(restored(paths[1])) == 16 + 9 * 72
    assert restored(paths[2]).count(TEXT) == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_consumer_killed_anywhere_has_a_successor_that_goes_on(
    tmp_path: Path, overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each write and in the middle of it, and between the last one and the next packet."""
    finished = died = 0
    for write_number in range(20):
        for part in (0, 2, 4):
            output = tmp_path / f"{write_number}-{part}"
            with make_ring(num_subbuf=8, overwrite=overwrite) as made:
                # Before, so that there is something to go on from; its seek table must go.
                made.packet(2000)
                write(ZstdSink(output, 3), made)
                for now in (3000, 4000, 5000):
                    made.packet(now)
                child = os.fork()
                if child == 0:
                    with pytest.MonkeyPatch.context() as patch:
                        disk = Full(patch, deadly=True)
                        disk.left, disk.part = write_number, part
                        sink = ZstdSink(output, 3)
                        sink.metadata(made.stream.trace, TEXT)
                        write(sink, made)
                        sink.close()
                    os._exit(0)
                status = os.waitpid(child, 0)[1]
                finished += status == 0
                died += status == signal.SIGKILL
                made.ring.take_over()
                made.packet(6000)
                sink = ZstdSink(output, 3)
                sink.metadata(made.stream.trace, TEXT)
                write(sink, made)
                sink.close()
            directory = output / DIRECTORY
            raw = restored(directory / "channel0_1.zst")
            index = restored(directory / "index" / "channel0_1.idx.zst")
            found = [struct.unpack_from("<Q", raw, at + 64)[0] for at in range(0, len(raw), 4096)]
            assert found == [0, 1, 2, 3, 4], (write_number, part)
            entries = list(struct.iter_unpack(">9Q", index[16:]))
            assert [(entry[0], entry[8]) for entry in entries] == [
                (4096 * number, number) for number in range(5)
            ]
            assert restored(directory / "metadata.zst").count(TEXT) == 1
            with pyzstd.SeekableZstdFile(str(directory / "channel0_1.zst"), "r") as file:
                assert file.read() == raw
    assert died > 20
    assert finished > 3, "later writes would be worth a kill, too"
