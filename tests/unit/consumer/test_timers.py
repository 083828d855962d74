# SPDX-License-Identifier: MIT
"""Timers against a clock that the test sets."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.consumer.timers import Timers


def test_without_timers_nothing_is_ever_due() -> None:
    timers: Timers[str] = Timers()
    timers.add("a", 0, 0, 100.0)
    assert timers.wait_s(1e9) == math.inf
    assert list(timers.due(1e9)) == []


def test_each_period_has_its_own_time() -> None:
    timers: Timers[str] = Timers()
    timers.add("fast", 100_000, 0, 10.0)
    timers.add("slow", 250_000, 0, 10.0)
    assert timers.wait_s(10.0) == 0.1 or math.isclose(timers.wait_s(10.0), 0.1)
    assert list(timers.due(10.09)) == []
    assert list(timers.due(10.11)) == ["fast"]
    assert list(timers.due(10.11)) == []
    assert list(timers.due(10.26)) == ["fast", "slow"]


def test_a_read_timer_wakes_up_and_switches_nothing() -> None:
    timers: Timers[str] = Timers()
    timers.add("a", 0, 200_000, 10.0)
    assert math.isclose(timers.wait_s(10.0), 0.2)
    assert timers.wait_s(10.5) == 0.0
    assert list(timers.due(10.5)) == []
    assert timers.wait_s(10.5) <= 0.2


def test_what_was_missed_is_not_made_up_for() -> None:
    timers: Timers[str] = Timers()
    timers.add("a", 1_000, 0, 0.0)
    assert list(timers.due(60.0)) == ["a"]
    assert len([key for _ in range(10) for key in timers.due(60.0)]) <= 1


def test_a_key_that_is_removed_is_forgotten() -> None:
    timers: Timers[str] = Timers()
    timers.add("a", 1000, 2000, 0.0)
    timers.add("b", 1000, 0, 0.0)
    timers.remove("a")
    assert list(timers.due(1.0)) == ["b"]
    timers.remove("b")
    assert timers.wait_s(2.0) == math.inf


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=5), st.integers(1, 200))
def test_over_time_each_is_switched_as_often_as_its_period_says(
    periods: list[int], steps: int
) -> None:
    timers: Timers[int] = Timers()
    for number, period in enumerate(periods):
        timers.add(number, period, 0, 0.0)
    now = 0.0
    switched = dict.fromkeys(range(len(periods)), 0)
    for _ in range(steps):
        # Never late: sleeping as long as it says.
        now += timers.wait_s(now)
        for number in timers.due(now):
            switched[number] += 1
    for number, period in enumerate(periods):
        assert abs(switched[number] - now * 1e6 / period) <= 1.01
