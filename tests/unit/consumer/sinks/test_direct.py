# SPDX-License-Identifier: MIT
"""Writing past the page cache: the same files, and a word where it cannot be."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from helpers.rings import TestRing, make_ring

from ustconsumer._native.ring import DRAIN_EMPTY
from ustconsumer.consumer.sinks.disk import DiskSink, DiskWriter

SIZE = 1 << 20
DATA = Path("ust/uid/1/64-bit/channel0_1")
INDEX = Path("ust/uid/1/64-bit/index/channel0_1.idx")


@pytest.fixture(autouse=True)
def _possible(tmp_path: Path) -> None:
    try:
        os.close(os.open(tmp_path / "try", os.O_CREAT | os.O_WRONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("this file system has no O_DIRECT")


def opened(sink: DiskSink, made: TestRing) -> DiskWriter:
    writer = sink.open(made.stream)
    writer.attach(made.ring)
    return writer


def is_direct(writer: DiskWriter) -> bool:
    return bool(fcntl.fcntl(writer._files.data_fd, fcntl.F_GETFL) & os.O_DIRECT)


def files(output: Path) -> tuple[bytes, bytes]:
    return (output / DATA).read_bytes(), (output / INDEX).read_bytes()


def test_the_files_are_the_same_also_after_a_successor(tmp_path: Path) -> None:
    written = []
    for direct in (False, True):
        output = tmp_path / str(direct)
        with make_ring(SIZE) as made:
            for now in (2000, 3000, 4000):
                made.packet(now)
            writer = opened(DiskSink(output, direct=direct), made)
            assert is_direct(writer) == direct
            assert writer.drain(made.ring, SIZE) == DRAIN_EMPTY
            writer.close()
            # As its death leaves them: data without an entry, an entry in part.
            with (output / DATA).open("ab") as data, (output / INDEX).open("ab") as index:
                data.write(bytes(6000))
                index.write(bytes(30))
            made.packet(5000)
            successor = opened(DiskSink(output, direct=direct), made)
            assert successor.drain(made.ring, 4 * SIZE) == DRAIN_EMPTY
            successor.settle()
            successor.close()
        written.append(files(output))
    assert written[0] == written[1]
    assert len(written[0][0]) == 4 * 4096


def test_small_sub_buffers_go_through_the_page_cache(tmp_path: Path) -> None:
    with make_ring(SIZE // 2) as made:
        writer = opened(DiskSink(tmp_path, direct=True), made)
        assert not is_direct(writer)
        writer.close()


def test_where_it_cannot_be_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    sink = DiskSink(tmp_path / "trace", direct=True, report=said.append)

    def refuse(fd: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETFL:
            raise OSError(22, "Invalid argument")
        return real(fd, command, argument)

    real = fcntl.fcntl
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    for _ in range(2):
        with make_ring(SIZE) as made:
            made.packet(2000)
            writer = opened(sink, made)
            assert writer.drain(made.ring, SIZE) == DRAIN_EMPTY
            writer.close()
    assert len(said) == 1
    assert "does not write past the page cache (--direct)" in said[0]
    assert len(files(tmp_path / "trace")[0]) == 4096


def test_a_device_that_wants_other_places_gets_them_through_the_page_cache(tmp_path: Path) -> None:
    """The flag is taken, the write is refused: devices with larger blocks do that."""
    said: list[str] = []
    with make_ring(SIZE) as made:
        made.packet(2000)
        made.packet(3000)
        writer = opened(DiskSink(tmp_path, direct=True, report=said.append), made)
        # No place that O_DIRECT allows.
        made.ring.data_offset = 100
        assert writer.drain(made.ring, 4 * SIZE) == DRAIN_EMPTY
        assert not is_direct(writer)
        writer.close()
    assert len(said) == 1
    assert (tmp_path / DATA).stat().st_size == 100 + 2 * 4096
