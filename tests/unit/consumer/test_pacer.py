# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.consumer.pacer import Pacer


def test_the_pause_is_what_half_fills_the_smallest_buffer() -> None:
    pacer = Pacer(bytes_per_second=1e9, longest_s=1.0)
    pacer.add_buffer(8 << 20)
    assert pacer.pause_s == pytest.approx((4 << 20) / 1e9)
    pacer.add_buffer(1 << 20)
    pacer.add_buffer(2 << 20)
    assert pacer.pause_s == pytest.approx((512 << 10) / 1e9)


def test_the_pause_follows_the_fill() -> None:
    pacer = Pacer(bytes_per_second=1e9, longest_s=1.0)
    pacer.add_buffer(2 << 20)
    cautious = pacer.pause_s
    pacer.found(0.9)
    assert pacer.pause_s == pytest.approx(cautious / 2)
    pacer.found(0.6)
    assert pacer.pause_s == pytest.approx(cautious / 2)
    for _ in range(10):
        pacer.found(0.1)
    assert pacer.pause_s > 4 * cautious


def test_after_a_quiet_time_the_pause_is_cautious_again() -> None:
    pacer = Pacer(bytes_per_second=1e9, longest_s=1.0)
    pacer.add_buffer(2 << 20)
    cautious = pacer.pause_s
    for _ in range(10):
        pacer.found(0.1)
    assert pacer.patience > 0
    pacer.found(0.0)
    assert pacer.pause_s == cautious
    assert pacer.patience == 0


@given(st.lists(st.one_of(st.floats(0, 100), st.integers(4096, 1 << 40)), max_size=40))
def test_pauses_stay_within_their_bounds(steps: list[float | int]) -> None:
    pacer = Pacer(shortest_s=20e-6, longest_s=5e-3)
    for step in steps:
        if isinstance(step, int):
            pacer.add_buffer(step)
        else:
            pacer.found(step)
        assert 20e-6 <= pacer.pause_s <= 5e-3


def test_small_buffers_may_get_fuller() -> None:
    small, large = Pacer(), Pacer()
    small.add_buffer(64 << 10)
    large.add_buffer(128 << 10)
    before = small.pause_s, large.pause_s
    for pacer in (small, large):
        pacer.found(0.8)
    assert (small.pause_s, large.pause_s) == (before[0], before[1] / 2)
