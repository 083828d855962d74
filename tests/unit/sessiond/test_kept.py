# SPDX-License-Identifier: MIT
"""Which buffers of ended processes are kept."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sessiond.kept import AllKept, KeptTraces
from sessiond.traces import Trace

Every = tuple[AllKept, list[KeptTraces]]


class FakeTrace:
    def __init__(self, number: int, size: int, uid: int) -> None:
        self.number = number
        self.size = size
        self.uid = uid
        self.streams = range(4)


def trace(number: int, size: int, uid: int = 5) -> Trace:
    return cast("Any", FakeTrace(number, size, uid))


@pytest.fixture
def gone() -> list[int]:
    return []


def kept(limit: int, gone: list[int], all_kept: AllKept | None = None) -> KeptTraces:
    return KeptTraces(limit, lambda each: gone.append(cast("Any", each).number), all_kept)


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


@pytest.fixture
def every(gone: list[int]) -> Every:
    """Give two sessions with traces of two users, in turn, 10 bytes and 4 streams each."""
    everywhere = AllKept()
    sessions = [kept(1000, gone, everywhere) for _ in range(2)]
    for number in range(8):
        sessions[number % 2].add(trace(number, 10, 5 if number < 5 else 6))
    return everywhere, sessions


def test_memory_comes_from_the_users_own_in_all_sessions(every: Every, gone: list[int]) -> None:
    everywhere, sessions = every
    assert everywhere.free_memory(5, 25)
    assert gone == [0, 1, 2]
    assert [session.dropped for session in sessions] == [2, 1]
    assert everywhere.free_memory(6, 1)
    assert gone == [0, 1, 2, 5]


def test_nothing_goes_in_vain(every: Every, gone: list[int]) -> None:
    everywhere, _ = every
    assert not everywhere.free_memory(6, 31)
    assert not everywhere.free_memory(7, 1)
    assert gone == []
    assert everywhere.free_memory(6, 30)
    assert gone == [5, 6, 7]


def test_descriptors_come_from_everybody(every: Every, gone: list[int]) -> None:
    everywhere, _ = every
    assert everywhere.free_descriptors(6, 13)
    assert gone == [5, 6, 7, 0]
    assert everywhere.free_descriptors(6, 1000)
    assert gone == [5, 6, 7, 0, 1, 2, 3, 4]
    assert not everywhere.free_descriptors(6, 1)


def test_a_session_that_is_gone_gives_no_room(every: Every, gone: list[int]) -> None:
    everywhere, sessions = every
    sessions[0].close()
    assert everywhere.free_memory(5, 20)
    assert gone == [1, 3]
    assert not everywhere.free_memory(5, 1)
