# SPDX-License-Identifier: MIT
"""The registry at work: everything put together under one loop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable

from sessiond.access import Access
from sessiond.actions import Actions, Listeners
from sessiond.agents import Agents
from sessiond.applications import Application
from sessiond.channelverbs import ChannelVerbs
from sessiond.clients import Clients
from sessiond.consumers import Consumers
from sessiond.control import Control
from sessiond.doorman import Doorman
from sessiond.holes import HoleJudge
from sessiond.kept import AllKept
from sessiond.links import COMMAND_SECONDS, CommandLink, NotifyLink
from sessiond.liveverbs import LiveVerbs
from sessiond.notifiers import Notifiers
from sessiond.notify import answer
from sessiond.quota import Limits, QuotaError, Quotas
from sessiond.readingverbs import ReadingVerbs
from sessiond.reconcile import Reconciler
from sessiond.recording import Recording
from sessiond.registry import Registry, Session
from sessiond.rotationverbs import RotationVerbs
from sessiond.snapshots import Snapshots
from sessiond.sockets import Peer, close_all
from sessiond.spawner import Program, Spawner
from sessiond.triggering import TriggerVerbs
from sessiond.triggers import Trigger, Triggers
from sessiond.whynot import reasons
from ustconsumer.errors import UstConsumerError
from ustconsumer.protocol.control import AppInfo, LoggingProgram

__all__ = ["Daemon"]

_log = logging.getLogger("sessiond")

_GOODBYE_SECONDS = 5.0


class Daemon:
    """One registry.

    Parameters
    ----------
    access : Access
    apps, control : socket.socket
        Listening sockets.
    spawner : Spawner
    rundir : str
    limits : Limits, optional
        What one uid may have.
    """

    def __init__(
        self,
        access: Access,
        apps: socket.socket,
        control: socket.socket,
        spawner: Spawner,
        rundir: str,
        limits: Limits | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.registry = Registry()
        self.quotas = Quotas(limits, self._try_again)
        self.access = access
        self._loop = loop
        self._kept = AllKept()
        self._recordings: dict[str, Recording] = {}
        self._applications: dict[tuple[int, bool], Application] = {}
        self._tasks: dict[Application, asyncio.Task[None]] = {}
        self._ending = asyncio.Event()
        self._main: asyncio.Task[None] | None = None
        self.triggers = Triggers()
        self.listeners = Listeners()
        self._actions = Actions(self.listeners, lambda uid, info: self._control.act(uid, info))
        self._notifiers = Notifiers(loop, self.triggers, self._watches, self._actions.fired)
        self._reconciler = Reconciler(self.registry, self.recording, self._joins, self._notifiers)
        self._consumers = Consumers(loop, spawner)
        self.agents = Agents(
            lambda: self.registry,
            lambda uid, session: access.may_join(uid, session.uid, session.owner_is_tracer),
            access.may_register,
        )
        self.snapshots = Snapshots(self.recording, self._consumers.run)
        self._control = Control(self)
        self._doorman = Doorman(loop, apps, self._admit, self._no_room, self._is_registered)
        self._holes = HoleJudge(loop, lambda: list(self._applications.values()))
        self._clients = Clients(
            loop,
            control,
            rundir,
            {
                **self._control.handlers(),
                **ChannelVerbs(self).handlers(),
                **LiveVerbs(self).handlers(),
                **ReadingVerbs(self).handlers(),
                **RotationVerbs(self).handlers(),
                **TriggerVerbs(self).handlers(),
            },
            access.may_control,
            self._holes.found,
        )

    async def run(self, lifeline: int = -1, stopping: Callable[[], None] = lambda: None) -> None:
        """Serve until a signal, `shutdown`, or the end of the lifeline; then finish in order.

        ``stopping`` is called in between.

        Raises
        ------
        CancelledError
            A second signal came meanwhile.
        """
        self._main = asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal)
        if lifeline >= 0:
            os.set_blocking(lifeline, False)
            self._loop.add_reader(lifeline, self._on_lifeline, lifeline)
        await self._ending.wait()
        stopping()
        await self._finish()

    # -- what the verbs need -----------------------------------------------------------

    def recording(self, session: Session) -> Recording:
        return self._recordings[session.id]

    def open(self, session: Session) -> None:
        self.quotas.take("sessions", session.uid)
        try:
            self._recordings[session.id] = Recording(session, self.quotas, self._kept)
        except BaseException:
            self.quotas.give_back("sessions", session.uid)
            raise

    def discard(self, session: Session) -> None:
        self._recordings.pop(session.id).close()
        self.quotas.give_back("sessions", session.uid)
        for app in self._applications.values():
            app.problems.pop(session.id, None)
        self._try_again()

    async def settle(self, session: Session) -> list[str]:
        concerned = [app for app in self._applications.values() if self._concerns(app, session)]
        lines = await self._settle(concerned)
        for app in concerned:
            problem = app.problem_with(session)
            if problem:
                lines.append(f"application {app}: {problem}")
            lines += [f"application {app}: {line}" for line in app.remarks_on(session)]
        return [*lines, *await self.agents.align(session)]

    async def settle_trigger(self, trigger: Trigger) -> list[str]:
        return await self._settle(
            [app for app in self._applications.values() if self._watches(app, trigger)]
        )

    async def _settle(self, concerned: list[Application]) -> list[str]:
        """Have applications follow the last change; return those that did not, in a line."""
        revision = self.registry.changed()
        for app in concerned:
            app.wake.set()
        waiting = [asyncio.ensure_future(app.wait_settled(revision)) for app in concerned]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=COMMAND_SECONDS)
            for task in late:
                task.cancel()
        return [
            f"application {app} {app.delay()}"
            for app in concerned
            if not app.gone and app.settled < revision
        ]

    def slow(self, session: Session) -> list[str]:
        return [
            f"application {app} {app.delay()}"
            for app in self._applications.values()
            if self._concerns(app, session) and (app.overdue or app.stopped())
        ]

    def applications(self, seen: Callable[[Session], bool] = lambda session: True) -> list[AppInfo]:
        sessions = [session for session in self.registry if seen(session)]
        registered = [
            app.info(reasons(app, sessions, self._may_join), seen)
            for app in self._applications.values()
        ]
        return [*registered, *self._doorman.refused()]

    async def loggers(self, uid: int) -> list[LoggingProgram]:
        return await self.agents.programs(lambda owner: self.access.may_see(uid, owner))

    async def start_consumer(self, recording: Recording, program: Program) -> None:
        await self._consumers.start(recording, program)

    def shutdown(self) -> None:
        self._ending.set()

    # -- applications ------------------------------------------------------------------

    def _joins(self, app: Application, session: Session) -> bool:
        return self._may_join(app, session) and not session.untracked(app.program)

    def _may_join(self, app: Application, session: Session) -> bool:
        return self.access.may_join(app.peer.uid, session.uid, session.owner_is_tracer)

    def _watches(self, app: Application, trigger: Trigger) -> bool:
        return self.access.may_join(app.peer.uid, trigger.uid, trigger.owner_is_tracer)

    def _concerns(self, app: Application, session: Session) -> bool:
        return session.id in app.sessions or self._joins(app, session)

    def _is_registered(self, peer: Peer) -> bool:
        return not self._applications.keys().isdisjoint(((peer.key, False), (peer.key, True)))

    def _no_room(self, peer: Peer) -> str:
        """Return why a uid may not have another application, empty if it may."""
        if not self.access.may_be_traced(peer.uid):
            return f"it is of uid {peer.uid}, and the registry takes its own user's and root's"
        if self._is_registered(peer):
            return ""
        try:
            self.quotas.take("applications", peer.uid)
        except QuotaError as error:
            return str(error)
        self.quotas.give_back("applications", peer.uid)
        return ""

    def _admit(self, app: Application, command: socket.socket, notify: socket.socket) -> None:
        if app.key in self._applications:
            # It registered again before we saw the end of its old sockets.
            self._dismiss(self._applications[app.key], "")
        self.quotas.take("applications", app.peer.uid)

        def ended(reason: str) -> None:
            self._dismiss(app, reason)

        app.command = CommandLink(self._loop, command, ended, app.slow)
        app.notify = NotifyLink(
            self._loop,
            notify,
            app.registration.major,
            lambda request: answer(app, request),
            ended,
        )
        self._applications[app.key] = app
        self._loop.add_reader(app.pidfd, self._dismiss, app, "")
        task = self._tasks[app] = self._loop.create_task(self._reconciler.serve(app))
        task.add_done_callback(lambda done: self._served(app, done))
        _log.info("application %s of uid %d registers", app, app.peer.uid)

    def _served(self, app: Application, task: asyncio.Task[None]) -> None:
        if task.cancelled() or app.gone:
            return
        error = task.exception()
        if isinstance(error, UstConsumerError):
            self._dismiss(app, str(error))
        elif isinstance(error, OSError):
            # No descriptor for its set-up.
            reason = f"the registry cannot serve it: {error.strerror}"
            self._doorman.refuse(app, reason)
            self._dismiss(app, reason)
        elif error is not None:
            _log.error("application %s: internal error", app, exc_info=error)
            self._dismiss(app, "internal error")

    def _dismiss(self, app: Application, reason: str) -> None:
        """Close the sockets of an application; a living one registers again."""
        if app.gone:
            return
        if reason:
            _log.warning("application %s closed: %s", app, reason)
        else:
            _log.info("application %s is gone", app)
        app.leave()
        self._notifiers.forget(app)
        self.quotas.give_back("applications", app.peer.uid)
        if self._applications.get(app.key) is app:
            del self._applications[app.key]
        self._loop.remove_reader(app.pidfd)
        app.command.close()
        app.notify.close()
        close_all([app.pidfd])
        self._tasks.pop(app).cancel()
        for session in self.registry:
            if session.buffers == "pid":
                self._recordings[session.id].process_gone(app.owner("pid"))
        self._try_again()

    def _try_again(self) -> None:
        """Something was given back: there may be room now for what could not be made."""
        for app in self._applications.values():
            if app.problems:
                app.wake.set()

    # -- the end ---------------------------------------------------------------------

    def _on_signal(self) -> None:
        if self._ending.is_set():
            _log.warning("second signal: exit at once")
            assert self._main is not None
            self._main.cancel()
        self._ending.set()

    def _on_lifeline(self, fd: int) -> None:
        try:
            if os.read(fd, 4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._loop.remove_reader(fd)
        self._ending.set()

    async def _finish(self) -> None:
        """Drain and close: what was recorded is on disk before we go."""
        self._doorman.close()
        self.agents.close()
        self._clients.stop_listening()
        self._notifiers.close()
        await self._actions.close()
        finished = (self._control.finish_if_active(session) for session in self.registry)
        for lines in await asyncio.gather(*finished):
            for line in lines:
                _log.warning("%s", line)
        released = []
        for session in self.registry:
            recording = self._recordings[session.id]
            if recording.lease is not None:
                released.append(asyncio.ensure_future(recording.wait_released()))
            session.state = "destroyed"
            recording.close()
        if released:
            await asyncio.wait(released, timeout=_GOODBYE_SECONDS)
        for app in tuple(self._applications.values()):
            self._dismiss(app, "")
        self._clients.close()
        self._consumers.close()
