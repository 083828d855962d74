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


def test_a_buffer_found_full_halves_the_pause_and_it_grows_back() -> None:
    pacer = Pacer(bytes_per_second=1e9, longest_s=1.0)
    pacer.add_buffer(2 << 20)
    ceiling = pacer.pause_s
    pacer.found(0.9)
    assert pacer.pause_s == pytest.approx(ceiling / 2)
    pacer.found(0.4)
    assert pacer.pause_s == pytest.approx(ceiling / 2)
    for _ in range(20):
        pacer.found(0.1)
    assert pacer.pause_s == pytest.approx(ceiling)


@given(st.lists(st.one_of(st.floats(0, 100), st.integers(4096, 1 << 40)), max_size=40))
def test_pauses_stay_within_their_bounds(steps: list[float | int]) -> None:
    pacer = Pacer(shortest_s=20e-6, longest_s=5e-3)
    for step in steps:
        if isinstance(step, int):
            pacer.add_buffer(step)
        else:
            pacer.found(step)
        assert 20e-6 <= pacer.pause_s <= 5e-3
