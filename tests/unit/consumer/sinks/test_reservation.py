# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from pathlib import Path

import pytest

from ustconsumer.consumer.sinks import reservation
from ustconsumer.consumer.sinks.reservation import Reservation

MB = 1 << 20


def blocks(path: Path) -> int:
    return os.stat(path).st_blocks * 512


def write(fd: int, end: int) -> None:
    os.pwrite(fd, b"x" * MB, end - MB)


def test_there_is_room_ahead_and_what_is_not_used_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        room = Reservation(fd, 0, 4 * MB)
        for end in range(MB, 6 * MB + 1, MB):
            write(fd, end)
            room.advance(end)
        assert os.fstat(fd).st_size == 6 * MB
        os.fsync(fd)
        if blocks(path) < 8 * MB:
            pytest.skip("this file system allocates nothing ahead")
        room.finish(6 * MB)
        assert os.fstat(fd).st_size == 6 * MB
        assert 6 * MB <= blocks(path) < 7 * MB
    finally:
        os.close(fd)


def test_small_files_get_none_and_others_one_call_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.setattr(reservation, "reserve", lambda fd, at, size: asked.append((at, size)))
    room = Reservation(3, 0, 1000)
    for end in range(100, 3000, 100):
        room.advance(end)
    assert asked == [(1000, 1000), (2000, 1000)]


def test_a_file_that_cannot_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(fd: int, at: int, size: int) -> None:
        asked.append(at)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reservation, "reserve", refuse)
    room = Reservation(3, 0, 1000)
    for end in range(1000, 9000, 1000):
        room.advance(end)
    assert asked == [1000]
    room.finish(0)
