# SPDX-License-Identifier: MIT
"""Which buffers of ended processes are kept."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sessiond.kept import KeptTraces
from sessiond.traces import Trace


class FakeTrace:
    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size


def trace(number: int, size: int) -> Trace:
    return cast("Any", FakeTrace(number, size))


@pytest.fixture
def gone() -> list[int]:
    return []


def kept(limit: int, gone: list[int]) -> KeptTraces:
    return KeptTraces(limit, lambda each: gone.append(cast("Any", each).number))


def test_the_newest_up_to_a_limit(gone: list[int]) -> None:
    traces = kept(30, gone)
    for number in range(5):
        traces.add(trace(number, 10))
    assert (gone, traces.dropped, traces.size) == ([0, 1], 2, 30)
    traces.add(trace(5, 25))
    assert (gone, traces.size) == ([0, 1, 2, 3, 4], 25)


def test_the_newest_however_large(gone: list[int]) -> None:
    traces = kept(30, gone)
    traces.add(trace(0, 1000))
    assert not gone
    traces.add(trace(1, 1000))
    assert gone == [0]


def test_no_more_than_there_are_descriptors_for(gone: list[int]) -> None:
    traces = kept(1 << 40, gone)
    for number in range(300):
        traces.add(trace(number, 1))
    assert gone == list(range(300 - 256))


def test_making_room(gone: list[int]) -> None:
    traces = kept(30, gone)
    assert not traces.make_room()
    traces.add(trace(0, 1))
    traces.add(trace(1, 1))
    assert traces.make_room()
    assert (gone, traces.dropped) == ([0], 1)
