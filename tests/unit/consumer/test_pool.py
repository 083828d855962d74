# SPDX-License-Identifier: MIT
"""Workers come with a backlog and go with it; streams stay in order, one thread at a time."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator

import pytest
from helpers.rings import TestRing, make_ring

from ustconsumer._native.ring import Ring
from ustconsumer.consumer import pool
from ustconsumer.consumer.pool import Pool, Round

WORKERS = 4


@pytest.fixture
def rings() -> Iterator[list[TestRing]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(make_ring()) for _ in range(2 * WORKERS)]


class Takers:
    """What a sink in Python does, and what must never happen to it."""

    def __init__(self, rings: list[TestRing]) -> None:
        self.made = {made.ring: made for made in rings}
        self.refill = True
        self.threads: set[int] = set()
        self.taken: dict[Ring, list[int]] = {made.ring: [] for made in rings}
        #: how many were in `deliver` at once
        self.peak = 0
        #: how many `deliver` waits for, to have them there at once
        self.meet = 1
        self._inside = 0
        self._busy = {made.ring: threading.Lock() for made in rings}
        self._changed = threading.Condition()

    def deliver(self, ring: Ring, max_bytes: int) -> bool:
        assert self._busy[ring].acquire(blocking=False), "two threads at one writer"
        self.threads.add(threading.get_ident())
        with self._changed:
            self._inside += 1
            self.peak = max(self.peak, self._inside)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.peak >= self.meet, timeout=30)
        assert ring.get_next()
        self.taken[ring].append(ring.mend_held()[3])
        ring.put_next()
        if self.refill:
            self.made[ring].packet(3000 + len(self.taken[ring]))
        with self._changed:
            self._inside -= 1
        self._busy[ring].release()
        return True


def go_round(rings: Pool, takers: Takers) -> Round:
    return rings.round(2_000_000, 1 << 20, 0, 0, takers.deliver)


def grown(rings: list[TestRing], takers: Takers) -> Pool:
    """Return a pool that a backlog has made as large as it may be."""
    made = Pool(WORKERS)
    for each in rings:
        made.add(each.ring)
        each.packet(2000)
    for _ in range(100):
        go_round(made, takers)
    assert made.workers == WORKERS
    return made


def test_a_backlog_brings_workers_and_streams_stay_in_order(rings: list[TestRing]) -> None:
    takers = Takers(rings)
    made = grown(rings, takers)
    takers.peak, takers.meet = 0, WORKERS
    for _ in range(20):
        assert go_round(made, takers).more
    assert takers.peak == WORKERS
    assert len(takers.threads) == WORKERS
    for taken in takers.taken.values():
        assert len(taken) > 20
        assert taken == list(range(len(taken)))
    made.close()


def test_workers_go_when_there_is_no_backlog(
    rings: list[TestRing], monkeypatch: pytest.MonkeyPatch
) -> None:
    takers = Takers(rings)
    before = threading.active_count()
    made = grown(rings, takers)
    assert threading.active_count() > before
    takers.refill = False
    while made.scan():
        go_round(made, takers)
    monkeypatch.setattr(pool, "_QUIET_S", 0.0)
    assert not go_round(made, takers).more
    assert made.workers == 1
    assert threading.active_count() == before
    # And nothing was forgotten on the way.
    for each in rings:
        each.packet(9000)
    while made.scan():
        go_round(made, takers)
    for taken in takers.taken.values():
        assert taken == list(range(len(taken)))


@pytest.mark.parametrize("most", [1, WORKERS])
def test_one_worker_or_one_ring_is_no_thread(rings: list[TestRing], most: int) -> None:
    used = rings if most == 1 else rings[:1]
    takers = Takers(used)
    made = Pool(most)
    for each in used:
        made.add(each.ring)
        each.packet(2000)
    before = threading.active_count()
    for _ in range(50):
        assert go_round(made, takers).more
    assert (made.workers, threading.active_count()) == (1, before)
    assert takers.threads == {threading.get_ident()}


def test_a_watched_word_ends_the_round_of_every_worker(rings: list[TestRing]) -> None:
    takers = Takers(rings)
    made = grown(rings, takers)
    words = bytearray(64)
    made.watch(words, 8)
    assert go_round(made, takers).news
    assert not go_round(made, takers).news
    words[8] = 1
    for taken in takers.taken.values():
        taken.clear()
    assert go_round(made, takers).news
    # Text first: nobody has moved a packet since the word changed.
    assert not any(takers.taken.values())
    made.unwatch(words)
    words.append(0)
    made.close()


def test_what_a_worker_cannot_move_is_reported(rings: list[TestRing]) -> None:
    takers = Takers(rings)
    made = grown(rings, takers)
    broken = rings[3].ring
    with open("/dev/full", "wb", buffering=0) as full, tempfile.TemporaryFile() as file:
        for each in rings:
            each.ring.assign(full.fileno() if each.ring is broken else file.fileno())
        found = go_round(made, takers)
        assert found.stopped == [broken]
        assert found.fill > 0
        made.remove(broken)
        assert go_round(made, takers).stopped == []
    made.close()


def test_what_a_sink_raises_reaches_the_caller_when_all_are_back(rings: list[TestRing]) -> None:
    takers = Takers(rings)
    made = grown(rings, takers)

    def bug(ring: Ring, max_bytes: int) -> bool:
        if ring is rings[5].ring:
            raise ZeroDivisionError
        return takers.deliver(ring, max_bytes)

    with pytest.raises(ZeroDivisionError):
        made.round(50_000_000, 1 << 20, 0, 0, bug)
    made.close()
    assert made.workers == 1
