# SPDX-License-Identifier: MIT
"""Where the hole is, when only the bytes tell: sub-buffers made by hand."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from ustconsumer.ctf.skip import FIXED, OPAQUE, STRING
from ustconsumer.ringbuffer.salvage import RecordReader, Salvaged, Torn, salvage

SIZE, HEADER = 4096, 84
#: Of event 1: header 6, payload 4; event 2 is text.
RECORD = 10
BEGIN = 7 << 32
EVENTS = {1: [(FIXED, 4)], 2: [(STRING, 0)]}


def event(time: int, value: int = 0) -> bytes:
    return struct.pack("<HII", 1, time & 0xFFFFFFFF, value)


def torn(*parts: bytes, prefix: int, missing: int, late: int = 1000, **fields: object) -> Torn:
    """Make a closed sub-buffer whose padding is committed; ``prefix`` counts records."""
    content = b"".join(parts)
    made = Torn(
        data=(bytes(HEADER) + content).ljust(SIZE, b"\xee"),
        header=HEADER,
        prefix=HEADER + prefix,
        missing=missing,
        content=HEADER + len(content),
        perhaps=0,
        begin=BEGIN,
        latest=BEGIN + late,
        opened=True,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def kept(found: Salvaged, made: Torn) -> bytes:
    data = made.data[: found.end]
    for at, length in reversed(found.holes):
        data = data[:at] + data[at + length :]
    return data[HEADER:]


def search(made: Torn) -> bytes:
    found = salvage(made, RecordReader(EVENTS))
    assert found.lost == 0
    return kept(found, made)


A, B, C, D = (event(BEGIN + 100 * number, number) for number in range(1, 5))
STALE = event(BEGIN - 10**9, 99)


@pytest.mark.parametrize("garbage", [STALE, bytes(RECORD), b"\xff" * RECORD, b"\x01\0" * 5])
def test_the_hole_is_at_the_end_of_the_prefix(garbage: bytes) -> None:
    assert search(torn(A, garbage, B, prefix=RECORD, missing=RECORD)) == A + B


def test_a_record_that_was_written_and_not_committed_is_cut_out() -> None:
    assert search(torn(A, B, C, prefix=RECORD, missing=RECORD)) == A + C


def test_the_prefix_lags_behind_a_late_commit() -> None:
    assert search(torn(A, B, STALE, C, prefix=RECORD, missing=RECORD)) == A + B + C


def test_the_prefix_is_too_long_by_chance() -> None:
    assert search(torn(A, STALE, B, C, prefix=3 * RECORD, missing=RECORD)) == A + B + C


def test_old_bytes_do_not_pass_for_a_later_time_where_the_end_is_far() -> None:
    """Ten seconds until the next packet: the low bits of any old time come round in them."""
    ahead = event(BEGIN + 2 * 10**9, 99)
    made = torn(A, B, ahead, C, prefix=RECORD, missing=RECORD, late=10**10)
    assert search(made) == A + B + C


def test_two_holes_of_which_one_looks_whole() -> None:
    made = torn(A, B, C, STALE, D, prefix=RECORD, missing=2 * RECORD)
    assert search(made) == A + C + D


def test_two_holes_behind_a_prefix_that_lags() -> None:
    made = torn(A, B, STALE[:7], C, bytes(9), D, prefix=RECORD, missing=16)
    assert search(made) == A + B + C + D


def test_padding_that_is_missing_too() -> None:
    made = torn(A, STALE, B, prefix=RECORD, missing=RECORD)
    made = replace(made, missing=made.missing + SIZE - made.content)
    assert search(made) == A + B


def test_who_closed_it_died_before_it_said_where_the_content_ends() -> None:
    made = torn(A, B, STALE, C, prefix=RECORD, missing=0)
    made = replace(made, missing=RECORD + SIZE - made.content, perhaps=17, content=0)
    assert search(made) == A + B + C


def test_who_closed_it_died_while_it_said_where_the_content_ends() -> None:
    made = torn(A, B, C, prefix=RECORD, missing=0)
    made = replace(made, missing=SIZE - made.content, perhaps=made.content, content=0)
    assert search(made) == A + B + C


def test_the_header_is_missing_with_the_first_record() -> None:
    made = torn(STALE, A, B, prefix=0, missing=HEADER + RECORD)
    made = replace(made, prefix=0, opened=False)
    assert search(made) == A + B
    # Not even the time of the packet before is known.
    found = salvage(replace(made, begin=None), RecordReader(EVENTS))
    assert (found.first, found.last) == (BEGIN + 100, BEGIN + 200)


def test_text_without_an_end_is_no_record() -> None:
    text = struct.pack("<HI", 2, 50) + b"hello\0"
    assert search(torn(text, text[:8], A, prefix=12, missing=8)) == text + A


@pytest.mark.parametrize(
    "reader", [None, RecordReader({1: [(OPAQUE, 0)]}), RecordReader({5: [(FIXED, 4)]})]
)
def test_what_cannot_be_walked_is_given_up_behind_the_hole(reader: RecordReader | None) -> None:
    made = torn(A, STALE, B, C, prefix=RECORD, missing=RECORD)
    found = salvage(made, reader)
    known = reader is None or reader.opaque
    assert kept(found, made) == (A if known else b"")
    assert found.lost == (2 if known else 3) * RECORD


def test_a_search_ends() -> None:
    """Nothing but garbage that looks like the beginning of records, in a large sub-buffer."""
    size = 1 << 20
    data = bytes(HEADER) + event(BEGIN) * ((size - HEADER) // RECORD)
    made = Torn(
        data=data.ljust(size, b"\0"), header=HEADER, prefix=HEADER, missing=size // 2, content=0,
        perhaps=0, begin=BEGIN + 5, latest=BEGIN + 10, opened=True,
    )  # fmt: skip
    found = salvage(made, RecordReader(EVENTS))
    assert (found.end, found.holes, found.lost) == (HEADER, (), size // 2 - HEADER)
