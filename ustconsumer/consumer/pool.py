# SPDX-License-Identifier: MIT
"""The rings of a session, and the threads that go round them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ustconsumer._native.ring import (
    PUMP_IDLE,
    PUMP_READY,
    PUMP_STOPPED,
    PUMP_TIME,
    PUMP_WORD,
    Ring,
    RingSet,
)

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from typing_extensions import Buffer

__all__ = ["Pool", "Round"]

#: A backlog: a buffer this full and several buffers readable, in so many rounds more than not.
#: The pace alone makes a buffer this full now and then.
_FULL = 0.75
_ROUNDS = 5
#: Threads go after so many seconds without one.
_QUIET_S = 2.0
#: Passes that find nothing: with several workers each stays until the round is over.
_ENDLESS = 1 << 30


class Round(NamedTuple):
    """What a round found.

    ``more``: there may be more to move; ``news``: a watched word changed; ``stopped``: rings
    that could not be moved; ``fill``: largest part of a buffer that was found used.
    """

    more: bool
    news: bool
    stopped: list[Ring]
    fill: float


class Pool:
    """Moves packets with one thread, the caller's, or with several when that is not enough.

    Each worker has rings of its own, and they change hands between rounds only: the packets
    of a stream stay in order, and a writer meets one thread at a time. A round ends when
    all workers are back, so what the caller does between two rounds nobody else does.

    Parameters
    ----------
    most : int
        Workers, the caller among them. With 1, or with one ring, there is no thread.

    Attributes
    ----------
    most : int
        The same; to be changed before the first round.
    """

    def __init__(self, most: int = 1) -> None:
        self.most = max(1, most)
        self._sets = [RingSet()]
        self._home: dict[Ring, RingSet] = {}
        self._watched: list[tuple[Buffer, int]] = []
        self._threads: ThreadPoolExecutor | None = None
        #: Bytes moved when the rings were dealt out last: who is busy is known by what came since.
        self._moved: dict[Ring, int] = {}
        self._pressed = 0
        self._busy = 0.0

    def __len__(self) -> int:
        return len(self._home)

    @property
    def workers(self) -> int:
        """How many go round now."""
        return len(self._sets)

    def add(self, ring: Ring) -> None:
        """Watch a ring; once released it is passed over."""
        home = min(self._sets, key=len)
        home.add(ring)
        self._home[ring] = home

    def remove(self, ring: Ring) -> None:
        """Stop watching a ring."""
        self._home.pop(ring).remove(ring)
        self._moved.pop(ring, None)

    def watch(self, memory: Buffer, offset: int) -> None:
        """Have a round end when this aligned word changes (the length of a metadata log)."""
        for rings in self._sets:
            rings.watch(memory, offset)
        self._watched.append((memory, offset))

    def unwatch(self, memory: Buffer) -> None:
        """Watch no word of this memory any more, and let go of it."""
        for rings in self._sets:
            rings.unwatch(memory)
        self._watched = [each for each in self._watched if each[0] is not memory]

    def scan(self) -> list[Ring]:
        """Return the rings whose next sub-buffer can be read now."""
        return [ring for rings in self._sets for ring in rings.scan()]

    def set_active(self, value: int) -> None:
        """Store ``active_readers`` in every ring, then a full barrier: see `RingSet`."""
        for rings in self._sets:
            rings.set_active(value)

    def round(
        self,
        max_ns: int,
        max_bytes: int,
        pause_ns: int,
        patience: int,
        deliver: Callable[[Ring, int], bool],
    ) -> Round:
        """Move what is readable for a moment.

        Parameters
        ----------
        max_ns, max_bytes, pause_ns, patience : int
            See `RingSet.pump`; per worker.
        deliver : callable
            Moves so many bytes of a ring that has no file, in the thread of its worker;
            returns whether that went well.
        """

        alone = self._threads is None

        def work(rings: RingSet) -> tuple[int, Ring | None, float, bool]:
            deadline = time.monotonic_ns() + max_ns
            left = max_ns
            fullest = 0.0
            delivered = False
            while True:
                reason, ring, fill = rings.pump(left, max_bytes, pause_ns, patience)
                fullest = max(fullest, fill)
                if reason == PUMP_READY and ring is not None and deliver(ring, max_bytes):
                    delivered = True
                    reason, ring = PUMP_TIME, None
                left = deadline - time.monotonic_ns()
                # Who is back early would wait for the others.
                if alone or reason != PUMP_TIME or left <= pause_ns:
                    return reason, ring, fullest, delivered

        if self._threads is None:
            outcomes = [work(self._sets[0])]
        else:
            from concurrent.futures import wait

            patience = _ENDLESS
            ahead = [self._threads.submit(work, rings) for rings in self._sets[1:]]
            try:
                outcomes = [work(self._sets[0])]
            finally:
                # Nobody may be at a ring when we are back, whatever happened.
                wait(ahead)
            outcomes += [each.result() for each in ahead]
        reasons = {outcome[0] for outcome in outcomes}
        stopped = [
            ring
            for reason, ring, _, _ in outcomes
            if ring is not None and reason in (PUMP_READY, PUMP_STOPPED)
        ]
        fill = max(outcome[2] for outcome in outcomes)
        delivered = any(outcome[3] for outcome in outcomes)
        news = PUMP_WORD in reasons
        if self.most > 1 and not news:
            self._resize(PUMP_TIME in reasons and (fill >= _FULL or delivered))
        more = reasons != {PUMP_IDLE} if alone else bool(fill or delivered or news)
        return Round(more, news, stopped, fill)

    def close(self) -> None:
        """End the threads."""
        self._deal(1)

    def _resize(self, full: bool) -> None:
        """Take on workers while there is a backlog, let them go when there was none for long."""
        now = time.monotonic()
        if full and len(self.scan()) > 1:
            self._pressed += 1
            self._busy = now
        else:
            self._pressed = max(self._pressed - 1, 0)
        count = min(2 * len(self._sets), self.most, len(self._home))
        if self._pressed >= _ROUNDS and count > len(self._sets):
            self._deal(count)
        elif len(self._sets) > 1 and now - self._busy > _QUIET_S:
            self._deal(1)

    def _deal(self, count: int) -> None:
        """Give each of so many workers its part of the rings, the busiest ones apart."""
        self._pressed = 0
        if count == 1 and self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        if count > 1 and self._threads is None:
            from concurrent.futures import ThreadPoolExecutor

            self._threads = ThreadPoolExecutor(self.most - 1, "worker")
        if count == len(self._sets):
            return
        self._sets = [RingSet() for _ in range(count)]
        for rings in self._sets:
            for memory, offset in self._watched:
                rings.watch(memory, offset)
        busiest = sorted(self._home, key=lambda ring: self._moved.get(ring, 0) - ring.byte_count)
        for number, ring in enumerate(busiest):
            home = self._sets[number % count]
            home.add(ring)
            self._home[ring] = home
            self._moved[ring] = ring.byte_count
