# SPDX-License-Identifier: MIT
"""Bringing applications in line with the sessions: one task for each.

A verb only changes the desired state. The task of each application compares that with
what the application has, sends one command, and looks again, until there is no
difference: so it may be interrupted anywhere, and a program that was stopped for a
while ends up right by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping

from sessiond.applications import AppChannel, Application, AppRule, AppSession
from sessiond.links import CommandRefusedError
from sessiond.notifiers import Notifiers
from sessiond.quota import QuotaError
from sessiond.recording import Recording
from sessiond.registry import Channel, Registry, Rule, Session
from ustconsumer.abi.ring import compatible
from ustconsumer.errors import BrokenResourceError, RemoteProtocolError, RingBufferError
from ustconsumer.protocol import application as codec
from ustconsumer.protocol.contexts import parse_context

__all__ = ["Reconciler"]

_log = logging.getLogger("sessiond")

#: ``main`` of a program waits 3 s for REGISTER_DONE. Most of that is for the set-up of
#: active sessions; if it is not enough, the rest goes on behind the running program.
_SETUP_SECONDS = 2.5
#: Programs that are set up at a time: when hundreds start together, those that came first
#: are ready in time; all at once would mean none is. One that does not answer gives its
#: turn away after a moment.
_TURNS = 16
_TURN_SECONDS = 0.25


class _Changed(Exception):  # noqa: N818 (no error: look again)
    """What was being set up is no longer wanted."""


class Reconciler:
    """Keeps applications in line with the registry.

    Parameters
    ----------
    recording_of : callable
        The live side of a session.
    joins : callable
        Whether an application belongs into a session.
    notifiers : Notifiers, optional
        Keeps them in line with the triggers.
    """

    def __init__(
        self,
        registry: Registry,
        recording_of: Callable[[Session], Recording],
        joins: Callable[[Application, Session], bool],
        notifiers: Notifiers | None = None,
    ) -> None:
        self._notifiers = notifiers
        self._registry = registry
        self._recording_of = recording_of
        self._joins = joins
        self._turns = asyncio.Semaphore(_TURNS)

    async def serve(self, app: Application) -> None:
        """Register an application and keep it in line for the rest of its life.

        Raises
        ------
        CommandRefusedError
            It refuses what every application can do.
        """
        early: asyncio.Task[None] | None = None
        try:
            app.tracer = codec.reply_version(await app.command.run(codec.tracer_version()))
            early = asyncio.ensure_future(self._done_early(app))
            async with self._turn():
                await self._align(app)
            await self._done(app)
            while True:
                app.wake.clear()
                revision = self._registry.revision
                await self._align(app)
                app.settle(revision)
                await app.wake.wait()
        except (BrokenResourceError, RemoteProtocolError):
            return  # the link has said why
        finally:
            if early is not None:
                early.cancel()
            if not app.asked_done:
                self._note_early(app)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until it is our turn, first come, first served."""
        await self._turns.acquire()
        given = False

        def give_away() -> None:
            nonlocal given
            if not given:
                given = True
                self._turns.release()

        timer = asyncio.get_running_loop().call_later(_TURN_SECONDS, give_away)
        try:
            yield
        finally:
            timer.cancel()
            give_away()

    async def _done_early(self, app: Application) -> None:
        await asyncio.sleep(_SETUP_SECONDS)
        try:
            if not app.asked_done:
                self._note_early(app)
            await self._done(app)
        except (BrokenResourceError, RemoteProtocolError, CommandRefusedError):
            return  # `serve` meets the same

    def _note_early(self, app: Application) -> None:
        """Note for every session that should have recorded it that its ``main`` did not wait."""
        for session in self._registry:
            entry = app.sessions.get(session.id)
            if session.state != "active" or not self._joins(app, session):
                continue
            if not (entry and entry.active) and not app.problem_with(session):
                self._recording_of(session).note_early(str(app))

    async def _done(self, app: Application) -> None:
        if not app.asked_done:
            app.asked_done = True
            await app.command.run(codec.register_done())
            app.done = True
            app.done_since = time.monotonic()

    async def _align(self, app: Application) -> None:
        """Send commands until there is no difference."""
        for entry in tuple(app.sessions.values()):
            if entry.session.state == "destroyed":
                await self._release(app, entry)
        for session in self._registry:
            try:
                await self._align_session(app, session)
            except _Changed:
                # The verb that changed it has set `wake`: the next round sees the rest.
                continue
        if self._notifiers is not None:
            # After the sessions: what a trigger is to have recorded is being recorded then.
            await self._notifiers.align(app)

    async def _align_session(self, app: Application, session: Session) -> None:
        entry = app.sessions.get(session.id)
        if session.state == "active":
            if entry is not None:
                entry.quiet = False
            if entry is None and self._joins(app, session):
                entry = await self._create(app, session)
            while entry is not None and not entry.problem:
                if not self._joins(app, session):
                    # A tracker leaves it out; it keeps its buffers, and may be back.
                    await self._deactivate(app, entry)
                    return
                try:
                    await self._equip(app, entry)
                    await self._activate(app, entry)
                    return
                except CommandRefusedError as error:
                    entry = await self._do_without(app, entry, error)
        elif session.state == "paused":
            if entry is not None and entry.active and not entry.quiet:
                # Its buffers take nothing any more; what had begun before ends.
                await self._try(app, codec.wait_quiescent())
                entry.quiet = True
        elif entry is not None and entry.active:
            await self._deactivate(app, entry)

    async def _do_without(
        self, app: Application, entry: AppSession, error: CommandRefusedError
    ) -> AppSession | None:
        """Give a session up that an application refused, or set it up without some channels.

        All programs that write a buffer record the same contexts. One that cannot have them
        all asks for the channel, and is refused; with it the whole session. Only anew can it
        have the other channels: there is no way to take one away.
        """
        session = entry.session
        unfit = app.unfit.setdefault(session.id, {})
        unfit.update(entry.unfit)
        if entry.unfit and len(unfit) < len(session.channels):
            await self._release(app, entry)
            return await self._create(app, session)
        lines = _unfit_lines(session, unfit) or [f"session {session.name}: {error}"]
        entry.problem = "; ".join(lines)
        _log.warning("application %s cannot be recorded: %s", app, entry.problem)
        return entry

    async def _deactivate(self, app: Application, entry: AppSession) -> None:
        if entry.active:
            await self._try(app, codec.disable(entry.handle))
            entry.active = False
            # Probes that had begun when it was disabled have ended after this.
            await self._try(app, codec.wait_quiescent())

    async def _create(self, app: Application, session: Session) -> AppSession | None:
        try:
            trace = await self._recording_of(session).trace_for(app.owner(session.buffers))
        except (RingBufferError, QuotaError, OSError) as error:
            app.problems[session.id] = f"session {session.name}: {error}"
            return None
        app.problems.pop(session.id, None)
        self._check_wanted(session)
        reply = await app.command.run(codec.session())
        entry = app.sessions[session.id] = AppSession(session, trace, reply.ret_val)
        entry.remarks += _unfit_lines(session, app.unfit.get(session.id, {}))
        if not compatible(trace.layout, app.layout):
            entry.problem = f"session {session.name}: its buffers are for {trace.layout}"
        session.processes[app.peer.key] = app.registration.name
        # For good: a child that it forked may live on, unseen.
        trace.hidden_writers = trace.hidden_writers or app.hidden
        return entry

    async def _equip(self, app: Application, entry: AppSession) -> None:
        """Give an application the channels and rules it lacks."""
        wakeup = -1
        try:
            for channel in entry.session.channels:
                # A session that ended meanwhile has no pipe any more.
                self._check_wanted(entry.session)
                if channel.id in app.unfit.get(entry.session.id, {}):
                    continue
                mine = entry.channels.get(channel.id)
                if mine is None or mine.streams < len(entry.trace.channels[channel.id].streams):
                    if wakeup < 0:
                        wakeup = self._recording_of(entry.session).pipe.open_write_end()
                    mine = await self._give_buffers(app, entry, channel, wakeup)
                while mine.contexts < len(channel.contexts):
                    self._check_wanted(entry.session)
                    await self._add_context(app, entry, channel, mine)
                for rule in tuple(channel.rules):
                    await self._align_rule(app, entry, mine, rule)
                if mine.enabled != channel.enabled:
                    await self._toggle(app, mine.handle, channel.enabled)
                    mine.enabled = channel.enabled
        finally:
            if wakeup >= 0:
                os.close(wakeup)

    async def _add_context(
        self, app: Application, entry: AppSession, channel: Channel, mine: AppChannel
    ) -> None:
        name = channel.contexts[mine.contexts]
        try:
            await app.command.run(codec.context(mine.handle, parse_context(name)))
        except CommandRefusedError as error:
            # A counter that its processor or its rights do not give it. The channel works
            # without; `TraceMetadata` sees to it that all its programs have the same.
            line = f"session {entry.session.name}: recorded without context {name}: {error}"
            if line not in entry.remarks:
                entry.remarks.append(line)
            what = f"context {name} of channel {channel.name}"
            self._recording_of(entry.session).lacks.note(what, str(error), str(app))
            _log.warning("application %s: %s", app, line)
        mine.contexts += 1

    async def _give_buffers(
        self, app: Application, entry: AppSession, channel: Channel, wakeup: int
    ) -> AppChannel:
        # Nothing here may fail in the application once a descriptor went out: it would
        # abort at the next one. Sizes and CPUs were checked, ids are ours.
        buffers = entry.trace.channels[channel.id]
        mine = entry.channels.get(channel.id)
        if mine is None:
            self._check_wanted(entry.session)
            made = await app.command.run(codec.channel(entry.handle, buffers.blob, wakeup))
            mine = entry.channels[channel.id] = AppChannel(made.ret_val)
        for number, stream in enumerate(buffers.streams[mine.streams :], mine.streams):
            self._check_wanted(entry.session)
            size = stream.geometry.file_size
            await app.command.run(codec.stream(mine.handle, number, size, stream.fd, wakeup))
            mine.streams = number + 1
        return mine

    async def _align_rule(
        self, app: Application, entry: AppSession, channel: AppChannel, rule: Rule
    ) -> None:
        mine = channel.rules.get(rule.id)
        info = rule.event
        try:
            if mine is None:
                self._check_wanted(entry.session)
                made = await app.command.run(
                    codec.event(channel.handle, info.pattern, info.loglevel_type, info.loglevel)
                )
                mine = channel.rules[rule.id] = AppRule(made.ret_val)
                if info.filter:
                    await app.command.run(codec.filter_(mine.handle, *rule.program))
                if info.exclusions:
                    await app.command.run(codec.exclusion(mine.handle, info.exclusions))
            if not mine.refused and mine.enabled != info.enabled:
                self._check_wanted(entry.session)
                enabled = info.enabled
                await self._toggle(app, mine.handle, enabled)
                mine.enabled = enabled
        except CommandRefusedError as error:
            _log.warning("application %s: event rule %s: %s", app, info.pattern, error)
            if mine is None:
                mine = channel.rules[rule.id] = AppRule(-1)
            mine.refused = True

    async def _activate(self, app: Application, entry: AppSession) -> None:
        dumps = entry.session.statedumps
        if not entry.active:
            self._check_wanted(entry.session)
            # The application asks for ids on its other socket meanwhile.
            await app.command.run(codec.enable(entry.handle))
            entry.active = True
            # It has recorded its state, unless the buffers take nothing yet.
            entry.statedumps = dumps - entry.session.resuming
            entry.session.undescribed |= entry.session.resuming
            await app.command.run(codec.wait_quiescent())
        elif entry.statedumps != dumps:
            await self._try(app, codec.statedump(entry.handle))
            entry.statedumps = dumps

    async def _release(self, app: Application, entry: AppSession) -> None:
        """Take a destroyed session from an application: events, channels, the session."""
        for channel in entry.channels.values():
            for rule in channel.rules.values():
                if rule.handle >= 0:
                    await self._try(app, codec.release(rule.handle))
            await self._try(app, codec.release(channel.handle))
        await self._try(app, codec.release(entry.handle))
        del app.sessions[entry.session.id]
        if entry.session.state == "destroyed":
            app.unfit.pop(entry.session.id, None)
        await self._try(app, codec.wait_quiescent())

    @staticmethod
    async def _toggle(app: Application, handle: int, enabled: bool) -> None:
        await app.command.run(codec.enable(handle) if enabled else codec.disable(handle))

    @staticmethod
    async def _try(app: Application, command: codec.Command) -> None:
        try:
            await app.command.run(command)
        except CommandRefusedError as error:
            _log.warning("application %s: %s", app, error)

    @staticmethod
    def _check_wanted(session: Session) -> None:
        if session.state != "active":
            raise _Changed


def _unfit_lines(session: Session, unfit: Mapping[int, str]) -> list[str]:
    """Return why a program is not recorded in some channels, a line each."""
    names = {channel.id: channel.name for channel in session.channels}
    return [
        f"session {session.name}, channel {names[number]}: not recorded: {why}"
        for number, why in unfit.items()
    ]
