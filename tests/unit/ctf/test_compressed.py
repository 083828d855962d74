# SPDX-License-Identifier: MIT
"""Files that zstd's own program and others made are read as the plain ones."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from helpers.handmade import write
from helpers.viewing import view

from ustconsumer.ctf.compressed import CompressedFile, Frames, frames
from ustconsumer.ctf.frames import raw_frame, seek_table, skippable_frame
from ustconsumer.errors import DecodeError

pytestmark = pytest.mark.peers("zstd")

#: Incompressible, longer than a block, repetitive, nothing.
_CHOOSE = random.Random(1)  # noqa: S311 - the same every time
PARTS = (_CHOOSE.randbytes(300_000), b"", b"abc" * 70_000, b"\0" * 4096, b"x")
PLAIN = b"".join(PARTS)


def opened(path: Path) -> tuple[int, Frames]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return fd, frames(fd, str(path))
    except BaseException:
        os.close(fd)
        raise


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    return tmp_path / "file.zst"


def compressed(checksum: bool = True, level: int = 3) -> list[bytes]:
    context = zstandard.ZstdCompressor(level=level, write_checksum=checksum)
    return [context.compress(part) for part in PARTS]


def check(path: Path) -> Frames:
    fd, known = opened(path)
    file = CompressedFile(fd, str(path), known)
    choose = random.Random(2)  # noqa: S311 - the same every time
    assert file.read(0, len(PLAIN) + 10) == PLAIN
    assert b"".join(file) == PLAIN
    for _ in range(300):
        at, size = choose.randrange(len(PLAIN) + 10), choose.choice((1, 84, 5000, 400_000))
        assert file.read(at, size) == PLAIN[at : at + size]
    os.close(fd)
    assert known.size == len(PLAIN)
    return known


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("table", [True, False])
def test_any_part_of_a_file_is_read(path: Path, checksum: bool, table: bool) -> None:
    made = compressed(checksum)
    sizes = array("I", [n for f, p in zip(made, PARTS, strict=True) for n in (len(f), len(p))])
    path.write_bytes(b"".join(made) + (seek_table(sizes) if table else b""))
    known = check(path)
    assert [span.content_size for span in known.spans] == list(map(len, PARTS))
    assert known.torn == 0


def test_a_file_of_the_program_is_read(path: Path) -> None:
    path.with_suffix("").write_bytes(PLAIN)
    subprocess.run(["zstd", "-q", path.with_suffix("")], check=True)
    check(path)


def test_frames_to_be_skipped_are_skipped(path: Path) -> None:
    content = skippable_frame(b"12345678").join([b"", *compressed(), b""])
    path.write_bytes(content)
    check(path)
    assert subprocess.run(["zstd", "-dcq", path], capture_output=True).stdout == PLAIN


def test_what_is_cut_off_is_whole_up_to_the_cut(path: Path) -> None:
    """At every length: whole frames, and how much is left over."""
    made = [raw_frame(b"one"), *compressed(), skippable_frame(b"two"), raw_frame(b"three")]
    content = b"".join(made)
    ends = [sum(map(len, made[:count])) for count in range(len(made) + 1)]
    for cut in {*range(200), *range(len(content) - 200, len(content) + 1), *ends}:
        path.write_bytes(content[:cut])
        fd, known = opened(path)
        os.close(fd)
        assert cut - known.torn == max(end for end in ends if end <= cut), cut


def test_raw_frames_and_the_table_are_of_the_format(path: Path) -> None:
    path.write_bytes(raw_frame(bytes(range(255))) + raw_frame(b""))
    result = subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True)
    assert result.stdout == bytes(range(255))
    # zstd's seekable format: skippable frame, entries, number of frames, descriptor, magic
    table = seek_table(array("I", [10, 300, 20, 400]))
    assert struct.unpack("<II4IIBI", table) == (
        0x184D2A5E, 25, 10, 300, 20, 400, 2, 0, 0x8F92EAB1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no frame at all, no frame at all", "no zstd frame at byte 0"),
        (raw_frame(b"x") + b"no frame at all, no frame", "no zstd frame at byte 10"),
        # 2 GiB of zeros, a block to be repeated
        (bytes.fromhex("28b52ffd a000000080 030000 00"), "more than the 1073741824"),
        (bytes.fromhex("28b52ffd 00 58 190000 616263"), "does not say how large"),
    ],
)
def test_what_is_no_such_file_is_said(path: Path, content: bytes, says: str) -> None:
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=says):
        opened(path)


def test_damaged_frames_are_said(path: Path) -> None:
    good = compressed()[0]
    for at in (6, 1000, len(good) - 1):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(DecodeError):
            check(path)


def test_a_seek_table_that_lies_is_not_believed(path: Path) -> None:
    made = compressed()[0]
    for lie in ((len(made), len(PARTS[0]) + 1), (len(made), 5), (len(made), (1 << 30) - 1)):
        path.write_bytes(made + seek_table(array("I", lie)))
        fd, known = opened(path)
        with pytest.raises(DecodeError, match="frame at byte 0"):
            CompressedFile(fd, str(path), known).read(0, 10)
        os.close(fd)
    # One that does not even add up is none.
    path.write_bytes(made + seek_table(array("I", (7, 7))))
    fd, known = opened(path)
    assert known.size == len(PARTS[0])
    os.close(fd)


def test_a_trace_in_either_form_is_the_same(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    write(plain, 3)
    shutil.copytree(plain, packed)
    for file in [each for each in packed.rglob("*") if each.is_file()]:
        subprocess.run(["zstd", "-q", "--rm", file], check=True)
    assert not (packed / "metadata").exists()
    shown = view("--no-delta", plain)
    assert shown.stdout.count(b"\n") == 60
    assert view("--no-delta", packed) == shown
    # Both forms of one file, as while it is unpacked in place: no event twice.
    shutil.copytree(plain, packed, dirs_exist_ok=True)
    assert view("--no-delta", packed) == shown
