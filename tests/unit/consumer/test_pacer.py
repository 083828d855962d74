# SPDX-License-Identifier: MIT
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.consumer.pacer import Pacer


def test_a_steady_rate_settles_at_the_target() -> None:
    pacer = Pacer(target=0.25, longest_s=1.0)
    rate = 100.0  # buffers per second
    elapsed = 0.0001
    for _ in range(50):
        elapsed = max(pacer.pause(rate * elapsed, elapsed), 1e-6)
    assert abs(rate * elapsed - 0.25) < 0.01


def test_a_burst_shrinks_the_pause_at_once() -> None:
    pacer = Pacer(target=0.25, longest_s=1.0)
    assert pacer.pause(1.0, 0.01) <= 0.0025


def test_an_empty_pass_does_not_pause() -> None:
    assert Pacer().pause(0.0, 0.01) == 0.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), max_size=30))
def test_pauses_stay_within_their_bound(passes: list[tuple[float, float]]) -> None:
    pacer = Pacer(longest_s=0.02)
    for fill, elapsed in passes:
        assert 0.0 <= pacer.pause(fill, elapsed) <= 0.02
