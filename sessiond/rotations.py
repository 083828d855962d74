# SPDX-License-Identifier: MIT
"""Rotations of one session: its trace chunks, and when it is rotated by itself."""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from sessiond.registry import Session
from sessiond.subscription import Subscription
from sessiond.traces import Trace
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import Clear, Rotate, RotationSchedule

__all__ = ["Chunk", "Rotations"]

_log = logging.getLogger("sessiond")

#: A consumer answers within seconds, unless its disk stalls; its successor is asked again.
_ANSWER_SECONDS = 60.0
#: How long `rotate` waits before it says that it goes on.
_WAIT_SECONDS = 30.0
#: Between two looks at the size of a chunk.
_SAMPLE_SECONDS = 1.0
_WORD = 1 << 64


@dataclass(frozen=True)
class Chunk:
    """A trace chunk.

    Attributes
    ----------
    number : int
        0 for the first.
    began : datetime
    directory : str
        Below the output; empty for the first, which is directly there.
    """

    number: int = 0
    began: datetime.datetime = field(default_factory=lambda: _now())
    directory: str = ""

    def following(self, now: datetime.datetime) -> Chunk:
        """Return the chunk behind it."""
        return Chunk(self.number + 1, now, f"{_stamp(now)}-{self.number + 1}")

    def archive(self, now: datetime.datetime) -> str:
        """Return its directory when it is complete."""
        return f"archives/{_stamp(self.began)}-{_stamp(now)}-{self.number}"


class Readers(Protocol):
    """What rotations need of the live side of a session."""

    lease: Subscription | None
    traces: dict[tuple[int, int], Trace]

    async def wait_lease(self) -> None:
        """Wait until a consumer holds the lease."""


