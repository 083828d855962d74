# SPDX-License-Identifier: MIT
from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator

import pytest

from ustconsumer.ctf.metalog import HEADER_SIZE, MAGIC, MetadataLogReader, MetadataLogWriter
from ustconsumer.errors import LayoutError


@pytest.fixture
def log() -> Iterator[tuple[MetadataLogWriter, MetadataLogReader]]:
    writer = MetadataLogWriter(os.memfd_create("log"))
    reader = MetadataLogReader(writer.reopen_read_only())
    yield writer, reader
    reader.close()
    writer.close()


def test_reader_gets_each_text_once(log: tuple[MetadataLogWriter, MetadataLogReader]) -> None:
    writer, reader = log
    assert reader.read() == b""
    writer.append("one\n")
    writer.append("zwölf\n")
    assert reader.read() == "one\nzwölf\n".encode()
    assert reader.read() == b""
    writer.append("three\n")
    assert reader.read() == b"three\n"


def test_a_length_is_never_ahead_of_its_text(
    log: tuple[MetadataLogWriter, MetadataLogReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the writer has done when a reader looks: whole declarations or nothing."""
    writer, reader = log
    seen = []
    pwrite = os.pwrite

    def short(fd: int, raw: bytes, offset: int) -> int:
        # As a full machine would: not all at once.
        written = pwrite(fd, raw[:10], offset)
        seen.append(reader.read())
        return written

    monkeypatch.setattr(os, "pwrite", short)
    writer.append("a declaration of thirty bytes\n")
    assert seen == [b"", b"", b"", b"a declaration of thirty bytes\n"]


def test_reader_cannot_write(log: tuple[MetadataLogWriter, MetadataLogReader]) -> None:
    writer, _ = log
    fd = writer.reopen_read_only()
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(fd, b"x", 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "32 byte header"),
        (struct.pack("<QQQQ", MAGIC + 1, 0, 0, 0), "magic"),
        (struct.pack("<QQQQ", MAGIC, 0, 1 << 40, 0), "length"),
        (struct.pack("<QQQQ", MAGIC, 0, 5, 1 << 40), "start"),
        (struct.pack("<QQQQ", MAGIC, 0, 5, 0).ljust(HEADER_SIZE, b"\0") + b"text", "text"),
    ],
)
def test_log_that_lies(content: bytes, complaint: str) -> None:
    fd = os.memfd_create("log")
    os.pwrite(fd, content, 0)

    def read() -> None:
        with contextlib.closing(MetadataLogReader(fd)) as reader:
            reader.read()

    with pytest.raises(LayoutError, match=complaint):
        read()


def test_log_that_shrinks() -> None:
    fd = os.memfd_create("log")
    writer = MetadataLogWriter(os.dup(fd))
    reader = MetadataLogReader(writer.reopen_read_only())
    try:
        writer.append("text")
        assert reader.read() == b"text"
        os.pwrite(fd, struct.pack("<Q", 3), 16)
        with pytest.raises(LayoutError, match="length"):
            reader.read()
        # A new version starts over.
        os.pwrite(fd, struct.pack("<Q", 1), 8)
        assert reader.read() == b"tex"
    finally:
        reader.close()
        writer.close()
        os.close(fd)


def test_a_text_that_starts_over_comes_whole(
    log: tuple[MetadataLogWriter, MetadataLogReader],
) -> None:
    writer, reader = log
    writer.append("offset = 7;\n")
    assert reader.read() == b"offset = 7;\n"
    for turn, offset in enumerate(("1700000000", "8", "9"), 1):
        writer.restart(f"offset = {offset};\n")
        writer.append("event\n")
        assert reader.read() == f"offset = {offset};\nevent\n".encode()
        writer.append("more\n")
        assert reader.read() == b"more\n"
        assert writer.text() == f"offset = {offset};\nevent\nmore\n"
        late = MetadataLogReader(writer.reopen_read_only())
        try:
            assert (late.restarts, late.read().decode()) == (turn, writer.text())
        finally:
            late.close()
    size = os.fstat(reader._fd).st_size
    for _ in range(100):
        writer.restart(writer.text())
    # The places of two texts take turns.
    assert os.fstat(reader._fd).st_size <= size + len(writer.text())


def test_whoever_looks_while_a_text_starts_over_sees_one_of_the_two(
    log: tuple[MetadataLogWriter, MetadataLogReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = log
    writer.append("old declaration\n")
    seen = []
    pwrite = os.pwrite

    def short(fd: int, raw: bytes, offset: int) -> int:
        written = pwrite(fd, raw[: 10 if offset >= HEADER_SIZE else len(raw)], offset)
        reader.rewind()
        seen.append(reader.read())
        return written

    monkeypatch.setattr(os, "pwrite", short)
    writer.restart("new declaration\n")
    assert seen == [b"old declaration\n"] * 2 + [b"new declaration\n"]


def test_a_text_that_starts_over_while_it_is_read_is_read_again(
    log: tuple[MetadataLogWriter, MetadataLogReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = log
    for text in ("old one\n", "second\n"):
        writer.restart(text)
    pread = os.pread
    restarts = iter(["third one\n", "fourth\n"])

    def meddle(fd: int, size: int, offset: int) -> bytes:
        raw = pread(fd, size, offset)
        if offset >= HEADER_SIZE and (text := next(restarts, "")):
            with monkeypatch.context() as patch:
                patch.setattr(os, "pread", pread)
                writer.restart(text)
        return raw

    monkeypatch.setattr(os, "pread", meddle)
    assert reader.read() == b"fourth\n"
    assert reader.read() == b""


def test_a_log_with_nothing_new_costs_no_system_call(
    log: tuple[MetadataLogWriter, MetadataLogReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer looks at every log when one of them has changed."""
    writer, reader = log
    writer.append("text\n")
    assert reader.read() == b"text\n"
    with monkeypatch.context() as patch:
        patch.delattr(os, "pread")
        assert reader.read() == b""
    # Not so if it was given back.
    reader.unread(b"text\n")
    assert reader.read() == b"text\n"
    writer.append("more\n")
    assert reader.read() == b"more\n"
