# SPDX-License-Identifier: MIT
"""Figures were read from live buffers of liblttng-ust 2.13 unless they are plain arithmetic."""

from __future__ import annotations

import pytest

from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.errors import UsageError
from ustconsumer.ringbuffer.geometry import Geometry, nearest_power_of_two

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]


@pytest.mark.parametrize(
    ("subbuf_size", "num_subbuf", "file_size"),
    [
        (8192, 4, 45440),
        (4096, 4, 24960),
        (8192, 2, 28896),
        (65536, 8, 594624),
        (4096, 1, 12432),
        (16384, 32, 555584),
        (16384, 4, 86400),
        (524288, 4, 2625920),
    ],
)
def test_file_size(subbuf_size: int, num_subbuf: int, file_size: int) -> None:
    assert Geometry(LAYOUT, subbuf_size, num_subbuf).file_size == file_size
    if num_subbuf > 1:
        assert Geometry(LAYOUT, subbuf_size, num_subbuf, overwrite=True).file_size == file_size


def test_tables() -> None:
    discard = Geometry(LAYOUT, 8192, 4)
    overwrite = Geometry(LAYOUT, 8192, 4, overwrite=True)
    for geometry in (discard, overwrite):
        places = [geometry.hot, geometry.cold, geometry.ts_end, geometry.array, geometry.data]
        assert places == [640, 1152, 1664, 1696, 4096]
    assert [discard.pages, discard.wsb, discard.cnt] == [36864, 37120, 37152]
    assert [overwrite.pages, overwrite.wsb, overwrite.cnt] == [45056, 45376, 45408]
    assert (discard.nr_pages, overwrite.nr_pages) == (4, 5)
    assert overwrite.cnt + 4 * 8 == overwrite.file_size


def test_native_code_gets_plain_integers() -> None:
    places = Geometry(LAYOUT, 8192, 4).places()
    assert {type(value) for value in places.values()} == {int}
    for name in ("offset", "consumed", "cons_snapshot", "get_subbuf", "h_seq", "header_size"):
        assert name in places


@pytest.mark.parametrize(
    ("subbuf_size", "num_subbuf", "overwrite", "nearest"),
    [
        (5000, 4, False, "4096"),
        (6144, 4, False, "8192"),
        (100_000, 4, False, "131072"),
        (2048, 4, False, "4096"),
        (0, 4, False, "4096"),
        (-4096, 4, False, "4096"),
        (4096, 3, False, "4"),
        (4096, 0, False, "1"),
        (4096, 1, True, "2"),
        (1 << 45, 4, False, str(1 << 44)),
    ],
)
def test_impossible_sizes_name_the_nearest(
    subbuf_size: int, num_subbuf: int, overwrite: bool, nearest: str
) -> None:
    with pytest.raises(UsageError) as caught:
        Geometry(LAYOUT, subbuf_size, num_subbuf, overwrite)
    assert nearest in str(caught.value).replace(",", " ").split()


@pytest.mark.parametrize(("value", "nearest"), [(1, 1), (3, 4), (5, 4), (6, 8), (7, 8), (8, 8)])
def test_nearest_power_of_two(value: int, nearest: int) -> None:
    assert nearest_power_of_two(value) == nearest


def test_arithmetic_of_a_live_buffer() -> None:
    """Position 225512 of a running trace, with the counters that stood beside it."""
    geometry = Geometry(LAYOUT, 8192, 4)
    position, commit_count = 225512, 53480
    assert geometry.index(position) == 3
    assert geometry.turn(position) == 6
    assert geometry.subbuf_offset(position) == 4328
    assert geometry.commit_base(position) == 49152
    assert geometry.commit_base(position) + geometry.subbuf_offset(position) == commit_count
    assert geometry.commit_count_mask == (1 << 62) - 1


@pytest.mark.parametrize("num_subbuf", [1, 2, 8])
def test_positions_wrap(num_subbuf: int) -> None:
    geometry = Geometry(LAYOUT, 4096, num_subbuf)
    last = (1 << 64) - 1
    assert geometry.subbuf_align(last) == 0
    assert geometry.subbuf_trunc(last) == (1 << 64) - 4096
    assert geometry.index(last) == num_subbuf - 1
    assert geometry.subbuf_align(0) == 4096
    # The counter of the turn after the last one is that of turn 0 under the mask.
    next_turn = geometry.commit_base(last) + geometry.subbuf_size
    assert next_turn & geometry.commit_count_mask == geometry.commit_base(0)