class Rotations:
    """The chunks of a session.

    Parameters
    ----------
    session : Session
    readers : Readers
        Whose consumer carries rotations out.

    Attributes
    ----------
    chunk : Chunk
        That is written.
    under_way : Chunk or None
        The next one, while a rotation is not complete.
    archived : int
        Chunks that are complete.
    schedule : RotationSchedule
    problems : list of str
        Of rotations that nobody waited for, one line each.
    """

    def __init__(self, session: Session, readers: Readers) -> None:
        self._session = session
        self._readers = readers
        self.chunk = Chunk()
        self.under_way: Chunk | None = None
        self.archived = 0
        self.schedule = RotationSchedule()
        self.problems: list[str] = []
        #: at a relay, of the chunk that was archived last
        self._place = ""
        self._task: asyncio.Task[str] | None = None
        self._scheduler: asyncio.Task[None] | None = None
        #: nothing was recorded since the last rotation
        self._idle = False
        self._consumed = 0

    def started(self, first: bool) -> None:
        """Note that the session records, for the first time or again."""
        if first:
            self.chunk = Chunk()
        self._idle = False

    async def rotate(self, wait: bool = True) -> tuple[str, bool]:
        """Rotate; return the archive's directory, and whether it is complete.

        Raises
        ------
        CommandError
            It cannot be rotated now.
        """
        session, now = self._session, _now()
        self._check()
        archive = self.chunk.archive(now)
        self.under_way = self.chunk.following(now)
        # Nothing more comes from a session that is stopped.
        self._idle = session.state == "inactive"
        self._consumed = self._position()
        self._task = asyncio.ensure_future(self._carry_out(self.under_way, archive))
        path = self._path(archive)
        if not wait:
            return path, False
        done, _ = await asyncio.wait([self._task], timeout=_WAIT_SECONDS)
        if not done:
            return path, False
        if problem := self._task.result():
            raise CommandError(problem)
        return self._place or path, True

    async def archive_last(self) -> list[str]:
        """Move the last chunk to the others, at the end of a session that was rotated."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_WAIT_SECONDS)
        if not self.chunk.directory or self.under_way is not None:
            return []
        lease = self._readers.lease
        if lease is None:
            return ["the last chunk is not in the archives: there is no consumer to move it"]
        archive = self.chunk.archive(_now())
        problem = await lease.ask(
            lambda token: Rotate(token=token, following="", archive=archive), _ANSWER_SECONDS
        )
        if problem == "":
            self.archived += 1
        return [problem] if problem else []

    async def clear(self) -> None:
        """Forget what was recorded.

        Raises
        ------
        CommandError
            The consumer could not.
        """
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_WAIT_SECONDS)
        session, lease = self._session, self._readers.lease
        self._check_relay()
        if lease is not None:
            # As LTTng counts: what was cleared was a chunk.
            following = Chunk(self.chunk.number + 1, _now(), self.chunk.directory)
            if session.destination.url:
                problem = await lease.ask(
                    lambda token: _message(token, following, "", delete=True), _ANSWER_SECONDS
                )
            else:
                problem = await lease.ask(lambda token: Clear(token=token), _ANSWER_SECONDS)
            if problem is None:
                raise CommandError(f"the consumer (pid {lease.peer.pid}) does not answer")
            if problem:
                raise CommandError(problem)
            self.chunk = following
            self._consumed = self._position()
            return
        if session.destination.url and session.started:
            raise CommandError(
                f"session {session.name} has no consumer, which clears what the relay has: start "
                "one (`drtrace consume`)"
            )
        for trace in tuple(self._readers.traces.values()):
            if not trace.closed:
                with trace.kept():
                    await asyncio.to_thread(trace.clear)

    # -- schedules ---------------------------------------------------------------------

    def enable(self, wanted: RotationSchedule, rotate: Callable[[], Awaitable[object]]) -> None:
        """Add a schedule.

        Parameters
        ----------
        rotate : callable
            Rotates as a user would.

        Raises
        ------
        CommandError
            There is one of the kind.
        """
        self._check_chunks()
        now = self.schedule
        for kind, there, asked in (
            ("periodic rotation schedule is", now.timer_us, wanted.timer_us),
            ("size-based rotation schedule is", now.size, wanted.size),
        ):
            if there and asked:
                raise CommandError(f"A {kind} already set on session {self._session.name}")
        self.schedule = RotationSchedule(
            timer_us=wanted.timer_us or now.timer_us, size=wanted.size or now.size
        )
        self._consumed = self._position()
        self._restart(rotate)

    def disable(self, timer: bool, size: bool, rotate: Callable[[], Awaitable[object]]) -> None:
        """Remove schedules.

        Raises
        ------
        CommandError
            There is none of the kind.
        """
        now = self.schedule
        for kind, there, asked in (
            ("periodic", now.timer_us, timer),
            ("size-based", now.size, size),
        ):
            if asked and not there:
                raise CommandError(
                    f"No {kind} rotation schedule active on session {self._session.name}"
                )
        self.schedule = RotationSchedule(
            timer_us=0 if timer else now.timer_us, size=0 if size else now.size
        )
        self._restart(rotate)

    def close(self) -> None:
        """Rotate no more."""
        for task in (self._scheduler, self._task):
            if task is not None:
                task.cancel()

    def _restart(self, rotate: Callable[[], Awaitable[object]]) -> None:
        if self._scheduler is not None:
            self._scheduler.cancel()
            self._scheduler = None
        if self.schedule != RotationSchedule():
            self._scheduler = asyncio.ensure_future(self._run(self.schedule, rotate))

    async def _run(
        self, schedule: RotationSchedule, rotate: Callable[[], Awaitable[object]]
    ) -> None:
        loop = asyncio.get_running_loop()
        period = schedule.timer_us / 1e6
        due = loop.time() + period
        while True:
            pause = _SAMPLE_SECONDS if schedule.size else period
            if period:
                pause = max(min(pause, due - loop.time()), 0.0)
            await asyncio.sleep(pause)
            late = period and loop.time() >= due
            if late:
                # From now, not from when it was due: what was missed is not made up for.
                due = loop.time() + period
            if not late and not (schedule.size and self._grown() >= schedule.size):
                continue
            if self._session.state != "active" or self.under_way is not None:
                continue
            try:
                await rotate()
            except CommandError as error:
                line = f"not rotated: {error}"
                if line not in self.problems:
                    self.problems.append(line)
                _log.warning("session %s: %s", self._session.name, line)

    def _grown(self) -> int:
        """Return how many bytes the chunk has."""
        return (self._position() - self._consumed) % _WORD

    def _position(self) -> int:
        """Return the sum of what was consumed of the buffers there are."""
        return sum(
            stream.info("").consumed
            for trace in self._readers.traces.values()
            for stream in trace.streams
        )

    # -- one rotation ------------------------------------------------------------------

    def _check(self) -> None:
        session = self._session
        if not session.started:
            raise CommandError(f"session {session.name} was never started: nothing to rotate")
        self._check_chunks()
        if self.under_way is not None:
            raise CommandError(f"session {session.name} is being rotated: wait for that", "busy")
        if self._idle:
            raise CommandError("Session was already rotated once since it became inactive")
        if self._readers.lease is None:
            raise CommandError(
                f"session {session.name} has no consumer, which rotates it: start one "
                "(`drtrace consume`)"
            )

    def _check_chunks(self) -> None:
        if self._session.snapshot:
            raise CommandError(
                f"session {self._session.name} is in snapshot mode: it has no chunks of its own"
            )
        self._check_relay()

    def _check_relay(self) -> None:
        session = self._session
        if session.destination.live_us:
            raise CommandError(
                f"session {session.name} is live: its viewers read one chunk, which cannot be "
                "rotated or cleared"
            )
        if session.destination.url and session.output:
            raise CommandError(
                f"session {session.name} is sent to a relay and written to files: only sessions "
                "with one of them can be rotated or cleared"
            )

    def _path(self, archive: str) -> str:
        """Return where an archive will be; empty while only a relay knows."""
        return "" if self._session.destination.url else os.path.join(self._session.output, archive)

    async def _carry_out(self, following: Chunk, archive: str) -> str:
        """Have the consumer rotate, or the one after it; return what was wrong."""
        problem = None
        while problem is None:
            await self._readers.wait_lease()
            lease = self._readers.lease
            if lease is not None:
                problem = await lease.ask(
                    lambda token: _message(token, following, archive), _ANSWER_SECONDS
                )
                self._place = lease.place
        self.under_way = None
        # Files go on in the next one whether or not the old one could be moved.
        if not (problem and self._session.destination.url):
            self.chunk = following
        if not problem:
            self.archived += 1
        return problem


def _message(token: int, following: Chunk, archive: str, *, delete: bool = False) -> Rotate:
    return Rotate(
        token=token,
        following=following.directory,
        archive=archive,
        number=following.number,
        began=int(following.began.timestamp()),
        delete=delete,
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now().astimezone().replace(microsecond=0)


def _stamp(when: datetime.datetime) -> str:
    return when.strftime("%Y%m%dT%H%M%S%z")
