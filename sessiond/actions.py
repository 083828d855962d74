# SPDX-License-Identifier: MIT
"""Doing what triggers say: notifications at once, the rest one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sessiond.applications import Application
from sessiond.clients import Client
from sessiond.links import COMMAND_SECONDS, CommandRefusedError
from sessiond.triggers import Action, Trigger
from ustconsumer.errors import (
    CommandError,
    ConnectionClosedError,
    ProtocolError,
    UstConsumerError,
)
from ustconsumer.protocol import application as codec
from ustconsumer.protocol.control import Notification, TriggerAction

__all__ = ["Actions", "Listeners"]

_log = logging.getLogger("sessiond")

#: Bytes that a listener may leave unread before it misses notifications.
_MAX_UNREAD = 1 << 20
#: Notifications of one trigger that wait for the actions before them.
_MAX_WAITING = 1024
_GOODBYE_SECONDS = 10.0
#: Actions that want the event in the buffers.
_NEED_EVENT = ("snapshot", "stop")


class Listeners:
    """Clients that want to hear of triggers."""

    def __init__(self) -> None:
        #: the names, none for all; and what was not sent
        self._clients: dict[Client, tuple[frozenset[str], int]] = {}

    def add(self, client: Client, names: Iterable[str]) -> None:
        """Have a client hear of the triggers of these names, none for all."""
        for each in tuple(self._clients):
            if each.closed:
                del self._clients[each]
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


@dataclass(eq=False)
class _Due:
    """What is to be done once for a trigger, however often it fired.

    Attributes
    ----------
    fired_by : dict
        The applications, in order.
    actions : set
        "snapshot", "start" and "stop", each once.
    told : list
        For each "notify" that comes behind one of them: the action, the pid, the captures.
    """

    fired_by: dict[Application, None] = field(default_factory=dict)
    actions: set[Action] = field(default_factory=set)
    told: list[tuple[Action, int, list[Any]]] = field(default_factory=list)


class Actions:
    """Acts for triggers, in the order of each one's actions.

    A "notify" that is not behind another action is pushed at once. What is done to sessions
    takes its time, one action after the other; while that is under way, what fires again is
    done once more afterwards, however often that was. Each "notify" behind it waits, up to a
    number; those beyond are lost, and counted.

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
        self._again: dict[Trigger, _Due] = {}

    def fired(self, app: Application, trigger: Trigger, captures: list[Any]) -> None:
        """Do what a trigger says: its condition was met."""
        trigger.hits += 1
        due: _Due | None = self._again.get(trigger)
        at_once = True
        for action in trigger.actions:
            turn = action.due()
            if action.info.kind == "notify":
                if turn and at_once:
                    self._listeners.tell(trigger, app.peer.pid, captures)
                    continue
            else:
                at_once = False
            if not turn:
                continue
            if due is None:
                due = self._again[trigger] = _Due()
            due.fired_by[app] = None
            if action.info.kind != "notify":
                due.actions.add(action)
            elif len(due.told) < _MAX_WAITING:
                due.told.append((action, app.peer.pid, captures))
            else:
                trigger.lost += 1
        if due is not None and trigger not in self._running:
            self._start(trigger, self._again.pop(trigger))

    async def close(self) -> None:
        """Do nothing more; what is under way ends, or is given up after a while."""
        self._again.clear()
        running = list(self._running.values())
        if running:
            await asyncio.wait(running, timeout=_GOODBYE_SECONDS)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _start(self, trigger: Trigger, due: _Due) -> None:
        task = asyncio.get_running_loop().create_task(self._run(trigger, due))
        self._running[trigger] = task
        task.add_done_callback(lambda done: self._done(trigger, done))

    def _done(self, trigger: Trigger, task: asyncio.Task[None]) -> None:
        del self._running[trigger]
        if not task.cancelled() and task.exception() is not None:
            _log.error("trigger %s: internal error", trigger.name, exc_info=task.exception())
        again = self._again.pop(trigger, None)
        if again is not None and not trigger.removed:
            self._start(trigger, again)

    async def _run(self, trigger: Trigger, due: _Due) -> None:
        if any(action.info.kind in _NEED_EVENT for action in due.actions):
            late = await _finish_events(due.fired_by)
            for app in late:
                trigger.problem(
                    f"application {app} {app.delay()}: what it was recording may be missing"
                )
        for action in trigger.actions:
            if action in due.actions:
                await self._do(trigger, action.info)
            for each, pid, captures in due.told:
                if each is action:
                    self._listeners.tell(trigger, pid, captures)

    async def _do(self, trigger: Trigger, info: TriggerAction) -> None:
        try:
            await self._act(trigger.uid, info)
        except (UstConsumerError, OSError) as error:
            if isinstance(error, CommandError) and error.kind == "already":
                return
            info.failed += 1
            trigger.problem(f"{info.kind} of session {info.session}: {error}")
            _log.warning("trigger %s: %s", trigger.name, error)


async def _finish_events(apps: Iterable[Application]) -> list[Application]:
    """Wait until events that fired a trigger are in the buffers; return who did not answer.

    A program tells of an event before or after it records it, as it likes; both are in one
    probe, which has ended when it answers.
    """
    asked = {
        asyncio.ensure_future(_quiet(app)): app
        for app in apps
        # One that is slow has commands enough before it.
        if not (app.gone or app.overdue)
    }
    late = [app for app in apps if app.overdue and not app.gone]
    if asked:
        # Not cancelled: the answer must be taken, whenever it comes.
        _, pending = await asyncio.wait(asked, timeout=COMMAND_SECONDS)
        late += [asked[task] for task in pending]
    return late


async def _quiet(app: Application) -> None:
    # Of one that is dead, what it has committed is there.
    with contextlib.suppress(CommandRefusedError, ProtocolError, ConnectionClosedError):
        await app.command.run(codec.wait_quiescent())
