# SPDX-License-Identifier: MIT
"""Doing what triggers say: notifications at once, the rest one after the other."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from sessiond.applications import Application
from sessiond.clients import Client
from sessiond.links import COMMAND_SECONDS, CommandRefusedError
from sessiond.triggers import Action, Trigger
from ustconsumer.errors import CommandError, ProtocolError, UstConsumerError
from ustconsumer.protocol import application as codec
from ustconsumer.protocol.control import Notification, TriggerAction

__all__ = ["Actions", "Listeners"]

_log = logging.getLogger("sessiond")

#: Bytes that a listener may leave unread before it misses notifications.
_MAX_UNREAD = 1 << 20


class Listeners:
    """Clients that want to hear of triggers."""

    def __init__(self) -> None:
        #: the names, none for all; and what was not sent
        self._clients: dict[Client, tuple[frozenset[str], int]] = {}

    def add(self, client: Client, names: Iterable[str]) -> None:
        """Have a client hear of the triggers of these names, none for all."""
        self._clients[client] = frozenset(names), 0

    def tell(self, trigger: Trigger, pid: int, captures: list[Any]) -> None:
        """Push a notification to whoever may have it and wants it."""
        for client, (names, missed) in tuple(self._clients.items()):
            if client.closed:
                del self._clients[client]
                continue
            if names and trigger.name not in names:
                continue
            if client.peer.uid not in (0, trigger.uid):
                continue
            if client.unread > _MAX_UNREAD:
                self._clients[client] = names, missed + 1
                continue
            now = time.time_ns()
            client.send(
                Notification(
                    trigger=trigger.name, pid=pid, time=now, captures=captures, missed=missed
                )
            )
            self._clients[client] = names, 0


class Actions:
    """Acts for triggers.

    What one trigger does takes its time, one action after the other; while it is under way,
    what fires again is done once more afterwards, however often that was.

    Parameters
    ----------
    listeners : Listeners
    act : callable
        Carries out a "snapshot", "start" or "stop" for a uid.
    """

    def __init__(
        self,
        listeners: Listeners,
        act: Callable[[int, TriggerAction], Awaitable[object]],
    ) -> None:
        self._listeners = listeners
        self._act = act
        self._running: dict[Trigger, asyncio.Task[None]] = {}
        #: what is to be done once more, in the order of the trigger's actions
        self._again: dict[Trigger, tuple[Application, set[Action]]] = {}

    def fired(self, app: Application, trigger: Trigger, captures: list[Any]) -> None:
        """Do what a trigger says: its condition was met."""
        trigger.hits += 1
        due = {action for action in trigger.actions if action.due()}
        if any(action.info.kind == "notify" for action in due):
            self._listeners.tell(trigger, app.peer.pid, captures)
        due = {action for action in due if action.info.kind != "notify"}
        if not due:
            return
        if trigger in self._running:
            _, waiting = self._again.get(trigger, (app, set()))
            self._again[trigger] = app, waiting | due
        else:
            self._start(app, trigger, due)

    async def close(self) -> None:
        """Do nothing more; what is under way is given up."""
        self._again.clear()
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _start(self, app: Application, trigger: Trigger, due: set[Action]) -> None:
        task = asyncio.get_running_loop().create_task(self._run(app, trigger, due))
        self._running[trigger] = task
        task.add_done_callback(lambda done: self._done(trigger, done))

    def _done(self, trigger: Trigger, task: asyncio.Task[None]) -> None:
        del self._running[trigger]
        if not task.cancelled() and task.exception() is not None:
            _log.error("trigger %s: internal error", trigger.name, exc_info=task.exception())
        again = self._again.pop(trigger, None)
        if again is not None and not trigger.removed:
            app, due = again
            self._start(app, trigger, due)

    async def _run(self, app: Application, trigger: Trigger, due: set[Action]) -> None:
        await _finish_event(app)
        for action in trigger.actions:
            if action not in due:
                continue
            info = action.info
            try:
                await self._act(trigger.uid, info)
            except (UstConsumerError, OSError) as error:
                if isinstance(error, CommandError) and error.kind == "already":
                    continue
                info.failed += 1
                trigger.problem(f"{info.kind} of session {info.session}: {error}")
                _log.warning("trigger %s: %s", trigger.name, error)


async def _finish_event(app: Application) -> None:
    """Wait until the event that fired a trigger is in the buffers.

    A program tells of an event before or after it records it, as it likes; both are in one
    probe, which has ended when it answers.
    """
    if app.gone:
        return
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            await app.command.run(codec.wait_quiescent())
    except (TimeoutError, CommandRefusedError, ProtocolError, UstConsumerError):
        # Stopped or dead: what it has committed is there.
        return
