# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from pathlib import Path

import pytest

from ustconsumer.consumer.sinks import writeback
from ustconsumer.consumer.sinks.writeback import WriteBack


class Calls:
    """Records what is asked of the kernel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[tuple[int, int]] = []
        self.dropped: list[tuple[int, int]] = []
        monkeypatch.setattr(
            writeback, "start_writeback", lambda fd, at, size: self.started.append((at, at + size))
        )
        monkeypatch.setattr(
            os, "posix_fadvise", lambda fd, at, size, advice: self.dropped.append((at, at + size))
        )


def test_each_step_is_started_once_and_dropped_later(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    file = WriteBack(3, 0, step=100, behind=250)
    for end in range(0, 1001, 50):
        file.advance(end)
    assert calls.started == [(at, at + 100) for at in range(0, 1000, 100)]
    # Everything up to 250 bytes before the end, in order, once.
    assert calls.dropped == [(0, 50)] + [(at, at + 100) for at in range(50, 750, 100)]


def test_a_resumed_file_begins_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    WriteBack(3, 5000, step=100, behind=250).advance(5100)
    assert calls.started == [(5000, 5100)]
    assert calls.dropped == []


def test_a_file_that_takes_no_advice_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    start = writeback.start_writeback

    def ask(fd: int, offset: int, length: int) -> None:
        asked.append((offset, length))
        start(fd, offset, length)

    monkeypatch.setattr(writeback, "start_writeback", ask)
    read, write = os.pipe()
    try:
        file = WriteBack(write, 0, step=1, behind=1)
        file.advance(10)
        file.advance(20)
    finally:
        os.close(read)
        os.close(write)
    assert asked == [(0, 10)]


def test_a_real_file_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    with open(path, "w+b", buffering=0) as raw:
        file = WriteBack(raw.fileno(), 0, step=8192, behind=8192)
        for number in range(16):
            raw.write(bytes([number]) * 4096)
            file.advance(raw.tell())
    assert path.read_bytes() == b"".join(bytes([number]) * 4096 for number in range(16))
