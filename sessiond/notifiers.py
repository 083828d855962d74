# SPDX-License-Identifier: MIT
"""Event notifiers of applications: what each has of the triggers, and what it reports."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

from sessiond.applications import Application
from sessiond.links import CommandRefusedError
from sessiond.sockets import close_all
from sessiond.triggers import Trigger, Triggers
from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol import application as codec
from ustconsumer.protocol.notifications import NotificationDecoder, captured

__all__ = ["Notifiers"]

_log = logging.getLogger("sessiond")

#: Read at a time. Who has more to say waits a moment, and loses what its pipe has no room for.
_CHUNK = 1 << 16
_PAUSE_SECONDS = 0.01

#: Told of each time that a condition was met, with what was captured.
Fired = Callable[[Application, Trigger, list[Any]], None]


class _AppNotifiers:
    """What one application has: a group with its pipe, and a notifier for each trigger."""

    def __init__(self) -> None:
        self.group = -1
        self.pipe = -1
        self.decoder = NotificationDecoder()
        self.handles: dict[Trigger, int] = {}
        #: those that it has now
        self.by_token: dict[int, Trigger] = {}
        #: the highest token it was ever given
        self.last_token = 0


class Notifiers:
    """Brings applications in line with the triggers, listens to their notifiers.

    Parameters
    ----------
    triggers : Triggers
    joins : callable
        Whether a trigger is for an application.
    fired : callable
        Told of each notification.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        triggers: Triggers,
        joins: Callable[[Application, Trigger], bool],
        fired: Fired,
    ) -> None:
        self._loop = loop
        self._triggers = triggers
        self._joins = joins
        self._fired = fired
        self._apps: dict[Application, _AppNotifiers] = {}

    async def align(self, app: Application) -> None:
        """Send commands until an application has the notifiers it should have."""
        mine = self._apps.get(app)
        for trigger, handle in tuple(mine.handles.items()) if mine is not None else ():
            if trigger.removed:
                assert mine is not None
                del mine.handles[trigger]
                if handle >= 0:
                    for command in (codec.disable(handle), codec.release(handle)):
                        await self._try(app, trigger, command)
                for token in [key for key, each in mine.by_token.items() if each is trigger]:
                    del mine.by_token[token]
        for trigger in self._triggers:
            if not self._joins(app, trigger) or (mine is not None and trigger in mine.handles):
                continue
            if mine is None:
                mine = self._apps[app] = _AppNotifiers()
            await self._give(app, mine, trigger)

    async def _give(self, app: Application, mine: _AppNotifiers, trigger: Trigger) -> None:
        mine.handles[trigger] = -1
        if app.registration.major < codec.NOTIFIERS_SINCE:
            trigger.problem(f"application {app} has no event notifiers: its tracer is too old")
            return
        handle = -1
        try:
            if mine.group < 0:
                mine.group = await self._open(app, mine)
            event = trigger.event
            token = mine.last_token = mine.last_token + 1
            mine.by_token[token] = trigger
            levels = event.loglevel_type, event.loglevel
            made = await app.command.run(
                codec.event_notifier(mine.group, token, event.pattern, *levels)
            )
            handle = made.ret_val
            if event.filter:
                await app.command.run(codec.filter_(handle, *trigger.filter_program))
            for place, program in enumerate(trigger.capture_programs):
                await app.command.run(codec.capture(handle, *program, place))
            if event.exclusions:
                await app.command.run(codec.exclusion(handle, event.exclusions))
            await app.command.run(codec.enable(handle))
        except CommandRefusedError as error:
            _log.warning("application %s: trigger %s: %s", app, trigger.name, error)
            trigger.problem(f"application {app}: {error}")
        except OSError as error:
            # No descriptors for a pipe: at the next change again.
            trigger.problem(f"application {app}: the registry cannot listen: {error.strerror}")
            del mine.handles[trigger]
            return
        mine.handles[trigger] = handle

    async def _open(self, app: Application, mine: _AppNotifiers) -> int:
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        both = -1
        try:
            # A C program that writes to a pipe nobody reads dies of SIGPIPE: liblttng-ust does
            # not guard against that. So it gets a reader of its own with it.
            both = os.open(f"/proc/self/fd/{writing}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            made = await app.command.run(codec.event_notifier_group(both))
        except BaseException:
            os.close(reading)
            raise
        finally:
            close_all([writing, both])
        if self._apps.get(app) is not mine:
            # It went away meanwhile.
            os.close(reading)
            return made.ret_val
        mine.pipe = reading
        self._loop.add_reader(reading, self._readable, app, mine)
        return made.ret_val

    def forget(self, app: Application) -> None:
        """Take what a gone application still had to say, and let go of it."""
        mine = self._apps.get(app)
        if mine is not None:
            if mine.pipe >= 0:
                self._read(app, mine)
            self._close(mine)
        self._apps.pop(app, None)

    def close(self) -> None:
        """Listen to nobody any more."""
        for mine in self._apps.values():
            self._close(mine)
        self._apps.clear()

    def _close(self, mine: _AppNotifiers) -> None:
        if mine.pipe >= 0:
            self._loop.remove_reader(mine.pipe)
            close_all([mine.pipe])
            mine.pipe = -1

    def _readable(self, app: Application, mine: _AppNotifiers) -> None:
        if self._read(app, mine) == _CHUNK and mine.pipe >= 0:
            # It fills its pipe as fast as we read: others get their turn.
            self._loop.remove_reader(mine.pipe)
            self._loop.call_later(_PAUSE_SECONDS, self._listen_again, app, mine)

    def _listen_again(self, app: Application, mine: _AppNotifiers) -> None:
        if mine.pipe >= 0:
            self._loop.add_reader(mine.pipe, self._readable, app, mine)

    def _read(self, app: Application, mine: _AppNotifiers) -> int:
        """Take what is in the pipe, up to a limit; return how many bytes."""
        try:
            chunk = os.read(mine.pipe, _CHUNK)
        except BlockingIOError:
            return 0
        try:
            for token, raw in mine.decoder.feed(chunk):
                self._notified(app, mine, token, raw)
        except RemoteProtocolError as error:
            _log.warning("application %s: its event notifiers make no sense: %s", app, error)
            for trigger in mine.handles:
                trigger.lost += 1
                trigger.problem(f"application {app} is heard no more: it wrote a {error}")
            self._close(mine)
        return len(chunk)

    def _notified(self, app: Application, mine: _AppNotifiers, token: int, raw: bytes) -> None:
        trigger = mine.by_token.get(token)
        if trigger is None:
            if not 0 < token <= mine.last_token:
                raise RemoteProtocolError(f"notification with token {token}, which it never got")
            return  # of a trigger that was removed
        try:
            values = captured(raw, len(trigger.captures))
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"notification with {error}") from None
        if not trigger.removed:
            self._fired(app, trigger, values)

    @staticmethod
    async def _try(app: Application, trigger: Trigger, command: codec.Command) -> None:
        try:
            await app.command.run(command)
        except CommandRefusedError as error:
            _log.warning("application %s: trigger %s: %s", app, trigger.name, error)
