# SPDX-License-Identifier: MIT
"""Whether a hole in a buffer was left by a dead process: only then it may be repaired.

A hole may be filled by whoever reserved it, if that process lives. Registered ones are
asked to wait until each of their threads has been outside of the tracer once; others
that have the memory cannot be asked.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable

from sessiond.applications import Application
from sessiond.links import CommandRefusedError
from sessiond.recording import Recording
from sessiond.subscription import Subscription
from sessiond.traces import Stream, Trace
from ustconsumer.errors import BrokenResourceError, RemoteProtocolError
from ustconsumer.mappers import writers_of
from ustconsumer.protocol import application as codec
from ustconsumer.protocol.control import HoleFound, HoleVerdict

__all__ = ["HoleJudge"]

_log = logging.getLogger("sessiond")

#: Seconds in which every application must answer: as long as one waits for us.
_ANSWER_SECONDS = 3.0


class HoleJudge:
    """Judges the holes that consumers find.

    Parameters
    ----------
    applications : callable
        Returns the registered applications.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, applications: Callable[[], Iterable[Application]]
    ) -> None:
        self._loop = loop
        self._applications = applications
        self._judging: dict[tuple[Subscription, int], asyncio.Task[HoleVerdict]] = {}
        #: The question an application is answering, and the one that comes after it.
        self._answering: dict[Application, asyncio.Task[bool]] = {}
        self._waiting: dict[Application, asyncio.Task[bool]] = {}

    def found(self, recording: Recording, subscription: Subscription, message: HoleFound) -> None:
        """Find out who may still commit, then push the verdict."""
        key = subscription, message.stream
        if key not in self._judging:
            judging = self._loop.create_task(self._judge(recording, subscription, message))
            self._judging[key] = judging
            judging.add_done_callback(lambda done: self._judged(key, done))

    def _judged(self, key: tuple[Subscription, int], done: asyncio.Task[HoleVerdict]) -> None:
        # Before the verdict is out: who has it may ask again at once, and must not be
        # taken for one who asks a second time about the same.
        del self._judging[key]
        if done.cancelled():
            return
        if done.exception() is not None:
            _log.error("judging a hole: internal error", exc_info=done.exception())
            return
        subscription, _ = key
        subscription.push_verdict(done.result())

    async def _judge(
        self, recording: Recording, subscription: Subscription, message: HoleFound
    ) -> HoleVerdict:
        description = None
        trace, stream = _find(recording, message.stream)
        if trace is None or stream is None or not subscription.consume:
            reason = "the stream is nobody's"
        else:
            reason = await self._who_may_write(trace, stream, subscription)
            recording.hold(stream, message.position, reason)
            if not reason:
                description = trace.description()
        return HoleVerdict(
            stream=message.stream,
            position=message.position,
            produced=message.produced,
            reason=reason,
            description=description,
        )

    async def _who_may_write(self, trace: Trace, stream: Stream, reader: Subscription) -> str:
        """Return why the hole must be left alone, empty if nobody may fill it."""
        if trace.hidden_writers:
            return "programs of another pid namespace write, and not all of them can be seen"
        # Whoever registers from now on begins behind what was produced.
        asked = {app: self._ask(app) for app in self._writers(trace)}
        if asked:
            await asyncio.wait(asked.values(), timeout=_ANSWER_SECONDS)
        for app, answer in asked.items():
            if not answer.done():
                return f"application {app} has not answered: it may still write"
        try:
            fd = os.dup(stream.fd)
        except OSError as error:
            return f"nobody knows who writes: {error.strerror}"
        try:
            found = await asyncio.to_thread(writers_of, [fd])
        finally:
            os.close(fd)
        known = {app.peer.pid for app in self._writers(trace)}
        known -= {app.peer.pid for app, answer in asked.items() if not answer.result()}
        known |= {os.getpid(), reader.peer.pid}
        for pid in sorted(set().union(*found.values()) - known):
            return f"{_name_of(pid)} (pid {pid}) writes without being registered"
        return ""

    def _writers(self, trace: Trace) -> list[Application]:
        """Return the living applications that have, or are being given, these buffers."""
        return [
            app
            for app in self._applications()
            if not app.gone and any(entry.trace is trace for entry in app.sessions.values())
        ]

    # -- one question at a time --------------------------------------------------------

    def _ask(self, app: Application) -> asyncio.Task[bool]:
        """Put a question to an application from now on; return whether it has answered.

        The one it is answering does not count, and is not taken back either: its answer
        will come, and must find who waits for it.
        """
        if app in self._waiting:
            return self._waiting[app]
        before = self._answering.get(app)
        task = self._loop.create_task(self._question(app, before))
        if before is not None:
            self._waiting[app] = task
        else:
            self._answering[app] = task
        task.add_done_callback(lambda done: self._answered(app, done))
        return task

    async def _question(self, app: Application, before: asyncio.Task[bool] | None) -> bool:
        if before is not None:
            task = self._waiting[app]
            await asyncio.wait([before])
            del self._waiting[app]
            self._answering[app] = task
        try:
            await app.command.run(codec.wait_quiescent())
        except (BrokenResourceError, RemoteProtocolError):
            # Its socket is gone. If its process is not, it shows among those that write.
            return False
        except CommandRefusedError as error:
            _log.warning("application %s: %s", app, error)
            return False
        return True

    def _answered(self, app: Application, done: asyncio.Task[bool]) -> None:
        if self._answering.get(app) is done:
            del self._answering[app]


def _find(recording: Recording, number: int) -> tuple[Trace | None, Stream | None]:
    for trace in recording.traces.values():
        for stream in trace.streams:
            if stream.id == number:
                return trace, stream
    return None, None


def _name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return repr(file.read().decode(errors="replace").rstrip("\n"))
    except OSError:
        return "a process"
