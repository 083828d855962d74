# SPDX-License-Identifier: MIT
"""Rates and fill of a channel's buffers, from samples."""

from __future__ import annotations

import pytest

from sessiond.load import Load, advised
from ustconsumer.protocol.control import StreamInfo
from ustconsumer.protocol.messages import MAX_COUNT

KIB = 1024


def stream(
    number: int, produced: int, consumed: int = 0, *, full: int = 0, big: int = 0
) -> StreamInfo:
    return StreamInfo(
        id=number,
        trace="",
        channel="c",
        cpu=number,
        produced=produced,
        consumed=consumed,
        lost_full=full,
        lost_wrap=0,
        lost_big=big,
    )


def test_rates_are_of_all_streams() -> None:
    load = Load(overwrite=False)
    load.add(10.0, [stream(0, 0), stream(1, 500)], 4 * KIB)
    assert load.info().rate == 0
    load.add(12.0, [stream(0, 3000, 3000), stream(1, 1500, 1500)], 4 * KIB)
    assert load.info().rate == (3000 + 1000) // 2
    load.add(13.0, [stream(0, 3100, 3000, big=7), stream(1, 1500, 1500)], 4 * KIB)
    info = load.info()
    assert (info.rate, info.highest_rate, info.discarded_rate) == (100, 2000, 7)


def test_fill_is_that_of_the_fullest_stream() -> None:
    load = Load(overwrite=False)
    load.add(1.0, [stream(0, 1000, 100), stream(1, 5000, 3000)], 4 * KIB)
    load.add(2.0, [stream(0, 1000, 1000), stream(1, 5000, 4900)], 4 * KIB)
    info = load.info()
    assert (info.capacity, info.fill, info.highest_fill) == (4 * KIB, 100, 2000)


def test_it_was_full_where_events_found_no_room() -> None:
    """Though it was read before the next sample; one that is too big says nothing of that."""
    load = Load(overwrite=False)
    load.add(1.0, [stream(0, 0)], 4 * KIB)
    load.add(2.0, [stream(0, 900, 900, big=5)], 4 * KIB)
    assert load.info().highest_fill == 0
    load.add(3.0, [stream(0, 9000, 9000, full=1, big=5)], 4 * KIB)
    info = load.info()
    assert (info.fill, info.highest_fill) == (0, 4 * KIB)


def test_an_overwrite_channel_holds_seconds() -> None:
    load = Load(overwrite=True)
    load.add(1.0, [stream(0, 0), stream(1, 0)], 8 * KIB)
    load.add(3.0, [stream(0, 4 * KIB), stream(1, 1 * KIB)], 8 * KIB)
    info = load.info()
    # The busiest: 2 KiB/s into 8 KiB.
    assert info.history_us == 4_000_000
    assert (info.fill, info.highest_fill) == (0, 0)
    load.add(4.0, [stream(0, 4 * KIB), stream(1, 1 * KIB)], 8 * KIB)
    assert load.info().history_us == 0


def test_streams_that_come_and_go_are_no_rate() -> None:
    load = Load(overwrite=False)
    load.add(1.0, [stream(0, 1 << 40, 1 << 40)], 4 * KIB)
    load.add(2.0, [stream(1, 1 << 50, 1 << 50)], 4 * KIB)
    assert load.info().rate == 0


def test_what_programs_claim_stays_within_bounds() -> None:
    load = Load(overwrite=False)
    load.add(1.0, [stream(0, 10, 20, full=9)], 4 * KIB)
    load.add(1.0 + 1e-9, [stream(0, 5, (1 << 64) - 1)], 4 * KIB)
    info = load.info()
    assert info.fill <= info.highest_fill == 4 * KIB
    assert info.highest_rate <= MAX_COUNT
    assert info.discarded_rate <= MAX_COUNT


def test_what_would_have_held_the_burst() -> None:
    """The buffer, and what found no room in it from sample to sample until there was room."""
    load = Load(overwrite=False)
    load.add(1.0, [stream(0, 0)], 16 * KIB)
    load.add(2.0, [stream(0, 16 * KIB, full=100)], 16 * KIB)
    # Nobody knows how large they were.
    assert (load.info(4 * KIB).needed, load.info(4 * KIB).advised_num_subbuf) == (0, 0)
    load.event_size = 40.0
    assert load.info(4 * KIB).needed == 16 * KIB + 100 * 40
    load.add(3.0, [stream(0, 32 * KIB, full=300)], 16 * KIB)
    assert load.info(4 * KIB).needed == 16 * KIB + 300 * 40
    # There was room in between: another burst, and a smaller one.
    load.add(4.0, [stream(0, 40 * KIB, full=300)], 16 * KIB)
    load.add(5.0, [stream(0, 48 * KIB, full=500)], 16 * KIB)
    info = load.info(4 * KIB)
    assert info.needed == 16 * KIB + 300 * 40
    assert info.advised_subbuf_size * info.advised_num_subbuf > info.needed


def test_losses_between_samples_count() -> None:
    """As of one who asks often; the burst goes on where the next sample sees no more of it."""
    load = Load(overwrite=False)
    load.add(1.0, [stream(0, 0)], 16 * KIB)
    load.note_losses([stream(0, 16 * KIB, full=100)])
    assert load.info().highest_fill == 16 * KIB
    load.add(2.0, [stream(0, 16 * KIB, full=100)], 16 * KIB)
    load.note_losses([stream(0, 16 * KIB, full=300)])
    load.add(3.0, [stream(0, 32 * KIB, 32 * KIB, full=300)], 16 * KIB)
    assert (load.info().highest_fill, load.highest_burst) == (16 * KIB, 300)
    load.add(4.0, [stream(0, 32 * KIB, 32 * KIB, full=300)], 16 * KIB)
    load.note_losses([stream(0, 48 * KIB, full=450)])
    assert load.highest_burst == 300


def test_a_buffer_that_is_new_was_empty() -> None:
    load = Load(overwrite=False)
    load.add(1.0, [stream(0, 9000, full=10)], 16 * KIB)
    assert load.highest_burst == 10
    assert load.info().highest_fill == 16 * KIB


@pytest.mark.parametrize(
    ("needed", "subbuf_size", "answer"),
    [
        # A quarter more, and a sub-buffer; powers of two.
        (16 * KIB, 4 * KIB, (4 * KIB, 8)),
        (24 * KIB, 4 * KIB, (4 * KIB, 16)),
        (100 * KIB, 4 * KIB, (4 * KIB, 64)),
        # More than 64 of them become larger ones.
        (1024 * KIB, 4 * KIB, (32 * KIB, 64)),
        (1 << 30, 4 * KIB, (0, 0)),
    ],
)
def test_advice(needed: int, subbuf_size: int, answer: tuple[int, int]) -> None:
    assert advised(needed, subbuf_size) == answer
    size, count = answer
    assert size * (count - 1) >= needed * 5 // 4 or not count
